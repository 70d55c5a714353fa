"""What may stand beside a kernel: a ramdisk, and an archive of its modules. Pure; any bytes make a report.

Nothing is unpacked to anywhere: a ramdisk is read by the guest's kernel, an archive by tar inside the guest. What is
looked at is whether the file is what it is taken for, and whether `tar -C / -x` of it writes modules and no more.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from vps.xen.inspect.archive import ArchiveRefused, Listing, list_archive
from vps.xen.inspect.limits import FILE_LIMIT, MODULES_UNPACKED_LIMIT
from vps.xen.inspect.streams import StreamError, method_of, unpack
from vps.xen.inspect.verdicts import Compression, mib

LOOK = 1 << 20  # bytes of what is inside that are looked at
LOOK_LZ4 = 8 << 20  # a block of lz4's legacy frame is unpacked whole
MANY = 10  # releases that are named

_CPIO = (b"070701", b"070702", b"070707", b"\xc7\x71", b"\x71\xc7")
_LZ4_FRAME = b"\x04\x22\x4d\x18"
_EXT2_MAGIC = (1080, b"\x53\xef")
_USTAR = (257, b"ustar")


class Part(StrEnum):
    """What a version of a kernel may carry beside it."""

    RAMDISK = "ramdisk"
    MODULES = "modules"


@dataclass(frozen=True)
class PartReport:
    """`verdict` "ok" or "refused" with `reason`, a sentence. Sizes in bytes.

    `holds` says what is in a ramdisk: cpio, ext2, or unknown. The rest is of an archive of modules: how many files,
    how large they are, of which releases (the folders in lib/modules), and whether it has an entry for `lib` itself
    (`own_lib`), which tar would put in the place of a link.
    """

    part: str
    verdict: str
    reason: str | None
    sha256: str
    size: int
    compression: str = "none"
    holds: str = "unknown"
    files: int = 0
    unpacked_size: int = 0
    releases: list[str] = field(default_factory=list)
    own_lib: bool = False
    summary: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.verdict == "ok"

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


class _Refused(Exception):
    """The text is the sentence."""


def inspect_part(part: Part, data: bytes | memoryview) -> PartReport:
    """Look at a ramdisk or an archive of modules. Never raises, whatever the bytes."""
    view = memoryview(data)
    try:
        if not len(view):
            raise _Refused("The file is empty: upload it again.")
        if len(view) > FILE_LIMIT:
            raise _Refused(f"The file is {mib(len(view))}; the limit is {mib(FILE_LIMIT)}.")
        return _ramdisk(view) if part is Part.RAMDISK else _modules(view)
    except (_Refused, ArchiveRefused) as error:
        return refused_part(part, str(error), len(view), _sum(view))
    except MemoryError:
        return refused_part(
            part, "The file needs more memory to read than inspection may use.", len(view), _sum(view)
        )


def refused_part(part: Part, reason: str, size: int, sha256: str = "") -> PartReport:
    return PartReport(part.value, "refused", reason, sha256, size, summary=reason)


def _sum(view: memoryview) -> str:
    return hashlib.sha256(view).hexdigest()


def _ramdisk(view: memoryview) -> PartReport:
    warnings: list[str] = []
    if bytes(view[:4]) == _LZ4_FRAME:
        raise _Refused("The ramdisk is in lz4's newer frame, which Linux does not read: pack it with lz4 -l.")
    method = method_of(view)
    if method is Compression.NONE:
        holds = _content(view)
        if holds == "unknown":
            raise _Refused(_no_ramdisk(view))
    else:
        inside = _inside(method, view)
        holds = _content(inside)
        if bytes(inside[:4]) == b"\x7fELF":
            raise _Refused("This is a compressed kernel, not a ramdisk: upload it as a kernel.")
        if holds == "unknown" and bytes(inside[_USTAR[0] : _USTAR[0] + 5]) == _USTAR[1]:
            raise _Refused(
                "This is a tar archive, not a ramdisk: a ramdisk is a cpio archive or an ext2 file system; "
                "an archive of modules goes in as modules."
            )
        if holds == "unknown":
            warnings.append(
                "In it is neither a cpio archive nor an ext2 file system; Linux will find no root in it."
            )
    words = {"cpio": "cpio archive", "ext2": "ext2 file system", "unknown": "ramdisk"}[holds]
    packed = "" if method is Compression.NONE else f", {method.value}"
    return PartReport(
        Part.RAMDISK.value,
        "ok",
        None,
        _sum(view),
        len(view),
        compression=method.value,
        holds=holds,
        summary=f"Ramdisk: {words}{packed}, {mib(len(view))}.",
        warnings=warnings,
    )


def _inside(method: Compression, view: memoryview) -> memoryview:
    try:
        return unpack(method, view, LOOK_LZ4 if method is Compression.LZ4 else LOOK).view
    except StreamError as error:
        how = "cut short" if error.short else "damaged"
        raise _Refused(f"The ramdisk's {method.value} data is {how}: upload it again.") from error


def _content(view: memoryview) -> str:
    if bytes(view[:6]).startswith(_CPIO):
        return "cpio"
    at, magic = _EXT2_MAGIC
    return "ext2" if bytes(view[at : at + 2]) == magic else "unknown"


def _no_ramdisk(view: memoryview) -> str:
    if bytes(view[:4]) == b"\x7fELF" or bytes(view[0x202:0x206]) == b"HdrS":
        return "This is a kernel, not a ramdisk: upload it as a kernel."
    if bytes(view[_USTAR[0] : _USTAR[0] + 5]) == _USTAR[1]:
        return (
            "This is a tar archive, not a ramdisk: a ramdisk is a cpio archive or an ext2 file system; "
            "an archive of modules goes in as modules."
        )
    return (
        "This is no ramdisk: it must be a cpio archive, packed by gzip, xz, zstd, lz4, bzip2, lzma or lzo or not at "
        "all, or an ext2 file system."
    )


def _modules(view: memoryview) -> PartReport:
    method = method_of(view)
    if method not in (Compression.NONE, Compression.GZIP, Compression.XZ, Compression.ZSTD):
        raise _Refused(f"The archive is packed by {method.value}: pack it by gzip, xz or zstd.")
    found: Listing = list_archive(method, view, MODULES_UNPACKED_LIMIT)
    named = ", ".join(found.releases[:MANY])
    return PartReport(
        Part.MODULES.value,
        "ok",
        None,
        _sum(view),
        len(view),
        compression=method.value,
        holds="tar",
        files=found.files,
        unpacked_size=found.size,
        releases=list(found.releases[:MANY]),
        own_lib=found.own_lib,
        summary=f"Modules of {named}: {found.files} files, {mib(found.size)} unpacked.",
    )
