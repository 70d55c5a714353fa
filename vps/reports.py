"""THE door in: reports and inventories of dom0s -> rows.

A report is applied once: (journal, seq) says so. Applying is a conditional update, so that late, repeated and
reordered ones do no harm, and a dom0 speaks of its own domUs only.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import DatabaseError, DataError, IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from redis import RedisError

from vps import dispatch
from vps.models.boot_record import BootRecord
from vps.models.boot_try import BootTry
from vps.models.conflict import Conflict
from vps.models.dom0 import Dom0
from vps.models.domu import Domu
from vps.models.event import Event
from vps.models.holding import settle, settle_each
from vps.models.operation import ENDED, OPEN, Operation, State
from vps.models.sample import Sample
from vps.models.trial import TrialBoot
from vps.xen.messages import Generation, MessageRefused, Outcome, Report, ReportKind, Verb
from vps.xen.reconcile import Look, Observed, Phase, Seen, Wanted, observe, observe_end

log = logging.getLogger(__name__)

_STATES = {
    Outcome.ACCEPTED: State.ACCEPTED,
    Outcome.RUNNING: State.RUNNING,
    Outcome.DONE: State.DONE,
    Outcome.FAILED: State.FAILED,
    Outcome.REFUSED: State.REFUSED,
    Outcome.SUPERSEDED: State.SUPERSEDED,
    Outcome.CANCELLED: State.CANCELLED,
}
_UNSUCCESSFUL = frozenset({State.FAILED, State.REFUSED, State.CANCELLED})
# What the content of a report may be at fault for.
_UNREADABLE = (
    *(MessageRefused, KeyError, TypeError, ValueError, AttributeError),
    *(ArithmeticError, DataError, IntegrityError),
    Conflict,  # one server's; no other dom0 shall wait for it
)
_PASSING = (DatabaseError, RedisError, OSError, MemoryError)  # nobody's fault: the report is read again
_LISTS = ("domains", "domus", "alarms", "bridges")
_NUMBERS = ("domid", "memory_mib", "vcpus", "cpus", "disk_mib", "free_disk_mib", "free_memory_mib")
REFUSED_AN_HOUR = 60  # of one dom0 that become events
MAX_RESULT = 600_000  # characters of JSON: 64 KiB of a log, of which each byte may become six
MAX_TEXT = 8000  # characters of a dom0's own words that are kept


class Missing(Exception):
    """A report before this one was lost on its way. This one is not applied: its dom0 sends both again."""

    def __init__(self, journal: UUID, seq: int) -> None:
        super().__init__(f"reports after {seq} of the journal {journal} are missing")
        self.journal, self.seq = journal, seq  # up to where all were applied


def apply(dom0: Dom0, text: str) -> tuple[UUID, int] | None:
    """Apply one report of `dom0`; gives (journal, seq) to acknowledge, None for one that is not kept.

    Raises Missing: acknowledging this one would have the dom0 forget one that never came.

    What cannot be read or speaks of another's domU is recorded as an event and acknowledged: sending it again
    would not make it better.
    """
    try:
        # PostgreSQL keeps no NUL in texts; a guest's console may well print one.
        report = Report.parse(text.replace("\\u0000", "\\ufffd"))
        if report.dom0 != dom0.pk:
            raise MessageRefused(f"The report says that it is of dom0 {report.dom0}.")
    except MessageRefused as error:
        _refused(dom0, str(error))
        return None
    with transaction.atomic():
        locked = Dom0.lock(dom0.pk)
        last = locked.last_seq if locked.journal == report.journal else 0
        if report.seq and report.seq <= last:
            return report.journal, report.seq
        if report.oldest and max(report.oldest, last + 1) < report.seq:
            raise Missing(report.journal, last)
        try:
            with transaction.atomic():
                _APPLY[report.kind](locked, report)
        except _UNREADABLE as error:
            _refused(locked, f"{report.kind.value}: {error}")
        except _PASSING:
            raise
        except Exception as error:
            # A fault of ours, which would come again with this report: all dom0s would wait behind it.
            log.exception("a report of %s could not be applied: %s", dom0, text[:MAX_TEXT])
            _refused(locked, f"{report.kind.value}: a fault of Berth's: {error!r}")
        if not report.seq:
            return None
        Dom0.objects.filter(pk=dom0.pk).update(journal=report.journal, last_seq=report.seq)
    return report.journal, report.seq


def _refused(dom0: Dom0, why: str) -> None:
    log.warning("report of %s refused: %s", dom0, why)
    since = timezone.now() - timedelta(hours=1)
    count = Event.objects.filter(kind="report.refused", dom0=dom0, at__gte=since).count()
    if count >= REFUSED_AN_HOUR:
        return  # a dom0 in strange hands shall not fill the database
    if count == REFUSED_AN_HOUR - 1:
        why = f"{why[:400]} (Until the hour is over, more of them stand in the collector's log only.)"
    Event.record(
        "report.refused", _("A report of %(dom0)s was refused") % {"dom0": dom0}, dom0=dom0, reason=why[:500]
    )


def _own(dom0: Dom0, domu_id: object) -> Domu:
    """The domU of a report, if it is this dom0's. Raises MessageRefused."""
    domu = Domu.objects.select_for_update().filter(pk=UUID(str(domu_id)), dom0=dom0).first()
    if domu is None:
        raise MessageRefused(f"It speaks of the domU {domu_id}, which is not on this dom0.")
    return domu


