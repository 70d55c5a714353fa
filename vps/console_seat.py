"""One browser at one console: what it is sent, what it has drawn, what it may type."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from vps.console_line import Dom0Line, Entry
from vps.xen.messages import NoteKind

if TYPE_CHECKING:
    from vps.access import ConsoleAccess
    from vps.console_rights import Seat

REPLAY = 256 * 1024  # bytes of the record that a browser gets first
WATCH_FOR = 15.0  # seconds
ASK_EVERY = 4.0  # seconds; each answer says that the dom0 lives
SILENT_AFTER = 3.0
WINDOW = 1024 * 1024  # bytes sent that the browser has not drawn
PENDING = 1024 * 1024  # bytes that wait for it; beyond, the oldest are skipped
TOGETHER = 64 * 1024  # bytes in one message to the browser
MESSAGE_LIMIT = 32 * 1024  # bytes from the browser in one message
TYPED_WAITING = 64 * 1024  # bytes typed that wait for Redis
TYPED_AT_ONCE = 8 * 1024
TYPED_PER_SECOND = 64 * 1024
MESSAGE_COSTS = 64  # bytes, as which a message of any size counts at least

Item = bytes | dict[str, Any]
log = logging.getLogger(__name__)


class Close(Exception):
    """The connection ends with this close code; `why` is a word that the page turns into a sentence."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


class ProtocolBroken(Close):
    """The browser sent what it must not."""

    def __init__(self, why: str, code: int = 1008) -> None:
        super().__init__(code, why)


@dataclass(frozen=True)
class Resume:
    """What a browser that comes again has: the bytes of `run` before `offset`."""

    run: str
    offset: int

    @classmethod
    def of(cls, value: dict[str, Any]) -> Resume:
        """Read the first message. Raises ValueError, KeyError, TypeError."""
        offset = value["offset"]
        if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
            raise ValueError("An offset is a whole number.")
        return cls(str(UUID(value["run"])), offset)


