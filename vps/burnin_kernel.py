"""A kernel of 12 KiB, which a simulated dom0 boots as Linux. It has no code: no real Xen runs it."""

from __future__ import annotations

import struct

_BASE = 0xFFFFFFFF80000000
_TEXT = _BASE + 0x1000000
_RELEASE = b"Linux version 6.1.0-burnin (berth) #1 SMP\n\0"
# xen/include/public/elfnote.h: the numbers of the notes.
_NOTES: dict[int, bytes] = {
    6: b"linux\0",  # GUEST_OS
    7: b"2.6\0",  # GUEST_VERSION
    5: b"xen-3.0\0",  # XEN_VERSION
    3: struct.pack("<Q", _BASE),  # VIRT_BASE
    1: struct.pack("<Q", _TEXT),  # ENTRY
    2: struct.pack("<Q", _TEXT + 0x1000),  # HYPERCALL_PAGE
    8: b"generic\0",  # LOADER
    4: struct.pack("<Q", 0),  # PADDR_OFFSET
}


def kernel() -> bytes:
    """A 64-bit PV ELF: a header, two segments, their contents."""
    notes = b"".join(_note(kind, value) for kind, value in _NOTES.items())
    text = _RELEASE.ljust(0x2000, b"\x90")
    notes_at = 64 + 2 * 56
    text_at = -(-(notes_at + len(notes)) // 0x1000) * 0x1000
    load = struct.pack("<IIQQQQQQ", 1, 7, text_at, _TEXT, _TEXT - _BASE, len(text), len(text), 0x1000)
    note = struct.pack("<IIQQQQQQ", 4, 4, notes_at, 0, 0, len(notes), len(notes), 4)
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _TEXT - _BASE, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    return (head + load + note + notes).ljust(text_at, b"\0") + text


def _note(kind: int, value: bytes) -> bytes:
    return struct.pack("<III", 4, len(value), kind) + b"Xen\0" + value.ljust(-(-len(value) // 4) * 4, b"\0")
