"""A clean reboot: the guest is asked, and its domain is built anew from the current description."""

from __future__ import annotations

from typing import Any

from vps.agent.arming import build_ready, ready
from vps.agent.context import Job
from vps.agent.life import settle
from vps.agent.preparation import prepare
from vps.agent.verbs.shutdown import ask
from vps.xen.reconcile import Next, NextStep

_REBUILD = Next(NextStep.REBUILD)


def reboot(job: Job) -> dict[str, Any]:
    context = job.context
    journal = context.journal
    domain = settle(job, instead=_REBUILD).domain
    run = str(context.row(job.domu).run)
    # Which run is to end is written down: after a crash of the agent one sees whether it has.
    mine = [
        intent for intent in journal.open_intents(job.domu, "reboot") if intent.operation == job.operation
    ]
    intent = mine[0].id if mine else journal.intend(job.domu, "reboot", {"run": run}, job.operation)
    old = str(mine[0].detail["run"]) if mine else run
    prepared = ready(job, prepare)  # before the guest is asked: what cannot be built anew is left running
    if domain is not None and run == old:
        ask(job, domain, reboot=True)
        domain = settle(job, instead=_REBUILD).domain
    if domain is None:
        build_ready(job, prepared, "reboot")
    journal.resolve(intent, "rebooted")
    row = context.row(job.domu)
    return {"domid": row.domid, "run": str(row.run), "boots": row.boots}
