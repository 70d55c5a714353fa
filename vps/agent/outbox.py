"""Reports to the web: kept in the journal, written into the stream `out`, sent again until acknowledged."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from vps.agent.clock import Clock
from vps.agent.config import Config
from vps.agent.journal import Journal
from vps.agent.link import RedisError, connect
from vps.xen.messages import Channels, Report, ReportKind

logger = logging.getLogger(__name__)

RESEND = 10.0  # seconds without an acknowledgement
_RESEND_MOST = 300.0  # and while the web is away, growing to this
_ONCE = 0.5  # seconds in which all is sent again once at most, however often it is asked for
_PAUSE = 1.0  # seconds between two attempts to reach Redis
_KEEP = 2000  # entries of the stream at most; the web trims it sooner


class Outbox:
    """Owns one connection and one thread. `inventory` gives the body of an inventory, or None for none yet."""

    def __init__(self, config: Config, journal: Journal, clock: Clock) -> None:
        self._config, self._journal, self._clock = config, journal, clock
        self._stream = Channels(config.dom0).out
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._sent = 0  # the last number that was sent on this connection
        self._oldest = 0  # the lowest number that is not acknowledged,
        self._oldest_at = 0.0  # since when it is, or was sent again (monotonic)
        self._resend = RESEND
        self._missing = False  # the web said that one was lost on its way
        self._inventory: Mapping[str, Any] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="outbox", daemon=True)
        self.connected = False

    def start(self) -> None:
        self._thread.start()

    def stop(self, patience: float) -> None:
        self._stopping.set()
        self._wake.set()
        self._thread.join(patience)

    def report(self, kind: ReportKind, body: Mapping[str, Any]) -> None:
        """Keep a report and send it. Inside a transaction of the journal it is kept with the rest or not at all."""
        self._journal.report(kind, body, self._clock.now_ms())
        self._wake.set()

    def tell(self, inventory: Mapping[str, Any]) -> None:
        """Send an inventory, which is not kept; a newer one takes the place of one that waits."""
        with self._lock:
            self._inventory = inventory
        self._wake.set()

    def acknowledged(self, seq: int, *, missing: bool = False) -> None:
        """The web has all up to `seq`; with `missing` what was sent after it was not taken, for one was lost."""
        self._journal.acknowledge(seq)
        self._resend = RESEND
        if missing:
            self._missing = True
            self._wake.set()

    def _work(self) -> None:
        said = False
        client = connect(self._config)
        while not self._stopping.is_set():
            try:
                self._wake.wait(1.0)
                self._wake.clear()
                self._send(client.xadd)
                if said:
                    logger.info("reports go to Redis again")
                    said = False
            except RedisError as error:
                if not said:
                    logger.warning("reports cannot be sent (%s); they are kept", error)
                    said = True
                self.connected = False
                # All that was sent before may be lost with what Redis lost.
                self._sent = 0
                self._resend = RESEND
                self._stopping.wait(_PAUSE)
                self._wake.set()
            except Exception:
                logger.exception("the outbox failed; it goes on")
                self._stopping.wait(_PAUSE)
        client.close()

    def _send(self, xadd: Callable[..., object]) -> None:
        now = time.monotonic()
        oldest = next((kept.seq for kept in self._journal.reports(0, 1)), 0)
        if oldest != self._oldest:
            self._oldest, self._oldest_at = oldest, now
        waited = now - self._oldest_at
        # What is under way already answers several askings.
        if self._missing and waited > _ONCE:
            self._missing, self._sent, self._oldest_at = False, 0, now
        elif oldest and self._sent >= oldest and waited > self._resend:
            self._sent, self._oldest_at = 0, now
            self._resend = min(self._resend * 2, _RESEND_MOST)
        while batch := self._journal.reports(self._sent):
            oldest = oldest or batch[0].seq
            for kept in batch:
                report = Report(
                    self._config.dom0, self._journal.id, kept.seq, kept.kind, kept.at, kept.body, oldest
                )
                xadd(self._stream, {"r": report.as_text()}, maxlen=_KEEP, approximate=True)
                self._sent = kept.seq
        with self._lock:
            inventory, self._inventory = self._inventory, None
        if inventory is not None:
            report = Report(
                self._config.dom0, self._journal.id, 0, ReportKind.INVENTORY, self._clock.now_ms(), inventory
            )
            xadd(self._stream, {"r": report.as_text()}, maxlen=_KEEP, approximate=True)
        self.connected = True
