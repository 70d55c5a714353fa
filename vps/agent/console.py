"""The consoles of the domUs that run here.

The agent owns the pty of `xl console` for each running domain, from before its first instruction to its end, and
always drains it into the record. Who watches gets a replay and what comes; who types is heard while they watch.
"""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from vps.agent.console_feed import Feed
from vps.agent.console_record import Record, Records, plain_text
from vps.agent.pty import Pty, PtyFailed, Ptys
from vps.xen.messages import Note, NoteKind

ATTACH_WITHIN = 3.0  # seconds for `xl console` to have its pty open
PAUSES = (0.3, 0.6, 1.2, 2.5, 5.0)  # seconds before a console that ended is opened again
SETTLED = 10.0  # seconds after which a console counts as one that stays
KEYS_LIMIT = 32 * 1024  # bytes in one note
_LOOK_EVERY = 0.005  # seconds, while `xl console` opens
_LEAVE = b"\x1d"  # ^], upon which `xl console` ends; it never reaches the guest (LAB-FACTS, trap 5)

log = logging.getLogger(__name__)


@dataclass
class _Console:
    """One domU's console."""

    domu: UUID
    name: str
    record: Record
    domid: int | None  # None: no domain runs
    pty: Pty | None = None
    opened: float = 0.0  # monotonic
    failures: int = 0


