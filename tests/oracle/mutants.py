"""Mutants of kernels, rule by rule: what is done to a kernel, and how often.

Everything comes from a random.Random of a given seed, so that a mutant is found again by its rule, base and number.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

from tests import kernels

COMPRESSIONS = kernels.COMPRESSIONS


@lru_cache(maxsize=16)
def packed(data: bytes, method: str) -> bytes:
    """kernels.compress, of which a full-size kernel's xz takes half a minute: the last ones are kept."""
    return kernels.compress(data, method)


class Mutant(NamedTuple):
    rule: str
    base: str
    number: int
    data: bytes


class Table(NamedTuple):
    """Where things are in an ELF file: its header's size, and the offsets of the rest (areas with their sizes)."""

    wide: bool
    header: int
    segments: list[int]
    sections: list[int]
    notes: list[tuple[int, int]]
    strings: list[tuple[int, int]]
    phsize: int
    shsize: int


def table(elf: bytes) -> Table:
    wide = elf[4] == 2
    get = struct.unpack_from
    if wide:
        phoff, shoff = get("<QQ", elf, 32)
        phsize, phnum, shsize, shnum = get("<HHHH", elf, 54)
    else:
        phoff, shoff = get("<II", elf, 28)
        phsize, phnum, shsize, shnum = get("<HHHH", elf, 42)
    segments = [phoff + phsize * index for index in range(phnum)]
    sections = [shoff + shsize * index for index in range(shnum)]
    notes, strings = [], []
    for at in sections:
        kind = get("<I", elf, at + 4)[0]
        offset, size = get("<QQ", elf, at + 24) if wide else get("<II", elf, at + 16)
        if offset > len(elf) or size > len(elf):
            continue
        if kind == 7:
            notes.append((offset, size))
        elif kind == 1 and elf[offset : offset + 9] == b"GUEST_OS=":
            strings.append((offset, size))
    return Table(wide, 64 if wide else 52, segments, sections, notes, strings, phsize, shsize)


Rule = Callable[[bytes, random.Random], bytes]


def flip(data: bytes, at: int, dice: random.Random) -> bytes:
    out = bytearray(data)
    out[at] ^= 1 << dice.randrange(8)
    return bytes(out)


