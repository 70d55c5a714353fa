"""Unpacking by every method a kernel comes in, never more than a given number of bytes.

Each method is a generator of pieces, so that neither a bomb nor a large kernel is held twice: `unpack` collects the
pieces in one anonymous map. Libraries are imported when a method is met: most kernels need one of them.

Methods as in Linux (scripts/Makefile.lib): xz with the x86 filter, lzma-alone, lzop's container, the lz4 "legacy"
frame, zstd.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from vps.xen.inspect.verdicts import Compression

PIECE = 1 << 20
FEED = 1 << 18
ZSTD_FEED = 1 << 11
"""What zstd is fed at a time: its output has no limit of its own, and 3 bytes can make 128 KiB."""

WINDOW_LIMIT = 256 << 20
"""libxenguest, xg_dom_bzimageloader.c, LZMA_BLOCK_SIZE: the memory its xz and lzma decoders may use."""

_MAGIC = {
    b"\x1f\x8b": Compression.GZIP,
    b"BZh": Compression.BZIP2,
    b"\xfd7zXZ\0": Compression.XZ,
    b"\x28\xb5\x2f\xfd": Compression.ZSTD,
    b"\x5d\0": Compression.LZMA,
    b"\x89LZO\0": Compression.LZO,
    b"\x02\x21": Compression.LZ4,
}


class StreamError(Exception):
    """The data is not what its magic says, or is cut short."""

    def __init__(self, *, short: bool = False) -> None:
        super().__init__("cut short" if short else "damaged")
        self.short = short


class Unpacked(NamedTuple):
    """`complete`: the end of the stream was reached, its checks held. `overflow`: there was more than `room`."""

    view: memoryview
    complete: bool
    overflow: bool
    unused: int


class End(NamedTuple):
    """What a method says when its stream has ended: bytes behind it."""

    unused: int


def method_of(data: memoryview) -> Compression:
    """The method by its magic, in libxenguest's order; NONE when it is none of them."""
    head = bytes(data[:8])
    for magic, method in _MAGIC.items():
        if head.startswith(magic):
            return method
    return Compression.NONE


def unpack(method: Compression, data: memoryview, room: int) -> Unpacked:
    """At most `room` bytes of what `data` unpacks to.

    Raises StreamError when the data is damaged before `room` bytes were made, or ends without an end of stream and
    without having made them; MemoryError.
    """
    # mmap counts from 1; an empty kernel is refused by whoever reads it.
    try:
        space = mmap.mmap(-1, max(room, 1))
    except OSError as error:
        raise MemoryError from error
    at = 0
    for piece in _METHODS[method](data, room):
        if isinstance(piece, End):
            return Unpacked(memoryview(space)[:at], True, False, piece.unused)
        fits = min(len(piece), room - at)
        space[at : at + fits] = piece[:fits]
        at += fits
        if fits < len(piece):
            return Unpacked(memoryview(space)[:at], False, True, 0)
    return Unpacked(memoryview(space)[:at], False, False, 0)


def pieces(method: Compression, data: memoryview, room: int) -> Iterator[bytes | memoryview]:
    """What `data` unpacks to, at most some `room` bytes of it, in pieces that are not kept.

    Raises StreamError, also when there is something behind the stream: who unpacks it for good would read that too.
    """
    if method is Compression.NONE:
        yield from (data[at : at + PIECE] for at in range(0, len(data), PIECE))
        return
    for piece in _METHODS[method](data, room):
        if not isinstance(piece, End):
            yield piece
        elif piece.unused:
            raise StreamError


def _gzip(data: memoryview, room: int) -> Iterator[bytes | End]:
    """The first member alone, as both loaders read it."""
    import zlib

    stream = zlib.decompressobj(31)
    at, made = 0, 0
    rest: bytes | memoryview = b""
    while not stream.eof:
        if not rest:
            if at >= len(data):
                raise StreamError(short=True)
            rest = data[at : at + FEED]
            at += FEED
        try:
            # One byte more than there is room for: so the end of the stream is seen when it comes right there.
            piece = stream.decompress(rest, min(PIECE, room + 1 - made))
        except zlib.error as error:
            raise StreamError from error
        made += len(piece)
        rest = stream.unconsumed_tail
        if piece:
            yield piece
        if made > room:
            return
    yield End(len(stream.unused_data) + max(0, len(data) - at))


