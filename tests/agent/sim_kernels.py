"""Small ELF files that Xen, GRUB and the simulated dom0 take for kernels."""

from __future__ import annotations

import struct

_ENTRY, _HYPERCALL_PAGE, _VIRT_BASE, _PADDR_OFFSET = 1, 2, 3, 4
_XEN_VERSION, _GUEST_OS, _LOADER, _PAE_MODE, _PHYS32_ENTRY = 5, 6, 8, 9, 18


def _note(owner: bytes, kind: int, content: bytes) -> bytes:
    owner += b"\0"
    return (
        struct.pack("<III", len(owner), len(content), kind)
        + owner.ljust(-(-len(owner) // 4) * 4, b"\0")
        + content.ljust(-(-len(content) // 4) * 4, b"\0")
    )


def _elf(notes: bytes, text: bytes, wide: bool, place: tuple[int, int], memory: int = 0x10000) -> bytes:
    """One segment to load, with the notes in it; `place` is its virtual and its physical address."""
    virtual, physical = place
    at = 64 + 2 * 56 if wide else 52 + 2 * 32
    size = len(notes) + len(text)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    if wide:
        header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, virtual, 64, 0, 0, 64, 56, 2, 64, 0, 0)
        segments = struct.pack("<IIQQQQQQ", 1, 7, at, virtual, physical, size, memory, 0x1000)
        segments += struct.pack("<IIQQQQQQ", 4, 4, at, virtual, physical, len(notes), len(notes), 4)
    else:
        header = ident + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, virtual, 52, 0, 0, 52, 32, 2, 40, 0, 0)
        segments = struct.pack("<IIIIIIII", 1, at, virtual, physical, size, memory, 7, 0x1000)
        segments += struct.pack("<IIIIIIII", 4, at, virtual, physical, len(notes), len(notes), 4, 4)
    return header + segments + notes + text


LOW = 0x1000000


def _xen_notes(system: bytes, wide: bool, base: int, pv: bool, pvh: bool) -> bytes:
    def number(value: int) -> bytes:
        return struct.pack("<Q" if wide else "<I", value)

    notes = _note(b"Xen", _GUEST_OS, system + b"\0") + _note(b"Xen", _XEN_VERSION, b"xen-3.0\0")
    notes += _note(b"Xen", _LOADER, b"generic\0") + _note(b"Xen", _PAE_MODE, b"yes\0")
    notes += _note(b"Xen", _VIRT_BASE, number(base)) + _note(b"Xen", _PADDR_OFFSET, number(0))
    notes += _note(b"Xen", _HYPERCALL_PAGE, number(base + LOW + 0x1000))
    if pv:
        notes += _note(b"Xen", _ENTRY, number(base + LOW))
    if pvh:
        notes += _note(b"Xen", _PHYS32_ENTRY, struct.pack("<I", LOW))
    return notes


def linux(
    release: str = "6.1.0-test",
    *,
    wide: bool = True,
    pv: bool = True,
    pvh: bool = False,
    memory: int = 0x10000,
) -> bytes:
    """`memory` is what it takes when it is loaded, in bytes."""
    base = 0xFFFFFFFF80000000 if wide else 0xC0000000
    notes = _xen_notes(b"linux", wide, base, pv, pvh)
    text = f"Linux version {release} (test@berth) #1 SMP\n\0".encode()
    return _elf(notes, text, wide, (base + LOW, LOW), memory)


def netbsd(release: str = "10.1", configuration: str = "XEN3_DOMU", *, wide: bool = True) -> bytes:
    base = 0xFFFFFFFF80000000 if wide else 0xC0000000
    major, minor = (int(part) for part in release.split("."))
    notes = _xen_notes(b"NetBSD", wide, base, True, False)
    notes += _note(b"NetBSD", 1, struct.pack("<I", major * 100_000_000 + minor * 1_000_000))
    return _elf(notes, f"NetBSD {release} ({configuration}) #0: Tue\n\0".encode(), wide, (base + LOW, LOW))
