"""Watches the domains: what ended is settled, and what follows is the agent's (DESIGN.md 4), not xl's.

A look at all domains every few seconds is what decides; the end of a console asks for one at once. The verbs do
their own looking; a domU whose lane is busy is left to it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from uuid import UUID

from vps.agent import trials, tries, trying
from vps.agent.arming import build_ready, ready
from vps.agent.autostart import wake
from vps.agent.context import Context, Job, VerbFailed
from vps.agent.engine import Engine
from vps.agent.journal import DomuRow
from vps.agent.life import settle
from vps.agent.preparation import prepare_or_last
from vps.agent.toolstack import ToolstackError
from vps.xen.endings import EndReason
from vps.xen.reconcile import NextStep, Phase, Wanted, after_end
from vps.xen.xlparse import DomainRow, DomainState

logger = logging.getLogger(__name__)

INTERVAL = 5.0  # seconds between looks when nothing happens
_TRYING = 1.0  # seconds between looks while something is tried
_SOON = 0.5  # seconds between looks after a console ended
_SOON_FOR = 20.0  # seconds; xl clears a crashed domain away after some 12 s
_LONGEST_PAUSE = 3600.0  # seconds; a restart that is further ahead waits for a clock that was set back

_ENDED = frozenset({DomainState.SHUTDOWN, DomainState.CRASHED})

Seen = Callable[[tuple[DomainRow, ...] | None, str], None]


class Watch:
    """One thread that looks. `seen` gets every look: the domains, or None and the sentence why there are none."""

    def __init__(self, context: Context, engine: Engine, seen: Seen) -> None:
        self._context, self._engine, self._seen = context, engine, seen
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._soon_until = 0.0
        self._thread = threading.Thread(target=self._work, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, patience: float) -> None:
        self._stopping.set()
        self._wake.set()
        self._thread.join(patience)

    def look(self) -> None:
        """Look at once."""
        self._wake.set()

    def console_ended(self, domu: UUID, run: UUID) -> None:
        """A console ended: most likely so did its domain, which may be there for some seconds more."""
        self._soon_until = time.monotonic() + _SOON_FOR
        self._wake.set()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self._look()
                self._engine.take_open()
            except Exception:
                logger.exception("a look at the domains failed; the next one follows")
            self._wake.wait(self._pause())
            self._wake.clear()

    def _pause(self) -> float:
        if time.monotonic() < self._soon_until:
            return _SOON
        rows = self._context.journal.domus()
        dues = [row.restart_at - time.time() for row in rows if row.restart_at]
        if any(tries.under_way(self._context, row.id) for row in rows):
            dues.append(_TRYING)
        return max(0.1, min([INTERVAL, *dues]))

    def _look(self) -> None:
        try:
            domains = self._context.domains()
        except ToolstackError as error:
            # Without Xen, or with an xl that hangs, nothing counts as gone.
            self._seen(None, error.text)
            return
        by_uuid = {domain.uuid: domain for domain in domains}
        for row in self._context.journal.domus():
            if self._engine.busy(row.id):
                continue
            if self._concerns(row, by_uuid.get(row.id)):
                self._engine.attend(row.id, attend, "attend")
        for trial in trials.left(self._context):
            # It could not be cleared away at its end: xl did not answer, or took too long.
            if not self._engine.busy(trial):
                self._engine.attend(trial, lambda job: trials.clear(job.context, job.domu), "clear")
        self._seen(domains, "")

    def _concerns(self, row: DomuRow, domain: DomainRow | None) -> bool:
        """Whether there is something to be settled."""
        if row.run is not None and (domain is None or domain.domid != row.domid or domain.state in _ENDED):
            return True
        if row.phase is Phase.STARTING or row.host_rebooted or trying.concerns(self._context, row):
            return True
        return due(row) if domain is None else row.run is None


def due(row: DomuRow) -> bool:
    """Whether a restart is to be done now."""
    if row.phase is not Phase.RESTARTING or row.wanted is not Wanted.RUNNING:
        return False
    left = (row.restart_at or 0.0) - time.time()
    return left <= 0 or left > _LONGEST_PAUSE


def attend(job: Job) -> None:
    """Settle how a domU stands, and restart it when that is due. Raises VerbFailed, Aborted, OSError."""
    context = job.context
    settled = settle(job, attach=True)
    if trying.attend(job, settled.domain) is not None:
        return
    row = wake(job)
    if not due(row):
        return
    try:
        build_ready(job, ready(job, prepare_or_last), row.restart_why or "crash")
        context.alarms.pop(f"restart:{row.id}", None)
    except (VerbFailed, OSError) as error:
        if isinstance(error, VerbFailed) and error.code == "unknown":
            raise
        _put_off(job, error)
        raise


def _put_off(job: Job, error: Exception) -> None:
    """A restart that failed counts as a crash: it is tried again after a growing pause, up to the limit."""
    context = job.context
    row = context.row(job.domu)
    now = time.time()
    following = after_end(
        EndReason.CRASH, row.wanted, row.crash_times, row.description.crash_limit, now, row.reboot_times
    )
    limit = following.step is NextStep.LIMIT
    context.journal.set_domu(
        row.id,
        phase=Phase.LIMIT if limit else Phase.RESTARTING,
        crash_times=(*row.crash_times[-50:], now),
        restart_at=None if limit else now + following.seconds,
    )
    context.alarms[f"restart:{row.id}"] = f"{row.description.name} could not be started again: {error}"
    context.changed()