class _Decompressor(Protocol):
    """bz2's and lzma's objects."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


def _pump(stream: _Decompressor, data: memoryview, room: int) -> Iterator[bytes | End]:
    """Ends quietly when `room` bytes were made, as liblzma does for libxenguest: what follows is not checked."""
    at, made = 0, 0
    while not stream.eof:
        feed = b""
        if stream.needs_input:
            if at >= len(data):
                raise StreamError(short=True)
            feed = bytes(data[at : at + FEED])
            at += len(feed)
        piece = stream.decompress(feed, min(PIECE, room - made))
        made += len(piece)
        if piece:
            yield piece
        if made >= room and not stream.eof:
            return
    yield End(len(stream.unused_data) + len(data) - at)


def _lzma_of(form: int) -> Callable[[memoryview, int], Iterator[bytes | End]]:
    def method(data: memoryview, room: int) -> Iterator[bytes | End]:
        import lzma

        try:
            yield from _pump(lzma.LZMADecompressor(form, memlimit=WINDOW_LIMIT), data, room)
        except (lzma.LZMAError, EOFError) as error:
            raise StreamError from error

    return method


def _bzip2(data: memoryview, room: int) -> Iterator[bytes | End]:
    import bz2

    try:
        yield from _pump(bz2.BZ2Decompressor(), data, room)
    except (OSError, EOFError) as error:
        raise StreamError from error


def _zstd(data: memoryview, room: int) -> Iterator[bytes | End]:
    """All frames one behind the other, as ZSTD_decompress reads them; anything else behind them is damage."""
    import zstandard

    at, made = 0, 0
    stream = zstandard.ZstdDecompressor(max_window_size=WINDOW_LIMIT).decompressobj()
    while True:
        feed = bytes(data[at : at + ZSTD_FEED])
        at += len(feed)
        try:
            piece = stream.decompress(feed)
        except zstandard.ZstdError as error:
            raise StreamError from error
        made += len(piece)
        if piece:
            yield piece
        if made > room:
            return
        if stream.eof:
            at -= len(stream.unused_data)
            if at >= len(data):
                yield End(0)
                return
            stream = zstandard.ZstdDecompressor(max_window_size=WINDOW_LIMIT).decompressobj()
        elif at >= len(data):
            raise StreamError(short=True)


LZ4_MAGIC = 0x184C2102
LZ4_BLOCK = 8 << 20


def _lz4(data: memoryview, room: int) -> Iterator[bytes | End]:
    """Blocks behind their length; the magic may come again; the end is the end of the data."""
    import lz4.block

    at, made = 4, 0
    # Two bytes of the magic tell the method, as libxenguest probes it; the decoder wants all four.
    if len(data) >= 4 and struct.unpack_from("<I", data)[0] != LZ4_MAGIC:
        raise StreamError
    while True:
        if len(data) - at < 4:
            raise StreamError(short=True)
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        # libxenguest meets the end only right behind a block, so a magic at the end is cut short there too.
        if length == LZ4_MAGIC:
            continue
        if length > len(data) - at:
            raise StreamError(short=True)
        block = bytes(data[at : at + length])
        piece = _lz4_block(lz4.block, block, room - made)
        at += length
        made += len(piece)
        if piece:
            yield piece
        if at == len(data):
            yield End(0)
            return


def _lz4_block(library: object, block: bytes, room: int) -> bytes:
    # A block of the legacy frame makes 8 MiB at most, but nobody checks: ask for more only when that failed.
    for size in (min(room, LZ4_BLOCK), min(room, 8 * LZ4_BLOCK)):
        try:
            return bytes(library.decompress(block, uncompressed_size=size))  # type: ignore[attr-defined]
        except (library.LZ4BlockError, ValueError, OverflowError):  # type: ignore[attr-defined]
            continue
    raise StreamError


LZO_MAGIC = b"\x89LZO\0\r\n\x1a\n"
LZO_BLOCK_LIMIT = 64 << 20
_LZO_FILTER, _LZO_ADLER_D, _LZO_ADLER_C, _LZO_CRC_D, _LZO_CRC_C = 0x800, 0x1, 0x2, 0x100, 0x200


def _lzo(data: memoryview, room: int) -> Iterator[bytes | End]:
    """lzop's container, checksums skipped (Linux: lib/decompress_unlzo.c; GRUB: io/lzopio.c)."""
    import lzallright

    at, flags = _lzo_header(data)
    sums_data = 4 * bool(flags & (_LZO_ADLER_D | _LZO_CRC_D))
    sums_packed = 4 * bool(flags & (_LZO_ADLER_C | _LZO_CRC_C))
    made = 0
    while True:
        length = _be32(data, at)
        if length == 0:
            yield End(len(data) - at - 4)
            return
        packed = _be32(data, at + 4)
        at += 8 + sums_data + (sums_packed if packed < length else 0)
        if length > LZO_BLOCK_LIMIT or packed > length or packed > len(data) - at:
            raise StreamError(short=packed > len(data) - at)
        if made + length > room:
            raise StreamError
        block = bytes(data[at : at + packed])
        at += packed
        if packed < length:
            try:
                block = bytes(lzallright.LZOCompressor().decompress(block, length))
            except (lzallright.LZOError, lzallright.InputNotConsumed, ValueError) as error:
                raise StreamError from error
            if len(block) != length:
                raise StreamError
        made += length
        yield block


def _lzo_header(data: memoryview) -> tuple[int, int]:
    """Where the first block is, and the flags."""
    if bytes(data[:9]) != LZO_MAGIC or len(data) < 40:
        raise StreamError(short=len(data) < 40)
    (version,) = struct.unpack_from(">H", data, 9)
    at = 17 if version >= 0x0940 else 16
    flags = _be32(data, at)
    at += 8 if flags & _LZO_FILTER else 4
    at += 12 if version >= 0x0940 else 8
    if at >= len(data):
        raise StreamError(short=True)
    return at + 1 + data[at] + 4, flags


def _be32(data: memoryview, at: int) -> int:
    if at + 4 > len(data):
        raise StreamError(short=True)
    return int.from_bytes(data[at : at + 4], "big")


_METHODS: dict[Compression, Callable[[memoryview, int], Iterator[bytes | End]]] = {
    Compression.GZIP: _gzip,
    Compression.XZ: _lzma_of(1),
    Compression.LZMA: _lzma_of(2),
    Compression.BZIP2: _bzip2,
    Compression.ZSTD: _zstd,
    Compression.LZ4: _lz4,
    Compression.LZO: _lzo,
}


def gzip_pieces(data: memoryview, level: int = 1) -> Iterator[bytes]:
    """`data` as a gzip file without name and time: the same bytes for the same kernel and the same zlib.

    Level 1 packs a Debian kernel in half a second to 12.2 MB, level 6 in 1.6 s to 11.3 MB.
    """
    import zlib

    packer = zlib.compressobj(level, zlib.DEFLATED, 31)
    for at in range(0, len(data), PIECE):
        piece = packer.compress(data[at : at + PIECE])
        if piece:
            yield piece
    yield packer.flush()
