"""The stream of console bytes: written while Redis is there, dropped while it is away. The record has them all."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from vps.agent.config import Config
from vps.agent.link import RedisError, connect
from vps.xen.messages import Channels

KEEP = 128  # entries, about
_AWAY = 1.0  # seconds for which nothing is tried after a failure


class ConsoleStream:
    """`send` is for many threads, never raises because of Redis, and never holds a console up for long."""

    def __init__(self, config: Config) -> None:
        self._client = connect(config, patience=2.0)
        self._key = Channels(config.dom0).console
        self._lock = threading.Lock()
        self._away_until = 0.0

    def send(self, fields: Mapping[str, bytes]) -> None:
        with self._lock:
            if time.monotonic() < self._away_until:
                return
            try:
                self._client.xadd(
                    self._key,
                    dict(fields),  # type: ignore[arg-type]
                    maxlen=KEEP,
                    approximate=True,
                )
            except RedisError:
                self._away_until = time.monotonic() + _AWAY

    def close(self) -> None:
        self._client.close()
