"""What a run wrote on its console: the first 256 KiB and the last 8 MiB, in one file for each run.

The file is `<directory>/<domU>/<count>-<run>.console`: a page with the header, the head, then a ring. It is sparse
and never synced; the header is written behind the bytes it counts, so that an agent that was killed goes on where
it stopped. When the disk is full the run goes on in memory, with 256 KiB.
"""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
import re
import struct
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

HEAD = 256 * 1024  # bytes
RING = 8 * 1024 * 1024  # bytes
KEPT_RUNS = 5
_PAGE = 4096
_MAGIC = b"BERTHcon"
_HEADER = struct.Struct(">8sIIQ16s")  # magic, head, ring, end, run
_ENDING = struct.Struct(">H")
_ENDING_AT = 128
_MEMORY = 256 * 1024
_NAME = re.compile(r"(\d{8})-([0-9a-f-]{36})\.console")

log = logging.getLogger(__name__)


class RecordBroken(ValueError):
    """A file that is no record, or one of another form. The text names it."""


class Record:
    """The console of one run. Appended to by one thread, read by others. Offsets count from the run's first byte."""

    def __init__(self, path: Path, run: UUID) -> None:
        """Open the record of a run, or make it (mode 0600). Raises OSError, RecordBroken."""
        self.path = path
        self.run = run
        self._lock = threading.Lock()
        self._memory = bytearray()  # the last bytes before `end`, once the file cannot be written
        self._in_memory = False
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(self._file).st_size < _PAGE:
                header = _HEADER.pack(_MAGIC, HEAD, RING, 0, run.bytes).ljust(_PAGE, b"\0")
                if os.pwrite(self._file, header, 0) != _PAGE:
                    raise OSError(28, "No space left for the header", str(path))
            self._header = mmap.mmap(self._file, _PAGE)
            magic, head, ring, end, found = _HEADER.unpack_from(self._header)
            if (magic, head, ring, found) != (_MAGIC, HEAD, RING, run.bytes):
                raise RecordBroken(f"{path} is no console record of run {run}.")
        except BaseException:
            os.close(self._file)
            raise
        # Whoever reads an old run may hold it longer than whoever wrote it.
        self._close = weakref.finalize(self, _close, self._file, self._header)
        self._written: int = end  # bytes counted in the file
        self._end: int = end

    @property
    def end(self) -> int:
        """How many bytes the run has written."""
        return self._end

    def append(self, data: bytes) -> None:
        """Add bytes, at most RING of them. Does not fail: what the disk does not take stays in memory."""
        with self._lock:
            if not self._in_memory:
                try:
                    self._write(data)
                except OSError as error:
                    self._in_memory = True
                    log.warning("%s cannot be written (%s); the run goes on in memory.", self.path, error)
                else:
                    self._written = self._end = self._end + len(data)
                    struct.pack_into(">Q", self._header, 16, self._written)
                    return
            self._memory += data
            del self._memory[:-_MEMORY]
            self._end += len(data)

    def _write(self, data: bytes) -> None:
        at = self._end
        view = memoryview(data)
        while view:
            room = HEAD - at if at < HEAD else RING - (at - HEAD) % RING
            done = os.pwrite(self._file, view[:room], _place(at))
            at += done
            view = view[done:]

    def gap(self) -> tuple[int, int]:
        """The bytes that are gone between head and tail, as two offsets; equal when none are."""
        with self._lock:
            return self._gap()

    def _gap(self) -> tuple[int, int]:
        start = self._end - len(self._memory)
        if start > self._written:  # what the ring still has is left out: one jump is enough
            return min(HEAD, self._written), start
        return HEAD, max(HEAD, self._written - RING)

    def read(self, start: int, size: int) -> tuple[int, bytes]:
        """Up to `size` bytes from `start`, with the offset they really begin at: a gap is jumped over."""
        with self._lock:
            gone, first = self._gap()
            if gone <= start < first:
                start = first
            stop = min(start + size, self._end)
            if start < gone < first:
                stop = min(stop, gone)
            parts: list[bytes] = []
            at = start
            while at < stop:
                part = self._piece(at, stop)
                if not part:
                    break
                parts.append(part)
                at += len(part)
            return start, b"".join(parts)

    def _piece(self, at: int, stop: int) -> bytes:
        if at >= self._written:
            offset = at - (self._end - len(self._memory))
            return bytes(self._memory[offset : offset + stop - at])
        room = HEAD - at if at < HEAD else RING - (at - HEAD) % RING
        return os.pread(self._file, min(room, stop - at, self._written - at), _place(at))

    def last(self, size: int) -> bytes:
        """The last `size` bytes, or what there is of them."""
        with self._lock:
            end = self._end
        _, data = self.read(max(0, end - size), size)
        return data

    @property
    def ending(self) -> dict[str, object] | None:
        """How the run ended, as `end_with` was told; None while it goes on."""
        (size,) = _ENDING.unpack_from(self._header, _ENDING_AT)
        if not size:
            return None
        start = _ENDING_AT + _ENDING.size
        with contextlib.suppress(ValueError):
            value = json.loads(self._header[start : start + size])
            if isinstance(value, dict):
                return value
        return {}

    def end_with(self, detail: Mapping[str, object]) -> None:
        """Keep how the run ended."""
        data = json.dumps(dict(detail), default=str).encode()
        if len(data) > _PAGE - _ENDING_AT - _ENDING.size:
            data = b"{}"
        start = _ENDING_AT + _ENDING.size
        self._header[start : start + len(data)] = data
        _ENDING.pack_into(self._header, _ENDING_AT, len(data))

    def goes_on(self) -> None:
        """The run has not ended after all."""
        _ENDING.pack_into(self._header, _ENDING_AT, 0)


