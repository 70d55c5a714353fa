"""The life of a domU's domain: finding it, building it, and settling how it ended. Runs in the domU's lane."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from vps.agent import tries
from vps.agent.children import Child
from vps.agent.context import Context, Job, VerbFailed
from vps.agent.journal import DomuRow
from vps.agent.preparation import Prepared
from vps.agent.toolstack import ToolstackError
from vps.xen.endings import Ending, EndReason
from vps.xen.messages import ReportKind
from vps.xen.reconcile import Next, NextStep, Phase, Wanted, after_end
from vps.xen.xlcfg import parse
from vps.xen.xlparse import DomainRow, DomainState

GONE = 60.0  # seconds that a domain may take to vanish after its end
LINGER = 20.0  # seconds that xl may take to clear an ended domain away before the agent does it
FRESH = 10.0  # seconds; the watch looks more often, and a look costs up to a third of one
_CREATE_LEFT = 300.0  # seconds that a create of an earlier agent may still take
_POLL = (0.2, 0.3, 0.5, 1.0)  # seconds between looks, the last one again and again

_ENDING = frozenset({DomainState.SHUTDOWN, DomainState.CRASHED, DomainState.DYING})


@dataclass(frozen=True)
class Settled:
    """How a domU stands: its living domain, or None; `next` when it was found just now that one had ended."""

    domain: DomainRow | None
    next: Next | None = None


def find(context: Context, domu: UUID, age: float = 0.0) -> DomainRow | None:
    """The domain with the domU's uuid, also an ending one. Raises VerbFailed."""
    return next((row for row in domains(context, age) if row.uuid == domu), None)


def domains(context: Context, age: float = 0.0) -> tuple[DomainRow, ...]:
    """What runs on the host, seen at most `age` seconds ago. Raises VerbFailed."""
    try:
        return context.domains(age)
    except ToolstackError as error:
        raise VerbFailed(error.code, error.text, error.output) from error


def settle(
    job: Job,
    instead: Next | None = None,
    reason: EndReason | None = None,
    linger: float = LINGER,
    attach: bool = False,
    age: float = 0.0,
) -> Settled:
    """Bring the journal to what is: an effect of unknown outcome is looked up, an end is concluded.

    `instead` is what follows an end, where an order says so; `reason` is its reason, where it is known; `linger`
    is how many seconds an ended domain is left to xl; `attach` takes the console of a running one; where nothing
    is said to run, a look of at most `age` seconds ago will do. Raises VerbFailed, Aborted.
    """
    context = job.context
    row = context.row(job.domu)
    domain = _resolve_create(job, row, age)
    if domain is not None and domain.state in _ENDING:
        domain = _let_end(job, domain, linger)
    row = context.row(job.domu)
    following: Next | None = None
    if row.run is not None and (domain is None or domain.domid != row.domid):
        following = conclude(job, row, instead, reason)
        row = context.row(job.domu)
    if domain is not None and row.run is None:
        # Ours by its uuid, and nothing is written of it: the journal was lost, or a person started it.
        job.log.warning("found domain %s, of which nothing is written", domain.domid)
        size = {"memory_mib": domain.memory_mib, "vcpus": domain.vcpus}
        name = domain.name or row.description.name
        _built(job, row, uuid4(), domain.domid, name, "start", size=size)
        following = None
        _finish_start(job, domain)
    elif domain is not None and row.phase is Phase.STARTING:
        _finish_start(job, domain)
    elif domain is not None and attach:
        _attach(job, row)
    if domain is not None and row.host_rebooted:
        context.journal.set_domu(row.id, host_rebooted=False)
    return Settled(domain, following)


