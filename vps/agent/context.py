"""What the verbs work with, and the job that one of them is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from vps.agent.blobs import Blobs
from vps.agent.clock import Clock
from vps.agent.config import Config
from vps.agent.disks import Disks
from vps.agent.journal import DomuRow, Journal, OrderRow
from vps.agent.outbox import Outbox
from vps.agent.scans import Scans
from vps.agent.toolstack import Toolstack
from vps.xen.messages import Note, Outcome, ReportKind
from vps.xen.reconcile import Phase, Wanted
from vps.xen.xlparse import DomainRow

logger = logging.getLogger(__name__)

_REPORT_EVERY = 1.0  # seconds between two reports of one operation's steps


class Consoles(Protocol):
    """What the agent wants of its consoles (`vps.agent.console.Consoles`)."""

    def attach(self, domu: UUID, name: str, run: UUID, domid: int) -> None: ...

    def ended(self, domu: UUID, run: UUID, detail: Mapping[str, object]) -> None: ...

    def tail(self, domu: UUID, size: int = 2048) -> str: ...

    def read(self, domu: UUID, run: UUID | None, start: int, size: int) -> tuple[int, bytes]: ...

    def forget(self, domu: UUID) -> None: ...

    def note(self, note: Note) -> None: ...

    def close(self) -> None: ...


@dataclass
class Context:
    """The parts of a running agent. `changed` asks for an inventory, `look` for a look at the domains."""

    config: Config
    journal: Journal
    clock: Clock
    outbox: Outbox
    toolstack: Toolstack
    disks: Disks
    blobs: Blobs
    consoles: Consoles
    changed: Callable[[], None] = lambda: None
    look: Callable[[], None] = lambda: None
    alarms: dict[str, str] = field(default_factory=dict)
    scans: Scans = field(default_factory=Scans)
    _seen: tuple[float, tuple[DomainRow, ...]] | None = None

    def domains(self, age: float = 0.0) -> tuple[DomainRow, ...]:
        """All domains; a look that is at most `age` seconds old will do. Raises ToolstackError."""
        seen = self._seen
        if seen is not None and time.monotonic() - seen[0] < age:
            return seen[1]
        began = time.monotonic()
        rows = self.toolstack.domains()
        self._seen = (began, rows)
        return rows

    def folder(self, domu: UUID) -> Path:
        """The domU's own folder; made when it is missing. Raises OSError."""
        path = self.config.domu_dir / str(domu)
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
        return path

    def row(self, domu: UUID) -> DomuRow:
        row = self.journal.domu(domu)
        if row is None:
            raise VerbFailed("unknown_domu", "The dom0 knows nothing of this server; prepare it first.")
        return row


class VerbFailed(Exception):
    """An operation failed. `code` for programs, `text` a sentence with the cure, `output` the dom0's own words."""

    def __init__(self, code: str, text: str, output: str = "", remains: str = "") -> None:
        super().__init__(text)
        self.code, self.text, self.output, self.remains = code, text, output, remains

    def as_dict(self) -> dict[str, str]:
        return {"code": self.code, "text": self.text, "output": self.output}


class Aborted(Exception):
    """The job is to end now: it was superseded or cancelled, or the agent stops."""


class Job:
    """One thing being done with a domU: an order's verb, or what the agent does by itself (`order` None).

    For an order that is of the dom0 alone, `domu` is the dom0's own id.
    """

    def __init__(self, context: Context, domu: UUID, order: OrderRow | None = None) -> None:
        self.context, self.domu, self.order = context, domu, order
        self.abort = threading.Event()
        self.why: Outcome | None = None  # of the abort; None: the agent stops
        self.remains = ""
        self._steps: list[dict[str, Any]] = [dict(step) for step in order.steps] if order else []
        self._began: float | None = None
        self._reported = 0.0
        self.log = logger

    @property
    def work(self) -> dict[str, str]:
        """The ids that the log carries, so that one leads from a click to xl's exit."""
        return {
            "operation": str(self.order.operation) if self.order else "",
            "request": self.order.request_id if self.order else "",
            "domu": str(self.domu) if self.order is None or self.order.domu else "",
        }

    @property
    def operation(self) -> UUID | None:
        return self.order.operation if self.order else None

    def stop(self, why: Outcome | None) -> None:
        """Ask the job to end; the first reason counts."""
        if not self.abort.is_set():
            self.why = why
            self.abort.set()

    def check(self) -> None:
        """Raises Aborted when the job is to end."""
        if self.abort.is_set():
            raise Aborted

    def wait(self, seconds: float) -> None:
        """Wait. Raises Aborted."""
        if self.abort.wait(seconds):
            raise Aborted

    def begin(self) -> None:
        """Write down that the order is being done."""
        if self.order is not None:
            self.context.journal.move_order(self.order.operation, Outcome.RUNNING)

    def settle_phase(self) -> None:
        """After a verb that did not end as it should: nothing is being done with the domU any more."""
        row = self.context.journal.domu(self.domu)
        if row is None:
            return
        if row.phase is Phase.STOPPING or (row.phase is Phase.RESTARTING and row.wanted is Wanted.STOPPED):
            self.context.journal.set_domu(self.domu, phase=Phase.IDLE)

    def step(self, name: str) -> None:
        """Begin a step: a few words for people. Raises Aborted."""
        self.check()
        self._close_step()
        self._began = time.monotonic()
        self._steps.append({"name": name, "at": self.context.clock.now_ms(), "seconds": None})
        self.log.info("%s", name)
        if self.order is None:
            return
        now = time.monotonic()
        report = now - self._reported >= _REPORT_EVERY
        with self.context.journal.transaction():
            moved = self.context.journal.move_order(
                self.order.operation, Outcome.RUNNING, step=name, steps=self._steps
            )
            if moved and report:
                self._reported = now
                report_order(self.context, self.order.operation)

    def finish(
        self,
        outcome: Outcome,
        *,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, str] | None = None,
        remains: str = "",
    ) -> None:
        """Write down and report how the order ended."""
        self._close_step()
        self.log.info("%s%s", outcome.value, f": {error['text']}" if error else "")
        if self.order is None:
            return
        with self.context.journal.transaction():
            moved = self.context.journal.move_order(
                self.order.operation,
                outcome,
                step="",
                steps=self._steps,
                error=error,
                remains=remains or self.remains,
                result=result,
            )
            if moved:
                report_order(self.context, self.order.operation)
        self.context.changed()

    def _close_step(self) -> None:
        if self._began is not None and self._steps:
            self._steps[-1]["seconds"] = round(time.monotonic() - self._began, 3)
        self._began = None


def report_order(context: Context, operation: UUID) -> None:
    """Report how far an order is, as the journal has it."""
    row = context.journal.order(operation)
    if row is None:
        return
    context.outbox.report(
        ReportKind.OPERATION,
        {
            "operation": str(row.operation),
            "domu": str(row.domu) if row.domu else None,
            "outcome": row.state.value,
            "generation": row.generation.as_list(),
            "step": row.step,
            "steps": [dict(step) for step in row.steps],
            "error": dict(row.error) if row.error else None,
            "remains": row.remains,
            "result": dict(row.result) if row.result else {},
        },
    )