class Consoles:
    """All consoles of this dom0."""

    def __init__(
        self,
        directory: Path,
        xl: Sequence[str],
        send: Callable[[Mapping[str, bytes]], None],
        on_end: Callable[[UUID, UUID], None],
    ) -> None:
        """`directory` is for the records. `send` puts an entry into the stream: it may wait, and may fail.

        `on_end` gets domU and run each time a console ended: the domain may have, too. It is called on the thread
        that reads all consoles, and must return at once.
        """
        self._xl = tuple(xl)
        self._on_end = on_end
        self._records = Records(directory)
        self._ptys = Ptys()
        self._feed = Feed(send)
        self._lock = threading.RLock()
        self._consoles: dict[UUID, _Console] = {}
        self._closed = False

    def attach(self, domu: UUID, name: str, run: UUID, domid: int) -> None:
        """Open the console of a domain, and wait until `xl console` has it, ATTACH_WITHIN at most.

        Call it between `xl create -p` and unpause, and at the agent's start for each domain that runs: the same run
        goes on in the same record. Calling it again changes nothing. Raises OSError when no record can be made.
        """
        with self._lock:
            console = self._consoles.get(domu)
            if console is None or console.record.run != run or console.domid != domid:
                console = self._begin(domu, name, run, domid)
        deadline = time.monotonic() + ATTACH_WITHIN + 1
        while time.monotonic() < deadline and console.domid == domid and not self._closed:
            pty = console.pty
            if pty is None:
                time.sleep(_LOOK_EVERY)  # it ended, and is opened again after a pause
            elif pty.open.wait(0.05):
                return

    def _begin(self, domu: UUID, name: str, run: UUID, domid: int) -> _Console:
        before = self._consoles.get(domu)
        if before is not None and before.pty is not None:
            before.domid = None
            before.pty.stop()
        record, new = self._records.open(domu, run)
        if before is not None and before.record.run == run:
            record = before.record
        record.goes_on()
        console = self._consoles[domu] = _Console(domu, name, record, domid)
        self._feed.begun(domu, record, new=new)
        self._open(console)
        return console

    def _open(self, console: _Console) -> None:
        """Start `xl console`."""
        with self._lock:
            if self._closed or console.domid is None or console.pty is not None:
                return
            record, feed, domu = console.record, self._feed, console.domu

            def take(data: bytes) -> None:
                record.append(data)
                feed.more(domu)

            try:
                console.pty = self._ptys.start(
                    [*self._xl, "console", str(console.domid)],
                    take,
                    lambda code, words: self._closed_itself(console, code, words),
                )
                console.opened = time.monotonic()
            except PtyFailed as error:
                log.error("The console of %s: %s", console.name, error)
                self._open_again(console)
                return
        self._see_it_attached(console, console.pty, console.opened + ATTACH_WITHIN)

    def _see_it_attached(self, console: _Console, pty: Pty, deadline: float) -> None:
        """Let keys through as soon as they are not thrown away: see `Pty.is_raw`."""
        if pty.open.is_set() or pty.over.is_set():
            return
        if time.monotonic() > deadline:
            log.warning("xl console of %s did not say that it is attached.", console.name)
            pty.make_raw()
        elif not pty.is_raw():
            self._ptys.later(_LOOK_EVERY, lambda: self._see_it_attached(console, pty, deadline))
            return
        pty.opened()

    def _closed_itself(self, console: _Console, code: int | None, words: str) -> None:
        """On the ptys' thread: `xl console` has ended."""
        with self._lock:
            console.pty = None
            if console.domid is None or self._closed:
                return
            run = console.record.run
            stayed = time.monotonic() - console.opened > SETTLED
            console.failures = 0 if stayed else console.failures + 1
            self._open_again(console)
        log.info("xl console of %s ended with %s. %s", console.name, code, words)
        self._on_end(console.domu, run)

    def _open_again(self, console: _Console) -> None:
        pause = PAUSES[min(console.failures, len(PAUSES) - 1)]
        self._ptys.later(pause, lambda: self._open(console))

    def ended(self, domu: UUID, run: UUID, detail: Mapping[str, object]) -> None:
        """A run has ended. `detail` has reason, code, next and restart_in, as the report has them."""
        with self._lock:
            console = self._consoles.get(domu)
            if console is None or console.record.run != run or console.domid is None:
                return
            console.domid = None
            pty = console.pty
        if pty is not None:
            pty.stop()
            pty.over.wait(2)  # what the guest wrote last is in the record then
        with self._lock:
            if self._consoles.get(domu) is not console or console.domid is not None:
                return
            console.record.end_with(detail)
            self._feed.ended(domu, console.record, detail)

    def tail(self, domu: UUID, size: int = 2048) -> str:
        """The last words of the current or last run as plain text, from `size` bytes at most."""
        record = self._last(domu)
        return plain_text(record.last(size)) if record is not None else ""

    def read(self, domu: UUID, run: UUID | None, start: int, size: int) -> tuple[int, bytes]:
        """Up to `size` bytes of a run (None: of the last one) from `start`, with where they really begin."""
        record = self._last(domu)
        if record is None or (run is not None and record.run != run):
            return start, b""
        return record.read(start, size)

    def _last(self, domu: UUID) -> Record | None:
        with self._lock:
            console = self._consoles.get(domu)
        return console.record if console is not None else self._records.last(domu)

    def forget(self, domu: UUID) -> None:
        """The domU is deleted: end its console and remove its records."""
        with self._lock:
            console = self._consoles.pop(domu, None)
            if console is not None:
                console.domid = None
            pty = console.pty if console is not None else None
        if pty is not None:
            pty.stop()
            pty.over.wait(2)
        self._feed.forget(domu)
        self._records.remove(domu)

    def note(self, note: Note) -> None:
        """Heed a note of the kinds watch, unwatch and keys, verified by the caller. A wrong body is dropped."""
        try:
            if note.kind is NoteKind.WATCH:
                self._watch(note.body)
            elif note.kind is NoteKind.UNWATCH:
                self._feed.unwatch(_watch_id(note.body))
            elif note.kind is NoteKind.KEYS:
                self._keys(note.body)
        except (KeyError, TypeError, ValueError) as error:
            log.warning("A note of kind %s with a wrong body: %r", note.kind, error)

    def _watch(self, body: Mapping[str, object]) -> None:
        domu, watch = UUID(str(body["domu"])), _watch_id(body)
        seconds, replay = body["seconds"], body.get("replay")
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise TypeError(f"seconds is {seconds!r}")
        if replay is not None and (isinstance(replay, bool) or not isinstance(replay, int)):
            raise TypeError(f"replay is {replay!r}")
        if not self._feed.watch(domu, watch, float(seconds), replay, self._last(domu)):
            log.warning("Too many watch the console of %s.", domu)

    def _keys(self, body: Mapping[str, object]) -> None:
        domu, watch, n = UUID(str(body["domu"])), _watch_id(body), body["n"]
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"n is {n!r}")
        data = base64.b64decode(str(body["data"]), validate=True)
        if len(data) > KEYS_LIMIT:
            raise ValueError(f"{len(data)} bytes of keys; the limit is {KEYS_LIMIT}")
        if not self._feed.may_type(domu, watch, n):
            return
        with self._lock:
            console = self._consoles.get(domu)
            pty = console.pty if console is not None else None
        if pty is not None:
            pty.write(data.replace(_LEAVE, b""))

    def close(self) -> None:
        """End every `xl console` and both threads. The records stay."""
        with self._lock:
            self._closed = True
        self._ptys.close()
        self._feed.close()


def _watch_id(body: Mapping[str, object]) -> str:
    watch = body["watch"]
    if not isinstance(watch, str) or not 1 <= len(watch) <= 64 or not watch.isascii():
        raise ValueError(f"watch is {watch!r}")
    return watch