def build(job: Job, prepared: Prepared, why: str) -> DomuRow:
    """Build the domain of a domU that has none; `why` is start, reboot, crash, autostart, back or try.

    Raises VerbFailed, Aborted. When it raises, no domain is left, but for the code "unknown": then the intent
    stays open, and the outcome is looked up as soon as xl answers again.
    """
    context = job.context
    row = context.row(job.domu)
    if not prepared.config:
        raise VerbFailed("nothing_to_boot", "There is nothing to boot; choose a kernel for this server.")
    config_path = Path(prepared.config_path)
    _wait_for_name(job, config_path.name)
    job.step("Creating the domain")
    run = uuid4()
    child = Child(context.config.domu_dir, row.id)
    with context.journal.transaction():
        intent = context.journal.intend(
            row.id,
            "create",
            {
                "run": run,
                "config": config_path,
                "serial": prepared.menu_serial,
                "why": why,
                "size": _size(prepared.config),
            },
            job.operation,
        )
        context.journal.set_domu(row.id, phase=Phase.STARTING, restart_at=None)
    context.changed()
    try:
        child.begin()
        context.toolstack.create(config_path, child.started)
    except ToolstackError as error:
        if not _clear_half_made(job):
            raise _unknown(error) from error
        context.journal.resolve(intent, f"failed: {error.text}")
        child.ended()
        context.journal.set_domu(row.id, phase=Phase.IDLE)
        raise VerbFailed(error.code, error.text, error.output) from error
    try:
        domain = find(context, row.id)
    except VerbFailed as error:
        raise _unknown(error) from error
    if domain is None:
        # It was built and has vanished before it ran: as good as a failure.
        context.journal.resolve(intent, "vanished")
        child.ended()
        context.journal.set_domu(row.id, phase=Phase.IDLE)
        raise VerbFailed("vanished", "The domain was created and was gone before it could run; see xl's log.")
    _built(
        job,
        row,
        run,
        domain.domid,
        config_path.name,
        why,
        intent,
        prepared.menu_serial,
        _size(prepared.config),
    )
    child.ended()
    _finish_start(job, domain)
    return context.row(row.id)


def conclude(job: Job, row: DomuRow, instead: Next | None = None, reason: EndReason | None = None) -> Next:
    """Write down and report that the domain of `row.run` has ended, and decide what follows."""
    context = job.context
    assert row.run is not None
    ending = context.toolstack.ending(row.run_name, row.domid or 0) or Ending(EndReason.UNKNOWN)
    if reason is not None:
        ending = Ending(reason, ending.code)
    now = time.time()
    crashes, reboots, why = row.crash_times[-50:], row.reboot_times[-50:], "crash"
    tried = tries.of(context, row.id)
    tried = tried if tried is not None and tried.run == row.run else None
    if row.host_rebooted:
        # Its end was the dom0's; also a power-off in the log, for that is how a dom0 goes down.
        ending = Ending(EndReason.UNKNOWN)
        again = row.wanted is Wanted.RUNNING and row.description.autostart
        following = instead or Next(NextStep.RESTART if again else NextStep.STOPPED)
        why = "autostart"
    elif tried is not None and _goes_back(tried, row, ending, instead):
        following, why = Next(NextStep.REBUILD), "back"
    else:
        following = instead or after_end(
            ending.reason, row.wanted, crashes, row.description.crash_limit, now, reboots
        )
        if ending.reason is EndReason.REBOOT:
            reboots, why = (*reboots, now), "reboot"
        elif ending.reason in (EndReason.CRASH, EndReason.UNKNOWN) and row.wanted is Wanted.RUNNING:
            crashes = (*crashes, now)
    phase = {NextStep.STOPPED: Phase.IDLE, NextStep.LIMIT: Phase.LIMIT}.get(following.step, Phase.RESTARTING)
    restarts = following.step in (NextStep.REBUILD, NextStep.RESTART)
    told = {
        "reason": ending.reason.value,
        "code": ending.code,
        "next": following.step.value,
        "restart_in": following.seconds if restarts else None,
    }
    context.consoles.ended(row.id, row.run, told)  # which also takes in the guest's last words
    tail = context.consoles.tail(row.id)
    with context.journal.transaction():
        context.journal.set_domu(
            row.id,
            run=None,
            domid=None,
            phase=phase,
            wanted=Wanted.STOPPED if following.step is NextStep.STOPPED else row.wanted,
            crash_times=crashes,
            reboot_times=reboots,
            restart_at=now + following.seconds if restarts else None,
            restart_why=why if restarts else "",
            host_rebooted=False,
        )
        context.outbox.report(
            ReportKind.ENDED,
            {
                "domu": str(row.id),
                "run": str(row.run),
                **told,
                "tail": tail,
                "generation": row.generation.as_list(),
            },
        )
        if tried is not None:
            tries.end_of_run(context, tried, ending.reason, back=why == "back", host=row.host_rebooted)
    job.log.info("domain %s ended: %s, next: %s", row.domid, ending.reason, following.step)
    context.changed()
    return following