def _operation(dom0: Dom0, report: Report) -> None:
    body = report.body
    row = Operation.objects.filter(pk=UUID(str(body["operation"])), dom0=dom0).first()
    if row is None:
        raise MessageRefused(f"It speaks of the operation {body['operation']}, which is not of this dom0.")
    outcome = Outcome(body["outcome"])
    state = _STATES[outcome]
    fields: dict[str, Any] = {
        "heard_at": timezone.now(),
        "step": str(body.get("step") or "")[:200],
        "steps": list(body.get("steps") or [])[:100],
        "remains": str(body.get("remains") or "")[:500],
    }
    if error := body.get("error"):
        fields["error"] = {name: str(error.get(name) or "")[:MAX_TEXT] for name in ("code", "text", "output")}
    if result := body.get("result"):
        fields["result"] = _of_bounded_size(result)
    if row.state == State.LOST and state in OPEN:
        fields["ended_at"] = None
    moved = row.state != state and not _gives_way(row, state) and row.move(state, **fields)
    if not moved:
        Operation.objects.filter(pk=row.pk, state=state).update(**fields)
    elif state in _UNSUCCESSFUL:
        _came_to_nothing(dom0, row)
    elif state == State.DONE:
        _came_about(row, report.at)
    if moved and row.verb == Verb.TRIAL:
        TrialBoot.conclude(row)
    if row.verb in (Verb.TRY, Verb.ARM) and state in ENDED:
        _tried(row, dict(body.get("result") or {}).get("tried") or {}, report.at)


def _gives_way(row: Operation, state: str) -> bool:
    """What was given up shows no progress while something else is under way. Its end is told all the same."""
    others = Operation.objects.open().filter(domu=row.domu_id, lane=row.lane)
    return row.state == State.LOST and state in OPEN and row.domu_id is not None and others.exists()


def _tried(row: Operation, told: dict[str, Any], at: int) -> None:
    """How far a try is; its end comes as part of its operation's result, after the operation is done."""
    tried = BootTry.objects.select_for_update().filter(operation=row).first()
    if tried is None:  # a disarming
        if row.state == State.DONE and not row.body.get("try"):
            for left in BootTry.objects.filter(domu=row.domu, state=BootTry.State.ARMED, operation__lt=row):
                left.disarmed(_time(at))
        return
    if told or row.state == State.DONE:
        tried.heard(told, _time(int(told.get("at") or at)))
    else:
        tried.failed(row.error_text or row.get_state_display(), _time(at))


def _of_bounded_size(result: dict[str, Any]) -> dict[str, Any]:
    """What a dom0 gives as the result of an operation. Raises MessageRefused for more than is ever needed."""
    if len(json.dumps(result)) > MAX_RESULT:
        raise MessageRefused(f"Its result is longer than {MAX_RESULT} characters.")
    return dict(result)


def _came_to_nothing(dom0: Dom0, row: Operation) -> None:
    domu = row.domu
    if domu is not None:
        domu = Domu.objects.select_for_update().get(pk=domu.pk)
        if not domu.operations.open().exists():
            domu.after_unsuccessful(row)
    Event.record(
        "operation.failed",
        _("%(verb)s of %(name)s: %(state)s")
        % {"verb": row.verb, "name": domu or dom0, "state": row.get_state_display()},
        tenant=domu.tenant if domu else None,
        domu=domu,
        dom0=dom0,
        operation=row,
        reason=row.error_text[:500],
    )


def _came_about(row: Operation, at: int) -> None:
    if row.domu is None:
        return
    domu = Domu.objects.select_for_update().get(pk=row.domu_id)
    if row.verb == Verb.DELETE:
        domu.retire()
        return
    if serial := row.result.get("menu_serial"):
        domu.prepared_serial = max(domu.prepared_serial, int(serial))
    if row.verb in (Verb.PREPARE, Verb.START):
        domu.made = True
    if row.verb == Verb.TRY and domu.observed_ms <= at:
        domu.phase = Phase.TRYING.value
    if row.verb in _SEEN_AFTER and at >= domu.observed_ms:
        domu.seen = Seen(_SEEN_AFTER[row.verb], at)
    _saved(domu)
    Event.record(
        "operation.done",
        _("%(verb)s of %(name)s is done") % {"verb": row.verb, "name": domu},
        tenant=domu.tenant,
        domu=domu,
        dom0=row.dom0,
        operation=row,
    )


