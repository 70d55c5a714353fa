"""After a boot of the dom0: the domUs that are wanted come back, once each.

What marks a boot is written into the journal, and each domU is marked with it, so that an agent that is killed
in the middle goes on with those that are left.
"""

from __future__ import annotations

import logging
import time

from vps.agent.context import Context, Job
from vps.agent.journal import DomuRow
from vps.agent.run import CommandMissing, CommandTimeout, run
from vps.xen.reconcile import Phase, Wanted

logger = logging.getLogger(__name__)


def boot_of(context: Context) -> str:
    """What tells this boot of the dom0 from others; "" where the system does not say."""
    try:
        return context.config.boot_id.read_text().strip()
    except OSError:
        pass
    try:
        return run(["sysctl", "-n", "kern.boottime"], timeout=10).stdout.decode(errors="replace").strip()
    except (CommandMissing, CommandTimeout):
        return ""


def mark_boot(context: Context) -> bool:
    """See whether the dom0 was booted since the agent looked last, and mark the domUs if so."""
    journal = context.journal
    boot, known = boot_of(context), journal.meta("boot")
    if boot == known:
        return False
    with journal.transaction():
        journal.set_meta("boot", boot)
        if known is None:
            return False
        for row in journal.domus():
            journal.set_domu(row.id, host_rebooted=True)
    logger.info("the dom0 was booted since; the domUs that are wanted are started")
    return True


def wake(job: Job) -> DomuRow:
    """For a domU without a domain, whose end is settled: have it started if the dom0 was booted since."""
    context = job.context
    row = context.row(job.domu)
    if row.host_rebooted:
        again = row.wanted is Wanted.RUNNING and row.description.autostart
        context.journal.set_domu(
            row.id,
            host_rebooted=False,
            wanted=Wanted.RUNNING if again else Wanted.STOPPED,
            phase=Phase.RESTARTING if again else Phase.IDLE,
            restart_at=time.time() if again else None,
            restart_why="autostart",
            crash_times=(),
            reboot_times=(),
        )
        row = context.row(job.domu)
    return row
