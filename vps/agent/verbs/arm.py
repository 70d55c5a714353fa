"""Have the next boot be another entry's, and no boot after it; or take that back. Nothing that runs changes."""

from __future__ import annotations

from typing import Any

from vps.agent import tries
from vps.agent.context import Job, VerbFailed
from vps.agent.preparation import fetch, forget_blobs, prepare
from vps.agent.tries import State, Tried
from vps.xen.trying import Try


def arm(job: Job) -> dict[str, Any]:
    context = job.context
    assert job.order is not None
    asked = job.order.body.get("try")
    before = tries.of(context, job.domu)
    if before is not None and before.state is not State.ARMED:
        raise VerbFailed("trying", "Something is being tried; arm the next boot when that has ended.")
    if before is not None and before.operation == job.operation:
        return {"armed": True}
    if asked is None:
        tries.disarm(context, job.domu, "It was taken back before it booted.")
        return {"armed": False}
    what = Try.of(asked)
    if not prepare(job).config:  # what follows that boot
        raise VerbFailed(
            "no_way_back", "There is nothing that the boot after it could be; make this its default instead."
        )
    fetch(job, what.boot)  # now, for the web may be away when it boots
    tries.disarm(context, job.domu, "Another entry was armed for the next boot.")
    tries.write(
        context, Tried(job.domu, job.order.operation, what, context.row(job.domu).generation, State.ARMED)
    )
    forget_blobs(context)
    return {"armed": True}
