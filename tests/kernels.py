"""Synthetic kernels, small (some 20 kB) and made of facts alone: what loaders and inspection read of a kernel,
and nothing that could run.

    netbsd(...)           NetBSD, as string (up to 7) or notes (10), amd64 and i386, any configuration
    linux_elf(...)        a vmlinux with PV and PVH notes, or without
    linux_bzimage(...)    the same in a bzImage, with any payload compression
    grub(...), minios(), gnumach(), hypervisor()
    compress(data, ...)   whole-file compression by any method; compress_payload is what the kernel's build does

Where the values come from: docs/kernels.md. The layout of the ELF file is that of tests.elffile.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib
from typing import Literal

from tests.elffile import ElfFile, note

Arch = Literal["amd64", "i386"]
Style = Literal["string", "notes"]

KERNBASE = {"amd64": 0xFFFFFFFF80000000, "i386": 0xC0000000}
XEN = b"Xen\0"
NOTE = {
    "ENTRY": 1,
    "HYPERCALL_PAGE": 2,
    "VIRT_BASE": 3,
    "PADDR_OFFSET": 4,
    "XEN_VERSION": 5,
    "GUEST_OS": 6,
    "GUEST_VERSION": 7,
    "LOADER": 8,
    "PAE_MODE": 9,
    "FEATURES": 10,
    "BSD_SYMTAB": 11,
    "HV_START_LOW": 12,
    "L1_MFN_VALID": 13,
    "SUSPEND_CANCEL": 14,
    "INIT_P2M": 15,
    "MOD_START_PFN": 16,
    "SUPPORTED_FEATURES": 17,
    "PHYS32_ENTRY": 18,
}
COMPRESSIONS = ("gzip", "bzip2", "lzma", "xz", "lzo", "lz4", "zstd")

DOM0_SYMBOLS = ("xbdbackattach", "xvifattach", "xenevtattach", "xenprivcmd_init")
DOMU_SYMBOLS = ("start", "main", "cpu_attach", "xenbus_attach", "xbd_xenbus_attach", "xennet_xenbus_attach")
FEATURE_SYMBOLS = {
    "npf": "npf_pfil_register",
    "ipsec": "ipsec_init",
    "xpci": "xpci_xenbus_attach",
    "multiprocessor": "cpu_hatch",
}
FEATURE_LINES = {
    "npf": "pseudo-device\tnpf\t\t\t# NPF packet filter",
    "ipsec": "options \tIPSEC\t\t# IP security",
    "xpci": "xpci*\tat xenbus ?",
    "multiprocessor": "options \tMULTIPROCESSOR",
}


def netbsd_version(release: str) -> int:
    """`__NetBSD_Version__` of a release: MMmmrrpp00, so "7.99.4" is 799000400 and "10.1" is 1001000000."""
    parts = [int(part) for part in release.split("_")[0].split(".")] + [0, 0]
    return parts[0] * 100_000_000 + parts[1] * 1_000_000 + parts[2] * 100


def xen_string(arch: Arch, *, pae: bool = True, entry: int | None = None) -> bytes:
    """The `__xen_guest` string of NetBSD up to 7, NUL at the end. GRUB sees PAE only where a key follows it."""
    base = KERNBASE[arch]
    entry = base + 0x100000 if entry is None else entry
    if arch == "amd64":
        text = (
            "GUEST_OS=NetBSD,GUEST_VER=4.99,XEN_VER=xen-3.0,LOADER=generic,"
            f"VIRT_BASE={base:#x},ELF_PADDR_OFFSET={base:#x},VIRT_ENTRY={entry:#x},"
            "HYPERCALL_PAGE=0x00000101,BSD_SYMTAB=yes"
        )
    else:
        text = (
            "GUEST_OS=netbsd,GUEST_VER=3.0,XEN_VER=xen-3.0,LOADER=generic,"
            f"VIRT_BASE={base:#x},ELF_PADDR_OFFSET={base:#x},VIRT_ENTRY={entry:#x},"
            "HYPERCALL_PAGE=0x00000101," + ("PAE=yes[extended-cr3]," if pae else "") + "BSD_SYMTAB=yes"
        )
    return text.encode() + b"\0"


def xen_notes(bits: int, values: dict[str, int | str | bytes]) -> bytes:
    """Xen notes in the order given: text gets its NUL, numbers have the width of the class (PHYS32: 4 bytes)."""
    out = b""
    for name, value in values.items():
        if isinstance(value, str):
            desc = value.encode() + b"\0"
        elif isinstance(value, bytes):
            desc = value
        else:
            narrow = bits == 32 or name in ("PHYS32_ENTRY", "SUPPORTED_FEATURES", "SUSPEND_CANCEL")
            desc = struct.pack("<I" if narrow else "<Q", value)
        out += note(XEN, NOTE[name], desc)
    return out


def netbsd(
    arch: Arch = "amd64",
    style: Style | None = None,
    config: str | None = "XEN3_DOMU",
    release: str = "10.1",
    *,
    pae: bool = True,
    pv: bool = True,
    pvh: bool | None = None,
    notes_in: Literal["segment", "section"] = "segment",
    symbols: bool = False,
    dom0: bool | None = None,
    features: tuple[str, ...] = (),
    embedded_config: bool = False,
    reproducible: bool = False,
    version_string: bool = True,
    ident: bool = True,
    filler: int = 8192,
) -> bytes:
    """A NetBSD kernel as ELF.

    `style` None: the string up to release 7, notes after. `config` decides the rest as NetBSD's build does:
    GENERIC has PHYS32_ENTRY and no ENTRY; a name with DOM0 has the dom0 drivers among symbols and options (or say
    `dom0`). `symbols` keeps a symbol table, else it is stripped. `features` are npf, ipsec, xpci,
    multiprocessor. `config` None leaves the name out.
    """
    style = style or ("string" if int(release.split(".")[0]) <= 7 else "notes")
    name = config or "CUSTOM"
    pvh = name.startswith("GENERIC") if pvh is None else pvh
    pv = pv and not name.startswith("GENERIC")
    dom0 = "DOM0" in name if dom0 is None else dom0
    bits = 64 if arch == "amd64" else 32
    base = KERNBASE[arch]
    text_at = base + (0x100000 if style == "string" else 0x200000)
    elf = ElfFile(bits=bits, entry=text_at)
    text = b"\x90" * filler
    rodata = b"Copyright (c) 1996-2024 The NetBSD Foundation, Inc.  All rights reserved.\0"
    if version_string and config:
        tail = (
            "" if reproducible else " #0: Mon Dec 16 13:08:11 UTC 2024\n\tmkrepro@mkrepro.NetBSD.org:/usr/obj"
        )
        rodata += f"@(#)NetBSD {release} ({config}){tail}\0NetBSD {release} ({config}){tail}\n\0".encode()
    if embedded_config:
        rodata += _embedded(config or "CUSTOM", dom0, features)
    # Up to 7 the physical address in the file is the virtual one, and ELF_PADDR_OFFSET takes it off again.
    offset = 0 if style == "string" else base
    load = [elf.section(".text", text, addr=text_at, flags=6), elf.section(".rodata", rodata, flags=2)]
    elf.load(load, paddr=text_at - offset, bss=0x4000)
    if ident:
        desc = struct.pack("<I", netbsd_version(release))
        elf.section(".note.netbsd.ident", note(b"NetBSD\0", 1, desc), kind=7)
    if style == "string":
        elf.section("__xen_guest", xen_string(arch, pae=pae, entry=text_at))
    else:
        xen = elf.section(".note.Xen", xen_notes(bits, _netbsd_notes(base, text_at, pv, pvh, pae)), kind=7)
        if notes_in == "segment":
            elf.note_segment(xen)
    if symbols:
        names = DOMU_SYMBOLS + (DOM0_SYMBOLS if dom0 else ()) + tuple(FEATURE_SYMBOLS[f] for f in features)
        elf.symbols(names, text_at)
    return elf.build()


def _netbsd_notes(base: int, entry: int, pv: bool, pvh: bool, pae: bool) -> dict[str, int | str | bytes]:
    values: dict[str, int | str | bytes] = {
        "GUEST_OS": "NetBSD",
        "GUEST_VERSION": "4.99",
        "XEN_VERSION": "xen-3.0",
        "VIRT_BASE": base,
        "PADDR_OFFSET": 0,
        "HYPERCALL_PAGE": entry + 0x1000,
        "HV_START_LOW": 0xFFFF800000000000 if base > 1 << 32 else 0xF5800000,
        "FEATURES": "",
        "PAE_MODE": "yes" if pae else "no",
        "L1_MFN_VALID": struct.pack("<QQ", 1, 1),
        "LOADER": "generic",
        "SUSPEND_CANCEL": 0,
        "BSD_SYMTAB": "yes",
    }
    if pv:
        values["ENTRY"] = entry
    if pvh:
        values["PHYS32_ENTRY"] = (entry - base) & 0xFFFFFFFF
    return values


def _embedded(config: str, dom0: bool, features: tuple[str, ...]) -> bytes:
    lines = [f'### START CONFIG FILE "{config}"', "options \tINCLUDE_CONFIG_FILE", "#options \tDOM0OPS_NOT"]
    lines += [
        FEATURE_LINES[name] if name in features else "#" + FEATURE_LINES[name] for name in FEATURE_LINES
    ]
    if dom0:
        lines.append("options \tDOM0OPS")
    lines.append(f'### END CONFIG FILE "{config}"')
    return "".join(f"_CFG_{line}\n" for line in lines).encode() + b"\0"


def linux_elf(
    arch: Arch = "amd64",
    *,
    pv: bool | None = None,
    pvh: bool = True,
    xen: bool = True,
    release: str = "6.1.0-56-amd64",
    filler: int = 8192,
    extra: bytes = b"",
) -> bytes:
    """A vmlinux. `pv` None: as Linux since 5.9, on amd64 alone. `xen` False: no Xen notes at all. `extra`: data."""
    pv = (arch == "amd64") if pv is None else pv
    bits = 64 if arch == "amd64" else 32
    base = KERNBASE[arch]
    text_at = base + 0x1000000
    elf = ElfFile(bits=bits, entry=0x1000000)
    banner = (
        f"Linux version {release} (somebody@example.org) (gcc-12) #1 SMP PREEMPT_DYNAMIC test\n\0".encode()
    )
    load = [
        elf.section(".text", b"\x90" * filler, addr=text_at, flags=6),
        elf.section(".rodata", banner + extra, flags=2),
    ]
    elf.load(load, paddr=text_at - base, bss=0x8000)
    if xen:
        values: dict[str, int | str | bytes] = {}
        if pv:
            values |= {
                "GUEST_OS": "linux",
                "GUEST_VERSION": "2.6",
                "XEN_VERSION": "xen-3.0",
                "VIRT_BASE": base,
                "ENTRY": text_at + 0x40,
                # 0x29 bytes without a NUL, as Linux has it: what ends the string is the padding.
                "FEATURES": b"!writable_page_tables|pae_pgdir_above_4gb"[:0x29],
                "SUPPORTED_FEATURES": 0x8801,
                "PAE_MODE": "yes",
                "LOADER": "generic",
                "SUSPEND_CANCEL": 1,
                "MOD_START_PFN": 1,
                "HV_START_LOW": 0xFFFF800000000000 if bits == 64 else 0xF5800000,
                "PADDR_OFFSET": 0,
            }
            if bits == 64:
                values["INIT_P2M"] = 0x8000000000
        if pvh:
            values["PHYS32_ENTRY"] = 0x1000080
        elf.note_segment(elf.section(".notes", xen_notes(bits, values), kind=7, flags=2))
    return elf.build()


def linux_bzimage(
    compression: str = "gzip",
    *,
    elf: bytes | None = None,
    arch: Arch = "amd64",
    release: str = "6.1.0-56-amd64",
    protocol: int = 0x020F,
    pv: bool | None = None,
    pvh: bool = True,
    xen: bool = True,
) -> bytes:
    """A bzImage: setup code with the `HdrS` header, then the payload, compressed as the kernel's build does.

    `compression` is one of COMPRESSIONS or "none" (CONFIG_KERNEL_UNCOMPRESSED). Documentation/arch/x86/boot.rst
    of Linux has the header; before protocol 2.08 there is no payload_offset.
    """
    if elf is None:
        elf = linux_elf(arch, pv=pv, pvh=pvh, xen=xen, release=release)
    return bzimage_of(compress_payload(elf, compression), release=release, protocol=protocol)


def bzimage_of(payload: bytes, *, release: str = "6.1.0-56-amd64", protocol: int = 0x020F) -> bytes:
    """A bzImage around a payload that is already as it should be."""
    setup_sects, payload_offset = 3, 0x2C4
    setup = bytearray((setup_sects + 1) * 512)
    version = f"{release} (somebody@example.org) #1 SMP PREEMPT_DYNAMIC test\0".encode()
    setup[0x400 : 0x400 + len(version)] = version
    setup[0x1F1] = setup_sects
    setup[0x1FE:0x200] = b"\x55\xaa"
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, protocol)
    struct.pack_into("<H", setup, 0x20E, 0x400 - 0x200)
    setup[0x211] = 1  # loadflags: LOADED_HIGH
    struct.pack_into("<II", setup, 0x248, payload_offset, len(payload))
    return bytes(setup) + b"\x90" * payload_offset + payload + bytes(64)


def grub(kind: Literal["x86_64", "i386", "pvh"] = "x86_64") -> bytes:
    """A GRUB image for Xen, as grub-mkimage makes it: a section `mods`, a note segment without a section flag."""
    bits = 64 if kind == "x86_64" else 32
    at = 0x100000 if kind == "pvh" else 0
    elf = ElfFile(bits=bits, entry=at)
    text = b"\x90" * 4096 + b"Welcome to GRUB!\n\0"
    elf.load([elf.section(".text", text, addr=at, flags=6)], paddr=at, bss=0x10000)
    elf.section("mods", b"mimg" + bytes(64))
    values: dict[str, int | str | bytes] = {"PHYS32_ENTRY": at}
    if kind != "pvh":
        values = {
            "GUEST_OS": "GRUB",
            "LOADER": "generic",
            "XEN_VERSION": "xen-3.0",
            "ENTRY": 0,
            "VIRT_BASE": 0,
        }
        if bits == 32:
            values["PAE_MODE"] = "yes"
    elf.note_segment(elf.section(".xen", xen_notes(bits, values), kind=7))
    return elf.build()


def minios() -> bytes:
    """Mini-OS, which legacy pv-grub is built on."""
    elf = ElfFile(bits=64, entry=0)
    elf.load([elf.section(".text", b"\x90" * 4096, addr=0, flags=6)], paddr=0, bss=0x10000)
    values: dict[str, int | str | bytes] = {
        "GUEST_OS": "Mini-OS-x86_64",
        "LOADER": "generic",
        "XEN_VERSION": "xen-3.0",
        "ENTRY": 0,
        "VIRT_BASE": 0,
        "HYPERCALL_PAGE": 0x1000,
    }
    elf.note_segment(elf.section(".note.Xen", xen_notes(64, values), kind=7))
    return elf.build()


def gnumach() -> bytes:
    """GNU Mach for Xen: the string, and a note section whose owner is `name`, which everybody must ignore."""
    base = 0x40000000
    elf = ElfFile(bits=64, entry=base)
    elf.load(
        [elf.section(".text", b"\x90" * 4096 + b"GNU Mach 1.8\0", addr=base, flags=6)], paddr=base, bss=0x2000
    )
    string = (
        f"GUEST_OS=GNU Mach,GUEST_VERSION=1.3,XEN_VER=xen-3.0,VIRT_BASE={base:#x},"
        f"ELF_PADDR_OFFSET={base:#x},HYPERCALL_PAGE=0x2,LOADER=generic"
    )
    elf.section("__xen_guest", string.encode() + b"\0")
    elf.section(".note.Xen", note(b"name\0", 6, b"GNU Mach\0"), kind=7)
    return elf.build()


def hypervisor(*, pvh: bool = False) -> bytes:
    """xen.gz's content: 32-bit ELF with a multiboot header; PVH_GUEST builds carry a PHYS32_ENTRY note."""
    elf = ElfFile(bits=32, entry=0x200000)
    magic, flags = 0x1BADB002, 3
    multiboot = struct.pack("<III", magic, flags, -(magic + flags) & 0xFFFFFFFF)
    text = multiboot + b"\x90" * 4096 + b"<6>Xen version %d.%d%s (%s %s) (%s@%s) (%s) %s %s\n\0(XEN) \0"
    elf.load([elf.section(".text", text, addr=0x200000, flags=6)], paddr=0x200000, bss=0x10000)
    notes = note(b"GNU\0", 3, bytes(20))
    if pvh:
        notes += xen_notes(32, {"PHYS32_ENTRY": 0x200010})
    elf.note_segment(elf.section(".note", notes, kind=7))
    return elf.build()


