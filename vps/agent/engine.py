"""Does what the journal says is to be done: orders, and what the agent does by itself, each in its domU's lane.

What concerns the dom0 and no domU has a lane under the dom0's own id.
"""

from __future__ import annotations

import errno
import logging
import sqlite3
import threading
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from vps.agent.context import Aborted, Context, Job, VerbFailed, report_order
from vps.agent.journal import OrderRow
from vps.agent.lanes import Lanes
from vps.agent.logs import WORK
from vps.agent.run import CommandAborted
from vps.agent.toolstack import ToolstackError
from vps.agent.verbs import REMAINS, VERBS
from vps.xen.messages import Generation, Order, Outcome, Verb

logger = logging.getLogger(__name__)


class Engine:
    """Runs jobs. `start` takes up what was open when the agent ended."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lanes = Lanes(context.config.lanes)
        self._lock = threading.RLock()
        self._jobs: dict[UUID, Job] = {}
        self._stopping = False

    def start(self) -> None:
        """Take up open orders, in the order in which they came. One that was not begun in time is refused."""
        context = self._context
        for order in context.journal.open_orders():
            if order.state is Outcome.ACCEPTED and order.not_after < context.clock.now_ms():
                self._end_waiting(
                    order,
                    Outcome.REFUSED,
                    {
                        "code": "expired",
                        "text": "The dom0's agent was away until the order's time was over; order it again.",
                        "output": "",
                    },
                )
            else:
                self.take(order)

    def stop(self) -> None:
        """Begin nothing more, and ask what runs to leave off; the journal keeps it open."""
        with self._lock:
            self._stopping = True
            self._lanes.close()
            for job in self._jobs.values():
                job.stop(None)

    def idle(self) -> bool:
        with self._lock:
            return not self._jobs

    def take(self, order: OrderRow) -> None:
        """Put an order into its domU's lane; one that waits there already is not put again. Cancel at once."""
        if order.verb is Verb.CANCEL:
            self._do_cancel(order)
        else:
            self._lanes.submit(
                self._lane(order), lambda: self._run_order(order.operation), str(order.operation)
            )

    def take_open(self) -> None:
        """Put open orders that nobody works on into their lanes: their first attempt could not be written down."""
        for order in self._context.journal.open_orders():
            if order.verb is not Verb.CANCEL and not self._lanes.busy(self._lane(order)):
                self.take(order)

    def _lane(self, order: OrderRow) -> UUID:
        """The domU's, for the care of the dom0 the dom0's own; a trial's is its own."""
        return order.domu or (order.operation if order.verb is Verb.TRIAL else self._context.config.dom0)

    def attend(self, domu: UUID, what: Callable[[Job], None], key: str) -> None:
        """Have the agent do something by itself in the domU's lane; once, if the same waits already."""
        self._lanes.submit(domu, lambda: self._run_own(domu, what), key)

    def busy(self, domu: UUID) -> bool:
        return self._lanes.busy(domu)

    def supersede(self, order: OrderRow) -> None:
        """End what waits and abort what runs for the domU of `order`, which takes its place."""
        with self._lock:
            for other in self._context.journal.open_orders(order.domu):
                # A deletion that has begun to wipe goes on: what it leaves is good for nothing.
                if other.operation != order.operation and other.verb not in (Verb.CANCEL, Verb.DELETE):
                    self._end(other, Outcome.SUPERSEDED)
            job = self._jobs.get(order.domu) if order.domu else None
            if job is not None and job.order is None:
                job.stop(Outcome.SUPERSEDED)

    def cancel(self, target: UUID, order: Order | OrderRow) -> OrderRow:
        """End another operation: one that waits at once, one that runs as soon as it can be left.

        One that is not known here is remembered, so that it is not done when it comes. Gives it as it stands.
        """
        context = self._context
        with self._lock:
            other = context.journal.order(target)
            if other is not None and not other.final:
                self._end(other, Outcome.CANCELLED)
            elif other is not None:
                report_order(context, target)
            else:
                never = Order(
                    target, context.config.dom0, order.domu, Verb.CANCEL, Generation(0, 0), order.not_after
                )
                with context.journal.transaction():
                    context.journal.accept(never, Outcome.CANCELLED, context.clock.now_ms())
                    report_order(context, target)
        logger.info("operation %s is cancelled", target)
        now = context.journal.order(target)
        assert now is not None
        return now

    def _do_cancel(self, order: OrderRow) -> None:
        """A cancel order with an id of its own."""
        target = target_of(order.body)
        now = self.cancel(target, order)
        journal = self._context.journal
        with journal.transaction():
            journal.move_order(
                order.operation,
                Outcome.DONE,
                remains=now.remains,
                result={"operation": str(target), "outcome": now.state.value},
            )
            report_order(self._context, order.operation)

    def _end(self, order: OrderRow, outcome: Outcome) -> None:
        job = self._jobs.get(self._lane(order))
        if job is not None and job.operation == order.operation:
            job.stop(outcome)
        else:
            self._end_waiting(order, outcome)

    def _end_waiting(self, order: OrderRow, outcome: Outcome, error: dict[str, str] | None = None) -> None:
        journal = self._context.journal
        begun = order.state is not Outcome.ACCEPTED
        with journal.transaction():
            if journal.move_order(
                order.operation,
                outcome,
                step="",
                error=error,
                remains=REMAINS.get(order.verb, "") if begun else "Nothing was done.",
            ):
                report_order(self._context, order.operation)

    def _begin(self, lane: UUID, order: OrderRow | None) -> Job | None:
        with self._lock:
            if self._stopping:
                return None
            job = self._jobs[lane] = Job(self._context, lane, order)
            WORK.set(job.work)
            return job

    def _leave(self, lane: UUID) -> None:
        with self._lock:
            del self._jobs[lane]
        WORK.set({})

    def _run_own(self, domu: UUID, what: Callable[[Job], None]) -> None:
        job = self._begin(domu, None)
        if job is None:
            return
        try:
            what(job)
        except (Aborted, CommandAborted):
            job.log.info("left off")
        except (VerbFailed, ToolstackError, OSError) as error:
            job.log.warning("failed: %s", error)
        finally:
            self._leave(domu)

    def _run_order(self, operation: UUID) -> None:
        with self._lock:
            order = self._context.journal.order(operation)
            if order is None or order.final:
                return
            lane = self._lane(order)
            job = self._begin(lane, order)
        if job is None:
            return
        try:
            self._do(job, order)
        except sqlite3.Error:
            # It stays open, and is taken up again when the journal can be written.
            job.log.exception("the journal cannot be written")
            self._context.alarms["journal"] = "The dom0's journal cannot be written; free disk space there."
        else:
            self._context.alarms.pop("journal", None)
        finally:
            self._leave(lane)

    def _do(self, job: Job, order: OrderRow) -> None:
        try:
            job.begin()
            result = VERBS[order.verb](job)
        except (Aborted, CommandAborted):
            if job.why is None:
                job.log.info("left off, for the agent stops")
                return
            job.settle_phase()
            job.finish(job.why, remains=REMAINS.get(order.verb, ""))
        except VerbFailed as error:
            job.settle_phase()
            job.finish(Outcome.FAILED, error=error.as_dict(), remains=error.remains)
        except ToolstackError as error:
            job.settle_phase()
            job.finish(Outcome.FAILED, error={"code": error.code, "text": error.text, "output": error.output})
        except OSError as error:
            job.settle_phase()
            job.finish(Outcome.FAILED, error=_os_error(error))
        except sqlite3.Error:
            raise
        except Exception as error:
            job.log.exception("the verb failed in a way that was not foreseen")
            job.settle_phase()
            job.finish(
                Outcome.FAILED,
                error={
                    "code": "unforeseen",
                    "text": f"The dom0's agent failed: {type(error).__name__}; its log says more.",
                    "output": str(error)[:2000],
                },
            )
        else:
            job.finish(Outcome.DONE, result=result)


def target_of(body: Mapping[str, Any]) -> UUID:
    """The operation that a cancel order names. Raises ValueError."""
    try:
        return UUID(body["operation"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError("The order to cancel names no operation.") from error


def _os_error(error: OSError) -> dict[str, str]:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        text = f"The dom0's disk is full{where}; free space there."
        return {"code": "no_space", "text": text, "output": str(error)}
    text = f"The dom0 could not do it: {error.strerror or error}{where}."
    return {"code": "os_error", "text": text, "output": str(error)}