# What the end of an operation shows at once; the next inventory confirms or corrects it.
_SEEN_AFTER = {
    Verb.START.value: Observed.RUNNING,
    Verb.REBOOT.value: Observed.RUNNING,
    Verb.TRY.value: Observed.RUNNING,
    Verb.UNPAUSE.value: Observed.RUNNING,
    Verb.PAUSE.value: Observed.PAUSED,
    Verb.SHUTDOWN.value: Observed.GONE,
    Verb.DESTROY.value: Observed.GONE,
}


def _booted(dom0: Dom0, report: Report) -> None:
    body = report.body
    domu = _own(dom0, body["domu"])
    domu.run = UUID(str(body["run"]))
    domu.domid = int(body["domid"])
    domu.boots = max(domu.boots, int(body["boots"]))
    domu.booted_at = _time(report.at)
    domu.booted_label = str(body.get("label") or "")[:200]
    domu.running_memory_mib = int(body["memory_mib"]) if body.get("memory_mib") else None
    domu.running_vcpus = int(body["vcpus"]) if body.get("vcpus") else None
    domu.seen = Seen(Observed.RUNNING, max(report.at, domu.observed_ms))
    domu.last_end = {}
    _saved(domu)
    BootRecord.booted(domu, dict(body), domu.booted_at)
    Event.record(
        "domu.booted",
        _("%(name)s booted %(label)s") % {"name": domu, "label": domu.booted_label or _("its own kernel")},
        tenant=domu.tenant,
        domu=domu,
        dom0=dom0,
        after={"boots": domu.boots, "why": str(body.get("why") or "")},
    )


def _ended(dom0: Dom0, report: Report) -> None:
    body = report.body
    domu = _own(dom0, body["domu"])
    run = UUID(str(body["run"]))
    if record := BootRecord.of(domu, run):
        record.end(str(body["reason"]), _time(report.at))
    if domu.run is not None and run != domu.run:
        return
    domu.last_end = {
        "reason": str(body["reason"])[:20],
        "code": body.get("code"),
        "next": str(body.get("next") or "")[:20],
        "restart_in": body.get("restart_in"),
        "tail": str(body.get("tail") or "")[:4096],
        "at": _time(report.at).isoformat(),
    }
    domu.seen, domu.domid = observe_end(domu.seen, report.at), None
    _saved(domu)
    Event.record(
        "domu.ended",
        _("%(name)s ended: %(reason)s") % {"name": domu, "reason": domu.last_end["reason"]},
        tenant=domu.tenant,
        domu=domu,
        dom0=dom0,
        after={"next": domu.last_end["next"], "reason": domu.last_end["reason"]},
    )


def _saved(domu: Domu) -> None:
    """Save it; what it holds follows from what runs of it."""
    if not domu.runs:
        domu.running_memory_mib = domu.running_vcpus = None
    domu.save()
    settle(domu, _("what runs of %(name)s changed") % {"name": domu.name})


def _inventory(dom0: Dom0, report: Report) -> None:
    body = dict(report.body)
    for name in _LISTS:
        if not isinstance(body.get(name, []), list):
            raise MessageRefused(f"{name} is not a list.")
    for name in ("agent", "xen"):
        if not isinstance(body.get(name) or {}, dict):
            raise MessageRefused(f"{name} is not an object.")
    for row in (body, *body.get("domains", [])):
        for name in _NUMBERS:
            int(row.get(name) or 0)  # pages add them up
    was_heard = dom0.heard_lately
    if was_heard and report.at <= int(dom0.inventory.get("at", 0)):
        return  # a newer one was here before; after a silence any counts, for clocks are set back
    body["at"] = report.at
    dom0.heard_at = timezone.now()
    dom0.inventory = body
    fields = ["heard_at", "inventory"]
    if body.get("xen"):
        own = sum(int(row["memory_mib"]) for row in body["domains"] if row.get("domid") == 0)
        dom0.memory_mib = max(0, int(body["memory_mib"]) - own)
        dom0.cpus = int(body["cpus"])
        dom0.disk_mib = int(body["disk_mib"])
        dom0.free_disk_mib = int(body["free_disk_mib"])
        fields += ["memory_mib", "cpus", "disk_mib", "free_disk_mib"]
    dom0.save(update_fields=fields)
    if not was_heard:
        Event.record("dom0.heard", _("%(dom0)s was heard again") % {"dom0": dom0}, dom0=dom0)
    ours = _observe(dom0, body, report.at)
    if body.get("xen"):
        _note_foreign(dom0, body, ours)
    Sample.take(dom0, body, report.at)


