"""What a kernel says to Xen, and whether Xen takes it: libelf-dominfo.c, rule by rule.

The oracle (tests/oracle) holds every line of this against libxenguest of Xen 4.17.
"""

from __future__ import annotations

import re
from enum import IntEnum

from vps.xen.inspect.elf import EM_386, EM_X86_64, M64, PT_NOTE, SHT_NOTE, SHT_STRTAB, Elf
from vps.xen.inspect.limits import GUEST_STRING_LIMIT, NOTE_LIMIT
from vps.xen.inspect.verdicts import Code, Refusal

UNSET = M64
UNSET32 = (1 << 32) - 1

# Xen adds file offsets to an address before it compares them. Any address of an x86 process does for that.
_BASE = 0x7F0000000000


class Note(IntEnum):
    """xen/include/public/elfnote.h"""

    ENTRY = 1
    HYPERCALL_PAGE = 2
    VIRT_BASE = 3
    PADDR_OFFSET = 4
    XEN_VERSION = 5
    GUEST_OS = 6
    GUEST_VERSION = 7
    LOADER = 8
    PAE_MODE = 9
    FEATURES = 10
    BSD_SYMTAB = 11
    HV_START_LOW = 12
    L1_MFN_VALID = 13
    SUSPEND_CANCEL = 14
    INIT_P2M = 15
    MOD_START_PFN = 16
    SUPPORTED_FEATURES = 17
    PHYS32_ENTRY = 18


_TEXT = {
    Note.XEN_VERSION,
    Note.GUEST_OS,
    Note.GUEST_VERSION,
    Note.LOADER,
    Note.PAE_MODE,
    Note.FEATURES,
    Note.BSD_SYMTAB,
}

# xen/include/public/features.h. Only dom0 matters here: a kernel that *requires* it is for dom0 alone.
_FEATURES = {
    b"writable_page_tables": 0,
    b"writable_descriptor_tables": 1,
    b"auto_translated_physmap": 2,
    b"supervisor_mode_kernel": 3,
    b"pae_pgdir_above_4gb": 4,
    b"hvm_callback_vector": 8,
    b"dom0": 11,
}
DOM0 = 1 << 11


class Parameters:
    """struct elf_dom_parms. Addresses are UNSET when the kernel does not give them."""

    def __init__(self) -> None:
        self.notes = 0
        self.note_start = False
        self.string = False
        self.loader = b""
        self.guest_os = b""
        self.guest_version = b""
        self.xen_version = b""
        self.pae = False
        self.bimodal = False
        self.bsd_symtab = False
        self.virt_base = UNSET
        self.virt_entry = UNSET
        self.paddr_offset = UNSET
        self.p2m_base = UNSET
        self.phys_entry = UNSET32
        self.required = 0
        self.texts: dict[int, bytes] = {}
        self.entry_note = False

    @property
    def anything(self) -> bool:
        """Whether the kernel speaks to Xen at all."""
        return self.string or self.notes > 0


class _Broken(Exception):
    """A required feature that Xen does not know."""


def read(elf: Elf, *, pvh: bool) -> Parameters | Refusal:
    """elf_xen_parse before its checks: what the kernel says, from notes, else (PV) from the string."""
    said = Parameters()
    try:
        _notes(elf, said)
    except _Broken as broken:
        return Refusal(
            Code.NOTES,
            f"The kernel requires the Xen feature {broken.args[0]!r}, which Xen does not know: "
            "build it for the Xen that is here.",
        )
    if said.notes == 0 and not pvh:
        section = elf.section_named(b"__xen_guest")
        if section is not None:
            said.string, said.note_start = True, False
            _string(elf, section.offset, said)
    return said


def check(elf: Elf, said: Parameters, *, pvh: bool) -> Refusal | None:
    """elf_xen_note_check and elf_xen_addr_calc_check."""
    if not said.note_start and not said.string:
        if elf.machine in (EM_386, EM_X86_64):
            return Refusal(
                Code.NOT_FOR_XEN,
                "The kernel has neither Xen notes nor a __xen_guest section, so it is not built for Xen: "
                "use a kernel with Xen guest support (NetBSD: XEN3_DOMU; Linux: CONFIG_XEN_PV or CONFIG_XEN_PVH).",
            )
    elif not (pvh and said.phys_entry != UNSET32):
        refusal = _words(said)
        if refusal:
            return refusal
    return _addresses(elf, said, pvh)