def compress(data: bytes, method: str) -> bytes:
    """The whole of `data` as the command of that name would write it (gzip, bzip2, xz, lzma, lzop, lz4 -l, zstd)."""
    match method:
        case "none":
            return data
        case "gzip":
            return gzip.compress(data, mtime=0)
        case "bzip2":
            return bz2.compress(data)
        case "xz":
            return lzma.compress(data, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32)
        case "lzma":
            return lzma.compress(data, format=lzma.FORMAT_ALONE)
        case "lzo":
            return _lzop(data)
        case "lz4":
            return _lz4_legacy(data)
        case "zstd":
            import zstandard

            return zstandard.ZstdCompressor(write_content_size=False).compress(data)
    raise ValueError(method)


def compress_payload(data: bytes, method: str) -> bytes:
    """A bzImage's payload: every method but gzip (which ends with it anyway) gets four bytes of size behind it."""
    if method == "none":
        return data
    if method == "xz":
        filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 6}]
        out = lzma.compress(data, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=filters)
    else:
        out = compress(data, method)
    return out if method == "gzip" else out + struct.pack("<I", len(data))


def _lz4_legacy(data: bytes) -> bytes:
    import lz4.block

    out = struct.pack("<I", 0x184C2102)
    for start in range(0, len(data), 8 << 20):
        block = lz4.block.compress(data[start : start + (8 << 20)], mode="high_compression", store_size=False)
        out += struct.pack("<I", len(block)) + block
    return out


def _lzop(data: bytes, block_size: int = 256 * 1024) -> bytes:
    """An lzop file: version 0x1040, adler32 of the data (Linux's lib/decompress_unlzo.c reads it)."""
    import lzallright

    flags = 0x03000001  # made on Unix; adler32 of the uncompressed data
    header = struct.pack(">HHHBBIIIIB", 0x1040, 0x20A0, 0x0940, 1, 9, flags, 0o100644, 0, 0, 0)
    out = b"\x89LZO\0\r\n\x1a\n" + header + struct.pack(">I", zlib.adler32(header))
    for start in range(0, len(data), block_size):
        block = data[start : start + block_size]
        packed = bytes(lzallright.LZOCompressor().compress(block))
        packed = packed if len(packed) < len(block) else block
        out += struct.pack(">III", len(block), len(packed), zlib.adler32(block)) + packed
    return out + struct.pack(">I", 0)
