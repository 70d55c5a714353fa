"""Have the domain exist, and want it to."""

from __future__ import annotations

from typing import Any

from vps.agent.arming import build_ready, ready
from vps.agent.context import Job
from vps.agent.life import FRESH, settle
from vps.agent.preparation import prepare
from vps.xen.reconcile import Next, NextStep, Wanted


def start(job: Job) -> dict[str, Any]:
    context = job.context
    settled = settle(job, instead=Next(NextStep.REBUILD), age=FRESH)
    # A person's start forgives what was before.
    context.journal.set_domu(job.domu, crash_times=(), reboot_times=(), host_rebooted=False)
    if settled.domain is None:
        build_ready(job, ready(job, prepare), "start")
    else:
        context.journal.set_domu(job.domu, wanted=Wanted.RUNNING)
    row = context.row(job.domu)
    return {"domid": row.domid, "run": str(row.run), "boots": row.boots}
