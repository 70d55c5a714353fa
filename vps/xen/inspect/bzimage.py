"""bzImages: the header of Linux's setup code, and the payload behind it.

Linux, Documentation/arch/x86/boot.rst. Before protocol 2.08 nothing says where the payload is.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from vps.xen.inspect.elf import Blob
from vps.xen.inspect.limits import UNPACKED_LIMIT, XEN_UNPACKED_LIMIT
from vps.xen.inspect.streams import StreamError, Unpacked, method_of, unpack
from vps.xen.inspect.verdicts import Code, Compression, Refusal, mib

HEADER_SIZE = 0x250
"""libxenguest, struct setup_header: a shorter file is no bzImage to it."""
LINUX_HEADER_SIZE = 0x268
"""GRUB, struct linux_i386_kernel_header; the same for GRUB."""


class Setup(NamedTuple):
    """What is read of the setup header; `start` and `length` are the payload's, in bytes of the file."""

    protocol: int
    boot_flag: int
    start: int
    length: int


def setup(blob: Blob) -> Setup | None:
    """The setup header, None when the file has no `HdrS` where a bzImage has it."""
    view = blob.view
    if blob.size < HEADER_SIZE or bytes(view[0x202:0x206]) != b"HdrS":
        return None
    head = bytes(view[:HEADER_SIZE]).ljust(HEADER_SIZE, b"\0")
    offset, length = struct.unpack_from("<II", head, 0x248)
    (protocol,) = struct.unpack_from("<H", head, 0x206)
    (boot_flag,) = struct.unpack_from("<H", head, 0x1FE)
    return Setup(protocol, boot_flag, (head[0x1F1] + 1) * 512 + offset, length)


def release(blob: Blob) -> str | None:
    """The text that `uname -r` would give, from the setup code's version string."""
    head = bytes(blob.view[:0x210])
    if len(head) < 0x210:
        return None
    (at,) = struct.unpack_from("<H", head, 0x20E)
    return text_at(blob, at + 0x200).split(" ", 1)[0][:64] or None if at else None


def banner(blob: Blob) -> str:
    """The whole version string of the setup code: release, builder, `#1 SMP ...`; "" when there is none."""
    (at,) = struct.unpack_from("<H", bytes(blob.view[0x20E:0x210]).ljust(2, b"\0"))
    return text_at(blob, at + 0x200) if at else ""


def text_at(blob: Blob, at: int) -> str:
    """Printable text at an offset, 256 characters at most."""
    text = bytes(blob.view[at : at + 256]).split(b"\0", 1)[0]
    return "".join(chr(byte) for byte in text if 32 <= byte < 127)


class Payload(NamedTuple):
    """An unpacked payload. `padding`: zeros that libxenguest puts behind it."""

    method: Compression
    blob: Blob
    complete: bool


def payload(packed: memoryview) -> Payload | Refusal:
    """Unpacks a payload by any method, as libxenguest does: as many bytes as its last four say.

    Refused when it is damaged, cut short, or says another size than it has.
    """
    method = method_of(packed)
    if method is Compression.NONE:
        return Payload(method, Blob(packed, len(packed)), True)
    if len(packed) < 10:
        return Refusal(
            Code.CUT_SHORT, "The bzImage has hardly any payload: it is cut short; upload it again."
        )
    claimed = int.from_bytes(packed[-4:], "little")
    if claimed > UNPACKED_LIMIT:
        if claimed > XEN_UNPACKED_LIMIT:
            return Refusal(
                Code.DAMAGED, "The bzImage's payload says an impossible size: it is damaged; upload it again."
            )
        return Refusal(
            Code.UNPACKS_TOO_LARGE,
            f"The kernel unpacks to {mib(claimed)}; the limit is {mib(UNPACKED_LIMIT)}: use a smaller kernel.",
        )
    is_gzip = method is Compression.GZIP
    try:
        # gzip's own trailer is the size; every other method has it put behind its stream.
        out = unpack(method, packed if is_gzip else packed[:-4], claimed + 16 if is_gzip else claimed)
    except StreamError as error:
        return _damage(method, error.short)
    if (is_gzip and not out.complete) or (not is_gzip and not _fits(method, out, claimed)):
        return Refusal(
            Code.DAMAGED,
            f"The bzImage's {method} payload does not have the size it says ({claimed} bytes): it is damaged; "
            "upload it again.",
        )
    return Payload(method, Blob(out.view, claimed + 16 if is_gzip else claimed), out.complete)


def _fits(method: Compression, out: Unpacked, claimed: int) -> bool:
    match method:
        case Compression.LZ4:
            # xg_dom_decompress_lz4.c of 4.17 does not mind when it makes less than it says; later ones do.
            return out.complete and len(out.view) <= claimed
        case Compression.XZ | Compression.LZMA | Compression.BZIP2:
            # These may go on behind the size: libxenguest stops there.
            return len(out.view) == claimed
        case _:
            return out.complete and len(out.view) == claimed


def _damage(method: Compression, short: bool) -> Refusal:
    if short:
        return Refusal(
            Code.CUT_SHORT,
            f"The bzImage's {method} payload ends early: the file is cut short; upload it again.",
        )
    return Refusal(Code.DAMAGED, f"The bzImage's {method} payload is damaged: upload the file again.")
