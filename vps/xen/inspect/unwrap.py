"""From a file to the kernel in it, each loader's own way, and what each loader says."""

from __future__ import annotations

import re
from typing import NamedTuple

from vps.xen.inspect import bzimage, grub, libxenguest
from vps.xen.inspect.containers import open_file
from vps.xen.inspect.elf import PT_LOAD, Blob, Elf
from vps.xen.inspect.identity import is_hypervisor
from vps.xen.inspect.libxenguest import Judged
from vps.xen.inspect.streams import method_of
from vps.xen.inspect.verdicts import Code, Compression, Path, Refusal
from vps.xen.inspect.xennotes import UNSET32

PATHS = (Path.PVGRUB, Path.DIRECT_PV, Path.DIRECT_PVH)

_OTHERS = (
    (b"070701", 0, "a ramdisk (cpio)", "upload it as the ramdisk of a kernel"),
    (b"070702", 0, "a ramdisk (cpio)", "upload it as the ramdisk of a kernel"),
    (b"!<arch>\n", 0, "a package or library (ar)", "unpack it and upload the kernel in it"),
    (b"PK\x03\x04", 0, "a zip archive", "unpack it and upload the kernel in it"),
    (b"ustar", 257, "a tar archive", "unpack it and upload the kernel in it"),
    (b"CD001", 0x8001, "a CD image", "upload the kernel on it"),
    (b"MZ", 0, "an EFI or DOS program", "upload a kernel (ELF or bzImage)"),
)


class Kernel(NamedTuple):
    """The kernel itself, out of all its wrappings, and what the loaders say to it alone."""

    elf: Elf
    pv: Judged
    pvh: Judged
    grub: Refusal | None

    @property
    def refusals(self) -> dict[Path, Refusal | None]:
        return {Path.PVGRUB: self.grub, Path.DIRECT_PV: self.pv.refusal, Path.DIRECT_PVH: self.pvh.refusal}

    @property
    def pvh_only(self) -> bool:
        """PHYS32_ENTRY and no ENTRY: libxenguest would start it as PV all the same, at e_entry, and it would die."""
        said = self.pvh.said
        return said is not None and said.phys_entry != UNSET32 and not said.entry_note

    @property
    def missing(self) -> int | None:
        """The byte to which a segment reaches that is not in the file. libxenguest would boot without it."""
        ends = (segment.offset + segment.filesz for segment in self.elf.segments if segment.kind == PT_LOAD)
        return next((end for end in ends if end > self.elf.size), None)


class Unwrapped(NamedTuple):
    """`original`: the refusals of the file as it is. `payload`: compression of a bzImage's payload.

    `above`: refusals that stand whatever else is said of the file.
    """

    original: dict[Path, Refusal | None]
    kernel: Kernel | None
    format: str
    file_compression: Compression
    payload: Compression | None = None
    setup_banner: str = ""
    hypervisor: bool = False
    above: dict[Path, Refusal | None] = {}


def unwrap(view: memoryview) -> Unwrapped:
    """Opens a file and asks the loaders. Raises MemoryError and nothing else."""
    opened = open_file(view)
    blob = opened.xen if isinstance(opened.xen, Blob) else opened.grub
    if isinstance(blob, Refusal):
        grub_refusal = opened.grub if isinstance(opened.grub, Refusal) else blob
        xen_refusal = opened.xen if isinstance(opened.xen, Refusal) else blob
        original: dict[Path, Refusal | None] = dict.fromkeys(PATHS, xen_refusal)
        original[Path.PVGRUB] = grub_refusal
        return Unwrapped(original, None, "unknown", opened.method)
    setup = bzimage.setup(blob)
    if setup is not None and Elf(blob).is_elf:
        found = Unwrapped(dict.fromkeys(PATHS, _two_forms()), None, "ELF", opened.method)
    elif setup is None:
        # GRUB knows no zeros behind what gzip made: the end of its file is another one.
        found = _plain_elf(blob, opened.grub if isinstance(opened.grub, Blob) else blob, opened.method)
    else:
        found = _bzimage(blob, setup, opened.method)
    original = found.original | {
        path: refusal
        for paths, refusal in (((Path.PVGRUB,), opened.grub), (PATHS[1:], opened.xen))
        for path in paths
        if isinstance(refusal, Refusal)
    }
    above = raw_binary(opened.xen) if isinstance(opened.xen, Blob) else {}
    return found._replace(original=original, above=above)


def ask(blob: Blob, for_grub: Blob) -> Kernel:
    """What the loaders say to a kernel without wrappings."""
    elf = Elf(blob)
    pv, pvh = libxenguest.judge(elf, pvh=False), libxenguest.judge(elf, pvh=True)
    return Kernel(elf, pv, pvh, grub.judge(elf if for_grub.size == blob.size else Elf(for_grub)))


