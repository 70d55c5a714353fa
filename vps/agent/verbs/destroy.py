"""An end by force. What else was being done with the domU was aborted when the order came."""

from __future__ import annotations

from typing import Any

from vps.agent import life, preparation, tries
from vps.agent.context import Job
from vps.xen.endings import EndReason
from vps.xen.reconcile import Phase, Wanted


def destroy(job: Job) -> dict[str, Any]:
    context = job.context
    # First, so that nothing brings it back whatever happens.
    context.journal.set_domu(job.domu, wanted=Wanted.STOPPED, restart_at=None)
    settled = life.settle(job, linger=0)
    if settled.domain is not None:
        job.step("Destroying the domain")
        context.journal.set_domu(job.domu, phase=Phase.STOPPING)
        context.changed()
        life.destroy(job, settled.domain)
        life.settle(job, reason=EndReason.DESTROY)
    tries.give_up(context, job.domu, "The server was ended by an order.")
    context.journal.set_domu(
        job.domu, wanted=Wanted.STOPPED, phase=Phase.IDLE, restart_at=None, host_rebooted=False
    )
    if job.order is not None and job.order.body.get("put_away"):
        # Another server may have the name from now on; a preparation writes the configuration again.
        preparation.put_away(context, context.row(job.domu))
    return {}
