"""The file as each loader opens it: whole-file compression.

libxenguest (xg_dom_core.c, xc_dom_try_gunzip) unpacks gzip, once, to the size that the file's last four bytes say. GRUB
2.06 has three filters in a row, gzip, xz and lzo, each of which may take a layer off.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from vps.xen.inspect.elf import Blob
from vps.xen.inspect.limits import UNPACKED_LIMIT, XEN_UNPACKED_LIMIT
from vps.xen.inspect.streams import StreamError, Unpacked, method_of, unpack
from vps.xen.inspect.verdicts import Code, Compression, Refusal, mib

_COMMANDS = {
    Compression.BZIP2: "bunzip2",
    Compression.XZ: "unxz",
    Compression.LZMA: "unlzma",
    Compression.LZO: "lzop -d",
    Compression.LZ4: "lz4 -d",
    Compression.ZSTD: "unzstd",
}


class Opened(NamedTuple):
    """`method` is the outermost compression."""

    method: Compression
    xen: Blob | Refusal
    grub: Blob | Refusal


def outer_method(view: memoryview) -> Compression:
    """Compression of a whole file by its magic. lz4 needs all four bytes here, and lzma a plausible header."""
    if bytes(view[:4]) in (b"\x02\x21\x4c\x18", b"\x04\x22\x4d\x18"):
        return Compression.LZ4
    method = method_of(view)
    if method is Compression.LZ4:
        return Compression.NONE
    # lzma-alone has no magic: properties, a dictionary size with zeros at its end, an unpacked size.
    if method is Compression.LZMA and (len(view) < 13 or bytes(view[1:3]) != b"\0\0"):
        return Compression.NONE
    return method


def open_file(view: memoryview) -> Opened:
    """Opens a file as both loaders do."""
    method = outer_method(view)
    if method is Compression.NONE:
        blob = Blob(view, len(view))
        return Opened(method, blob, blob)
    if method is Compression.GZIP:
        return _open_gzip(view)
    whole = Refusal(
        Code.WHOLE_FILE,
        f"The whole file is packed with {method}, which Xen does not unpack (only gzip): unpack it "
        f"({_COMMANDS[method]}) and upload the kernel itself, or packed with gzip.",
    )
    if method in (Compression.XZ, Compression.LZO):
        return Opened(method, whole, _filters(view, method))
    return Opened(
        method,
        whole,
        Refusal(
            Code.WHOLE_FILE,
            f"The whole file is packed with {method}, which GRUB does not unpack (only gzip, xz and lzo): unpack it "
            f"({_COMMANDS[method]}) and upload the kernel itself, or packed with gzip.",
        ),
    )


def _open_gzip(view: memoryview) -> Opened:
    claimed = int.from_bytes(view[-4:], "little")
    out = _gunzip(view, claimed)
    if isinstance(out, Refusal):
        return Opened(Compression.GZIP, out, out)
    inner = outer_method(out.view)
    xen: Blob | Refusal = Blob(out.view, claimed + 16)
    # GRUB takes the size from the same four bytes: shorter than the data, it sees no more of it.
    grub: Blob | Refusal = Blob(out.view[:claimed], claimed)
    if inner is not Compression.NONE:
        xen = Refusal(
            Code.NESTED,
            f"The file is packed twice, with {inner} and then with gzip, and Xen unpacks once: unpack it once "
            "(gunzip) more, and upload it packed with gzip alone.",
        )
        grub = Refusal(
            Code.NESTED,
            f"The file is packed twice, with {inner} and then with gzip: upload it packed with gzip alone.",
        )
        if inner in (Compression.XZ, Compression.LZO):
            grub = _filters(out.view[:claimed], inner)
    if out.unused and zlib.crc32(out.view) != int.from_bytes(view[-8:-4], "little"):
        # And the sum: gzio compares it once it has read all of the first member, which loading does.
        grub = Refusal(
            Code.TRAILING_BYTES,
            "There is a second gzip member behind the first, and GRUB takes the sum of all from it: upload the file "
            "without it, or packed with gzip anew.",
        )
    return Opened(Compression.GZIP, xen, grub)


def _gunzip(view: memoryview, claimed: int) -> Unpacked | Refusal:
    """The first member, when it fits into what the last four bytes say (plus 16, as libxenguest has it)."""
    if len(view) >= 18 and claimed <= UNPACKED_LIMIT:
        try:
            out = unpack(Compression.GZIP, view, claimed + 16)
        except StreamError:
            pass
        else:
            if out.complete:
                return out
    return _gzip_trouble(view, claimed)


def _gzip_trouble(view: memoryview, claimed: int) -> Refusal:
    """Reads the stream to its end to say what is wrong with it."""
    try:
        out = unpack(Compression.GZIP, view, UNPACKED_LIMIT)
    except StreamError as error:
        if error.short:
            return Refusal(
                Code.CUT_SHORT, "The file is cut short: its gzip data ends early; upload it again."
            )
        return Refusal(Code.DAMAGED, "The file's gzip data is damaged: upload it again.")
    if out.overflow or not out.complete:
        return Refusal(
            Code.UNPACKS_TOO_LARGE,
            f"The file unpacks to more than {mib(UNPACKED_LIMIT)}, which is the limit: use a smaller kernel.",
        )
    if out.unused and UNPACKED_LIMIT < claimed <= XEN_UNPACKED_LIMIT:
        # Xen would make that much room for it, and boot it.
        return Refusal(
            Code.UNPACKS_TOO_LARGE,
            f"There are {out.unused} bytes behind the end of the gzip data, from which Xen takes it that this unpacks "
            f"to {mib(claimed)}; the limit is {mib(UNPACKED_LIMIT)}: upload the file without them, or packed with "
            "gzip anew.",
        )
    if out.unused:
        return Refusal(
            Code.TRAILING_BYTES,
            f"There are {out.unused} bytes behind the end of the gzip data, so Xen takes a wrong size from them: "
            "upload the file without them, or packed with gzip anew.",
        )
    if claimed > XEN_UNPACKED_LIMIT:
        return Refusal(Code.DAMAGED, "The file's gzip data says an impossible size: upload it again.")
    return Refusal(Code.DAMAGED, "The file's gzip data says a wrong size: upload it again.")


def _filters(view: memoryview, method: Compression) -> Blob | Refusal:
    """GRUB's filters xzio and lzopio, in this order."""
    blob: Blob | Refusal = Blob(view, len(view))
    for layer in (Compression.XZ, Compression.LZO):
        if isinstance(blob, Refusal) or outer_method(blob.view) is not layer:
            continue
        blob = _layer(blob.view, layer)
    if not isinstance(blob, Refusal):
        inner = outer_method(blob.view)
        if inner is not Compression.NONE:
            return Refusal(
                Code.NESTED,
                f"The file is packed twice, with {inner} and then with {method}: upload it packed with gzip alone.",
            )
    return blob


def _layer(view: memoryview, method: Compression) -> Blob | Refusal:
    try:
        out = unpack(method, view, UNPACKED_LIMIT)
    except StreamError as error:
        if error.short:
            return Refusal(
                Code.CUT_SHORT, f"The file is cut short: its {method} data ends early; upload it again."
            )
        return Refusal(Code.DAMAGED, f"The file's {method} data is damaged: upload it again.")
    if out.overflow or (not out.complete and len(out.view) == UNPACKED_LIMIT):
        return Refusal(
            Code.UNPACKS_TOO_LARGE,
            f"The file unpacks to more than {mib(UNPACKED_LIMIT)}, which is the limit: use a smaller kernel.",
        )
    if out.unused or not out.complete:
        return Refusal(
            Code.TRAILING_BYTES,
            f"There are bytes behind the end of the {method} data, so GRUB does not read it: upload the file without "
            "them.",
        )
    return Blob(out.view, len(out.view))
