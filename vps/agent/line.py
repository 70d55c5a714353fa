"""The notes of the web, from the list `line`: acknowledgements, who watches, keys. And Redis TIME."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import redis

from vps.agent.clock import Clock
from vps.agent.config import Config
from vps.agent.link import RedisError, connect, hear_time
from vps.xen.messages import Channels, MessageRefused, Note, NoteKind, TrustedKeys

logger = logging.getLogger(__name__)

_BLOCK = 1  # seconds that one BRPOP waits
_PAUSE = 1.0  # seconds between two attempts to reach Redis
_TIME_EVERY = 30.0  # seconds

Hear = Callable[[Note], None]


class Line:
    """One connection and one thread. `hear` has what to do for each kind of note; `timed` is called when the time
    was heard, `restored` when Redis answers again after it did not."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        keys: TrustedKeys,
        hear: dict[NoteKind, Hear],
        timed: Callable[[], None],
        restored: Callable[[], None],
    ) -> None:
        self._config, self._clock, self._keys = config, clock, keys
        self._hear, self._restored = hear, restored
        self._timed = timed
        self._key = Channels(config.dom0).line
        self._stopping = threading.Event()
        self._timed_at: float | None = None
        self._thread = threading.Thread(target=self._work, name="line", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, patience: float) -> None:
        self._stopping.set()
        self._thread.join(patience)

    def _work(self) -> None:
        client = connect(self._config)
        away = False
        while not self._stopping.is_set():
            try:
                self._turn(client)
                if away:
                    away = False
                    self._restored()
            except RedisError as error:
                if not away:
                    logger.warning("the line to the web is cut (%s)", error)
                away, self._timed_at = True, None
                self._stopping.wait(_PAUSE)
            except Exception:
                logger.exception("a note could not be heard; the next one follows")
        client.close()

    def _turn(self, client: redis.Redis) -> None:
        if self._timed_at is None or time.monotonic() - self._timed_at >= _TIME_EVERY:
            hear_time(client, self._clock)
            self._timed()
            self._timed_at = time.monotonic()
        got: Any = client.brpop([self._key], timeout=_BLOCK)
        if got:
            self.take(got[1])

    def take(self, envelope: bytes) -> None:
        """Hear one note; what cannot be believed, or comes too late, is dropped."""
        try:
            note = self._keys.note(envelope.decode("ascii"), self._config.dom0)
        except (MessageRefused, UnicodeDecodeError) as error:
            logger.warning("a note was dropped: %s", error)
            return
        if note.not_after < self._clock.now_ms():
            logger.info("a note came too late: %s", note.kind.value)
            return
        self._hear[note.kind](note)


def acknowledgement(note: Note, journal: UUID) -> int | None:
    """The number up to which the web has applied this journal's reports; None for what says nothing of it."""
    seq = note.body.get("seq")
    if note.body.get("journal") != str(journal) or isinstance(seq, bool) or not isinstance(seq, int):
        return None
    return seq
