"""Whether `xl create` takes a kernel: libxenguest's way from a file to a guest type.

xc_dom_kernel_file (gunzip, once) and xc_dom_parse_image (the loaders multiboot-binary, HVM-generic, Linux bzImage and
ELF-generic in that order; the guest type against the host's capabilities). As Debian builds Xen 4.17.
"""

from __future__ import annotations

from typing import NamedTuple

from vps.xen.inspect import bzimage, xennotes
from vps.xen.inspect.elf import EM_386, EM_X86_64, Blob, Elf
from vps.xen.inspect.verdicts import Code, Compression, Refusal
from vps.xen.inspect.xennotes import UNSET32, Parameters

PV64, PV32_PAE, PV32 = "xen-3.0-x86_64", "xen-3.0-x86_32p", "xen-3.0-x86_32"
PVH = "hvm-3.0-x86_32"

LACKING = (Compression.BZIP2, Compression.LZO)
"""Payload methods that Debian's libxenguest is built without."""


class Judged(NamedTuple):
    """One container type's answer. `guest_type` may be known although the kernel is refused (i386 without PAE)."""

    refusal: Refusal | None
    guest_type: str | None = None
    said: Parameters | None = None


def xen_binary(blob: Blob) -> bool:
    """xc_dom_probe_bin_kernel: the table of a raw Xen binary in the first 8 KiB."""
    table = 32
    if blob.size < table:
        return False
    end = 8192 if blob.size > 8192 + table else blob.size - table
    head = bytes(blob.view[: end + table])
    at = head.find(b"\x78\xc5\x6e\x33")
    while 0 <= at < end:
        words = [int.from_bytes(head[at + step : at + step + 4], "little") for step in (0, 4, 8)]
        if at % 4 == 0 and sum(words) & 0xFFFFFFFF == 0:
            return True
        at = head.find(b"\x78\xc5\x6e\x33", at + 1)
    return False


def judge(elf: Elf, *, pvh: bool) -> Judged:
    """The ELF loader's answer for a file that is the kernel itself."""
    refusal = _headers(elf)
    if refusal:
        return Judged(refusal)
    said = xennotes.read(elf, pvh=pvh)
    if isinstance(said, Refusal):
        return Judged(said)
    refusal = xennotes.check(elf, said, pvh=pvh)
    if refusal:
        return Judged(refusal, said=said)
    if said.required & xennotes.DOM0:
        return Judged(
            Refusal(
                Code.DOM0_ONLY,
                "The kernel says that it runs only as dom0, the host's own system: use one built for a domU.",
            ),
            said=said,
        )
    return _typed(elf, said, pvh)


def _headers(elf: Elf) -> Refusal | None:
    if not elf.is_elf:
        return Refusal(
            Code.NOT_A_KERNEL, "There is no ELF kernel in the file: upload a kernel (ELF or bzImage)."
        )
    if elf.overflow is not None:
        return Refusal(
            Code.CUT_SHORT,
            f"The kernel's ELF headers reach to byte {elf.overflow}, but it has {elf.size}: it is cut short or "
            "damaged; upload it again.",
        )
    return None


def _typed(elf: Elf, said: Parameters, pvh: bool) -> Judged:
    """xc_dom_guest_type and xc_dom_compat_check."""
    if pvh:
        if said.phys_entry == UNSET32:
            return Judged(not_pvh(), said=said)
        return Judged(None, PVH, said)
    if elf.machine == EM_X86_64:
        return Judged(None, PV64, said)
    if elf.machine != EM_386:
        return Judged(
            Refusal(
                Code.ARCHITECTURE,
                f"The kernel is for another processor (ELF machine {elf.machine}): use an amd64 kernel, or i386 "
                "with PAE.",
            ),
            said=said,
        )
    if said.pae:
        return Judged(None, PV32_PAE, said)
    return Judged(
        Refusal(
            Code.NON_PAE,
            "This i386 kernel is built without PAE, which no Xen after 3.1 runs: use one with PAE "
            "(NetBSD: XEN3PAE_DOMU), or an amd64 kernel.",
        ),
        PV32,
        said,
    )


def not_pvh() -> Refusal:
    return Refusal(
        Code.NOT_PVH,
        "The kernel has no PVH entry (no PHYS32_ENTRY note), so it cannot start as PVH: start it as PV.",
    )


def payload_refusal(method: Compression) -> Refusal | None:
    """Why libxenguest does not unpack a payload by this method."""
    if method not in LACKING:
        return None
    return Refusal(
        Code.PAYLOAD_METHOD,
        f"The bzImage's payload is packed with {method}, which Xen as Debian builds it does not unpack: build the "
        "kernel with gzip, xz, lz4 or zstd, or boot its plain ELF.",
    )


def protocol_refusal(setup: bzimage.Setup, size: int) -> Refusal | None:
    """xc_dom_probe_bzimage_kernel, before it unpacks."""
    if setup.protocol < 0x0208:
        return Refusal(
            Code.OLD_PROTOCOL,
            f"The bzImage has boot protocol {setup.protocol >> 8}.{setup.protocol & 255:02}; Xen needs 2.08 or later "
            "(Linux 2.6.26): use a newer kernel.",
        )
    if setup.start >= size or setup.start + setup.length > size:
        return Refusal(
            Code.CUT_SHORT,
            f"The bzImage's payload reaches to byte {setup.start + setup.length}, but the file has {size}: it is cut "
            "short; upload it again.",
        )
    return None
