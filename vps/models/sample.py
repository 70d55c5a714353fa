"""What servers and dom0s used: one row for each dom0 and minute, with all its domains in it.

One row for each server would be twenty times as many writes for the same figures. Kept by the minute for two hours,
by five minutes for a day and a bit; the sweep thins them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models.functions import Mod

from vps.models.dom0 import Dom0

FINE = 120  # minutes that are kept by the minute
COARSE = 5  # minutes between two samples that are kept longer
KEPT = 26 * 60  # minutes

# Of a domain, in the order of its list in `domus`. Bytes, counted from when the domain was built.
COUNTERS = ("cpu_seconds", "read_bytes", "written_bytes", "received_bytes", "sent_bytes")


class SampleQuerySet(models.QuerySet["Sample"]):
    def trim(self, now: int) -> int:
        """Thin out what is older than FINE minutes, forget what is older than KEPT; gives how many went."""
        old, _ = self.filter(minute__lt=now - KEPT).delete()
        # Only what came of age lately is looked at, not the whole day each time; what is missed goes in the end.
        ripe = self.filter(minute__lt=now - FINE, minute__gte=now - FINE - 15)
        thin, _ = ripe.annotate(rest=Mod("minute", COARSE)).exclude(rest=0).delete()
        return old + thin

    def of_domu(self, dom0: UUID, domu: UUID, since: int) -> list[tuple[int, list[Any]]]:
        """(time in ms, [domain number, memory, *COUNTERS]) of one server, oldest first."""
        rows = self.filter(dom0=dom0, minute__gte=since, **{f"domus__{domu}__isnull": False})
        return list(rows.order_by("minute").values_list("at_ms", f"domus__{domu}"))


class Sample(models.Model):
    """`minute` is of the epoch; `at_ms` the exact time (Redis TIME) that the counters are of."""

    dom0 = models.ForeignKey(Dom0, models.CASCADE, related_name="samples")
    minute = models.PositiveBigIntegerField()
    at_ms = models.PositiveBigIntegerField()
    host = models.JSONField(
        default=dict
    )  # cpu_seconds of all domains, own_seconds, memory_mib, disk_mib used
    domus = models.JSONField(default=dict)  # {id: [domain number, memory in MiB, *COUNTERS]}

    objects = SampleQuerySet.as_manager()

    class Meta:
        ordering = ["minute"]
        constraints = [models.UniqueConstraint(fields=["dom0", "minute"], name="one_sample_a_minute")]
        indexes = [models.Index(fields=["minute"])]

    def __str__(self) -> str:
        return f"{self.dom0_id} at {self.minute}"

    @classmethod
    def take(cls, dom0: Dom0, body: Mapping[str, Any], at_ms: int) -> None:
        """Keep what an inventory tells, if it is the first of its minute.

        Raises KeyError, TypeError, ValueError for an inventory of another form.
        """
        minute = at_ms // 60_000
        if not body.get("xen") or minute <= dom0.sampled_minute:
            return
        domains = body.get("domains", [])
        guests = [row for row in domains if row.get("domid") != 0]
        sample = cls(
            dom0=dom0,
            minute=minute,
            at_ms=at_ms,
            host={
                "cpu_seconds": round(sum(float(row.get("cpu_seconds") or 0) for row in domains), 1),
                "own_seconds": round(
                    sum(float(row.get("cpu_seconds") or 0) for row in domains if row.get("domid") == 0), 1
                ),
                "memory_mib": max(0, int(body["memory_mib"]) - int(body["free_memory_mib"])),
                "disk_mib": max(0, int(body["disk_mib"]) - int(body["free_disk_mib"])),
            },
            domus={str(row["uuid"]): _figures(row) for row in guests},
        )
        # A dom0 whose clock was set back says a minute again; what was kept stays.
        cls.objects.bulk_create([sample], ignore_conflicts=True)
        Dom0.objects.filter(pk=dom0.pk).update(sampled_minute=minute)
        dom0.sampled_minute = minute


def _figures(row: Mapping[str, Any]) -> list[int | float | None]:
    return [
        int(row["domid"]),
        int(row.get("memory_mib") or 0),
        *(None if row.get(name) is None else round(float(row[name]), 1) for name in COUNTERS),
    ]
