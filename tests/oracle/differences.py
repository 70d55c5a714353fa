"""Where inspection differs from the loaders on purpose. docs/kernels.md has the same lists; a test holds them together.

Each difference goes one way: libxenguest or grub-file accepts, Berth refuses. Berth never offers for a path what its
loader refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.oracle.library import Answer
from vps.xen.inspect import Report
from vps.xen.inspect.verdicts import Code


@dataclass(frozen=True)
class Difference:
    """`codes`: the refusals of Berth that may stand against a loader's acceptance, under the condition `when`."""

    name: str
    codes: frozenset[Code]
    reason: str
    when: Callable[[Report, Answer], bool] = lambda report, answer: True


PV, PVH = "direct_pv", "direct_pvh"

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
        lambda report, answer: answer.loader == "HVM-generic",
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
    Difference(
        "damaged zstd",
        frozenset({Code.DAMAGED}),
        "libzstd 1.5.4, which Debian's libxenguest has, makes something of data that 1.5.7 calls corrupt.",
        lambda report, answer: report.compression == "zstd",
    ),
    Difference(
        "two forms at once",
        frozenset({Code.TWO_FORMS}),
        "ELF and bzImage in one file: libxenguest boots the bzImage as PV and the ELF as PVH. No build makes it.",
    ),
)


# grub-file reads headers alone. GRUB then loads, and boots or breaks: what it would notice only then is refused before.
GRUB_DIFFERENCES = (
    Difference(
        "grub: dom0 kernel",
        frozenset({Code.DOM0_KERNEL}),
        "As above: whoever loads it, it faults in its first driver.",
    ),
    Difference(
        "grub: PVH only",
        frozenset({Code.PVH_ONLY}),
        "grub-file finds Xen notes and asks for no ENTRY; GRUB's PV loader would start the ELF entry.",
    ),
    Difference(
        "grub: cut short or damaged",
        frozenset({Code.CUT_SHORT, Code.DAMAGED, Code.TRAILING_BYTES}),
        "grub-file reads the front of the file; GRUB checks no sums, and loads what is left.",
    ),
    Difference(
        "grub: headers",
        frozenset({Code.HEADERS}),
        "A table that GRUB does not check and reads past, or nothing to load.",
    ),
    Difference(
        "grub: addresses",
        frozenset({Code.ADDRESSES}),
        "Segments to be loaded where no domU has memory: GRUB fails when it places them.",
    ),
    Difference(
        "grub: notes",
        frozenset({Code.NOTES}),
        "A Xen note that is longer than its area: GRUB reads what lies behind.",
    ),
    Difference(
        "grub: PAE or not",
        frozenset({Code.NON_PAE}),
        "An i386 kernel that says 'bimodal': libxenguest starts it without PAE, which Xen is not built for any more.",
    ),
    Difference(
        "grub: two forms at once",
        frozenset({Code.TWO_FORMS}),
        "As above: GRUB boots the ELF where that reads, else the bzImage.",
    ),
    Difference(
        "grub: size",
        frozenset({Code.TOO_LARGE, Code.UNPACKS_TOO_LARGE, Code.NO_MEMORY, Code.NO_TIME}),
        "As above: the limits are for what Berth keeps and unpacks.",
    ),
)


def agrees(path: str, report: Report, answer: Answer) -> str | None:
    """None when inspection and libxenguest say the same; the difference's name; "WRONG ..." for anything else."""
    ok = report.original_paths[path] == "ok"
    if ok and answer.accepted:
        guest_type = report.guest_type if path == PV else "hvm-3.0-x86_32"
        if answer.guest_type != guest_type:
            return f"WRONG type: {guest_type}, libxenguest says {answer.guest_type}"
        return None
    if not ok and not answer.accepted:
        return None
    if ok:
        return f"WRONG: ok, but libxenguest refuses: {answer.error}"
    code = report.path_codes[path]
    for difference in DIFFERENCES:
        if code in difference.codes and difference.when(report, answer):
            return difference.name
    return f"WRONG: refused ({code}: {report.original_paths[path]}), but libxenguest takes it as {answer.guest_type}"


def agrees_with_grub(report: Report, taken: bool) -> str | None:
    """The same of the path `pvgrub` and grub-file's word."""
    code = report.path_codes["pvgrub"]
    if taken == (code is None):
        return None
    if not taken:
        return "WRONG: ok, but grub-file refuses"
    for difference in GRUB_DIFFERENCES:
        if code in difference.codes:
            return difference.name
    return f"WRONG: refused ({code}: {report.original_paths['pvgrub']}), but grub-file takes it"