class Outbox:
    """What waits for the browser. Bytes beyond PENDING are skipped, the oldest first; words never are."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._waiting = 0  # bytes
        self.sent = 0  # bytes, all in all
        self.took = 0  # bytes of them that the browser has drawn
        self.changed = asyncio.Event()

    def put(self, item: Item) -> None:
        self._items.append(item)
        if isinstance(item, bytes):
            self._waiting += len(item)
            if self._waiting > PENDING:
                self._skip()
        self.changed.set()

    def _skip(self) -> None:
        """Drop the oldest bytes, to half of PENDING, and say how many."""
        kept: deque[Item] = deque()
        gone = 0
        place: int | None = None  # of the word about it
        for item in self._items:
            if isinstance(item, dict):
                if item.get("type") == "skipped" and place is None:
                    gone += item["bytes"]
                    place = len(kept)
                    continue
                kept.append(item)
                continue
            if self._waiting <= PENDING // 2:
                kept.append(item)
                continue
            place = len(kept) if place is None else place
            self._waiting -= len(item)
            gone += len(item)
        kept.insert(place or 0, {"type": "skipped", "bytes": gone})
        self._items = kept

    def acknowledge(self, took: int) -> None:
        """The browser has drawn `took` bytes since it came. Raises ProtocolBroken."""
        if not self.took <= took <= self.sent:
            raise ProtocolBroken("took")
        self.took = took
        self.changed.set()

    def next(self) -> Item | None:
        """The next thing to send; None when there is nothing, or the browser must draw first."""
        if not self._items:
            return None
        if isinstance(self._items[0], dict):
            return self._items.popleft()
        if self.sent - self.took >= WINDOW:
            return None
        parts: list[bytes] = []
        size = 0
        while self._items and isinstance(part := self._items[0], bytes):
            if parts and size + len(part) > TOGETHER:
                break
            self._items.popleft()
            parts.append(part)
            size += len(part)
        self._waiting -= size
        self.sent += size
        return b"".join(parts) if len(parts) > 1 else parts[0]


class Connection:
    """One browser. Made when its ticket was good."""

    def __init__(
        self,
        seat: Seat,
        access: ConsoleAccess,
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
        resume: Resume | None = None,
    ) -> None:
        self.id = f"{time.time_ns():x}{secrets.token_hex(8)}"  # also the watch's id, and in order of coming
        self.seat = seat
        self.domu = str(seat.domu_id)
        self.access = access
        self.mode = "typing" if access.may_type else "watching"
        self.line: Dom0Line | None = None
        self.outbox = Outbox()
        self._send = send
        self._run = resume.run if resume else ""
        self._next = resume.offset if resume else 0  # offset in the run of the next byte
        self._live = False  # its replay is over
        self._asked_at = 0.0  # monotonic: the first question without an answer; 0: none is open
        self._renewed = 0.0
        self._told_silent = 0.0
        self._mended = 0.0
        self._last_key = time.monotonic()
        self._typed = bytearray()
        self._typed_changed = asyncio.Event()
        self._n = 0
        self._spent = 0.0  # monotonic; the time until which the allowance of keys is used up
        self._people: list[dict[str, Any]] = []
        self._mode_changed = False
        self._ended: asyncio.Future[Close] = asyncio.get_running_loop().create_future()

    # What the gateway calls

    def welcome(self) -> None:
        """Say what this is and what may be done."""
        self.outbox.put(
            {
                "type": "ready",
                "server": self.access.server_name,
                "state": self.access.state_word,
                "may_type": self.access.may_type,
                "mode": self.mode,
            }
        )

    def end(self, close: Close) -> None:
        """Close this connection now."""
        if not self._ended.done():
            self._ended.set_result(close)

    @property
    def idle(self) -> float:
        """Seconds since the last key."""
        return time.monotonic() - self._last_key

    def heed(self, access: ConsoleAccess | None) -> None:
        """Take the rights as they are now."""
        if access is None or not access.may_watch:
            self.end(Close(4403, "rights"))
            return
        before, self.access = self.access, access
        if self.mode == "typing" and not access.may_type:
            self.mode, self._mode_changed = "watching", True
            self._typed.clear()
        if (before.state_word, before.may_type, before.server_name) != (
            access.state_word, access.may_type, access.server_name,
        ):  # fmt: skip
            self.welcome()

    def mode_changed(self) -> bool:
        changed, self._mode_changed = self._mode_changed, False
        return changed

    def show_people(self, people: list[dict[str, Any]]) -> None:
        if people != self._people:
            self._people = people
            self.outbox.put({"type": "people", "people": people})

    async def ask(self) -> None:
        """Renew the watch. The dom0 answers, with a replay as long as this browser has none."""
        if self.line is None:
            return
        self._renewed = time.monotonic()
        self._asked_at = self._asked_at or self._renewed
        replay = 0 if self._live else REPLAY
        await self.line.say(
            NoteKind.WATCH,
            {"domu": self.domu, "watch": self.id, "seconds": WATCH_FOR, "replay": replay},
            seconds=2 * ASK_EVERY,
        )

    async def tick(self) -> None:
        """Some times a second: renew, and tell when the dom0 is silent."""
        now = time.monotonic()
        if now - self._renewed >= ASK_EVERY:
            await self.ask()
        silent = now - self._asked_at if self._asked_at else 0.0
        if silent > SILENT_AFTER and now - self._told_silent > SILENT_AFTER:
            self._told_silent = now
            self.outbox.put({"type": "silent", "seconds": round(silent)})

    # What comes from the dom0

    def take(self, entry: Entry) -> None:
        """Take an entry of the stream that is about this console."""
        if entry.watch and entry.watch != self.id:
            return
        if entry.watch:
            self._heard()
        if entry.kind == "live":
            if self._live:
                self._bytes(entry)
        elif entry.kind == "replay":
            self._bytes(entry)
        elif entry.kind == "replayed":
            self._replayed(entry)
        elif entry.kind == "started" and self._live:
            self._go_to(entry.run, entry.offset)
        elif entry.kind == "ended" and self._live:
            self.outbox.put({"type": "ended", **_ending(entry.data)})
        elif entry.kind == "absent":
            self.outbox.put({"type": "absent", **_ending(entry.data)})

    def _heard(self) -> None:
        self._asked_at = 0.0
        if self._told_silent:
            self._told_silent = 0.0
            self.outbox.put({"type": "heard"})

    def _replayed(self, entry: Entry) -> None:
        if self._live and self._mend(entry):
            return
        if entry.run != self._run:
            self._go_to(entry.run, entry.offset)
        self._jump(entry.offset)
        if not self._live:
            self._live = True
            self.outbox.put({"type": "replayed"})

    def _mend(self, entry: Entry) -> bool:
        """Bytes are missing, as after the agent's restart: once in a while, ask for the record again."""
        missing = entry.offset - self._next
        if entry.run != self._run or not 0 < missing <= REPLAY // 2:
            return False
        if time.monotonic() - self._mended < 5 * ASK_EVERY:
            return False
        self._mended = time.monotonic()
        self._live, self._renewed = False, 0.0  # the next tick asks
        return True

    def _bytes(self, entry: Entry) -> None:
        if entry.run != self._run:
            self._go_to(entry.run, entry.offset)
        self._jump(entry.offset)
        data = entry.data[self._next - entry.offset :]
        if data:
            self._next += len(data)
            self.outbox.put(data)

    def _go_to(self, run: str, offset: int) -> None:
        """Another run, or the same one after it was thought to be over."""
        if run == self._run:
            self._jump(offset)
        self._run, self._next = run, offset if run != self._run else self._next
        self.outbox.put({"type": "run", "run": run, "offset": self._next})

    def _jump(self, offset: int) -> None:
        """Say that bytes are missing, when some are."""
        if offset > self._next:
            self.outbox.put({"type": "skipped", "bytes": offset - self._next})
            self._next = offset

    # What comes from the browser

    async def serve(self, receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
        """Until the browser goes, or `end` is called: raises Close then."""
        tasks = [asyncio.create_task(one) for one in (self._listen(receive), self._talk(), self._type())]
        try:
            waited: list[asyncio.Future[Any]] = [*tasks, self._ended]
            done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if self._ended.done():
                raise self._ended.result()
            for task in tasks:
                if task in done:
                    task.result()
        finally:
            await end(tasks)

    async def _listen(self, receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            data, text = message.get("bytes"), message.get("text")
            if max(len(data or b""), len(text or "")) > MESSAGE_LIMIT:
                raise ProtocolBroken("big", 1009)
            if data is not None:
                self._keys(data)
            else:
                self._word(text or "")
            await self._spend(max(len(data or b""), MESSAGE_COSTS))

    async def _spend(self, cost: int) -> None:
        """Read no faster than TYPED_PER_SECOND allows, with a second's worth at once."""
        now = time.monotonic()
        self._spent = max(self._spent, now - 1.0) + cost / TYPED_PER_SECOND
        if self._spent > now:
            await asyncio.sleep(self._spent - now)

    def _keys(self, data: bytes) -> None:
        self._last_key = time.monotonic()
        if self.mode != "typing" or not self.access.may_type:
            return
        self._typed += data[: max(0, TYPED_WAITING - len(self._typed))]
        self._typed_changed.set()

    def _word(self, text: str) -> None:
        try:
            value = json.loads(text)
            kind = value["type"]
            if kind == "took":
                took = value["bytes"]
                if isinstance(took, bool) or not isinstance(took, int):
                    raise ValueError("took")
                self.outbox.acknowledge(took)
            elif kind == "mode":
                self._change_mode(value["mode"])
            else:
                raise ValueError("type")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ProtocolBroken("message") from error

    def _change_mode(self, mode: str) -> None:
        if mode not in ("typing", "watching"):
            raise ValueError("mode")
        self._last_key = time.monotonic()
        wanted = mode if self.access.may_type else "watching"
        if wanted == "watching":
            self._typed.clear()
        self._mode_changed = self._mode_changed or wanted != self.mode
        self.mode = wanted
        self.welcome()

    async def _talk(self) -> None:
        """Send what waits, as fast as the browser draws."""
        while True:
            while (item := self.outbox.next()) is not None:
                if isinstance(item, bytes):
                    await self._send({"type": "websocket.send", "bytes": item})
                else:
                    await self._send({"type": "websocket.send", "text": json.dumps(item)})
            self.outbox.changed.clear()
            await self.outbox.changed.wait()

    async def _type(self) -> None:
        """Send what was typed; what comes while a note is on its way goes together in the next one."""
        while True:
            await self._typed_changed.wait()
            self._typed_changed.clear()
            while self._typed and self.line is not None:
                data = bytes(self._typed[:TYPED_AT_ONCE])
                del self._typed[: len(data)]
                self._n += 1
                if not await self.line.keys(self.seat.domu_id, self.id, self._n, data):
                    self._typed.clear()
                    self.outbox.put({"type": "silent", "seconds": 0})


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended; what they raised is dropped.

    Once is not enough: a question to Redis whose patience ends just then takes the cancellation for its own timeout,
    and the task goes on. The console of somebody who has left then stays at its seat.
    """
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=1.0)
    await asyncio.gather(*tasks, return_exceptions=True)


def _ending(data: bytes) -> dict[str, Any]:
    """How a run ended, as far as the dom0's words are of the agreed form."""
    value: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(data) if data else None
    if not isinstance(value, dict):
        return {}
    told: dict[str, Any] = {}
    for name in ("reason", "next"):
        if isinstance(value.get(name), str):
            told[name] = value[name][:40]
    for name in ("code", "restart_in"):
        if isinstance(value.get(name), (int, float)) and not isinstance(value.get(name), bool):
            told[name] = value[name]
    return told
