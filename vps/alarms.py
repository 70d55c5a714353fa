"""Opens and closes alarms, and mails each once: the sweep calls `watch`.

A mail goes when an alarm has held for BERTH_ALARM_SETTLE seconds, and not again for the same thing within
BERTH_ALARM_QUIET, however often it comes and goes meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.mail import send
from accounts.models import Role, User
from vps.models import Alarm, Dom0, Domu, Event, Operation
from vps.xen.reconcile import Observed, Phase, Wanted

MAILED = frozenset({Alarm.Kind.SILENT, Alarm.Kind.DISK, Alarm.Kind.CRASHES})
FULL, FULL_AGAIN = 0.10, 0.12  # part of the pool that is free: less opens, more closes
_THERE = (Observed.RUNNING.value, Observed.PAUSED.value)


@dataclass(frozen=True)
class Finding:
    """Something that holds now."""

    kind: str
    dom0: Dom0
    text: str
    domu: Domu | None = None

    @property
    def subject(self) -> str:
        return f"domu:{self.domu.pk}" if self.domu else f"dom0:{self.dom0.pk}"


def watch() -> int:
    """Open what began, close what is over, mail what is to be mailed; gives how many alarms changed."""
    now = timezone.now()
    there = {(alarm.kind, alarm.subject): alarm for alarm in Alarm.objects.open()}
    full = {alarm.dom0_id for alarm in there.values() if alarm.kind == Alarm.Kind.DISK}
    holds = {(finding.kind, finding.subject): finding for finding in findings(now, full)}
    changed = 0
    for key in holds.keys() - there.keys():
        changed += _open(holds[key], now)
    for key in there.keys() - holds.keys():
        changed += _close(there[key], now)
    _mail(now)
    return changed


def findings(now: datetime, full: Iterable[object]) -> list[Finding]:
    """All that holds; `full` are the dom0s whose pool has been nearly full, for which more must be free."""
    return [*_silent(now), *_disks(set(full)), *_crashed(), *_differing(now)]


def _silent(now: datetime) -> list[Finding]:
    limit = now - timedelta(seconds=settings.BERTH_SILENT_AFTER)
    text = _(
        "%(dom0)s is not heard. Its servers may well run; look whether the dom0, its network and its agent do."
    )
    rows = Dom0.objects.filter(heard_at__lt=limit).only("name")
    return [Finding(Alarm.Kind.SILENT, dom0, text % {"dom0": dom0}) for dom0 in rows]


def _disks(full: set[object]) -> list[Finding]:
    low = Q(free_disk_mib__lt=F("disk_mib") * FULL)
    still = Q(pk__in=full, free_disk_mib__lt=F("disk_mib") * FULL_AGAIN)
    text = _("The disk pool of %(dom0)s is nearly full; free some, or give it more.")
    rows = Dom0.objects.filter(low | still).only("name")
    return [Finding(Alarm.Kind.DISK, dom0, text % {"dom0": dom0}) for dom0 in rows]


def _crashed() -> list[Finding]:
    text = _("%(name)s crashed too often and is not started again by itself; see its console's last words.")
    rows = Domu.objects.live().filter(phase=Phase.LIMIT.value).select_related("dom0")
    return [Finding(Alarm.Kind.CRASHES, domu.dom0, text % {"name": domu}, domu) for domu in rows]


def _differing(now: datetime) -> list[Finding]:
    """Wanted and observed differ, nothing is being done about it, and the dom0 is heard."""
    heard = now - timedelta(seconds=settings.BERTH_SILENT_AFTER)
    wrong = Q(wanted=Wanted.RUNNING.value, observed=Observed.GONE.value) | Q(
        wanted=Wanted.STOPPED.value, observed__in=_THERE
    )
    rows = (
        Domu.objects.live()
        .filter(wrong, made=True, phase__in=["", Phase.IDLE.value], dom0__heard_at__gte=heard)
        .exclude(pk__in=Operation.objects.open().exclude(domu=None).values("domu"))
        .select_related("dom0")
    )
    found = []
    for domu in rows:
        text = (
            _("%(name)s should run, and does not.")
            if domu.wanted == Wanted.RUNNING.value
            else _("%(name)s should be stopped, and runs.")
        )
        found.append(Finding(Alarm.Kind.DIFFERS, domu.dom0, text % {"name": domu}, domu))
    return found


def _open(finding: Finding, now: datetime) -> bool:
    with transaction.atomic():
        _row, made = Alarm.objects.get_or_create(
            kind=finding.kind,
            subject=finding.subject,
            closed_at=None,
            defaults={
                "dom0": finding.dom0,
                "domu": finding.domu,
                "text": finding.text[:500],
                "opened_at": now,
            },
        )
        # That wanted and observed differ for a moment is the way of things; the stuck page tells of it.
        if made and finding.kind in MAILED:
            Event.record(
                "alarm.opened",
                finding.text,
                dom0=finding.dom0,
                domu=finding.domu,
                tenant=finding.domu.tenant if finding.domu else None,
            )
    return made


def _close(alarm: Alarm, now: datetime) -> bool:
    with transaction.atomic():
        closed = Alarm.objects.filter(pk=alarm.pk, closed_at=None).update(closed_at=now)
        if closed and alarm.kind in MAILED:
            domu = alarm.domu
            Event.record(
                "alarm.closed",
                _("Over: %(text)s") % {"text": alarm.text},
                dom0=alarm.dom0,
                domu=domu,
                tenant=domu.tenant if domu else None,
            )
    return bool(closed)


def _mail(now: datetime) -> None:
    settled = now - timedelta(seconds=settings.BERTH_ALARM_SETTLE)
    quiet = now - timedelta(seconds=settings.BERTH_ALARM_QUIET)
    due = Alarm.objects.open().filter(kind__in=MAILED, mailed_at=None, opened_at__lte=settled)
    for alarm in due.select_related("dom0", "domu__tenant"):
        same = Alarm.objects.filter(kind=alarm.kind, subject=alarm.subject, mailed_at__gt=quiet)
        if same.exists():
            continue
        with transaction.atomic():
            # Two sweeps at once: one of them mails.
            if Alarm.objects.filter(pk=alarm.pk, mailed_at=None).update(mailed_at=now):
                send(_to(alarm), "alarm", {"alarm": alarm})


def _to(alarm: Alarm) -> list[User]:
    """The operators, and for a server its owners."""
    people = list(User.objects.filter(is_operator=True, is_active=True))
    if alarm.domu is not None:
        people += User.objects.filter(
            memberships__tenant=alarm.domu.tenant_id, memberships__role=Role.OWNER, is_active=True
        )
    return people
