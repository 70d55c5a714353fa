"""Unpacking, method by method; and that nothing whatever makes inspection raise."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import kernels
from tests.oracle.mutants import mutants, synthetic
from vps.xen.inspect import inspect
from vps.xen.inspect.streams import StreamError, gzip_pieces, method_of, unpack
from vps.xen.inspect.verdicts import Compression
from vps.xen.inspect.xennotes import number

DATA = bytes(range(256)) * 4096 + b"tail"


def packed(method: str) -> memoryview:
    return memoryview(kernels.compress(DATA, method))


@pytest.mark.parametrize("method", kernels.COMPRESSIONS)
def test_round_trip(method: str) -> None:
    data = packed(method)
    assert method_of(data) == method
    out = unpack(Compression(method), data, len(DATA))
    assert bytes(out.view) == DATA
    assert out.complete and not out.overflow and out.unused == 0


@pytest.mark.parametrize("method", kernels.COMPRESSIONS)
def test_no_more_than_the_room(method: str) -> None:
    try:
        out = unpack(Compression(method), packed(method), 5000)
    except StreamError:
        assert method in ("lzo", "lz4"), "blocks are whole or not at all"
    else:
        assert bytes(out.view) == DATA[:5000]
        assert not out.complete


@pytest.mark.parametrize("method", kernels.COMPRESSIONS)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_cut_short(method: str, part: float) -> None:
    data = packed(method)
    with pytest.raises(StreamError) as caught:
        unpack(Compression(method), data[: int(len(data) * part)], len(DATA) + 1)
    assert caught.value.short


@pytest.mark.parametrize("method", ["gzip", "bzip2", "xz"])
def test_damaged(method: str) -> None:
    data = bytearray(packed(method))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(StreamError) as caught:
        unpack(Compression(method), memoryview(data), len(DATA) + 1)
    assert not caught.value.short


@pytest.mark.parametrize("method", ["gzip", "bzip2", "xz", "lzo"])
def test_bytes_behind_the_end_are_counted(method: str) -> None:
    out = unpack(Compression(method), memoryview(bytes(packed(method)) + b"12345"), len(DATA))
    assert out.complete and out.unused == 5


def test_several_zstd_frames_are_one() -> None:
    data = kernels.compress(DATA, "zstd") + kernels.compress(b"more", "zstd")
    assert bytes(unpack(Compression.ZSTD, memoryview(data), len(DATA) + 4).view) == DATA + b"more"


def test_a_large_file_passes_in_pieces() -> None:
    data = bytes(9 << 20) + b"end"
    for method in kernels.COMPRESSIONS:
        out = unpack(Compression(method), memoryview(kernels.compress(data, method)), len(data))
        assert bytes(out.view) == data, method


def test_gzip_pieces_are_a_gzip_file_of_any_size() -> None:
    import gzip

    for data in (b"", b"x", bytes(3 << 20)):
        assert gzip.decompress(b"".join(gzip_pieces(memoryview(data)))) == data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"", 0),
        (b"x", 0),
        (b"12", 12),
        (b" \t0x1F,", 31),
        (b"017", 15),
        (b"09", 0),
        (b"0x", 0),
        (b"-1", 2**64 - 1),
        (b"+5", 5),
        (b"0x10000000000000000", 2**64 - 1),
        (b"0xffffffff80000000", 0xFFFFFFFF80000000),
    ],
)
def test_numbers_as_strtoull_reads_them(text: bytes, value: int) -> None:
    assert number(text) == value


@settings(deadline=None)
@given(st.binary(max_size=3000))
def test_any_bytes_make_a_report(data: bytes) -> None:
    assert inspect(data).verdict == "refused"


HEADS = [
    b"\x7fELF\2\1\1",
    b"\x7fELF\1\1\1",
    b"\x7fELF\1\2\1",
    b"\x1f\x8b\x08\0",
    b"\xfd7zXZ\0",
    b"\x89LZO\0\r\n\x1a\n",
]
HEADS += [
    bytes(0x202) + b"HdrS\x0f\x02",
    b"BZh9",
    b"\x28\xb5\x2f\xfd",
    b"\x02\x21\x4c\x18",
    b"MZ",
    b"\x5d\0\0\0\1",
]


@settings(deadline=None)
@given(st.sampled_from(HEADS), st.binary(max_size=2000))
def test_any_bytes_behind_a_magic_make_a_report(head: bytes, data: bytes) -> None:
    assert inspect(head + data).verdict in ("ok", "refused")


@settings(deadline=None)
@given(st.sampled_from(sorted(kernels.COMPRESSIONS)), st.binary(max_size=600), st.integers(0, 2**32 - 1))
def test_any_payload_makes_a_report(method: str, data: bytes, size: int) -> None:
    magic = kernels.compress(b"", method)[:6]
    for payload in (magic + data, kernels.compress(data, method)):
        assert inspect(kernels.bzimage_of(payload + struct.pack("<I", size))).verdict == "refused"


BASES = sorted(synthetic().values())


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_changed_bytes_of_kernels_make_a_report(data: st.DataObject) -> None:
    kernel = bytearray(data.draw(st.sampled_from(BASES)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(kernel) - 1))
        chunk = data.draw(st.binary(min_size=1, max_size=8))
        kernel[at : at + len(chunk)] = chunk
    report = inspect(bytes(kernel))
    assert report.as_dict()["verdict"] in ("ok", "refused")
    assert (report.reason is None) == report.ok


def test_mutants_are_the_same_for_the_same_seed() -> None:
    assert list(mutants(synthetic(), range(60), 4)) == list(mutants(synthetic(), range(60), 4))
    assert list(mutants(synthetic(), range(60), 4)) != list(mutants(synthetic(), range(60), 5))
