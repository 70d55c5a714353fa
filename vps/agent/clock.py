"""What time it is: Redis TIME as the dom0 last heard it, which is the one clock of web and dom0s."""

from __future__ import annotations

import threading
import time


class Clock:
    """The dom0's clock, corrected by its distance from Redis TIME. Milliseconds since the epoch."""

    def __init__(self, skew_ms: int | None = None) -> None:
        self.skew_ms = skew_ms  # dom0's clock minus Redis TIME; None: never heard
        self.known = threading.Event()  # it was heard by this process

    def heard(self, redis_ms: int, sent_at: float, received_at: float) -> None:
        """Take one answer of TIME; `sent_at`, `received_at` are time.time() around the question."""
        self.skew_ms = round((sent_at + received_at) * 500) - redis_ms
        self.known.set()

    def now_ms(self) -> int:
        """Redis TIME now, in milliseconds."""
        return round(time.time() * 1000) - (self.skew_ms or 0)
