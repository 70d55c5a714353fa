"""What time it is: Redis TIME as the dom0 last heard it, which is the one clock of web and dom0s."""

from __future__ import annotations

import threading
import time


class Clock:
    """Redis TIME, carried on by the monotonic clock: who sets the dom0's own clock moves nothing here.

    `skew_ms` is the distance kept from before, which counts until Redis was heard.
    """

    def __init__(self, skew_ms: int | None = None) -> None:
        self._kept = skew_ms
        self._heard: tuple[int, float] | None = None  # Redis TIME in ms, and time.monotonic() then
        self.known = threading.Event()  # it was heard by this process

    def heard(self, redis_ms: int, sent_at: float, received_at: float) -> None:
        """Take one answer of TIME; `sent_at`, `received_at` are time.monotonic() around the question."""
        self._heard = redis_ms, (sent_at + received_at) / 2
        self.known.set()

    def now_ms(self) -> int:
        """Redis TIME now, in milliseconds since the epoch."""
        if self._heard is None:
            return _wall_ms() - (self._kept or 0)
        redis_ms, at = self._heard
        return redis_ms + round((time.monotonic() - at) * 1000)

    @property
    def skew_ms(self) -> int | None:
        """How far the dom0's own clock is ahead of Redis TIME, in milliseconds; None: never heard."""
        return self._kept if self._heard is None else _wall_ms() - self.now_ms()


def _wall_ms() -> int:
    return round(time.time() * 1000)
