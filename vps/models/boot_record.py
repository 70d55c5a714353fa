"""Each boot of a server, and whether it was a good one: what a kernel version has shown on how many servers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext_lazy

from vps.models.boot import BootEntryRow
from vps.models.domu import Domu
from vps.models.kernel import KernelVersion
from vps.xen.endings import EndReason
from vps.xen.reconcile import Observed

WELL_AFTER = timedelta(minutes=5)  # so long a guest runs before its boot was a good one, without another sign


class BootRecordQuerySet(models.QuerySet["BootRecord"]):
    def well(self) -> BootRecordQuerySet:
        return self.filter(well=True)

    def undecided(self) -> BootRecordQuerySet:
        return self.filter(well=None)


class BootRecord(models.Model):
    """One run of a server. `well`: None until it is known; `sign` says by what (`time`, or a sign of health).

    `version` is None where the server booted from its own disk, or something that is known no more.
    """

    domu = models.ForeignKey(Domu, models.CASCADE, related_name="boot_records")
    version = models.ForeignKey(
        KernelVersion, models.SET_NULL, null=True, blank=True, related_name="boot_records"
    )
    run = models.UUIDField()
    menu_serial = models.PositiveBigIntegerField(default=0)
    entry = models.CharField(gettext_lazy("entry"), max_length=60, blank=True)
    label = models.CharField(max_length=200, blank=True)
    why = models.CharField(max_length=12, blank=True)
    booted_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=20, blank=True)  # of the end
    well = models.BooleanField(null=True, blank=True)
    sign = models.CharField(max_length=20, blank=True)

    objects = BootRecordQuerySet.as_manager()

    class Meta:
        ordering = ["-booted_at", "-id"]
        constraints = [models.UniqueConstraint(fields=["domu", "run"], name="one_boot_record_of_a_run")]
        indexes = [models.Index(fields=["version", "well"]), models.Index(fields=["well", "booted_at"])]

    def __str__(self) -> str:
        return f"{self.domu} {self.label or self.entry}: {self.well}"

    @classmethod
    def booted(cls, domu: Domu, body: dict[str, Any], at: datetime) -> BootRecord:
        """A `booted` report: the record of this run. A second one of the same run changes nothing."""
        run, serial = UUID(str(body["run"])), int(body.get("menu_serial") or 0)
        entry, label = str(body.get("entry") or "")[:60], str(body.get("label") or "")[:200]
        # One that was not told to have ended has all the same: a server has one domain.
        for open_one in cls.objects.filter(domu=domu, ended_at=None).exclude(run=run):
            open_one.end("unknown", at)
        record, _made = cls.objects.get_or_create(
            domu=domu,
            run=run,
            defaults={
                "version": _version(domu, serial, entry, label),
                "menu_serial": serial,
                "entry": entry,
                "label": label,
                "why": str(body.get("why") or "")[:12],
                "booted_at": at,
            },
        )
        return record

    @classmethod
    def of(cls, domu: Domu, run: UUID) -> BootRecord | None:
        return cls.objects.filter(domu=domu, run=run).first()

    def end(self, reason: str, at: datetime) -> None:
        """The run has ended. One that crashed early was no good one; one that was switched off early may have been."""
        rows = type(self).objects.filter(pk=self.pk)
        rows.filter(ended_at=None).update(ended_at=at, reason=reason[:20])
        if at - self.booted_at >= WELL_AFTER:
            rows.filter(well=None).update(well=True, sign="time")
        elif reason == EndReason.CRASH.value:
            rows.filter(well=None).update(well=False)
        self.refresh_from_db()

    def seen_well(self, sign: str) -> bool:
        """A sign of health was seen; whether it was the first. It also overrules what time alone said."""
        changed = type(self).objects.filter(pk=self.pk).exclude(well=True).update(well=True, sign=sign[:20])
        self.refresh_from_db()
        return bool(changed)


def judge_running() -> int:
    """The runs that go on since long enough are good ones; gives how many became so."""
    late = timezone.now() - WELL_AFTER
    rows = BootRecord.objects.undecided().filter(
        ended_at=None,
        booted_at__lte=late,
        domu__deleted_at=None,
        domu__run=F("run"),
        domu__observed=Observed.RUNNING.value,
        # Seen so long after its boot, not merely not heard of since.
        domu__dom0__heard_at__gte=F("booted_at") + WELL_AFTER,
    )
    return BootRecord.objects.filter(pk__in=list(rows.values_list("pk", flat=True)[:500]), well=None).update(
        well=True, sign="time"
    )


def _version(domu: Domu, serial: int, entry: str, label: str) -> KernelVersion | None:
    """The version that the menu's entry of this title meant; the label tells entries of one title apart."""
    rows = BootEntryRow.objects.filter(menu__domu=domu, menu__serial=serial, title=entry).select_related(
        "version__kernel"
    )
    found = list(rows)
    return next((row.version for row in found if str(row.version) == label), None) or (
        found[0].version if found else None
    )