def put(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def header_bits(elf: bytes, dice: random.Random) -> bytes:
    return flip(elf, dice.randrange(table(elf).header), dice)


def header_values(elf: bytes, dice: random.Random) -> bytes:
    """A field of the header, or of a program or section header, becomes an edge value."""
    found = table(elf)
    starts = [(0, found.header)]
    starts += [(at, found.phsize) for at in found.segments] + [(at, found.shsize) for at in found.sections]
    at, size = dice.choice(starts)
    width = dice.choice((2, 4, 8) if found.wide else (2, 4))
    at += dice.randrange(0, size - width + 1, 2)
    edges = (
        0,
        1,
        2,
        3,
        4,
        7,
        0xFF,
        0x1000,
        len(elf) - 1,
        len(elf),
        len(elf) + 1,
        0x7FFFFFFF,
        0x80000000,
        -1,
        -2,
    )
    value = dice.choice(edges) & ((1 << (8 * width)) - 1)
    return put(elf, at, value.to_bytes(width, "little"))


def segment_bits(elf: bytes, dice: random.Random) -> bytes:
    found = table(elf)
    return flip(elf, dice.choice(found.segments) + dice.randrange(found.phsize), dice)


def section_bits(elf: bytes, dice: random.Random) -> bytes:
    found = table(elf)
    return flip(elf, dice.choice(found.sections) + dice.randrange(found.shsize), dice)


def note_bits(elf: bytes, dice: random.Random) -> bytes:
    areas = table(elf).notes + table(elf).strings
    offset, size = dice.choice(areas)
    return flip(elf, offset + dice.randrange(max(size, 1)), dice)


def notes_of(elf: bytes) -> list[tuple[int, int, int, int]]:
    """(type, header's offset, description's offset, description's size) of every Xen note."""
    out = []
    for offset, size in table(elf).notes:
        at = offset
        while at + 12 <= offset + size:
            namesz, descsz, kind = struct.unpack_from("<III", elf, at)
            desc = at + 12 + (-(-namesz // 4) * 4)
            if elf[at + 12 : at + 16] == b"Xen\0":
                out.append((kind, at, desc, descsz))
            at = desc + -(-descsz // 4) * 4
    return out


def note_values(elf: bytes, dice: random.Random) -> bytes:
    """A note's description becomes an edge value, or another word; or a key's value in the string does."""
    notes = notes_of(elf)
    strings = table(elf).strings
    if strings and (not notes or dice.random() < 0.5):
        return string_values(elf, dice)
    if not notes:
        return note_bits(elf, dice)
    _, _, desc, size = dice.choice(notes)
    if size in (4, 8):
        now = int.from_bytes(elf[desc : desc + size], "little")
        edges = (
            0,
            1,
            0x1000,
            now + 1,
            now - 1,
            now + 0x1000,
            now - 0x1000,
            now + 0x200000,
            -1,
            -2,
            now >> 12,
        )
        value = (dice.choice(edges) & ((1 << (8 * size)) - 1)).to_bytes(size, "little")
    else:
        value = dice.choice(
            (b"generic", b"linux", b"yes", b"no", b"bimodal", b"xen-3.0", b"xen-2.0", b"", b"generic2")
        )
        value = value[:size].ljust(size, b"\0") if dice.random() < 0.8 else value[:size].ljust(size, b"x")
    return put(elf, desc, value)


def note_types(elf: bytes, dice: random.Random) -> bytes:
    """A note gets another type, another size, another owner."""
    notes = notes_of(elf)
    if not notes:
        return note_bits(elf, dice)
    _, at, _, size = dice.choice(notes)
    match dice.randrange(4):
        case 0:
            return put(elf, at + 8, struct.pack("<I", dice.randrange(24)))
        case 1:
            sizes = (0, 1, 2, 4, 8, 12, size + 1, size - 1 & 0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
            return put(elf, at + 4, struct.pack("<I", dice.choice(sizes)))
        case 2:
            return put(elf, at, struct.pack("<I", dice.choice((0, 3, 4, 5, 8, 9, 0xFFFFFFFD, 0xFFFFFFFF))))
        case _:
            return put(elf, at + 12, dice.choice((b"XEN\0", b"Xen ", b"GNU\0", b"xen\0", b"Xe\0\0")))


_WORDS = (
    b"generic", b"linux", b"yes", b"yes[extended-cr3]", b"no", b"bimodal", b"xen-3.0", b"xen-3.0-x86_64", b"xen-2",
    b"0", b"1", b"0x", b"-1", b"0777", b"0xffffffffffffffff", b"0x10000000000000000",
    b"!dom0", b"dom0", b"!unknown", b"x" * 130,
)  # fmt: skip
_PAIRS = (b"PAE=yes", b"PAE=yes[extended-cr3]", b"BSD_SYMTAB=yes", b"FEATURES=!dom0", b"")


def string_values(elf: bytes, dice: random.Random) -> bytes:
    """The `__xen_guest` string with a key dropped, doubled, renamed or given another value; the room stays."""
    offset, size = table(elf).strings[0]
    pairs = elf[offset : offset + size].split(b"\0")[0].split(b",")
    at = dice.randrange(len(pairs))
    key, _, value = pairs[at].partition(b"=")
    match dice.randrange(6):
        case 0:
            del pairs[at]
        case 1:
            pairs.append(pairs[at])
        case 2:
            pairs[at] = key + b"=" + dice.choice(_WORDS)
        case 3:
            pairs[at] = key[:-1] + b"=" + value
        case 4:
            pairs.insert(at, dice.choice(_PAIRS))
        case _:
            number = int(value, 16) if value.startswith(b"0x") else 0
            pairs[at] = key + b"=" + hex(max(0, number + dice.choice((-1, 1, -4096, 4096)))).encode()
    text = b",".join(pairs)[: size - 1]
    return put(elf, offset, text.ljust(size, b"\0"))


def truncation(data: bytes, dice: random.Random) -> bytes:
    edges = (1, 4, 51, 52, 63, 64, 600, len(data) - 1, len(data) - 40, len(data) - 64, len(data) - 65)
    at = dice.choice(edges) if dice.random() < 0.4 else dice.randrange(len(data))
    return data[: max(0, at)]


def trailing(data: bytes, dice: random.Random) -> bytes:
    return data + dice.choice((b"\0", b"x", bytes(4), bytes(100), b"junk" * 10, struct.pack("<I", 1 << 20)))


def moved_sections(elf: bytes, dice: random.Random) -> bytes:
    """The section table, or the program headers, or a note area go behind the end."""
    found = table(elf)
    out = elf + bytes(-len(elf) % 8)
    match dice.randrange(3):
        case 0:
            moved = elf[found.sections[0] : found.sections[0] + found.shsize * len(found.sections)]
            field, width = (40, 8) if found.wide else (32, 4)
        case 1:
            moved = elf[found.segments[0] : found.segments[0] + found.phsize * len(found.segments)]
            field, width = (32, 8) if found.wide else (28, 4)
        case _:
            index = dice.randrange(len(found.sections))
            at = found.sections[index]
            where, width = (at + 24, 8) if found.wide else (at + 16, 4)
            offset, size = struct.unpack_from("<QQ" if found.wide else "<II", elf, where)
            moved, field = elf[offset : offset + size], where
    return put(out, field, len(out).to_bytes(width, "little")) + moved


def stripped_headers(elf: bytes, dice: random.Random) -> bytes:
    """No section table, or no program headers, or no section names; or cut off behind what is loaded."""
    found = table(elf)
    counts = (56, 60, 62) if found.wide else (44, 48, 50)
    offsets = (32, 40) if found.wide else (28, 32)
    match dice.randrange(5):
        case 0:
            return put(elf, counts[1], b"\0\0")
        case 1:
            return put(put(elf, counts[1], b"\0\0"), offsets[1], bytes(8 if found.wide else 4))
        case 2:
            return put(elf, counts[0], b"\0\0")
        case 3:
            return put(elf, counts[2], struct.pack("<H", dice.choice((0, 1, len(found.sections), 0xFFFF))))
        case _:
            return put(elf, counts[1], b"\0\0")[: dice.randrange(found.header, len(elf))]


def recompression(data: bytes, dice: random.Random) -> bytes:
    return packed(data, dice.choice(COMPRESSIONS))


def gzipped(data: bytes, dice: random.Random) -> bytes:
    """gzip with what may be in its header, stored or packed."""
    import gzip
    import io

    out = io.BytesIO()
    name = dice.choice(("", "netbsd", "a" * 300))
    with gzip.GzipFile(name, "wb", dice.choice((0, 1, 6, 9)), out, mtime=dice.choice((0, 1, 2**31))) as file:
        file.write(data)
    return out.getvalue()


def nested(data: bytes, dice: random.Random) -> bytes:
    outer = dice.choice(("gzip", "gzip", "xz", "lzo", "bzip2"))
    return kernels.compress(packed(data, dice.choice(COMPRESSIONS)), outer)


def concatenated(data: bytes, dice: random.Random) -> bytes:
    """Two gzip members: the same twice, halves, a short or a long second one."""
    match dice.randrange(5):
        case 0:
            parts = [data, data]
        case 1:
            at = dice.randrange(1, len(data))
            parts = [data[:at], data[at:]]
        case 2:
            parts = [data, b"short"]
        case 3:
            parts = [data, bytes(len(data) + dice.choice((-17, -16, -15, 0, 1000)))]
        case _:
            parts = [b"", data]
    return b"".join(kernels.compress(part, "gzip") for part in parts)


def packed_bits(data: bytes, dice: random.Random) -> bytes:
    """A bit of the gzip file, mostly in its header or trailer."""
    out = packed(data, "gzip")
    spot = dice.choice((dice.randrange(10), len(out) - 1 - dice.randrange(8), dice.randrange(len(out))))
    return flip(out, spot, dice)


@lru_cache(maxsize=16)
def packed_payload(data: bytes, method: str) -> bytes:
    return kernels.compress_payload(data, method)


def payload(data: bytes, dice: random.Random) -> bytes:
    """In a bzImage, by any method."""
    return kernels.bzimage_of(packed_payload(data, dice.choice((*COMPRESSIONS, "none"))))


def payload_bits(data: bytes, dice: random.Random) -> bytes:
    """A bzImage with a bit of its setup header or of its payload changed, or cut short, or with another size."""
    inside = packed_payload(data, dice.choice((*COMPRESSIONS, "none")))
    image = kernels.bzimage_of(inside)
    match dice.randrange(5):
        case 0:
            return flip(
                image, dice.choice((0x1F1, 0x1FE, 0x202, 0x206, 0x207, 0x248, 0x249, 0x24C, 0x24D)), dice
            )
        case 1:
            return flip(image, dice.randrange(2048 + 0x2C4, len(image) - 64), dice)
        case 2:
            return truncation(image, dice)
        case 3:
            return kernels.bzimage_of(inside[: dice.randrange(1, len(inside))])
        case _:
            size = max(0, len(data) + dice.choice((-1, 1, -100, 100, 1 << 20, -len(data))))
            return kernels.bzimage_of(inside[:-4] + struct.pack("<I", size))


def two_forms(data: bytes, dice: random.Random) -> bytes:
    """A bzImage that is an ELF file as well, or the reverse, or either with the table of a raw Xen binary."""
    image = kernels.bzimage_of(packed_payload(data, dice.choice((*COMPRESSIONS, "none"))))
    match dice.randrange(4):
        case 0:
            return data[:4] + image[4:]
        case 1:
            return data[:0x1F0] + image[0x1F0:]
        case 2:
            return data[:0x1F0] + image[0x1F0:0x268] + data[0x268:]
        case _:
            whole = dice.choice((data, image))
            at = dice.randrange(64, min(len(whole), 8192) - 64)
            flags = dice.choice((0, 0x10000, 0x10000 | 2 << 14))
            words = (0x336EC578, flags, -(0x336EC578 + flags) & 0xFFFFFFFF, 0x1000, 0x1000, 0, 0, 0x1000)
            return whole[:at] + struct.pack("<8I", *words) + whole[at + 32 :]


def double(data: bytes, dice: random.Random) -> bytes:
    """Two rules for ELF files, one behind the other."""
    first = dice.choice((note_values, segment_bits, section_bits, note_types))(data, dice)
    try:
        return dice.choice((note_values, header_bits, section_bits, stripped_headers))(first, dice)
    except (struct.error, IndexError, ValueError):
        return first  # the first left nothing that the second could find


RULES: dict[str, Rule] = {
    rule.__name__.replace("_", " "): rule
    for rule in (
        header_bits, header_values, segment_bits, section_bits, note_bits, note_values, note_types, truncation,
        trailing, moved_sections, stripped_headers, recompression, gzipped, nested, concatenated, packed_bits,
        payload, payload_bits, two_forms, double,
    )
}  # fmt: skip


def synthetic() -> dict[str, bytes]:
    """The synthetic kernels that mutants are made of: every NetBSD of tests.kernels, Linux, and what else boots."""
    out = netbsds()
    out["linux amd64"] = kernels.linux_elf(filler=512)
    out["linux amd64 PV"] = kernels.linux_elf(pvh=False, filler=512)
    out["linux i386 PV"] = kernels.linux_elf("i386", pv=True, filler=512)
    out["linux i386 PVH"] = kernels.linux_elf("i386", filler=512)
    out["linux not for Xen"] = kernels.linux_elf(xen=False, filler=512)
    out["grub x86_64"], out["grub i386"] = kernels.grub(), kernels.grub("i386")
    out["grub pvh"], out["mini-os"] = kernels.grub("pvh"), kernels.minios()
    out["gnumach"], out["xen"] = kernels.gnumach(), kernels.hypervisor()
    return out


def netbsds() -> dict[str, bytes]:
    """NetBSD's configurations: both styles, every machine, each as it is built and as it may be kept."""
    netbsd, out = kernels.netbsd, {}
    for style, release in (("string", "7.2"), ("notes", "10.1")):
        for machine, names in (("amd64", "XEN3"), ("i386 PAE", "XEN3PAE"), ("i386", "XEN3")):
            arch: kernels.Arch = "amd64" if machine == "amd64" else "i386"
            pae = machine != "i386"
            for config in (f"{names}_DOMU", f"{names}_DOM0", f"INSTALL_{names}_DOMU"):
                out[f"netbsd {style} {machine} {config}"] = netbsd(
                    arch, style, config, release, pae=pae, symbols=True, filler=512
                )
        for arch in ("amd64", "i386"):
            config = "XEN3_DOMU" if arch == "amd64" else "XEN3PAE_DOMU"
            kept = {
                "stripped": netbsd(arch, style, config, release, filler=512),
                "reproducible": netbsd(arch, style, config, release, reproducible=True, filler=512),
                "own name, DOM0 by symbols": netbsd(
                    arch, style, "MINE", release, dom0=True, symbols=True, filler=512
                ),
                "no name, stripped": netbsd(arch, style, None, release, version_string=False, filler=512),
                "embedded configuration": netbsd(
                    arch, style, config, release, embedded_config=True, features=("npf",), filler=512
                ),
            }
            out |= {f"netbsd {style} {arch} {name}": kernel for name, kernel in kept.items()}
    for arch in ("amd64", "i386"):
        out[f"netbsd notes {arch} GENERIC"] = netbsd(arch, "notes", "GENERIC", "10.1", filler=512)
    out["netbsd notes in a section"] = netbsd(notes_in="section", filler=512)
    return out


def image_bits(image: bytes, dice: random.Random) -> bytes:
    """A bit of a bzImage: mostly in its setup header, else anywhere."""
    at = dice.randrange(0x1F1, 0x250) if dice.random() < 0.7 else dice.randrange(len(image))
    return flip(image, at, dice)


# For files of tens of megabytes: rules for the kernel itself go inside, plain or packed anew; these stay outside.
PACKING = ("recompression", "gzipped", "nested", "concatenated", "packed bits", "payload", "payload bits")


# The base has nothing that this rule changes: the next one may have.
NOTHING_THERE = (struct.error, IndexError, ValueError, OverflowError)


def full_size(images: dict[str, tuple[bytes, bytes]], numbers: range, seed: int = 1) -> Iterator[Mutant]:
    """Mutants of real kernels by every rule: `images` are files and the ELF kernels in them."""
    names = sorted(images)
    rules = ["image bits", "image cut short", "image trailing", *RULES]
    for number in numbers:
        rule = rules[number % len(rules)]
        for shift in range(len(names)):
            base = names[(number + number // len(rules) + shift) % len(names)]
            dice = random.Random(f"{seed}/full/{rule}/{base}/{number}")
            try:
                data = _full_size(rule, *images[base], dice)
            except NOTHING_THERE:
                continue
            yield Mutant(f"full size: {rule}", base, number, data)
            break


def _full_size(rule: str, image: bytes, elf: bytes, dice: random.Random) -> bytes:
    if rule in OUTSIDE:
        return OUTSIDE[rule](image, dice)
    data = RULES[rule](elf, dice)
    wrapping = dice.choice(("plain", "plain", "gzip", "lz4", "zstd"))
    if rule in PACKING or wrapping == "plain":
        return data
    if wrapping == "gzip":
        return zlib.compress(data, 1, wbits=31)
    return kernels.linux_bzimage(wrapping, elf=data)


OUTSIDE: dict[str, Rule] = {
    "image bits": image_bits,
    "image cut short": truncation,
    "image trailing": trailing,
}


def mutants(bases: dict[str, bytes], numbers: range, seed: int = 1) -> Iterator[Mutant]:
    """One for each number, spread evenly over the rules and, within a rule, over the bases."""
    names = sorted(bases)
    rules = list(RULES.items())
    for number in numbers:
        rule, make = rules[number % len(rules)]
        for shift in range(len(names)):
            base = names[(number // len(rules) + shift) % len(names)]
            dice = random.Random(f"{seed}/{rule}/{base}/{number}")
            try:
                data = make(bases[base], dice)
            except NOTHING_THERE:
                continue
            yield Mutant(rule, base, number, data)
            break
