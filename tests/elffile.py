"""A writer of small ELF files for tests: sections in order, load segments over them, notes, a symbol table."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

PT_LOAD, PT_NOTE = 1, 4
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_NOTE = 1, 2, 3, 7


def note(owner: bytes, kind: int, desc: bytes) -> bytes:
    """One ELF note; `owner` with its NUL. Padded to four bytes, as Xen and NetBSD have them in both classes."""
    head = struct.pack("<III", len(owner), len(desc), kind)
    return head + owner.ljust(-(-len(owner) // 4) * 4, b"\0") + desc.ljust(-(-len(desc) // 4) * 4, b"\0")


@dataclass
class Section:
    name: str
    data: bytes
    kind: int = SHT_PROGBITS
    addr: int = 0
    flags: int = 0
    link: int = 0
    entsize: int = 0
    offset: int = 0


@dataclass
class Segment:
    kind: int
    sections: list[Section]
    vaddr: int = 0
    paddr: int = 0
    bss: int = 0
    flags: int = 4


@dataclass
class ElfFile:
    """Add sections and segments, then `build()`. Sections of one load segment must be added one after another."""

    bits: int = 64
    entry: int = 0
    machine: int | None = None
    sections: list[Section] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)

    def section(
        self, name: str, data: bytes, *, kind: int = SHT_PROGBITS, addr: int = 0, flags: int = 0
    ) -> Section:
        made = Section(name, data, kind, addr, flags)
        self.sections.append(made)
        return made

    def load(self, sections: list[Section], *, paddr: int, bss: int = 0) -> None:
        """A PT_LOAD over these sections, `bss` bytes longer in memory than in the file."""
        self.segments.append(Segment(PT_LOAD, sections, sections[0].addr, paddr, bss, 7))

    def note_segment(self, section: Section) -> None:
        """A PT_NOTE over that section."""
        self.segments.append(Segment(PT_NOTE, [section]))

    def symbols(self, names: tuple[str, ...], addr: int) -> None:
        """A symbol table with a global function of each name."""
        strings, table = b"\0", bytes(24 if self.bits == 64 else 16)
        for number, name in enumerate(names):
            at, size, info = addr + 16 * number, 16, 0x12
            if self.bits == 64:
                table += struct.pack("<IBBHQQ", len(strings), info, 0, 1, at, size)
            else:
                table += struct.pack("<IIIBBH", len(strings), at, size, info, 0, 1)
            strings += name.encode() + b"\0"
        symtab = self.section(".symtab", table, kind=SHT_SYMTAB)
        self.section(".strtab", strings, kind=SHT_STRTAB)
        symtab.entsize = 24 if self.bits == 64 else 16
        symtab.link = len(self.sections)  # the string table is the last so far; index 0 is the null section

    def build(self) -> bytes:
        wide = self.bits == 64
        ehsize, phsize, shsize = (64, 56, 64) if wide else (52, 32, 40)
        names = b"\0"
        name_at = []
        for section in [*self.sections, Section(".shstrtab", b"")]:
            name_at.append(len(names))
            names += section.name.encode() + b"\0"
        sections = [*self.sections, Section(".shstrtab", names, SHT_STRTAB)]
        body = bytearray(ehsize + phsize * len(self.segments))
        for section in sections:
            body += bytes(-len(body) % 16)
            section.offset = len(body)
            body += section.data
        body += bytes(-len(body) % 8)
        shoff = len(body)
        body += bytes(shsize)
        for section, at in zip(sections, name_at, strict=True):
            body += self._section_header(section, at)
        body[ehsize : ehsize + phsize * len(self.segments)] = b"".join(
            map(self._program_header, self.segments)
        )
        body[:ehsize] = self._header(ehsize, phsize, shsize, shoff, len(sections) + 1)
        return bytes(body)

    def _header(self, ehsize: int, phsize: int, shsize: int, shoff: int, count: int) -> bytes:
        machine = self.machine or (62 if self.bits == 64 else 3)
        ident = b"\x7fELF" + bytes([2 if self.bits == 64 else 1, 1, 1]) + bytes(9)
        layout = "<HHIQQQIHHHHHH" if self.bits == 64 else "<HHIIIIIHHHHHH"
        return ident + struct.pack(
            layout, 2, machine, 1, self.entry, ehsize, shoff, 0, ehsize, phsize, len(self.segments), shsize, count,
            count - 1,
        )  # fmt: skip

    def _program_header(self, segment: Segment) -> bytes:
        first, last = segment.sections[0], segment.sections[-1]
        size = last.offset + len(last.data) - first.offset
        memory = size + segment.bss
        fields = (segment.vaddr, segment.paddr, size, memory)
        if self.bits == 64:
            return struct.pack("<IIQQQQQQ", segment.kind, segment.flags, first.offset, *fields, 4)
        return struct.pack("<IIIIIIII", segment.kind, first.offset, *fields, segment.flags, 4)

    def _section_header(self, section: Section, name: int) -> bytes:
        layout = "<IIQQQQIIQQ" if self.bits == 64 else "<IIIIIIIIII"
        return struct.pack(
            layout, name, section.kind, section.flags, section.addr, section.offset, len(section.data), section.link,
            0, 4, section.entsize,
        )  # fmt: skip