def _goes_back(tried: tries.Tried, row: DomuRow, ending: Ending, instead: Next | None) -> bool:
    """Whether the last good boot follows a domain that was tried; a person's hand on the dom0 stops it, as ever."""
    if instead is not None or row.wanted is not Wanted.RUNNING:
        return False
    return tried.state is tries.State.FAILING or ending.reason is not EndReason.DESTROY


def await_gone(job: Job, seconds: float = GONE) -> bool:
    """Wait until no domain has the domU's uuid; False when one still is there. Raises VerbFailed, Aborted."""
    deadline = time.monotonic() + seconds
    looks = 0
    while find(job.context, job.domu) is not None:
        if time.monotonic() >= deadline:
            return False
        job.wait(_POLL[min(looks, len(_POLL) - 1)])
        looks += 1
    return True


def destroy(job: Job, domain: DomainRow) -> None:
    """Destroy the domain and wait until it is gone. Raises VerbFailed, Aborted."""
    try:
        job.context.toolstack.destroy(domain.domid)
    except ToolstackError as error:
        # It may have ended by itself in between; what counts is whether it is there.
        if error.code != "no_domain" and find(job.context, job.domu) is not None:
            raise VerbFailed(error.code, error.text, error.output) from error
    if not await_gone(job):
        raise VerbFailed(
            "not_gone",
            f"The domain {domain.domid} was destroyed and is still there after {GONE:.0f} s; see the dom0.",
        )


def _resolve_create(job: Job, row: DomuRow, age: float) -> DomainRow | None:
    """The domain as it is; an open `create` of an agent that was killed is resolved by looking."""
    context = job.context
    intents = context.journal.open_intents(row.id, "create")
    if not intents:
        return find(context, row.id, 0.0 if row.run or row.host_rebooted else age)
    child = Child(context.config.domu_dir, row.id)
    deadline = time.monotonic() + _CREATE_LEFT
    intent = intents[-1]
    if child.at_work(str(intent.detail["config"])):
        job.step("Waiting for the creation that was under way")
    while child.at_work(str(intent.detail["config"])) and time.monotonic() < deadline:
        job.wait(0.2)
    domain = find(context, row.id)
    if domain is None:
        job.log.info("the creation that was under way made no domain")
        context.journal.resolve(intent.id, "looked: not there")
        context.journal.set_domu(row.id, phase=Phase.IDLE)
    else:
        job.log.info("the creation that was under way made domain %s", domain.domid)
        detail = intent.detail
        _built(
            job,
            row,
            UUID(str(detail["run"])),
            domain.domid,
            Path(str(detail["config"])).name,
            str(detail["why"]),
            intent.id,
            int(detail["serial"]),
            detail.get("size"),
        )
    for other in intents[:-1]:
        context.journal.resolve(other.id, "replaced")
    child.ended()
    return domain


