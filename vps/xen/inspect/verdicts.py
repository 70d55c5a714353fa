"""The words of a verdict: a refusal is a code for programs and one sentence for people."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Code(StrEnum):
    """Why a file, or one path for it, is refused. On the wire: `code` and `path_codes` of the report."""

    EMPTY = "empty"
    TOO_LARGE = "too-large"
    UNPACKS_TOO_LARGE = "unpacks-too-large"
    NO_MEMORY = "no-memory"
    NO_TIME = "no-time"
    NOT_A_KERNEL = "not-a-kernel"
    CUT_SHORT = "cut-short"
    DAMAGED = "damaged"
    TRAILING_BYTES = "trailing-bytes"
    NESTED = "nested-compression"
    WHOLE_FILE = "whole-file-compression"
    PAYLOAD_METHOD = "payload-compression"
    PAYLOAD = "payload"
    OLD_PROTOCOL = "old-boot-protocol"
    NOT_FOR_XEN = "not-for-xen"
    NOT_PV = "not-pv"
    NOT_PVH = "not-pvh"
    PVH_ONLY = "pvh-only"
    NON_PAE = "non-pae"
    DOM0_ONLY = "dom0-only"
    DOM0_KERNEL = "dom0-kernel"
    HYPERVISOR = "hypervisor"
    XEN_BINARY = "xen-binary"
    TWO_FORMS = "two-forms"
    ARCHITECTURE = "architecture"
    NOTES = "notes"
    ADDRESSES = "addresses"
    HEADERS = "headers"


class Refusal(NamedTuple):
    """`sentence` names the thing and what to do about it."""

    code: Code
    sentence: str


class Role(StrEnum):
    DOMU = "domU"
    DOM0 = "dom0"
    INSTALLER = "installer"
    LOADER = "loader"
    UNKNOWN = "unknown"


class Compression(StrEnum):
    NONE = "none"
    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    LZMA = "lzma"
    LZO = "lzo"
    LZ4 = "lz4"
    ZSTD = "zstd"


class Path(StrEnum):
    PVGRUB = "pvgrub"
    DIRECT_PV = "direct_pv"
    DIRECT_PVH = "direct_pvh"


def mib(size: int) -> str:
    """A size for people: "96 MiB", or "12 KiB" and "7 bytes" for small ones."""
    if size >= 1 << 20:
        return f"{-(-size // (1 << 20))} MiB"
    return f"{size // 1024} KiB" if size >= 10240 else f"{size} bytes"
