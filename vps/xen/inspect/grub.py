"""Whether pvgrub, GRUB 2.06 for the xen platform, loads a kernel.

grub-core/loader/i386/xen.c, xen_file.c, xen_fileXX.c and kern/elf.c. Stricter than `grub-file` in one thing: what
GRUB would notice, or boot broken, only when it loads (segments behind the end of the file) is refused here.
"""

from __future__ import annotations

from vps.xen.inspect.elf import (
    EM_386,
    EM_X86_64,
    M64,
    PHDR32_SIZE,
    PHDR64_SIZE,
    PT_LOAD,
    PT_NOTE,
    SHT_NOTE,
    Elf,
)
from vps.xen.inspect.limits import NOTE_LIMIT
from vps.xen.inspect.verdicts import Code, Compression, Refusal, mib
from vps.xen.inspect.xennotes import Note, show

READS = (Compression.NONE, Compression.GZIP, Compression.XZ, Compression.LZO)
"""Whole files: GRUB's filters gzio, xzio, lzopio."""
PAYLOADS = (Compression.NONE, Compression.GZIP, Compression.XZ)
"""bzImage payloads. lzopio is there, but trips over the four bytes of size behind the payload."""

SPAN_LIMIT = 4 << 30
"""A kernel placed or reaching further than this is not loaded into any domU of ours."""


class _Info:
    """struct grub_xen_file_info, as far as it decides."""

    def __init__(self, wide: bool) -> None:
        self.wide = wide
        self.noted = False
        self.notes = 0
        self.pae = False
        self.pae_last = False
        self.virt_base = 0
        self.paddr_offset = 0


def judge(elf: Elf) -> Refusal | None:
    """None when GRUB loads this kernel, and the loader of its bitness is used."""
    if elf.size < 64 or not elf.is_elf:
        return Refusal(
            Code.NOT_A_KERNEL, "There is no ELF kernel in the file: upload a kernel (ELF or bzImage)."
        )
    if elf.overflow is not None:
        # GRUB can do without the section table. A file that has lost it was broken off all the same.
        return _short(elf.overflow, elf.size)
    if elf.uint(6, 1) != 1 or elf.header("version") != 1 or not elf.little:
        return _headers()
    if not (elf.wide and elf.machine == EM_X86_64) and not (elf.uint(4, 1) == 1 and elf.machine == EM_386):
        return Refusal(
            Code.ARCHITECTURE,
            f"The kernel is for another processor (ELF machine {elf.machine}): use an amd64 kernel, or i386 "
            "with PAE.",
        )
    info = _Info(elf.wide)
    refusal = _tables(elf) or _said(elf, info)
    if refusal:
        return refusal
    if not elf.wide and not info.pae:
        if info.pae_last:
            return Refusal(
                Code.NOTES,
                "The kernel says PAE at the very end of its __xen_guest string, where GRUB 2.06 does not see it: "
                "start it directly as PV.",
            )
        return Refusal(
            Code.NON_PAE,
            "This i386 kernel does not say that it has PAE, so GRUB refuses it: use one with PAE (NetBSD: "
            "XEN3PAE_DOMU), or an amd64 kernel.",
        )
    if info.virt_base & 0xFFF:
        return Refusal(
            Code.ADDRESSES,
            f"The kernel's VIRT_BASE {info.virt_base:#x} is not at a page, so GRUB refuses it.",
        )
    return _placed(elf, info)


def _headers() -> Refusal:
    return Refusal(
        Code.HEADERS, "The kernel's ELF header is not one that GRUB reads: it is damaged; upload it again."
    )


def _tables(elf: Elf) -> Refusal | None:
    size = PHDR64_SIZE if elf.wide else PHDR32_SIZE
    count = elf.header("phnum")
    if count and elf.header("phentsize") != size:
        return _headers()
    if elf.header("phoff") + size * count > elf.size:
        return _short(elf.header("phoff") + size * count, elf.size)
    return None


def _short(need: int, have: int) -> Refusal:
    return Refusal(
        Code.CUT_SHORT,
        f"The kernel reaches to byte {need}, but the file has {have}: it is cut short or damaged; upload it again.",
    )


def _said(elf: Elf, info: _Info) -> Refusal | None:
    """Notes of the segments, else notes of the sections, else the string."""
    for segment in elf.segments:
        if segment.kind == PT_NOTE:
            refusal = _note_area(elf, info, segment.offset, segment.filesz)
            if refusal:
                return refusal
    if info.noted:
        return None
    count, names = elf.header("shnum"), elf.header("shstrndx")
    if not count or not elf.header("shentsize"):
        return _not_for_xen()
    table_end = elf.header("shoff") + elf.header("shentsize") * count
    if table_end > elf.size:
        return _short(table_end, elf.size)
    if names >= len(elf.sections):
        # GRUB does not check; it reads behind the table, or crashes.
        return _headers()
    names_at = elf.sections[names].offset
    for section in elf.sections:
        if section.kind == SHT_NOTE:
            refusal = _note_area(elf, info, section.offset, section.size)
            if refusal:
                return refusal
    if info.noted:
        return None
    for section in elf.sections:
        if names_at + section.name > elf.size:
            return _short(names_at + section.name, elf.size)
        name = bytes(elf.view[names_at + section.name : names_at + section.name + 12])
        if name == b"__xen_guest\0":
            return _string(elf, info, section.offset, section.size)
    return _not_for_xen()


def _not_for_xen() -> Refusal:
    return Refusal(
        Code.NOT_FOR_XEN,
        "The kernel has neither Xen notes nor a __xen_guest section, so it is not built for Xen: "
        "use a kernel with Xen guest support (NetBSD: XEN3_DOMU; Linux: CONFIG_XEN_PV).",
    )


