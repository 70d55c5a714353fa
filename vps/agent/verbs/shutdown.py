"""A clean end: the guest is asked, and has a minute."""

from __future__ import annotations

import time
from typing import Any

from vps.agent import tries
from vps.agent.context import Job, VerbFailed
from vps.agent.life import GONE, await_gone, settle
from vps.agent.toolstack import ToolstackError
from vps.xen.reconcile import Next, NextStep, Phase, Wanted
from vps.xen.xlparse import DomainRow, DomainState

STOPPED = Next(NextStep.STOPPED)


def shutdown(job: Job) -> dict[str, Any]:
    context = job.context
    domain = settle(job, instead=STOPPED).domain
    if domain is not None:
        ask(job, domain, reboot=False)
        settle(job, instead=STOPPED)
    tries.give_up(context, job.domu, "The server was ended by an order.")
    context.journal.set_domu(job.domu, wanted=Wanted.STOPPED, phase=Phase.IDLE, restart_at=None)
    return {}


def ask(job: Job, domain: DomainRow, *, reboot: bool) -> None:
    """Ask the guest to end and wait until its domain is gone.

    Raises VerbFailed when it does not react: then it still runs. Raises Aborted, CommandAborted.
    """
    context = job.context
    if domain.state is DomainState.PAUSED:
        raise VerbFailed(
            "paused", "The guest is paused, so that it cannot shut down; unpause it first, or destroy it."
        )
    began = time.monotonic()
    job.step("Asking the guest to reboot" if reboot else "Asking the guest to shut down")
    context.journal.set_domu(job.domu, phase=Phase.STOPPING)
    context.changed()
    try:
        verb = context.toolstack.reboot if reboot else context.toolstack.shutdown
        verb(domain.domid, job.abort)
    except ToolstackError as error:
        if error.code != "no_domain":
            raise VerbFailed(error.code, error.text, error.output, "The guest still runs.") from error
    job.step("Waiting until the domain is gone")
    if not await_gone(job, max(1.0, GONE - (time.monotonic() - began))):
        raise VerbFailed(
            "deaf",
            f"The guest did not shut down within {GONE:.0f} s; shut it down on its console, or destroy it.",
            remains="The guest still runs; it was asked to shut down and may still do so.",
        )
