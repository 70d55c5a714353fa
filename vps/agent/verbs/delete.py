"""Leave nothing of a domU: domain, disks, copies, configuration, records."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from vps.agent import preparation
from vps.agent.context import Job
from vps.agent.verbs.destroy import destroy


def delete(job: Job) -> dict[str, Any]:
    context = job.context
    destroy(job)
    row = context.row(job.domu)
    disks = sorted({*row.disks, *(str(disk.id) for disk in row.description.disks)})
    wiped: dict[str, str] = {}
    if disks:
        job.step("Wiping disks")
    for disk in disks:
        wiped[disk] = context.disks.wipe(UUID(disk), job.check)
    job.step("Removing files")
    preparation.remove_all(context, row)
    context.consoles.forget(job.domu)
    # The row stays, so that an order from before is known to be older.
    context.journal.set_domu(job.domu, deleted=True, prepared=None, disks={})
    preparation.forget_blobs(context)
    return {"wiped": wiped}
