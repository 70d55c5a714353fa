"""Where inspection differs from libxenguest on purpose. docs/kernels.md has the same list; a test holds them together.

Each difference goes one way: libxenguest accepts, Berth refuses. Berth never offers for direct boot what libxenguest
refuses.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.oracle.library import Answer
from vps.xen.inspect import Report
from vps.xen.inspect.verdicts import Code


@dataclass(frozen=True)
class Difference:
    """`codes`: the refusals of Berth that may stand against libxenguest's acceptance."""

    name: str
    codes: frozenset[Code]
    reason: str


DIFFERENCES = (
    Difference(
        "dom0 kernel",
        frozenset({Code.DOM0_KERNEL}),
        "Xen boots it as a guest, where it faults in its first driver (LAB-FACTS).",
    ),
    Difference(
        "PVH only, offered as PV",
        frozenset({Code.PVH_ONLY}),
        "Without an ENTRY note libxenguest starts the ELF entry, which is not a PV entry.",
    ),
    Difference(
        "hypervisor",
        frozenset({Code.HYPERVISOR}),
        "As PVH libxenguest takes any 32-bit ELF for firmware, and PVH_GUEST builds of Xen have the note.",
    ),
    Difference(
        "firmware",
        frozenset({Code.NOT_FOR_XEN, Code.NOT_PVH, Code.NOTES, Code.ADDRESSES}),
        "As PVH libxenguest's HVM loader takes any 32-bit ELF without PHYS32_ENTRY: what it is for is hvmloader.",
    ),
    Difference(
        "size",
        frozenset({Code.TOO_LARGE, Code.UNPACKS_TOO_LARGE, Code.NO_MEMORY, Code.NO_TIME}),
        "libxenguest unpacks up to 1 GiB, in dom0.",
    ),
    Difference(
        "compression that Debian's libxenguest lacks",
        frozenset({Code.PAYLOAD_METHOD}),
        "bzip2 and lzo depend on how Xen was built; the plain ELF does not.",
    ),
    Difference(
        "raw Xen binary",
        frozenset({Code.XEN_BINARY}),
        "An old form without ELF; nobody makes it, and nothing tells what is in it.",
    ),
)


def agrees(path: str, report: Report, answer: Answer) -> str | None:
    """None when inspection and libxenguest say the same; the difference's name; "WRONG ..." for anything else."""
    ok = report.original_paths[path] == "ok"
    if ok and answer.accepted:
        if path == "direct_pv" and answer.guest_type != report.guest_type:
            return f"WRONG type: {report.guest_type}, libxenguest says {answer.guest_type}"
        return None
    if not ok and not answer.accepted:
        return None
    if ok:
        return f"WRONG: ok, but libxenguest refuses: {answer.error}"
    code = report.path_codes[path]
    for difference in DIFFERENCES:
        if code in difference.codes and (difference.name != "firmware" or answer.loader == "HVM-generic"):
            return difference.name
    return f"WRONG: refused ({code}: {report.original_paths[path]}), but libxenguest takes it as {answer.guest_type}"