_OBSERVED = (
    "observed",
    "observed_ms",
    "absent_ms",
    "domid",
    "phase",
    "made",
    "prepared_serial",
    "boots",
    "wanted",
    "running_memory_mib",
    "running_vcpus",
)


def _note_foreign(dom0: Dom0, body: dict[str, Any], ours: set[str]) -> None:
    """Keep which domains are not Berth's, for the page of what is stuck."""
    found = [
        {
            "uuid": str(UUID(str(row["uuid"]))),
            "name": str(row.get("name") or "")[:200],
            "domid": int(row["domid"]),
            "memory_mib": int(row.get("memory_mib") or 0),
        }
        for row in body.get("domains", [])
        if row.get("domid") != 0 and str(row["uuid"]) not in ours
    ]
    if found != dom0.foreign:
        Dom0.objects.filter(pk=dom0.pk).update(foreign=found)


def _observe(dom0: Dom0, body: dict[str, Any], at: int) -> set[str]:
    """Bring what was seen into the rows; vps.xen.reconcile has the rules. Gives the ids of the dom0's own."""
    domains = {str(row["uuid"]): row for row in body.get("domains", [])}
    agents = {str(row["id"]): row for row in body.get("domus", [])}
    ours: set[str] = set()
    # Locked, so that no click comes between what is read here and what is written below.
    rows = Domu.objects.present().filter(dom0=dom0).select_for_update(no_key=True).order_by("pk")
    # What changed -> of whom. Nearly always that they were seen once more, and of nearly all: one UPDATE.
    changes: dict[tuple[tuple[str, Any], ...], list[UUID]] = {}
    moved: dict[Domu, str] = {}
    for domu in rows.prefetch_related(Domu.OPEN_OPERATION):
        domu.dom0 = dom0
        ours.add(str(domu.pk))
        before = [getattr(domu, name) for name in _OBSERVED]
        domain = domains.get(str(domu.pk))
        state = _state(domain["state"]) if domain else None
        domu.seen = observe(domu.seen, Look(at, state, bool(body.get("xen"))))
        if domain is not None:
            domu.domid = int(domain["domid"])
        elif domu.observed == Observed.GONE:
            domu.domid = domu.running_memory_mib = domu.running_vcpus = None
        _take_agents_word(domu, agents.get(str(domu.pk)))
        _say_again(domu)
        after = [getattr(domu, name) for name in _OBSERVED]
        changed = [(name, new) for name, new, old in zip(_OBSERVED, after, before, strict=True) if new != old]
        if changed:
            changes.setdefault(tuple(changed), []).append(domu.pk)
        if domu.observed != before[0]:
            moved[domu] = _("what runs of %(name)s changed") % {"name": domu.name}
    for fields, pks in changes.items():
        Domu.objects.filter(pk__in=pks).update(**dict(fields))
    settle_each(dom0, moved)
    return ours


def _state(word: object) -> Observed:
    return Observed(word) if word in set(Observed) else Observed.UNKNOWN


def _take_agents_word(domu: Domu, agent: dict[str, Any] | None) -> None:
    if agent is None:
        return
    domu.phase = str(agent.get("phase") or "")[:12]
    domu.boots = max(domu.boots, int(agent.get("boots") or 0))
    domu.prepared_serial = int(agent.get("menu_serial") or 0)
    generation = Generation.of(agent.get("generation"))
    # Between orders the agent decides: a guest that powered itself off is to stay off.
    if not domu.open_operation and agent.get("wanted") in set(Wanted) and _is_current(domu, generation):
        domu.wanted = str(agent["wanted"])


def _is_current(domu: Domu, generation: Generation) -> bool:
    """Whether the dom0 knows all that was asked for; what it never took (cancelled, lost, refused) says nothing."""
    if (generation.epoch, generation.n) == (domu.epoch, domu.n):
        return True
    if generation.epoch != domu.epoch:
        return False
    later = domu.operations.filter(epoch=domu.epoch, n__gt=generation.n)
    return not later.filter(state__in=(State.DONE, State.FAILED)).exists()


def _say_again(domu: Domu) -> None:
    """A note may be lost: what was said to be well is said again while it is being tried."""
    if domu.phase != Phase.TRYING:
        return
    tried = domu.tries.filter(state=BootTry.State.TRYING).exclude(said_well_at=None).first()
    if tried is not None:
        transaction.on_commit(lambda: dispatch.say_well(domu, tried.operation_id))


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)


_APPLY = {
    ReportKind.OPERATION: _operation,
    ReportKind.BOOTED: _booted,
    ReportKind.ENDED: _ended,
    ReportKind.INVENTORY: _inventory,
}
