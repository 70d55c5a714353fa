"""Mail that goes out: a row first, written with the change that it tells of; the worker sends it."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.ids import new_id

TRIES = 8  # after the last, some four hours after the first, it is given up
FIRST_PAUSE = timedelta(minutes=2)  # doubled with each try
KEPT = timedelta(days=30)


class MailQuerySet(models.QuerySet["Mail"]):
    def due(self) -> MailQuerySet:
        """Those that wait, and whose pause after the last try is over."""
        return self.filter(state=Mail.State.WAITING, next_try_at__lte=timezone.now())


class Mail(models.Model):
    """One mail to one address."""

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")
        SENT = "sent", _("sent")
        FAILED = "failed", _("given up")

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    to = models.EmailField(_("to"))
    subject = models.CharField(_("subject"), max_length=200)
    text = models.TextField(blank=True)
    template = models.CharField(max_length=60)
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    tries = models.PositiveSmallIntegerField(default=0)
    error = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    next_try_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True, blank=True)

    objects = MailQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["state", "next_try_at"]), models.Index(fields=["-created_at"])]

    def __str__(self) -> str:
        return f"{self.subject} ({self.to})"

    def claim(self) -> bool:
        """Take it for one try; False when it was taken, or is not due. A claim ends by itself after the pause."""
        pause = FIRST_PAUSE * 2**self.tries
        taken = type(self).objects.due().filter(pk=self.pk, tries=self.tries)
        return bool(taken.update(tries=self.tries + 1, next_try_at=timezone.now() + pause))

    def sent(self, *, keep_text: bool) -> None:
        """It went out. Its text may hold addresses that work once, so that it is kept only where wanted."""
        type(self).objects.filter(pk=self.pk).update(
            state=self.State.SENT,
            sent_at=timezone.now(),
            error="",
            text=self.text if keep_text else "",
        )

    def failed(self, why: str) -> None:
        """It did not go out: it is tried again, or given up after the last try."""
        rows = type(self).objects.filter(pk=self.pk, state=self.State.WAITING)
        rows.update(error=why[:500])
        rows.filter(tries__gte=TRIES).update(state=self.State.FAILED, text="")