def _close(file: int, header: mmap.mmap) -> None:
    header.close()
    os.close(file)


def _place(offset: int) -> int:
    return _PAGE + (offset if offset < HEAD else HEAD + (offset - HEAD) % RING)


class Records:
    """The records of all runs of all domUs."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def open(self, domu: UUID, run: UUID) -> tuple[Record, bool]:
        """The record of a run, and whether it is new. Old runs beyond KEPT_RUNS are removed. Raises OSError."""
        folder = self._directory / str(domu)
        folder.mkdir(mode=0o700, exist_ok=True)
        names = self._names(folder)
        for name in names:
            if name.endswith(f"-{run}.console"):
                try:
                    return Record(folder / name, run), False
                except RecordBroken as error:
                    log.warning("%s A new one is begun.", error)
                    (folder / name).unlink()
        count = int(names[-1][:8]) + 1 if names else 1
        for name in names[: max(0, len(names) - KEPT_RUNS + 1)]:
            (folder / name).unlink(missing_ok=True)
        return Record(folder / f"{count:08d}-{run}.console", run), True

    def last(self, domu: UUID) -> Record | None:
        """The record of the last run; None when there was none."""
        folder = self._directory / str(domu)
        for name in reversed(self._names(folder)):
            with contextlib.suppress(OSError, ValueError):
                return Record(folder / name, UUID(name[9:45]))
        return None

    def remove(self, domu: UUID) -> None:
        """Remove all records of a domU."""
        folder = self._directory / str(domu)
        for name in self._names(folder):
            (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            folder.rmdir()

    def _names(self, folder: Path) -> list[str]:
        if not folder.is_dir():
            return []
        return sorted(path.name for path in folder.iterdir() if _NAME.fullmatch(path.name))


_SEQUENCES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]?"  # the others
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")


def plain_text(data: bytes) -> str:
    """What a person would read: no terminal sequences, no control characters, lines split at LF.

    CR is dropped on both sides of LF: NetBSD writes LF CR, mini-os CR LF (LAB-FACTS).
    """
    return _CONTROLS.sub("", _SEQUENCES.sub("", data.decode(errors="replace")))
