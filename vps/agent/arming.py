"""What was armed for the next boot only: whatever builds the domain next takes it, once, and the default follows.

It is a try of the kind `once` that waits in the journal, so that it holds for a guest's own reboot and with the web
away. It is made ready when it is taken, from the description of then; one that cannot be made ready is given up, and
the usual boot is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from vps.agent import tries
from vps.agent.context import Job, VerbFailed
from vps.agent.life import build
from vps.agent.preparation import Prepared, forget_beside, prepare_beside
from vps.agent.tries import State, Tried
from vps.xen.trying import TryOutcome


@dataclass(frozen=True)
class Ready:
    """What the domain will be built from; `armed` when it is not the usual."""

    prepared: Prepared
    armed: Tried | None = None


def ready(job: Job, usual: Callable[[Job], Prepared]) -> Ready:
    """Make ready what is armed, else the usual. Raises VerbFailed, Aborted, OSError."""
    context = job.context
    tried = tries.of(context, job.domu)
    if tried is None or tried.state is not State.ARMED:
        return Ready(usual(job))
    row = context.row(job.domu)
    try:
        beside = prepare_beside(job, replace(row.description, type=tried.what.type, boot=tried.what.boot))
    except (VerbFailed, OSError) as error:
        job.log.warning("what was armed for this boot cannot be made ready: %s", error)
        tries.end(context, tried, TryOutcome.BACK, "create", f"It could not be made ready: {error}")
        return Ready(usual(job))
    return Ready(beside, tried)


def build_ready(job: Job, what: Ready, why: str) -> None:
    """Build the domain; what was armed is booted with this, whatever comes of it. Raises VerbFailed, Aborted."""
    if what.armed is not None:
        # From here on an agent that is killed goes back to the usual boot.
        tries.write(job.context, what.armed, state=State.BUILDING)
        why = "try"
    build(job, what.prepared, why)
    # What was tried before has no domain any more.
    forget_beside(job.context, job.domu, what.prepared)
