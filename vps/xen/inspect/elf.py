"""ELF files read as libelf reads them: a field outside of the file is 0, never an error.

libelf is xen/common/libelf of Xen; names of its functions are given where a rule is theirs. Offsets are unsigned 64
bit numbers and wrap. A file may be longer than the bytes there are (`Blob.size`): libxenguest pads what it gunzips
with zeros.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from vps.xen.inspect.limits import STRING_LIMIT

M64 = (1 << 64) - 1
EM_386, EM_X86_64 = 3, 62
PT_LOAD, PT_NOTE = 1, 4
SHT_SYMTAB, SHT_STRTAB, SHT_NOTE = 2, 3, 7

# Where the fields are: (offset, bytes) in a 32-bit and a 64-bit file.
_EHDR32 = {"machine": (18, 2), "version": (20, 4), "entry": (24, 4), "phoff": (28, 4), "shoff": (32, 4)}
_EHDR32 |= {
    "phentsize": (42, 2),
    "phnum": (44, 2),
    "shentsize": (46, 2),
    "shnum": (48, 2),
    "shstrndx": (50, 2),
}
_EHDR64 = {"machine": (18, 2), "version": (20, 4), "entry": (24, 8), "phoff": (32, 8), "shoff": (40, 8)}
_EHDR64 |= {
    "phentsize": (54, 2),
    "phnum": (56, 2),
    "shentsize": (58, 2),
    "shnum": (60, 2),
    "shstrndx": (62, 2),
}
_PHDR32 = ((0, 4), (24, 4), (4, 4), (12, 4), (16, 4), (20, 4))
_PHDR64 = ((0, 4), (4, 4), (8, 8), (24, 8), (32, 8), (40, 8))
_SHDR32 = ((0, 4), (4, 4), (16, 4), (20, 4), (24, 4))
_SHDR64 = ((0, 4), (4, 4), (24, 8), (32, 8), (40, 4))
SHDR32_SIZE, SHDR64_SIZE = 40, 64
PHDR32_SIZE, PHDR64_SIZE = 32, 56
EHDR32_SIZE, EHDR64_SIZE = 52, 64


class Blob(NamedTuple):
    """A file as a loader has it in memory: `view`, and zeros behind it up to `size`."""

    view: memoryview
    size: int


class Segment(NamedTuple):
    """A program header."""

    kind: int
    flags: int
    offset: int
    paddr: int
    filesz: int
    memsz: int

    @property
    def loadable(self) -> bool:
        """elf_phdr_is_loadable: PT_LOAD that may be read, written or executed."""
        return self.kind == PT_LOAD and bool(self.flags & 7)


class Section(NamedTuple):
    """A section header; `name` is an offset into the string section."""

    name: int
    kind: int
    offset: int
    size: int
    link: int


class Elf:
    """A view of an ELF file. Making one never fails; ask `is_elf` and `overflow` first."""

    def __init__(self, blob: Blob) -> None:
        self.view, self.size = blob
        self.little = True
        self.wide = self.uint(4, 1) == 2
        self.little = self.uint(5, 1) == 1
        self._fields = _EHDR64 if self.wide else _EHDR32
        self.machine = self._header("machine")
        self.entry = self._header("entry")

    @property
    def is_elf(self) -> bool:
        """elf_is_elfbinary: the four magic bytes, in a file at least as long as a 32-bit header."""
        return self.size >= EHDR32_SIZE and bytes(self.view[:4]) == b"\x7fELF"

    def uint(self, at: int, width: int) -> int:
        """elf_access_unsigned: a number of `width` bytes at `at`, 0 when it is not wholly in the file."""
        if at + width > self.size:
            return 0
        data = bytes(self.view[at : at + width])
        if len(data) < width:
            data = data.ljust(width, b"\0")
        return int.from_bytes(data, "little" if self.little else "big")

    def _header(self, name: str) -> int:
        return self.uint(*self._fields[name])

    def header(self, name: str) -> int:
        """A field of the ELF header: version, phoff, phentsize, phnum, shoff, shentsize, shnum, shstrndx."""
        return self._header(name)

    @cached_property
    def section_count(self) -> int:
        """elf_shdr_count: e_shnum, but no more than could be in the file."""
        return min(self._header("shnum"), self.size // SHDR32_SIZE)

    @cached_property
    def overflow(self) -> int | None:
        """elf_init: the offset at which a header table ends when that is outside of the file, else None."""
        tables = (
            self._header("phoff") + self._header("phentsize") * self._header("phnum"),
            self._header("shoff") + self._header("shentsize") * self.section_count,
        )
        return next((end & M64 for end in tables if end & M64 > self.size), None)

    @cached_property
    def segments(self) -> list[Segment]:
        """Program headers, up to the first that is not in the file."""
        out = []
        start, step = self._header("phoff"), self._header("phentsize")
        layout = _PHDR64 if self.wide else _PHDR32
        for index in range(self._header("phnum")):
            at = (start + step * index) & M64
            if at + 1 > self.size:
                break
            out.append(Segment(*(self.uint(at + offset, width) for offset, width in layout)))
        return out

    @cached_property
    def sections(self) -> list[Section]:
        """Section headers, up to the first that is not in the file."""
        out = []
        start, step = self._header("shoff"), self._header("shentsize")
        layout = _SHDR64 if self.wide else _SHDR32
        for index in range(self.section_count):
            at = (start + step * index) & M64
            if at + 1 > self.size:
                break
            out.append(Section(*(self.uint(at + offset, width) for offset, width in layout)))
        return out

    def text(self, at: int) -> bytes | None:
        """elf_strval: the bytes before the next NUL, None when there is no NUL in reach."""
        at &= M64
        if at >= self.size:
            return None
        for reach in (64, STRING_LIMIT + 1):
            data = bytes(self.view[at : at + reach])
            end = data.find(0)
            if end >= 0:
                return data[:end]
            if len(data) < reach:
                # Behind the bytes there are come zeros, if the loader padded the file.
                padded = at + len(data) < self.size and len(data) <= STRING_LIMIT
                return data if padded else None
        return None

    @cached_property
    def _names_at(self) -> int | None:
        index = self._header("shstrndx")
        return self.sections[index].offset if index < len(self.sections) else None

    def section_name(self, section: Section) -> bytes | None:
        """elf_section_name."""
        if self._names_at is None:
            return b"unknown"
        return self.text(self._names_at + section.name)

    def section_named(self, name: bytes) -> Section | None:
        """elf_shdr_by_name."""
        return next((section for section in self.sections if self.section_name(section) == name), None)

    @cached_property
    def symbol_table(self) -> Section | None:
        """elf_init: the first symbol table behind section 0 whose string table is a section; else none at all."""
        for section in self.sections[1:]:
            if section.kind == SHT_SYMTAB:
                return section if 0 < section.link < self.section_count else None
        return None

    def round_up(self, number: int) -> int:
        """elf_round_up: to 8 in a 64-bit file, to 4 in a 32-bit one."""
        mask = 7 if self.wide else 3
        return (number + mask) & ~mask & M64

    def content(self, section: Section, limit: int) -> memoryview:
        """The bytes of a section, no more than `limit`, no more than there are."""
        start = min(section.offset, len(self.view))
        return self.view[start : min(start + min(section.size, limit), len(self.view))]
