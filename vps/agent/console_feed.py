"""What goes out to those who watch: the record, followed by one thread.

Live bytes are read from the record behind the pty's thread, so nothing but the record is ever held, a slow Redis
stops no guest, and a replay ends exactly where the live bytes go on. Nothing is sent for a domU that no watch is
alive for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from vps.agent.console_record import HEAD, RING, Record
from vps.xen.messages import canonical

CHUNK = 64 * 1024  # bytes in one entry, at most
LAG = 6 * 1024 * 1024  # bytes behind the guest after which the feed jumps
LEFT_AFTER_JUMP = 512 * 1024
TURN = 4  # entries of one domU before the others have their turn
WATCHES = 64  # for each domU
LONGEST_WATCH = 60.0  # seconds
_RETRY = 0.5  # seconds after a failed send

Entry = Mapping[str, bytes]
log = logging.getLogger(__name__)


@dataclass
class _Watch:
    until: float  # monotonic
    n: int = -1  # of the last keys


@dataclass
class _Ask:
    watch: str
    size: int


@dataclass
class _Mark:
    """Something to be told when all bytes of `record` are sent: the next run, or the end of this one."""

    record: Record
    kind: str
    next: Record | None = None
    at: int = 0  # where `next` goes on
    body: bytes = b""


@dataclass
class _Line:
    """What goes out for one domU."""

    domu: bytes
    record: Record | None = None  # the run that is being sent
    position: int = 0  # its next byte
    over: bool = True  # its end was told
    newest: Record | None = None
    running: bool = False
    watches: dict[str, _Watch] = field(default_factory=dict)
    asks: deque[_Ask] = field(default_factory=deque)
    marks: deque[_Mark] = field(default_factory=deque)

    def is_watched(self, now: float) -> bool:
        for name in [name for name, watch in self.watches.items() if watch.until <= now]:
            del self.watches[name]
        return bool(self.watches)

    def jump_to_now(self) -> None:
        """Nobody watched: go on with the newest byte."""
        self.record = self.newest
        self.position = self.record.end if self.record else 0
        self.over = not self.running
        self.marks.clear()


class Feed:
    """The thread that sends. `send` may wait and may fail; it is called again with the same entry."""

    def __init__(self, send: Callable[[Entry], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._lines: dict[UUID, _Line] = {}
        self._due: dict[UUID, None] = {}  # in order
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="console-feed", daemon=True)
        self._thread.start()

    def begun(self, domu: UUID, record: Record, *, new: bool) -> None:
        """A run has begun, or goes on after the agent's restart."""
        with self._changed:
            line = self._line(domu)
            if new:
                line.marks.append(_Mark(line.newest or record, "started", record))
            elif line.record is None or line.record.run == record.run:
                # Whoever watched before may have been told that nothing runs.
                line.marks.append(_Mark(record, "started", record, record.end))
                line.record = record
                line.position = record.end
            line.newest, line.running = record, True
            self._wake(domu)

    def ended(self, domu: UUID, record: Record, detail: Mapping[str, object]) -> None:
        """The newest run has ended."""
        with self._changed:
            line = self._line(domu)
            line.newest, line.running = record, False
            line.marks.append(_Mark(record, "ended", body=canonical(detail).encode()))
            self._wake(domu)

    def more(self, domu: UUID) -> None:
        """The record has grown."""
        line = self._lines.get(domu)
        if line is not None and line.watches:
            with self._changed:
                self._wake(domu)

    def watch(self, domu: UUID, watch: str, seconds: float, replay: int | None, last: Record | None) -> bool:
        """Send for `seconds` from now; `replay` bytes of the record first. `last` is the record when none runs.

        False when the domU has too many watches.
        """
        now = self._clock()
        with self._changed:
            line = self._line(domu)
            if not line.is_watched(now):
                if line.newest is None:
                    line.newest = last
                line.jump_to_now()
            if watch not in line.watches and len(line.watches) >= WATCHES:
                return False
            known = line.watches.setdefault(watch, _Watch(now))
            known.until = now + min(max(seconds, 0.0), LONGEST_WATCH)
            if replay is not None:
                line.asks.append(_Ask(watch, min(max(replay, 0), HEAD + RING)))
            self._wake(domu)
            return True

    def unwatch(self, watch: str) -> None:
        """Somebody has left."""
        with self._changed:
            for line in self._lines.values():
                line.watches.pop(watch, None)

    def may_type(self, domu: UUID, watch: str, n: int) -> bool:
        """Whether this watch is alive for this domU, and its keys `n` are not old ones come again."""
        with self._changed:
            line = self._lines.get(domu)
            known = line.watches.get(watch) if line is not None else None
            if known is None or known.until <= self._clock() or n <= known.n:
                return False
            known.n = n
            return True

    def forget(self, domu: UUID) -> None:
        """The domU is no more."""
        with self._changed:
            self._lines.pop(domu, None)
            self._due.pop(domu, None)

    def close(self) -> None:
        """Stop sending; what was not sent stays in the records."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(5)

    def _line(self, domu: UUID) -> _Line:
        return self._lines.setdefault(domu, _Line(str(domu).encode()))

    def _wake(self, domu: UUID) -> None:
        self._due[domu] = None
        self._changed.notify()

    def _run(self) -> None:
        failing = False
        while True:
            with self._changed:
                while not self._due and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                domu = next(iter(self._due))
                del self._due[domu]
                line = self._lines.get(domu)
            try:
                again = line is not None and self._step(line)
                failing = False
            except Exception as error:
                if not failing:
                    log.warning("Console bytes cannot be sent (%s); trying again.", error)
                again = failing = True
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, _RETRY)
            if again:
                with self._changed:
                    self._due[domu] = None

    def _step(self, line: _Line) -> bool:
        """Send some of what is due for one domU; whether more is."""
        with self._changed:
            if not line.is_watched(self._clock()):
                line.asks.clear()
                line.jump_to_now()
                return False
            ask = line.asks[0] if line.asks else None
            mark = line.marks[0] if line.marks else None
            record = line.record
        if ask is not None:
            self._answer(line, ask)
            with self._changed:
                if line.asks and line.asks[0] is ask:
                    line.asks.popleft()
            return True
        for _ in range(TURN):
            if record is None or line.position >= record.end:
                break
            self._send_live(line, record)
        if record is not None and line.position < record.end:
            return True
        if mark is not None:
            self._tell(line, mark)
            return True
        return False

    def _send_live(self, line: _Line, record: Record) -> None:
        start = line.position
        behind = record.end - start > LAG
        offset, data = record.read(record.end - LEFT_AFTER_JUMP if behind else start, CHUNK)
        if data:
            self._send({**_entry("live", line, record, offset), "b": data})
        with self._changed:
            # Not when the last watch ended meanwhile, and another one began with the newest byte.
            if line.record is record and line.position == start:
                line.position = offset + len(data)

    def _tell(self, line: _Line, mark: _Mark) -> None:
        record = mark.next or mark.record
        self._send({**_entry(mark.kind, line, record, mark.at if mark.next else record.end), "b": mark.body})
        with self._changed:
            if not line.marks or line.marks[0] is not mark:
                return
            line.marks.popleft()
            if mark.next is not None:
                line.record, line.position = mark.next, mark.at
            line.over = mark.next is None

    def _answer(self, line: _Line, ask: _Ask) -> None:
        record, stop = line.record, line.position
        about = {"w": ask.watch.encode()}
        if record is not None:
            whole = ask.size >= HEAD + RING
            at = 0 if whole else _first(record, max(0, stop - ask.size), stop)
            while at < stop:
                offset, data = record.read(at, min(CHUNK, stop - at))
                if not data or offset >= stop:
                    break
                if offset > at:
                    gone = str(offset - at).encode()
                    self._send({**_entry("skipped", line, record, at), **about, "b": gone})
                self._send({**_entry("replay", line, record, offset), **about, "b": data})
                at = offset + len(data)
        self._send({**_entry("replayed", line, record, stop), **about})
        if line.over:
            ending = record.ending if record is not None else None
            body = canonical(ending).encode() if ending else b""
            self._send({**_entry("absent", line, record, stop), **about, "b": body})


def _first(record: Record, start: int, stop: int) -> int:
    """Where a replay that leaves something out begins: at a line, when one begins soon."""
    if start == 0:
        return 0
    gone, first = record.gap()
    if gone <= start < first:
        start = first
    offset, data = record.read(start, min(4096, stop - start))
    return offset + data.find(b"\n") + 1


def _entry(kind: str, line: _Line, record: Record | None, offset: int) -> dict[str, bytes]:
    run = str(record.run).encode() if record is not None else b""
    return {"k": kind.encode(), "d": line.domu, "r": run, "o": str(offset).encode()}
