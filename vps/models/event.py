"""What happened: who, for whom, what, why, before and after. Rows are only ever added."""

from __future__ import annotations

from typing import Any

from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

from accounts.models import Tenant, User
from vps.middleware import request_id


class EventQuerySet(models.QuerySet["Event"]):
    def visible_to(self, user: User) -> EventQuerySet:
        """Operators see all, members their tenants'."""
        return self if user.is_operator else self.filter(tenant__memberships__user=user)


class Event(models.Model):
    """One line of what happened. `kind` is a slug such as `domu.start`.

    `seq` and `seal` are its place in the chain (vps.chain), both empty until the sealer came by.
    """

    kind = models.CharField(max_length=40)
    at = models.DateTimeField(auto_now_add=True, db_index=True)
    actor = models.ForeignKey(User, models.PROTECT, null=True, blank=True, related_name="+")
    actor_name = models.CharField(max_length=254, blank=True)
    tenant = models.ForeignKey(Tenant, models.PROTECT, null=True, blank=True, related_name="events")
    domu = models.ForeignKey("vps.Domu", models.PROTECT, null=True, blank=True, related_name="events")
    dom0 = models.ForeignKey("vps.Dom0", models.PROTECT, null=True, blank=True, related_name="events")
    operation = models.ForeignKey("vps.Operation", models.PROTECT, null=True, blank=True, related_name="+")
    text = models.CharField(_("what"), max_length=500)
    reason = models.CharField(_("why"), max_length=500, blank=True)
    before = models.JSONField(default=dict, blank=True)
    after = models.JSONField(default=dict, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    seq = models.PositiveBigIntegerField(null=True, blank=True, unique=True)
    seal = models.CharField(max_length=64, blank=True)

    objects = EventQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["domu", "-id"]),
            models.Index(fields=["tenant", "-id"]),
            models.Index(fields=["dom0", "-id"]),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"

    @classmethod
    def record(cls, kind: str, text: str, *, actor: User | None = None, **fields: Any) -> Event:
        """Write an event, inside the transaction of the change that it tells of."""
        return cls.objects.create(
            kind=kind,
            text=str(text)[:500],
            actor=actor,
            actor_name=str(actor) if actor else "",
            request_id=request_id.get(),
            **fields,
        )


class Chain(models.Model):
    """One row: the head of the chain of events, and up to where its beginning was removed."""

    ONLY = 1

    seq = models.PositiveBigIntegerField(default=0)
    seal = models.CharField(max_length=64, blank=True)
    pruned_seq = models.PositiveBigIntegerField(default=0)
    pruned_seal = models.CharField(max_length=64, blank=True)

    def __str__(self) -> str:
        return f"{self.seq}: {self.seal[:12]}"

    @classmethod
    def locked(cls) -> Chain:
        """The row, locked until the transaction ends."""
        assert transaction.get_connection().in_atomic_block
        cls.objects.get_or_create(pk=cls.ONLY)
        return cls.objects.select_for_update().get(pk=cls.ONLY)