def _note_area(elf: Elf, info: _Info, start: int, size: int) -> Refusal | None:
    if start + size > elf.size:
        return _short(start + size, elf.size)
    end = start + (size & ~3)
    at = start
    while at < end:
        info.notes += 1
        if info.notes > NOTE_LIMIT:
            # GRUB would go on. So many are no kernel's, and time is somebody's.
            return Refusal(
                Code.NOTES, f"The kernel has more than {NOTE_LIMIT} notes: it is damaged; upload it again."
            )
        namesz, descsz, kind = (elf.uint(at + step, 4) for step in (0, 4, 8))
        name_at = at + 12
        desc_at = name_at + ((namesz + 3) & ~3)
        at = desc_at + ((descsz + 3) & ~3)
        owner = bytes(elf.view[name_at : name_at + (3 if namesz == 3 else 4)])
        if namesz >= 3 and owner == (b"Xen" if namesz == 3 else b"Xen\0"):
            if desc_at > end or (descsz and desc_at == end):
                # GRUB does not check that, and reads what lies behind. (It does not mind a description that ends late:
                # its own PAE_MODE does.)
                return Refusal(
                    Code.NOTES, "A Xen note of the kernel is longer than its notes: upload the file again."
                )
            info.noted = True
            refusal = _note(elf, info, kind, desc_at, descsz)
            if refusal:
                return refusal
    return None


def _note(elf: Elf, info: _Info, kind: int, at: int, size: int) -> Refusal | None:
    width = 8 if info.wide else 4
    match kind:
        case Note.VIRT_BASE:
            info.virt_base = elf.uint(at, width)
        case Note.PADDR_OFFSET:
            info.paddr_offset = elf.uint(at, width)
        case Note.LOADER:
            if not _is(elf, at, size, b"generic"):
                return Refusal(
                    Code.NOTES,
                    f"The kernel names {show(bytes(elf.view[at : at + min(size, 40)]))} as its loader; GRUB takes only "
                    "'generic': build it with that.",
                )
        case Note.PAE_MODE if not info.wide:
            if any(_is(elf, at, size, word) for word in (b"yes", b"bimodal", b"yes,bimodal")):
                info.pae = True
            if _is(elf, at, size, b"no"):
                info.pae = False
    return None


def _is(elf: Elf, at: int, size: int, word: bytes) -> bool:
    """GRUB's comparison: the word, with its NUL unless the note is just as long as the word."""
    wanted = word if size == len(word) else word + b"\0"
    return size >= len(word) and bytes(elf.view[at : at + len(wanted)]) == wanted


def _string(elf: Elf, info: _Info, start: int, size: int) -> Refusal | None:
    if start + size > elf.size:
        return _short(start + size, elf.size)
    text = bytes(elf.view[start : start + min(size, 65536)]).split(b"\0", 1)[0]
    words = text.split(b",")
    paddr_offset: int | None = None
    for index, word in enumerate(words):
        name, _, value = word.partition(b"=")
        match name:
            case b"PAE" if index + 1 == len(words):
                # GRUB compares up to the next comma. In NetBSD's string BSD_SYMTAB should follow.
                info.pae_last = value.startswith(b"yes")
            case b"PAE" if not info.wide:
                if value == b"no":
                    info.pae = False
                elif value in (b"yes", b"yes[extended-cr3]", b"bimodal", b"bimodal[extended-cr3]"):
                    info.pae = True
            case b"VIRT_BASE" | b"VIRT_ENTRY" | b"HYPERCALL_PAGE" | b"ELF_PADDR_OFFSET":
                number = _hexadecimal(value)
                if number is None:
                    return Refusal(
                        Code.NOTES,
                        f"The kernel's {name.decode()} is {show(value)}, which is no number to GRUB: build it again.",
                    )
                if name == b"VIRT_BASE":
                    info.virt_base = number
                elif name == b"ELF_PADDR_OFFSET":
                    paddr_offset = number
    info.paddr_offset = info.virt_base if paddr_offset is None else paddr_offset
    return None


def _hexadecimal(text: bytes) -> int | None:
    """grub_strtoull(text, &end, 16): None where GRUB reports an error."""
    text = text.lstrip(b" \t\n\v\f\r")
    if text[:2].lower() == b"0x":
        text = text[2:]
    digits = bytes(byte for byte in _prefix(text))
    if not digits:
        return None
    value = int(digits, 16)
    return value if value <= M64 else None


def _prefix(text: bytes) -> bytes:
    end = 0
    while end < len(text) and text[end] in b"0123456789abcdefABCDEF":
        end += 1
    return text[:end]


def _placed(elf: Elf, info: _Info) -> Refusal | None:
    """grub_cmd_xen and grub_elfXX_load: where the segments go, and that they are there."""
    loads = [segment for segment in elf.segments if segment.kind == PT_LOAD]
    if not loads:
        return Refusal(Code.HEADERS, "The kernel has nothing to load (no PT_LOAD segment): upload it again.")
    for segment in loads:
        if segment.filesz and segment.offset + segment.filesz > elf.size:
            return _short(segment.offset + segment.filesz, elf.size)
    start = (min(segment.paddr for segment in loads) - info.paddr_offset) & M64
    end = (max(segment.paddr + segment.memsz for segment in loads) - info.paddr_offset) & M64
    if not start <= end <= SPAN_LIMIT:
        return Refusal(
            Code.ADDRESSES,
            f"The kernel is to be loaded at {start:#x} to {end:#x}, beyond any memory it could get "
            f"({mib(SPAN_LIMIT)}): its PADDR_OFFSET does not fit its segments; build it again.",
        )
    return None