def _plain_elf(blob: Blob, for_grub: Blob, method: Compression) -> Unwrapped:
    kernel = ask(blob, for_grub)
    if not kernel.elf.is_elf:
        form, refusal = _no_kernel(blob)
        hypervisor = form == "EFI" and is_hypervisor(blob.view)
        return Unwrapped(dict.fromkeys(PATHS, refusal), None, form, method, hypervisor=hypervisor)
    return Unwrapped(kernel.refusals, kernel, "ELF", method)


def raw_binary(blob: Blob) -> dict[Path, Refusal | None]:
    """What stands above all else where Xen would take the file for a raw binary; GRUB knows no such thing."""
    if not libxenguest.xen_binary(blob):
        return {}
    refusal = Refusal(
        Code.XEN_BINARY,
        "The file has the header of a raw Xen binary, which Xen would take before the kernel in it: upload the "
        "kernel without it.",
    )
    return dict.fromkeys(PATHS[1:], refusal)


def _two_forms() -> Refusal:
    """libxenguest would boot the bzImage in it as PV, the ELF as PVH; GRUB whichever reads."""
    return Refusal(
        Code.TWO_FORMS,
        "The file is an ELF kernel and a Linux bzImage at once, and what boots it would decide which: upload one of "
        "the two.",
    )


def _no_kernel(blob: Blob) -> tuple[str, Refusal]:
    """What is in a file that holds neither ELF nor bzImage."""
    view = blob.view
    for magic, at, what, cure in _OTHERS:
        if bytes(view[at : at + len(magic)]) == magic:
            form = "EFI" if magic == b"MZ" else "other"
            return form, Refusal(Code.NOT_A_KERNEL, f"This is {what}, not a kernel: {cure}.")
    head = bytes(view[:4096])
    if head and not re.search(rb"[^\t\n\f\r -~\x80-\xff]", head):
        return "text", Refusal(
            Code.NOT_A_KERNEL, "This is a text file, not a kernel: upload a kernel (ELF or bzImage)."
        )
    if bytes(head[:4]) == b"\x7fELF":
        return "ELF", Refusal(
            Code.CUT_SHORT, "The ELF file ends inside its header: it is cut short; upload it again."
        )
    return "unknown", Refusal(
        Code.NOT_A_KERNEL,
        "This is neither an ELF kernel nor a Linux bzImage: upload a kernel of one of these forms.",
    )


def _bzimage(blob: Blob, setup: bzimage.Setup, method: Compression) -> Unwrapped:
    banner = bzimage.banner(blob)

    def nothing(refusal: Refusal, payload: Compression | None = None) -> Unwrapped:
        return Unwrapped(dict.fromkeys(PATHS, refusal), None, "bzImage", method, payload, banner)

    refusal = libxenguest.protocol_refusal(setup, blob.size)
    if refusal:
        return nothing(refusal)
    packed = blob.view[setup.start : setup.start + setup.length]
    unpacked = bzimage.payload(packed)
    if isinstance(unpacked, Refusal):
        return nothing(unpacked, method_of(packed))
    plain = Blob(unpacked.blob.view, len(unpacked.blob.view))
    kernel = ask(unpacked.blob, plain)
    if not kernel.elf.is_elf and not unpacked.complete:
        # The size it says is so small that not even the kernel's header fits: GRUB, which does not read it, takes it.
        return nothing(_goes_on(unpacked.method), unpacked.method)
    if not kernel.elf.is_elf:
        return nothing(
            Refusal(
                Code.PAYLOAD, "The bzImage's payload is no ELF kernel: it is damaged; upload the file again."
            ),
            unpacked.method,
        )
    original = kernel.refusals
    lacking = libxenguest.payload_refusal(unpacked.method)
    if lacking:
        original |= dict.fromkeys(PATHS[1:], lacking)
    original[Path.PVGRUB] = _grub_bzimage(blob, setup, unpacked) or original[Path.PVGRUB]
    return Unwrapped(original, kernel, "bzImage", method, unpacked.method, banner)


def _grub_bzimage(blob: Blob, setup: bzimage.Setup, unpacked: bzimage.Payload) -> Refusal | None:
    """grub_xen_file: why GRUB does not get at the kernel in this bzImage."""
    if setup.boot_flag != 0xAA55 or blob.size < bzimage.LINUX_HEADER_SIZE:
        return Refusal(
            Code.HEADERS, "The bzImage has no boot flag (0xAA55), so GRUB does not take it: upload it again."
        )
    if unpacked.method not in grub.PAYLOADS:
        return Refusal(
            Code.PAYLOAD_METHOD,
            f"The bzImage's payload is packed with {unpacked.method}, which GRUB 2.06 does not unpack (only gzip and "
            "xz): build the kernel with one of those, or boot its plain ELF.",
        )
    if not unpacked.complete:
        return _goes_on(unpacked.method)
    return None


def _goes_on(method: Compression) -> Refusal:
    return Refusal(
        Code.DAMAGED,
        f"The bzImage's {method} payload goes on behind the size it says: it is damaged; upload it again.",
    )