def _built(
    job: Job,
    row: DomuRow,
    run: UUID,
    domid: int,
    name: str,
    why: str,
    intent: int | None = None,
    serial: int | None = None,
    size: Mapping[str, int] | None = None,
) -> None:
    """Write down that there is a new domain, and tell the web. The guest has not begun yet."""
    context = job.context
    boot = row.description.boot
    serial = boot.serial if serial is None else serial
    entry = boot.default_entry if serial == boot.serial else None
    tried = tries.of(context, row.id) if why == "try" else None
    if tried is not None:
        boot = tried.what.boot
        serial, entry = boot.serial, boot.default_entry
    with context.journal.transaction():
        if intent is not None:
            context.journal.resolve(intent, f"created: domain {domid}")
        context.journal.set_domu(
            row.id,
            run=run,
            run_name=name,
            run_serial=serial,
            domid=domid,
            boots=row.boots + 1,
            wanted=Wanted.RUNNING,
            phase=Phase.STARTING,
            restart_at=None,
        )
        context.outbox.report(
            ReportKind.BOOTED,
            {
                "domu": str(row.id),
                "run": str(run),
                "domid": domid,
                "boots": row.boots + 1,
                "menu_serial": serial,
                "entry": entry.title if entry else "",
                "label": entry.label if entry else "",
                "why": why,
                **(size or {}),
            },
        )
        if tried is not None:
            tries.built(context, tried, run)
    job.log.info("domain %s is built, boot %s", domid, row.boots + 1)


def _size(config: str) -> dict[str, int]:
    """What a configuration gives to its domain; it may be older than the description."""
    values = parse(config)
    return {"memory_mib": int(str(values["memory"])), "vcpus": int(str(values["vcpus"]))}


def _finish_start(job: Job, domain: DomainRow) -> None:
    """Have the console's first byte, then let the guest run."""
    context = job.context
    row = context.row(job.domu)
    _attach(job, row)
    if domain.state is DomainState.PAUSED:
        try:
            context.toolstack.unpause(domain.domid)
        except ToolstackError as error:
            if error.code != "no_domain":
                raise VerbFailed(error.code, error.text, error.output) from error
    context.journal.set_domu(row.id, phase=Phase.IDLE)
    context.changed()
    context.look()


def _attach(job: Job, row: DomuRow) -> None:
    if row.run is None or row.domid is None:
        return
    try:
        job.context.consoles.attach(row.id, row.run_name, row.run, row.domid)
        job.context.alarms.pop(f"console:{row.id}", None)
    except Exception as error:
        # A server without a console is better than none.
        job.log.exception("the console of domain %s cannot be attached", row.domid)
        job.context.alarms[f"console:{row.id}"] = f"The console of {row.run_name} cannot be attached: {error}"


def _let_end(job: Job, domain: DomainRow, linger: float) -> DomainRow | None:
    """Wait until xl has cleared an ended domain away; else the agent does it."""
    if await_gone(job, linger):
        return None
    domain_now = find(job.context, job.domu)
    if domain_now is None or domain_now.state not in _ENDING:
        return domain_now
    job.log.warning("domain %s has ended and is not cleared away; destroying it", domain.domid)
    destroy(job, domain_now)
    return None


def _wait_for_name(job: Job, name: str) -> None:
    """Wait until the name is free: a domain that ends keeps it for some seconds."""
    deadline = time.monotonic() + LINGER
    looks = 0
    while True:
        rows = domains(job.context, 0.0 if looks else FRESH)
        other = next((row for row in rows if name == row.name or row.uuid == job.domu), None)
        if other is None:
            return
        if time.monotonic() >= deadline:
            raise VerbFailed(
                "name_taken",
                f"The dom0 runs a domain {other.domid} named {name} that is not this server; "
                "end it or rename the server.",
            )
        job.wait(_POLL[min(looks, len(_POLL) - 1)])
        looks += 1


def _clear_half_made(job: Job) -> bool:
    """After a failed create nothing may be left. False when xl does not let one know."""
    try:
        domain = find(job.context, job.domu)
        if domain is not None:
            job.context.toolstack.destroy(domain.domid)
            return await_gone(job)
    except (ToolstackError, VerbFailed) as error:
        job.log.warning("could not look for a half-made domain: %s", error)
        return False
    return True


def _unknown(error: ToolstackError | VerbFailed) -> VerbFailed:
    return VerbFailed(
        "unknown",
        f"Whether the domain was created is not known, for xl did not answer: {error.text} "
        "The dom0 looks again, and tells what it finds.",
        error.output,
    )
