"""One boot of another entry. Done when its domain exists; whether it is well is for vps.agent.trying to see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vps.agent import tries, trying
from vps.agent.context import Aborted, Job, VerbFailed
from vps.agent.life import build, settle
from vps.agent.preparation import forget_beside, prepare, prepare_beside
from vps.agent.run import CommandAborted
from vps.agent.tries import Tried
from vps.agent.verbs.shutdown import ask
from vps.xen.reconcile import Next, NextStep
from vps.xen.trying import OWN_SIGNS, SignKind, Try

_REBUILD = Next(NextStep.REBUILD)


def try_once(job: Job) -> dict[str, Any]:
    context = job.context
    assert job.order is not None
    before = tries.of(context, job.domu)
    mine = before is not None and before.operation == job.operation and before.on
    # Also a creation that was under way when the agent was killed; an end of what this order tries is told by it.
    settle(job, instead=None if mine else _REBUILD)
    tried = tries.of(context, job.domu)
    if mine or (tried is not None and tried.operation == job.operation and tried.on):
        return _result(job)
    tries.give_up(
        context, job.domu, "Something else was tried before it had shown that it is well.", but=job.operation
    )
    tries.disarm(context, job.domu, "Something else was tried before it booted.")
    what = Try.of(job.order.body.get("try"))
    _check_signs(job, what)
    row = context.row(job.domu)
    if not prepare(job).config:  # before anything else: what one goes back to lies ready
        raise VerbFailed(
            "no_way_back", "There is nothing that the server could go back to; make this its default instead."
        )
    prepared = prepare_beside(job, replace(row.description, type=what.type, boot=what.boot))
    tried = tries.write(context, Tried(row.id, job.order.operation, what, row.generation))
    try:
        domain = settle(job, instead=_REBUILD).domain
        if domain is not None:
            ask(job, domain, reboot=False)
            settle(job, instead=_REBUILD)
    except VerbFailed:
        context.journal.set_tried(row.id, None)
        raise
    except (Aborted, CommandAborted):
        if job.why is not None:  # else the agent stops, and goes on when it starts
            context.journal.set_tried(row.id, None)
        raise
    try:
        build(job, prepared, "try")
    except VerbFailed as error:
        if error.code == "unknown":
            raise
        trying.back(job, tried, "create", error.text)
        error.remains = "The server is started again with its last good boot."
        raise
    forget_beside(context, row.id, prepared)
    return _result(job)


def _result(job: Job) -> dict[str, Any]:
    """With how it ended, should that be told already."""
    row = job.context.row(job.domu)
    order = job.context.journal.order(job.order.operation) if job.order else None
    told = dict(order.result or {}) if order else {}
    return {**told, "domid": row.domid, "run": str(row.run) if row.run else None, "boots": row.boots}


def _check_signs(job: Job, what: Try) -> None:
    """A line that no boot has shown yet would say nothing of this one."""
    row = job.context.row(job.domu)
    for sign in what.signs:
        if sign.kind is not SignKind.CONSOLE or sign.text in OWN_SIGNS[row.description.guest_os]:
            continue
        if not tries.seen_before(job.context, row.id, sign.text):
            raise VerbFailed(
                "unseen",
                f"{sign.text!a} did not stand on the console of the last boot, so that it would say nothing "
                "of this one; choose a line that a good boot shows.",
            )
