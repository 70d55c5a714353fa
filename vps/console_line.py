"""The two directions of one dom0's consoles in Redis: its stream of bytes, and its list of notes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import redis.asyncio as redis
from redis.exceptions import RedisError, ResponseError

from vps.xen.messages import Channels, Note, NoteKind, SigningKey

NOTES_WAITING = 500  # notes that a dom0 has not read: it is not there, and gets no more
READ_AT_ONCE = 32  # entries; each has 64 KiB at most
BLOCK_MS = 5000
TRIM_AFTER_MS = 10_000
_PAUSE = 0.5  # seconds after a fault
_FULL_FOR = 1.0  # seconds without a note to a dom0 that does not read
_TIME_EVERY = 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One entry of a dom0's console stream (docs/design.md, Consoles)."""

    kind: str
    domu: str
    run: str
    watch: str
    offset: int
    data: bytes

    @classmethod
    def of(cls, fields: Mapping[bytes, bytes]) -> Entry | None:
        """Read the fields of an entry; None for what cannot be one: a dom0 may write what it likes."""
        try:
            return cls(
                fields[b"k"].decode("ascii"),
                fields[b"d"].decode("ascii"),
                fields.get(b"r", b"").decode("ascii"),
                fields.get(b"w", b"").decode("ascii"),
                max(0, int(fields.get(b"o", b"0")[:20])),
                fields.get(b"b", b""),
            )
        except (KeyError, ValueError):
            return None


class Clock:
    """Redis TIME, which is the one clock of all not-afters."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._ahead = 0.0  # seconds that Redis is ahead of this machine
        self._asked = 0.0  # monotonic

    async def now_ms(self) -> int:
        """Milliseconds. Raises RedisError when Redis was never heard."""
        if not self._asked or time.monotonic() - self._asked > _TIME_EVERY:
            seconds, micros = await self._redis.time()
            self._ahead = int(seconds) + int(micros) / 1e6 - time.time()
            self._asked = time.monotonic()
        return round((time.time() + self._ahead) * 1000)


class Dom0Line:
    """One dom0. `take` gets each entry of its stream, on the event loop."""

    def __init__(
        self,
        client: redis.Redis,
        clock: Clock,
        key: Callable[[], SigningKey],
        dom0: UUID,
        take: Callable[[Entry], None],
    ) -> None:
        self.dom0 = dom0
        self._redis = client
        self._clock = clock
        self._key = key
        self._take = take
        self._channels = Channels(dom0)
        self._task: asyncio.Task[None] | None = None
        self._full_until = 0.0  # monotonic

    async def open(self) -> None:
        """Read from now on; what is asked for after this call is heard. Raises RedisError."""
        if self._task is None:
            last = await self._last_id()
            if self._task is None:
                self._task = asyncio.create_task(self._read(last), name=f"console {self.dom0}")

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def say(self, kind: NoteKind, body: Mapping[str, Any], seconds: float) -> bool:
        """Send a note that is good for `seconds`; False when the dom0 does not read them, or Redis is away."""
        if time.monotonic() < self._full_until:
            return False
        try:
            not_after = await self._clock.now_ms() + round(seconds * 1000)
            note = self._key().seal(Note(self.dom0, kind, not_after, body))
            waiting = await self._redis.lpush(self._channels.line, note)
            if waiting > NOTES_WAITING:
                self._full_until = time.monotonic() + _FULL_FOR
                await self._redis.ltrim(self._channels.line, 0, NOTES_WAITING - 1)
                return False
        except (RedisError, OSError) as error:
            log.warning("Dom0 %s cannot be told anything, Redis is away: %s", self.dom0, error)
            self._full_until = time.monotonic() + _FULL_FOR
            return False
        return True

    async def trim(self) -> None:
        """Drop what every gateway has read long ago; Redis need not hold it."""
        with contextlib.suppress(RedisError, OSError):
            before = await self._clock.now_ms() - TRIM_AFTER_MS
            await self._redis.xtrim(self._channels.console, minid=str(before), approximate=False)

    async def keys(self, domu: UUID, watch: str, n: int, data: bytes) -> bool:
        """Have bytes typed."""
        text = base64.b64encode(data).decode()
        return await self.say(
            NoteKind.KEYS, {"domu": str(domu), "watch": watch, "n": n, "data": text}, seconds=5
        )

    async def _last_id(self) -> str:
        try:
            told = await self._redis.xinfo_stream(self._channels.console)
        except ResponseError:  # there is none yet
            return "0-0"
        last = told["last-generated-id"]
        return last.decode() if isinstance(last, bytes) else str(last)

    async def _read(self, last: str) -> None:
        key = self._channels.console
        while True:
            try:
                answer: Any = await self._redis.xread({key: last}, count=READ_AT_ONCE, block=BLOCK_MS)
            except (RedisError, OSError) as error:  # also a key that the agent has spoiled
                log.warning("The consoles of dom0 %s cannot be read: %s", self.dom0, error)
                await asyncio.sleep(_PAUSE)
                continue
            if not answer:
                await self.trim()
            for _, entries in answer or []:
                for id_, fields in entries:
                    last = id_.decode()
                    entry = Entry.of(fields or {})
                    if entry is not None:
                        self._safely(entry)
                # One dom0's flood leaves the others their turn.
                await asyncio.sleep(0)

    def _safely(self, entry: Entry) -> None:
        try:
            self._take(entry)
        except Exception:
            log.exception("An entry of dom0 %s could not be handed on.", self.dom0)
