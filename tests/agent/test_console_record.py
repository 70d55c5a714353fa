"""The record of a run: what is kept, what is gone, and what a restart and a full disk leave of it."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vps.agent import console_record
from vps.agent.console_record import HEAD, KEPT_RUNS, RING, Record, RecordBroken, Records, plain_text

RUN = UUID("0190c0de-0000-7000-8000-000000000001")


def numbered(start: int, size: int) -> bytes:
    """Bytes that say where they belong."""
    first = start // 8
    data = b"".join(b"%07d\n" % (n % 10**7) for n in range(first, (start + size) // 8 + 1))
    return data[start - first * 8 :][:size]


def filled(path: Path, size: int) -> Record:
    record = Record(path, RUN)
    for at in range(0, size, 65536):
        record.append(numbered(at, min(65536, size - at)))
    return record


def test_short_run_is_kept_whole(tmp_path: Path) -> None:
    record = filled(tmp_path / "r", 1000)
    assert record.read(0, 5000) == (0, numbered(0, 1000))
    assert record.last(100) == numbered(900, 100)


def test_file_of_a_short_run_is_small(tmp_path: Path) -> None:
    filled(tmp_path / "r", 1000)
    assert (tmp_path / "r").stat().st_size < 16 * 1024
    assert (tmp_path / "r").stat().st_mode & 0o777 == 0o600


def test_long_run_keeps_head_and_tail(tmp_path: Path) -> None:
    end = HEAD + RING + 3_000_001
    record = filled(tmp_path / "r", end)
    assert record.gap() == (HEAD, end - RING)
    assert record.read(0, HEAD + 99) == (0, numbered(0, HEAD))
    assert record.read(HEAD, 50) == (end - RING, numbered(end - RING, 50))
    assert record.last(RING) == numbered(end - RING, RING)
    assert (tmp_path / "r").stat().st_size == 4096 + HEAD + RING


def test_goes_on_after_the_agent_was_killed(tmp_path: Path) -> None:
    filled(tmp_path / "r", HEAD + 100)
    again = Record(tmp_path / "r", RUN)
    again.append(numbered(HEAD + 100, 500))
    assert again.end == HEAD + 600
    assert again.read(HEAD - 10, 10_000) == (HEAD - 10, numbered(HEAD - 10, 610))


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3000), max_size=30), start=st.integers(0, 9000), size=st.integers(0, 9000)
)
def test_read_gives_the_bytes_of_its_offset(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], start: int, size: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console_record, "HEAD", 1024)
        patch.setattr(console_record, "RING", 4096)
        record = Record(tmp_path_factory.mktemp("r") / "r", RUN)
        end = 0
        for part in sizes:
            record.append(numbered(end, part))
            end += part
        offset, data = record.read(start, size)
        assert data == numbered(offset, len(data))
        gone, first = record.gap()
        assert offset == (first if gone <= start < first else start)
        assert first == gone or first == end - 4096
        if start < gone < end or start >= first:
            limit = gone if start < gone and first > gone else end
            assert len(data) == max(0, min(size, limit - offset))


def test_full_disk_goes_on_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = filled(tmp_path / "r", 10_000)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        record.append(numbered(10_000, 1000))
        assert record.read(9_000, 5000) == (9_000, numbered(9_000, 2000))
        for at in range(11_000, 11_000 + 5 * 65536, 65536):
            record.append(numbered(at, 65536))
    end = 11_000 + 5 * 65536
    assert record.end == end
    assert record.last(100_000) == numbered(end - 100_000, 100_000)
    assert record.read(0, 20_000) == (0, numbered(0, 10_000))
    assert record.gap() == (10_000, end - 256 * 1024)


@pytest.mark.parametrize(
    "content",
    [b"x" * 5000, b"BERTHcon" + b"\xff" * 5000],
    ids=["other file", "other sizes"],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r").write_bytes(content)
    with pytest.raises(RecordBroken, match="is no console record"):
        Record(tmp_path / "r", RUN)


def test_broken_record_is_begun_anew(tmp_path: Path) -> None:
    records, domu = Records(tmp_path), uuid4()
    record, _ = records.open(domu, RUN)
    record.path.write_bytes(b"x" * 5000)
    again, new = records.open(domu, RUN)
    assert new and again.end == 0


def test_ending_is_kept(tmp_path: Path) -> None:
    record = Record(tmp_path / "r", RUN)
    assert record.ending is None
    record.end_with({"reason": "crash", "code": 3})
    assert Record(tmp_path / "r", RUN).ending == {"reason": "crash", "code": 3}
    record.goes_on()
    assert Record(tmp_path / "r", RUN).ending is None


def test_ending_that_is_too_long_is_still_one(tmp_path: Path) -> None:
    record = Record(tmp_path / "r", RUN)
    record.end_with({"reason": "x" * 9000})
    assert record.ending == {}


def test_last_runs_are_kept(tmp_path: Path) -> None:
    records, domu = Records(tmp_path), uuid4()
    runs = [uuid4() for _ in range(KEPT_RUNS + 3)]
    for n, run in enumerate(runs):
        record, new = records.open(domu, run)
        assert new
        record.append(b"run %d" % n)
    assert len(list((tmp_path / str(domu)).iterdir())) == KEPT_RUNS
    last = records.last(domu)
    assert last is not None and last.run == runs[-1]
    _, new = records.open(domu, runs[-2])
    assert not new


def test_remove_leaves_nothing(tmp_path: Path) -> None:
    records, domu = Records(tmp_path), uuid4()
    records.open(domu, RUN)
    records.remove(domu)
    records.remove(domu)
    assert list(tmp_path.iterdir()) == []
    assert records.last(domu) is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        pytest.param(b"a\n\rb\n\r", "a\nb\n", id="NetBSD"),
        pytest.param(b"a\r\nb\r\n", "a\nb\n", id="mini-os"),
        pytest.param(b"\x1b[1;31mred\x1b[0m \x1b[5;10Hthere", "red there", id="colours and cursor"),
        pytest.param(b"\x1b]0;title\x07x\x1b]52;c;ZXZpbA==\x1b\\y", "xy", id="title and clipboard"),
        pytest.param(b"\x1bPq#0;2\x1b\\z\x1bc", "z", id="DCS and reset"),
        pytest.param(b"half \x1b[3", "half 3", id="broken off"),
        pytest.param("ä\tб".encode() + b"\x00\x08\xff", "ä\tб\ufffd", id="UTF-8 and not"),
    ],
)
def test_plain_text(data: bytes, text: str) -> None:
    assert plain_text(data) == text
