"""What follows from what is wanted and what is seen: pure decisions, for the web and for the agent.

The web keeps `Seen` for each domU and computes the word that pages show. The agent asks `after_end` what to
do when a domain is gone. Times are milliseconds of Redis TIME on the web, seconds of any one clock at the
agent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from vps.xen.endings import EndReason
from vps.xen.messages import Verb


class Wanted(StrEnum):
    """What the owner wants of a domU."""

    RUNNING = "running"
    STOPPED = "stopped"


class Phase(StrEnum):
    """What the agent is doing with a domU by itself (inventory, `phase`)."""

    IDLE = "idle"
    STARTING = "starting"
    STOPPING = "stopping"
    RESTARTING = "restarting"
    LIMIT = "limit"
    TRYING = "trying"  # told only: it runs what is tried once, and waits for a sign of health


class Observed(StrEnum):
    """What a dom0 sees of a domU: the state of its domain, or that there is none."""

    RUNNING = "running"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"
    DYING = "dying"
    UNKNOWN = "unknown"
    GONE = "gone"


class Status(StrEnum):
    """The word that pages show."""

    RUNNING = "running"
    STARTING = "starting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    PAUSED = "paused"
    CRASHED = "crashed"
    REBOOTING = "rebooting"
    DELETING = "deleting"
    NOT_HEARD = "not_heard"
    WAITING = "waiting"
    PROVISIONING = "provisioning"
    UNFINISHED = "unfinished"
    GONE_WRONG = "gone_wrong"
    UNKNOWN = "unknown"
    TRYING = "trying"


@dataclass(frozen=True)
class Seen:
    """What the web keeps of its dom0's observations of a domU.

    `state` as it was seen at `at`; `absent_at` is the time of the one inventory that did not name the
    domain any more, None when the last one did. Until a second one agrees, the domain does not count as
    gone.
    """

    state: Observed
    at: int
    absent_at: int | None = None


@dataclass(frozen=True)
class Look:
    """One inventory, as far as it concerns one domU: `state` None when it names no such domain."""

    at: int
    state: Observed | None
    xen: bool = True


def observe(before: Seen | None, look: Look) -> Seen | None:
    """What to keep after an inventory.

    A dom0 that runs without Xen tells nothing about its domains. An inventory that came late changes
    nothing, and the same one again does not count as a second. Where nothing was ever seen, none is needed
    to say that nothing is there.
    """
    if not look.xen:
        return before
    if before is None:
        return Seen(look.state or Observed.GONE, look.at)
    if look.at <= max(before.at, before.absent_at or 0):
        return before
    if look.state is not None:
        return Seen(look.state, look.at)
    if before.state is Observed.GONE or before.absent_at is not None:
        return Seen(Observed.GONE, look.at)
    return replace(before, absent_at=look.at)


def observe_end(before: Seen | None, at: int) -> Seen:
    """What to keep after the report that a domain ended or was destroyed: that is certain at once."""
    if before is not None and before.at > at:
        return before
    return Seen(Observed.GONE, at)


_IN_HAND: dict[Verb, Status] = {
    Verb.START: Status.STARTING,
    Verb.SHUTDOWN: Status.STOPPING,
    Verb.DESTROY: Status.STOPPING,
    Verb.REBOOT: Status.REBOOTING,
    Verb.TRY: Status.STARTING,
    Verb.DELETE: Status.DELETING,
}

_PHASES: dict[Phase, Status] = {
    Phase.STARTING: Status.STARTING,
    Phase.STOPPING: Status.STOPPING,
    Phase.RESTARTING: Status.REBOOTING,
    Phase.TRYING: Status.TRYING,
}

_STATES: dict[Observed, Status] = {
    Observed.RUNNING: Status.RUNNING,
    Observed.PAUSED: Status.PAUSED,
    Observed.SHUTDOWN: Status.STOPPING,
    Observed.CRASHED: Status.CRASHED,
    Observed.DYING: Status.STOPPING,
    Observed.UNKNOWN: Status.UNKNOWN,
}


def status_word(
    *,
    wanted: Wanted,
    seen: Seen | None,
    heard: bool,
    operation: Verb | None = None,
    phase: Phase = Phase.IDLE,
    xen: bool = True,
    placed: bool = True,
    prepared: bool = True,
) -> Status:
    """The word for a domU.

    `heard`: its dom0 was heard lately; `operation`: the verb of its open operation; `xen`: its dom0 runs
    Xen; `placed`: it was approved and has a dom0; `prepared`: its first prepare is done.
    """
    if not placed:
        return Status.WAITING
    if not heard:
        return Status.NOT_HEARD
    if operation in _IN_HAND:
        return _IN_HAND[operation]
    if not xen:
        return Status.UNKNOWN
    if phase in _PHASES:
        return _PHASES[phase]
    if seen is not None and seen.state is not Observed.GONE:
        return _STATES[seen.state]
    if phase is Phase.LIMIT:
        return Status.CRASHED
    if not prepared:
        return Status.PROVISIONING if operation is Verb.PREPARE else Status.UNFINISHED
    if wanted is Wanted.STOPPED:
        return Status.STOPPED
    return Status.GONE_WRONG if seen is not None else Status.UNKNOWN


class NextStep(StrEnum):
    """What the agent does after a domain ended (report `ended`, `next`)."""

    STOPPED = "stopped"
    REBUILD = "rebuild"
    RESTART = "restart"
    LIMIT = "limit"


@dataclass(frozen=True)
class Next:
    """`step`, and for rebuild and restart after how many `seconds`."""

    step: NextStep
    seconds: int = 0


CRASH_WINDOW = (
    3600  # seconds; older crashes are forgiven. Longer than all pauses of the usual limit of 5 together
)
CRASH_PAUSES = (1, 5, 30, 120, 600)  # seconds before the first, second ... restart
HASTY_REBOOTS = 5  # so many reboots in HASTY_WINDOW seconds are let through at once, then they get pauses too
HASTY_WINDOW = 120


def after_end(
    reason: EndReason,
    wanted: Wanted,
    crash_times: Iterable[float],
    limit: int,
    now: float,
    reboot_times: Iterable[float] = (),
) -> Next:
    """What to do now that the domain is gone.

    `crash_times` are the ends by crash before this one, `reboot_times` its reboots before this one; seconds
    of the clock that `now` is of. `limit` is how many restarts within CRASH_WINDOW are allowed. A power-off
    ends it (the agent sets wanted = stopped); so does a destroy from outside, for that was a person's hand
    on the dom0. An end of which nothing is known counts as a crash: the owner wants the server to run.
    """
    if wanted is Wanted.STOPPED or reason in (EndReason.POWEROFF, EndReason.DESTROY):
        return Next(NextStep.STOPPED)
    if reason is EndReason.REBOOT:
        # A guest that reboots in a loop (Linux with panic=1) needs a brake as well.
        hasty = _recent(reboot_times, HASTY_WINDOW, now) - HASTY_REBOOTS
        return Next(NextStep.REBUILD, _pause(hasty) if hasty >= 0 else 0)
    crashes = _recent(crash_times, CRASH_WINDOW, now)
    if crashes >= limit:
        return Next(NextStep.LIMIT)
    return Next(NextStep.RESTART, _pause(crashes))


def _recent(times: Iterable[float], window: float, now: float) -> int:
    # A time that lies ahead (the clock was set back) is counted: better a pause too long than none.
    return sum(1 for time in times if now - time < window)


def _pause(count: int) -> int:
    return CRASH_PAUSES[min(count, len(CRASH_PAUSES) - 1)]