def _words(said: Parameters) -> Refusal | None:
    if not said.loader.startswith(b"generic") and not said.guest_os.startswith(b"linux"):
        if not said.anything:
            return Refusal(
                Code.NOT_FOR_XEN,
                "The kernel has notes, but none for Xen, so it is not built for Xen: use a kernel with Xen guest "
                "support (NetBSD: XEN3_DOMU; Linux: CONFIG_XEN_PV or CONFIG_XEN_PVH).",
            )
        return Refusal(
            Code.NOTES,
            f"The kernel names {show(said.loader)} as its loader; Xen takes only kernels for the loader 'generic' "
            "and Linux: build it with LOADER=generic.",
        )
    if not said.xen_version.startswith(b"xen-3.0"):
        return Refusal(
            Code.NOTES,
            f"The kernel is built for the Xen interface {show(said.xen_version)}; Xen takes only 'xen-3.0': "
            "build it for that.",
        )
    return None


def _addresses(elf: Elf, said: Parameters, pvh: bool) -> Refusal | None:
    # Xen after 4.17 does not mind this for PVH.
    if said.paddr_offset != UNSET and said.virt_base == UNSET:
        return Refusal(
            Code.NOTES,
            "The kernel gives PADDR_OFFSET and no VIRT_BASE, which Xen refuses: build it with both.",
        )
    base = 0 if pvh or said.virt_base == UNSET else said.virt_base
    offset = said.paddr_offset
    if pvh or offset == UNSET:
        offset = 0 if pvh or said.note_start else base
    loaded = [segment for segment in elf.segments if segment.loadable]
    start = min((segment.paddr for segment in loaded), default=M64)
    end = max(((segment.paddr + segment.memsz) & M64 for segment in loaded), default=0)
    shift = base - offset
    first, last = (start + shift) & M64, (end + shift) & M64
    entry = said.virt_entry
    if pvh or entry == UNSET:
        entry = said.phys_entry if pvh and said.phys_entry != UNSET32 else elf.entry
    if said.bsd_symtab:
        symbols_end = _symbols_end(elf, end)
        if symbols_end:
            last = (symbols_end + shift) & M64
    if not base <= first <= entry <= last:
        return Refusal(
            Code.ADDRESSES,
            f"The kernel's addresses do not fit together (base {base:#x}, loaded {first:#x} to {last:#x}, entry "
            f"{entry:#x}), so Xen refuses it: build or upload it again.",
        )
    if said.p2m_base != UNSET and first <= said.p2m_base < last:
        return Refusal(
            Code.ADDRESSES,
            f"The kernel wants Xen's page list at {said.p2m_base:#x}, inside itself, so Xen refuses it: "
            "build it again.",
        )
    return None


def _symbols_end(elf: Elf, kernel_end: int) -> int:
    """elf_parse_bsdsyms: where the symbols end that Xen puts behind the kernel; 0 when it puts none there."""
    table = elf.symbol_table
    if table is None or table.link >= len(elf.sections):
        return 0
    strings = elf.sections[table.link]
    # A length, an ELF header (of the 64-bit size: it is a union in C) and three section headers.
    size = 4 + 64 + 3 * (64 if elf.wide else 40)
    size = elf.round_up(elf.round_up(size) + table.size)
    if strings.kind != SHT_STRTAB:
        return 0
    size = elf.round_up(size + strings.size)
    return (elf.round_up(kernel_end) + size) & M64


def _notes(elf: Elf, said: Parameters) -> None:
    total = 0
    for segment in elf.segments:
        # "Some versions of binutils do not correctly set p_offset for note segments."
        if segment.kind == PT_NOTE and segment.offset != 0:
            said.note_start = True
            total = _note_area(elf, said, segment.offset, segment.filesz, total)
    if said.notes == 0:
        for section in elf.sections[1:]:
            if section.kind == SHT_NOTE:
                said.note_start = True
                total = _note_area(elf, said, section.offset, section.size, total)


def _note_area(elf: Elf, said: Parameters, start: int, size: int, total: int) -> int:
    """elf_xen_parse_notes; returns how many notes were seen in all."""
    end = (_BASE + start + size) & M64
    at = (_BASE + start) & M64
    while at < end and total < NOTE_LIMIT:
        total += 1
        where = (at - _BASE) & M64
        namesz, descsz, kind = (elf.uint(where + offset, 4) for offset in (0, 4, 8))
        name_room, desc_room = (namesz + 3) & 0xFFFFFFFC, (descsz + 3) & 0xFFFFFFFC
        if elf.text(where + 12) == b"Xen":
            _note(elf, said, kind, where + 12 + name_room, descsz)
            said.notes += 1
        following = (at + 12 + name_room + desc_room) & M64
        if following <= at or where + 1 > elf.size:
            break
        at = following
    return total


