"""Trial boots: a kernel in a throw-away domain of its own, its words taken down and judged (docs/design.md, "Trials").

Nothing of a trial outlives it: domain, files and record are removed at its end; after the agent's own death by the
next one, which then begins the trial anew while its order is open. An intent in the journal says what may be left.
"""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from vps.agent import bootdisk
from vps.agent.blobs import BlobError
from vps.agent.children import Child
from vps.agent.context import Context, Job, VerbFailed
from vps.agent.files import copy_durably, remove_tree, write_durably
from vps.agent.preparation import forget_blobs
from vps.agent.toolstack import ToolstackError
from vps.xen.description import DescriptionRefused
from vps.xen.endings import Ending, EndReason
from vps.xen.judging import Judgement, Verdict, conclude, judge
from vps.xen.refused import RenderRefused
from vps.xen.trial import Trial, read, shorten
from vps.xen.xlcfg import DomainFiles, HostQuirks, render
from vps.xen.xlparse import DomainRow, DomainState

logger = logging.getLogger(__name__)

EFFECT = "trial"
_LOOK_EVERY = 0.3  # seconds between looks at the console
_DOMAINS_EVERY = 2.0  # seconds between looks at the domains, while the console speaks
_SETTLE = 1.5  # seconds for the rest of what decided: a trace behind a panic
_GONE = 60.0  # seconds that a destroyed domain may take to vanish
_CREATE_LEFT = 300.0  # seconds that a create of an earlier agent may still take
_WHOLE = 256 * 1024  # bytes of the record that are read
_REFUSALS = frozenset({"guest_type", "kernel_refused", "no_loader", "kernel_empty"})
_ENDED = frozenset({DomainState.SHUTDOWN, DomainState.CRASHED, DomainState.DYING})


def trial(job: Job) -> dict[str, Any]:
    """The verb. Raises VerbFailed, Aborted, OSError."""
    assert job.order is not None
    try:
        wanted = read(job.domu, job.order.body)
    except DescriptionRefused as error:
        raise VerbFailed("description", str(error)) from error
    if job.context.journal.open_intents(job.domu, EFFECT):
        job.step("Clearing away what an earlier attempt has left")
        clear(job.context, job.domu)
    try:
        return _boot(job, wanted)
    finally:
        # An agent that stops has no time for it; the next one does it first of all.
        if not (job.abort.is_set() and job.why is None):
            clear(job.context, job.domu)


def left(context: Context) -> tuple[UUID, ...]:
    """The trials of which something may be left."""
    return tuple({intent.domu for intent in context.journal.all_open_intents(EFFECT)})


def clear(context: Context, trial: UUID) -> None:
    """Remove domain, record and files of a trial. What xl does not let one do stays an intent. Raises OSError."""
    try:
        _end_domain(context, trial)
    except ToolstackError as error:
        logger.warning("trial %s: its domain cannot be ended: %s", trial, error)
        context.alarms[f"trial:{trial}"] = f"A trial's domain cannot be ended: {error.text}"
        return
    context.alarms.pop(f"trial:{trial}", None)
    context.consoles.forget(trial)
    remove_tree(context.config.domu_dir / str(trial))
    for intent in context.journal.open_intents(trial, EFFECT):
        context.journal.resolve(intent.id, "cleared away")
    forget_blobs(context, but_for=trial)
    context.changed()


def _end_domain(context: Context, trial: UUID) -> None:
    for intent in context.journal.open_intents(trial, EFFECT):
        child, deadline = Child(context.config.domu_dir, trial), time.monotonic() + _CREATE_LEFT
        while child.at_work(str(intent.detail["config"])) and time.monotonic() < deadline:
            time.sleep(0.2)
        child.ended()
    deadline = time.monotonic() + _GONE
    asked = False
    while (domain := _domain(context, trial)) is not None:
        if not asked:
            asked = True
            try:
                context.toolstack.destroy(domain.domid)
            except ToolstackError as error:
                if error.code != "no_domain":
                    raise
        elif time.monotonic() > deadline:
            raise ToolstackError(
                "not_gone", f"The domain {domain.domid} of a trial is still there; see the dom0."
            )
        else:
            time.sleep(0.3)


