"""A domain that is tried, from its first sign of health to the last good boot: in its domU's lane, by itself."""

from __future__ import annotations

import time
from dataclasses import replace

from vps.agent import life, tries
from vps.agent.context import Context, Job, VerbFailed
from vps.agent.journal import DomuRow
from vps.agent.preparation import prepare
from vps.agent.toolstack import ToolstackError
from vps.agent.tries import State, Tried, Verdict
from vps.xen.reconcile import Phase, Wanted
from vps.xen.trying import TryOutcome
from vps.xen.xlparse import DomainRow, DomainState

LISTEN = 20.0  # seconds that a guest has to shut down before it is destroyed


def concerns(context: Context, row: DomuRow) -> bool:
    """Whether something is to be done about a try. Called on the watch's thread."""
    tried = tries.of(context, row.id)
    if tried is None or tried.state is State.ARMED:
        return False
    if tried.state is State.WAITING:
        return tries.judge(context, tried, row.domid) is not None
    return tried.state is State.FAILING or _is_left(context, tried)


def attend(job: Job, domain: DomainRow | None) -> DomainRow | None:
    """Do what is to be done about a try; gives the domain that is left. Raises VerbFailed, Aborted, OSError."""
    context = job.context
    tried = tries.of(context, job.domu)
    if tried is None or tried.state is State.ARMED:
        return domain
    if tried.state is State.BUILDING:
        if domain is None and _is_left(context, tried):
            back(job, tried, "create", "Its domain could not be built.")
        return domain
    if domain is None:
        return None
    if tried.state is State.WAITING:
        verdict = tries.judge(context, tried, domain.domid)
        if verdict is None:
            return domain
        if verdict.well:
            _is_well(job, tried, verdict)
            return domain
        tried = tries.write(context, tried, state=State.FAILING, why=verdict.why, text=verdict.text)
        job.log.warning("what is tried came to nothing: %s", verdict.text)
    _take_back(job, domain, tried.why != "panic")
    return None


def back(job: Job, tried: Tried, why: str, text: str) -> None:
    """It never ran: have the last good boot built."""
    context = job.context
    with context.journal.transaction():
        tries.end(context, tried, TryOutcome.BACK, why, text)
        context.journal.set_domu(
            job.domu,
            wanted=Wanted.RUNNING,
            phase=Phase.RESTARTING,
            restart_at=time.time(),
            restart_why="back",
        )
    context.look()


def _is_left(context: Context, tried: Tried) -> bool:
    """Whether nobody works on a try whose domain was not built: its order has ended, and no creation is open."""
    order = context.journal.order(tried.operation)
    return (order is None or order.final) and not context.journal.open_intents(tried.domu, "create")


def _is_well(job: Job, tried: Tried, verdict: Verdict) -> None:
    context = job.context
    with context.journal.transaction():
        row = context.row(job.domu)
        # A menu that was saved meanwhile is newer than the wish to keep this one.
        keep = tried.what.keep and row.generation == tried.generation
        if keep:
            kept = replace(row.description, type=tried.what.type, boot=tried.what.boot)
            context.journal.describe(kept, row.generation)
        tries.end(context, tried, TryOutcome.HEALTHY, verdict.why, verdict.text, default=keep)
    job.log.info("what is tried is well: %s", verdict.text)
    context.changed()
    if not keep:
        return
    try:
        prepare(job)
        context.alarms.pop(f"kept:{row.id}", None)
    except (VerbFailed, OSError) as error:
        # The next start makes it ready again, or takes what was ready before.
        context.alarms[f"kept:{row.id}"] = (
            f"{row.description.name} runs what was tried, not ready yet: {error}"
        )
        raise


def _take_back(job: Job, domain: DomainRow, listens: bool) -> None:
    """End the domain, cleanly where the guest listens; what was ready before is built next."""
    context = job.context
    context.journal.set_domu(job.domu, phase=Phase.STOPPING)
    context.changed()
    if not (listens and domain.state is not DomainState.PAUSED and _shut_down(job, domain)):
        life.destroy(job, domain)
    life.settle(job, linger=0)


def _shut_down(job: Job, domain: DomainRow) -> bool:
    began = time.monotonic()
    try:
        job.context.toolstack.shutdown(domain.domid, job.abort, LISTEN)
    except ToolstackError as error:
        job.log.info("it does not shut down: %s", error)
        return False
    return life.await_gone(job, max(1.0, LISTEN - (time.monotonic() - began)))