def _note(elf: Elf, said: Parameters, kind: int, at: int, size: int) -> None:
    """elf_xen_parse_note"""
    if kind in _TEXT:
        text = elf.text(at)
        if text is not None:
            _text_note(said, kind, text)
        return
    value = elf.uint(at & M64, size) if size in (1, 2, 4, 8) else 0
    match kind:
        case Note.VIRT_BASE:
            said.virt_base = value
        case Note.ENTRY:
            said.virt_entry = value
            said.entry_note = True
        case Note.INIT_P2M:
            said.p2m_base = value
        case Note.PADDR_OFFSET:
            said.paddr_offset = value
        case Note.PHYS32_ENTRY:
            said.phys_entry = value & UNSET32


def _text_note(said: Parameters, kind: int, text: bytes) -> None:
    said.texts[kind] = text
    match kind:
        case Note.LOADER:
            said.loader = text[:15]
        case Note.GUEST_OS:
            said.guest_os = text[:15]
        case Note.GUEST_VERSION:
            said.guest_version = text[:15]
        case Note.XEN_VERSION:
            said.xen_version = text[:15]
        case Note.PAE_MODE:
            if text == b"yes":
                said.pae, said.bimodal = True, False
            if b"bimodal" in text:
                said.pae, said.bimodal = True, True
        case Note.BSD_SYMTAB:
            said.bsd_symtab = said.bsd_symtab or text == b"yes"
        case Note.FEATURES:
            unknown = _features(text, said)
            if unknown:
                raise _Broken(unknown)


def _features(text: bytes, said: Parameters) -> str | None:
    """elf_xen_parse_features; returns the first required feature that Xen does not know."""
    at = 0
    while at < len(text):
        piece = text[at : at + 63]
        bar = piece.find(b"|")
        word = piece if bar < 0 else piece[:bar]
        at += len(word) + (bar >= 0)
        if word.startswith(b"!"):
            bit = _FEATURES.get(word[1:])
            if bit is None:
                return show(word[1:])
            said.required |= 1 << bit
    return None


def _string(elf: Elf, start: int, said: Parameters) -> None:
    """elf_xen_parse_guest_info"""
    view = bytes(elf.view[start : start + GUEST_STRING_LIMIT]) if start < len(elf.view) else b""
    text = view.split(b"\0", 1)[0]
    at = 0
    while at < len(text):
        name, value, at = _pair(text, at)
        match name:
            case b"LOADER":
                said.loader = value[:15]
            case b"GUEST_OS":
                said.guest_os = value[:15]
            case b"GUEST_VER":
                said.guest_version = value[:15]
            case b"XEN_VER":
                said.xen_version = value[:15]
            case b"PAE":
                said.pae = said.pae or value.startswith(b"yes")
            case b"BSD_SYMTAB":
                said.bsd_symtab = True
            case b"VIRT_BASE":
                said.virt_base = number(value)
            case b"VIRT_ENTRY":
                said.virt_entry = number(value)
                said.entry_note = True
            case b"ELF_PADDR_OFFSET":
                said.paddr_offset = number(value)
            case b"FEATURES":
                if _features(value, said):
                    return


def _pair(text: bytes, at: int) -> tuple[bytes, bytes, int]:
    """One `NAME=value,`. Names end after 31 bytes and values after 127; the rest is the next pair's."""
    piece = text[at : at + 31]
    stop = next((index for index, byte in enumerate(piece) if byte in b",="), len(piece))
    name = piece[:stop]
    at += stop
    if stop == len(piece):
        return name, b"", at
    if text[at] == ord(","):
        return name, b"", at + 1
    at += 1
    value = text[at : at + 127].split(b",", 1)[0]
    at += len(value)
    comma = len(value) < 127 and text[at : at + 1] == b","
    return name, value, at + comma


_NUMBER = re.compile(rb"[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]+|[0-9]+)")


def number(text: bytes) -> int:
    """strtoull(text, NULL, 0): 0x is hexadecimal, 0 octal; too large is all ones; nothing is 0."""
    match = _NUMBER.match(text)
    if match is None:
        return 0
    sign, digits = match.groups()
    if digits[:2] in (b"0x", b"0X"):
        value = int(digits[2:], 16)
    elif digits[:1] == b"0":
        octal = re.match(rb"[0-7]+", digits)
        value = int(octal.group() if octal else b"0", 8)
    else:
        value = int(digits)
    if value > M64:
        return M64
    return -value & M64 if sign == b"-" else value


def show(text: bytes) -> str:
    """Bytes of a kernel in a sentence: printable ASCII in quotes, the rest as dots, not too long."""
    shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in text[:40])
    return f"'{shown}'"