def _domain(context: Context, trial: UUID, age: float = 0.0) -> DomainRow | None:
    return next((row for row in context.domains(age) if row.uuid == trial), None)


def _boot(job: Job, wanted: Trial) -> dict[str, Any]:
    context, name = job.context, wanted.description.name
    config = _prepare(job, wanted)
    job.step("Creating the domain")
    child = Child(context.config.domu_dir, job.domu)
    context.journal.intend(job.domu, EFFECT, {"config": config, "name": name}, job.operation)
    child.begin()
    try:
        context.toolstack.create(config, child.started)
        child.ended()
        domain = _domain(context, job.domu)
        if domain is None:
            raise VerbFailed(
                "vanished", "The domain was created and was gone before it could run; see xl's log."
            )
        context.consoles.attach(job.domu, name, uuid4(), domain.domid)
        began = time.monotonic()
        context.toolstack.unpause(domain.domid)
    except ToolstackError as error:
        if error.code in _REFUSALS:
            return _result(Judgement(Verdict.REFUSED, error.text[:300]), error.output, 0.0, None)
        raise VerbFailed(error.code, error.text, error.output) from error
    context.changed()
    job.step("Watching what it says")
    ending = _watch(job, domain, name, began + wanted.seconds)
    seconds = time.monotonic() - began
    text = context.consoles.tail(job.domu, _WHOLE)
    return _result(conclude(text, ending), text, seconds, ending)


def _prepare(job: Job, wanted: Trial) -> Path:
    """Boot disk, the loader's own copy and the configuration, in the trial's own folder."""
    context, description = job.context, wanted.description
    assert description.boot.loader is not None
    try:
        job.step("Fetching kernels")
        for blob in description.boot.blobs():
            context.blobs.ensure(blob, job.check)
        job.step("Building the boot disk")
        folder = context.folder(job.domu)
        disk, loader, config = folder / "boot.img", folder / "loader", folder / description.name
        bootdisk.build(disk, job.domu, description.boot, context.blobs.path)
        copy_durably(context.blobs.path(description.boot.loader), loader)
        quirks = HostQuirks(tsc_native=context.config.tsc_native)
        text = render(description, DomainFiles(str(loader), None, (), str(disk)), quirks=quirks)
        write_durably(config, text.encode())
    except RenderRefused as error:
        raise VerbFailed("refused", str(error)) from error
    except BlobError as error:
        raise VerbFailed(error.code, error.text) from error
    except bootdisk.BootDiskError as error:
        raise VerbFailed("boot_disk", error.text, error.output) from error
    return config


def _watch(job: Job, domain: DomainRow, name: str, until: float) -> Ending | None:
    """Wait for what decides: a line, the domain's end (given), or the end of the time. Raises Aborted."""
    context = job.context
    looked = time.monotonic()
    while time.monotonic() < until:
        job.wait(_LOOK_EVERY)
        if judge(context.consoles.tail(job.domu, _WHOLE)) is not None:
            job.wait(_SETTLE)
            return None
        if time.monotonic() - looked < _DOMAINS_EVERY:
            continue
        looked = time.monotonic()
        with contextlib.suppress(ToolstackError):  # an xl that does not answer is no end of the domain
            now = _domain(context, job.domu)
            if now is None or now.state in _ENDED:
                job.wait(_SETTLE)
                return context.toolstack.ending(name, domain.domid) or Ending(EndReason.UNKNOWN)
    return None


def _result(judged: Judgement, text: str, seconds: float, ending: Ending | None) -> dict[str, Any]:
    return {
        "verdict": judged.verdict.value,
        "line": judged.line,
        "transcript": shorten(text),
        "seconds": round(seconds, 1),
        "ended": {"reason": ending.reason.value, "code": ending.code} if ending else None,
    }
