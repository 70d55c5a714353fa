"""Hold a domain, and let it go on."""

from __future__ import annotations

from typing import Any

from vps.agent.context import Job, VerbFailed
from vps.agent.life import find, settle
from vps.agent.toolstack import ToolstackError
from vps.xen.xlparse import DomainState

_LOOKS = 20
_PAUSE = 0.3  # seconds between looks


def pause(job: Job) -> dict[str, Any]:
    return _turn(job, DomainState.PAUSED)


def unpause(job: Job) -> dict[str, Any]:
    return _turn(job, DomainState.RUNNING)


def _turn(job: Job, state: DomainState) -> dict[str, Any]:
    context = job.context
    domain = settle(job).domain
    if domain is None:
        raise VerbFailed("not_running", "The server does not run; start it first.")
    if domain.state is not state:
        job.step("Pausing the domain" if state is DomainState.PAUSED else "Unpausing the domain")
        try:
            verb = context.toolstack.pause if state is DomainState.PAUSED else context.toolstack.unpause
            verb(domain.domid)
        except ToolstackError as error:
            raise VerbFailed(error.code, error.text, error.output) from error
        for _ in range(_LOOKS):
            seen = find(context, job.domu)
            if seen is None:
                raise VerbFailed("not_running", "The server ended while it was being paused or unpaused.")
            if seen.state is state:
                break
            job.wait(_PAUSE)
        else:
            raise VerbFailed("not_seen", f"The domain is not {state.value} though xl said so; see the dom0.")
    context.changed()
    return {"domid": domain.domid}
