"""From a file's bytes to its report. Pure, and total: any bytes make a report."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from vps.xen.inspect import policy
from vps.xen.inspect.elf import Blob
from vps.xen.inspect.identity import FEATURES, Identity, identify
from vps.xen.inspect.libxenguest import PVH
from vps.xen.inspect.limits import FILE_LIMIT
from vps.xen.inspect.report import OK, Plain, Report
from vps.xen.inspect.unwrap import PATHS, Kernel, Unwrapped, raw_binary, unwrap
from vps.xen.inspect.verdicts import Code, Compression, Path, Refusal, Role, mib

PLAIN_FASTER = (Compression.XZ,)
"""Payloads that GRUB reads, but takes up to twice as long for as for the gzipped ELF (LAB-FACTS)."""


class Examined(NamedTuple):
    """A report on the file as it came, and the plain ELF in it, where keeping that is of use.

    `served`: the paths' refusals when the plain ELF is at hand; `faster`: paths that shall have it in any case.
    """

    report: Report
    plain: memoryview | None = None
    served: dict[Path, Refusal | None] | None = None
    faster: tuple[Path, ...] = ()

    def with_plain(self, plain: Plain) -> Report:
        """The report once the plain ELF is kept beside the file. Only where `plain` of this is not None."""
        if self.served is None:
            return self.report
        original = self.report.original_paths
        files = {
            path.value: "original" if original[path] == OK and path not in self.faster else "plain"
            for path, refusal in self.served.items()
            if refusal is None
        }
        return _judged(self.report._replace(plain=plain), self.served, files)


def examine(data: bytes | memoryview) -> Examined:
    """Inspects a file. Never raises, whatever the bytes; memory that ends is a refusal, too."""
    view = memoryview(data)
    size = len(view)
    if size == 0:
        return Examined(
            refused(Refusal(Code.EMPTY, "The file is empty: upload the kernel again."), size, _sum(view))
        )
    if size > FILE_LIMIT:
        return Examined(refused(too_large(size), size, _sum(view)))
    try:
        return _examine(view)
    except MemoryError:
        refusal = Refusal(
            Code.NO_MEMORY,
            "The file needs more memory to unpack than inspection may use: use a smaller kernel.",
        )
        return Examined(refused(refusal, size, _sum(view)))


def inspect(data: bytes | memoryview) -> Report:
    """The report on a file as it came: its `paths` are its `original_paths`."""
    return examine(data).report


def too_large(size: int) -> Refusal:
    return Refusal(
        Code.TOO_LARGE,
        f"The file is {mib(size)}; the limit is {mib(FILE_LIMIT)}: use a smaller kernel, or strip its debug symbols.",
    )


def refused(refusal: Refusal, size: int, sha256: str | None = None) -> Report:
    """A report on a file of which nothing else is known."""
    nothing = Unwrapped(dict.fromkeys(PATHS, refusal), None, "unknown", Compression.NONE)
    return _report(nothing, Identity(), dict.fromkeys(PATHS, refusal), size, sha256)


def _sum(view: memoryview) -> str:
    return hashlib.sha256(view).hexdigest()


def _examine(view: memoryview) -> Examined:
    found = unwrap(view)
    kernel = found.kernel
    who = Identity(guest_os="Linux" if found.setup_banner else None)
    if kernel is not None:
        who = identify(kernel.elf, kernel.pv.said or kernel.pvh.said, found.setup_banner)
    elif found.hypervisor:
        who.guest_os = "Xen"
    overruled = policy.overrule(found, who)
    report = _report(found, who, found.original | overruled | found.above, len(view), _sum(view))
    if kernel is None or found.payload in (None, Compression.NONE):
        return Examined(report)
    # In gzip, around a bzImage: the wrapping takes nothing away from a path, so the plain ELF serves all alike.
    served: dict[Path, Refusal | None] = (
        kernel.refusals | overruled | raw_binary(Blob(kernel.elf.view, len(kernel.elf.view)))
    )
    faster = tuple(path for path in (Path.PVGRUB,) if found.payload in PLAIN_FASTER and served[path] is None)
    gains = any(served[path] is None and report.original_paths[path] != OK for path in PATHS)
    if not gains and not faster:
        return Examined(report)
    return Examined(report, kernel.elf.view, served, faster)


def _report(
    found: Unwrapped, who: Identity, refusals: dict[Path, Refusal | None], size: int, sha256: str | None
) -> Report:
    kernel = found.kernel
    pv = kernel is not None and kernel.pv.guest_type is not None and not kernel.pvh_only
    pvh = kernel is not None and kernel.pvh.refusal is None
    guest_type = kernel.pv.guest_type if kernel and pv else (PVH if pvh else None)
    missing = kernel.missing if kernel else None
    blank = Report(
        verdict="",
        reason=None,
        code=None,
        paths={},
        path_files={},
        original_paths=_words(refusals),
        path_codes={
            path.value: refusal.code.value if refusal else None for path, refusal in refusals.items()
        },
        format=found.format,
        compression=(found.payload or found.file_compression).value,
        file_compression=found.file_compression.value,
        architecture=policy.architecture(kernel),
        pae=policy.pae(kernel),
        pv=pv,
        pvh=pvh,
        guest_type=guest_type,
        guest_os=who.guest_os,
        release=who.release,
        configuration=who.configuration,
        role=who.role.value,
        features=who.features or dict.fromkeys(FEATURES),
        sha256=sha256,
        size=size,
        unpacked_size=len(kernel.elf.view) if kernel else None,
        summary="",
        warnings=[] if missing is None or kernel is None else [_missing(missing, kernel)],
        options=who.options,
    )
    files = {path.value: "original" for path, refusal in refusals.items() if refusal is None}
    return _judged(blank, refusals, files)


def _words(refusals: dict[Path, Refusal | None]) -> dict[str, str]:
    return {path.value: refusal.sentence if refusal else OK for path, refusal in refusals.items()}


def _judged(report: Report, refusals: dict[Path, Refusal | None], files: dict[str, str]) -> Report:
    why = policy.reason(refusals)
    judged = report._replace(
        verdict=OK if why is None else "refused",
        reason=why.sentence if why else None,
        code=why.code.value if why else None,
        paths=_words(refusals),
        path_files=files,
    )
    return judged._replace(summary=summary(judged))


def _missing(end: int, kernel: Kernel) -> str:
    return (
        f"The kernel's segments reach to byte {end}, but it has {kernel.elf.size}: Xen loads it all the same, without "
        "what is missing; upload it again."
    )


def summary(report: Report) -> str:
    """One line for lists: "NetBSD 10.1, XEN3_DOMU, amd64. Boots as PV." """
    name = " ".join(part for part in (report.guest_os, report.release) if part)
    machine = {"x86_64": "amd64", "x86_32": "i386 PAE" if report.pae else "i386"}.get(
        report.architecture or "", ""
    )
    kind = {Role.LOADER.value: "a boot loader", Role.INSTALLER.value: "an installer"}.get(report.role, "")
    parts = [part for part in (name or "A kernel", report.configuration, machine, kind) if part]
    if report.code == Code.HYPERVISOR:
        return "The Xen hypervisor. Refused."
    if report.verdict != OK:
        return f"{', '.join(parts) if name else 'Not a kernel for a server'}. Refused."
    ways = [
        word for word, is_so in (("PV", _any_pv(report)), ("PVH", report.paths["direct_pvh"] == OK)) if is_so
    ]
    return f"{', '.join(parts)}. Boots as {' and '.join(ways)}{' only' if ways == ['PVH'] else ''}."


def _any_pv(report: Report) -> bool:
    return OK in (report.paths["pvgrub"], report.paths["direct_pv"])
