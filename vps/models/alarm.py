"""What an operator must know of: opened once when it begins, closed when it is over."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy

from vps.models.dom0 import Dom0


class AlarmQuerySet(models.QuerySet["Alarm"]):
    def open(self) -> AlarmQuerySet:
        return self.filter(closed_at=None)


class Alarm(models.Model):
    """`subject` is "dom0:<id>" or "domu:<id>": there is one open alarm of a kind for each."""

    class Kind(models.TextChoices):
        SILENT = "silent", gettext_lazy("dom0 not heard")
        DISK = "disk", gettext_lazy("disk nearly full")
        CRASHES = "crashes", gettext_lazy("crashed too often")
        DIFFERS = "differs", gettext_lazy("is not as it should be")

    kind = models.CharField(max_length=8, choices=Kind.choices)
    subject = models.CharField(max_length=48)
    dom0 = models.ForeignKey(Dom0, models.CASCADE, related_name="alarm_rows")
    domu = models.ForeignKey("vps.Domu", models.CASCADE, null=True, blank=True, related_name="alarm_rows")
    text = models.CharField(max_length=500)
    opened_at = models.DateTimeField(default=timezone.now)
    closed_at = models.DateTimeField(null=True, blank=True)
    mailed_at = models.DateTimeField(null=True, blank=True)

    objects = AlarmQuerySet.as_manager()

    class Meta:
        ordering = ["opened_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "subject"], condition=models.Q(closed_at=None), name="one_open_alarm"
            )
        ]
        indexes = [models.Index(fields=["kind", "subject", "mailed_at"])]

    def __str__(self) -> str:
        return f"{self.kind} of {self.subject}"
