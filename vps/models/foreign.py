"""Domains on a dom0 that are not Berth's, and what an operator decided about each (decision 0008)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import models, transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import User
from vps.models.conflict import Conflict
from vps.models.dom0 import Dom0
from vps.models.event import Event


class ForeignDomain(models.Model):
    """A decision. Kept ones count in the dom0's room; ignored ones are only not spoken of any more."""

    class Standing(models.TextChoices):
        IGNORED = "ignored", gettext_lazy("ignored")
        KEPT = "kept", gettext_lazy("counted")

    dom0 = models.ForeignKey(Dom0, models.CASCADE, related_name="foreign_domains")
    uuid = models.UUIDField()
    name = models.CharField(max_length=200, blank=True)
    memory_mib = models.PositiveIntegerField(default=0)  # when it was decided
    standing = models.CharField(max_length=8, choices=Standing.choices)
    note = models.CharField(gettext_lazy("note"), max_length=500, blank=True)
    by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["dom0", "uuid"], name="one_standing")]

    def __str__(self) -> str:
        return self.name or str(self.uuid)

    @property
    def subject(self) -> str:
        """Its name in the ledger of the dom0's room."""
        return f"foreign:{self.uuid}"

    @classmethod
    def decide(cls, dom0: Dom0, uuid: UUID, standing: str, note: str, by: User) -> ForeignDomain:
        """Ignore a domain that is there and not Berth's, or count it. Raises Conflict."""
        with transaction.atomic():
            locked = Dom0.objects.select_for_update().get(pk=dom0.pk)
            row = _seen(locked, uuid)
            if cls.objects.filter(dom0=locked, uuid=uuid).exists():
                raise Conflict(
                    _("It was decided already what %(name)s is; take that back first.")
                    % {"name": row.get("name")}
                )
            made = cls.objects.create(
                dom0=locked,
                uuid=uuid,
                name=str(row.get("name") or "")[:200],
                memory_mib=int(row.get("memory_mib") or 0),
                standing=standing,
                note=note,
                by=by,
            )
            if made.standing == cls.Standing.KEPT:
                locked.promise({"memory_mib": made.memory_mib}, made.subject, f"{made}, not Berth's"[:200])
            Event.record(
                f"domain.{made.standing}",
                _("The domain %(name)s, which is not Berth's: %(standing)s")
                % {"name": made, "standing": made.get_standing_display()},
                actor=by,
                dom0=locked,
                reason=note,
                after={"memory_mib": made.memory_mib} if made.standing == cls.Standing.KEPT else {},
            )
        return made

    def take_back(self, by: User) -> None:
        """Forget the decision; the domain is unknown again, if it is still there."""
        with transaction.atomic():
            Dom0.objects.select_for_update().get(pk=self.dom0_id)
            gone, _rows = ForeignDomain.objects.filter(pk=self.pk).delete()
            if not gone:
                raise Conflict(_("Somebody was first: it was taken back already."))
            if self.standing == self.Standing.KEPT:
                self.dom0.give_back(self.subject, f"{self} counts no more"[:200])
            Event.record(
                "domain.unknown",
                _("What was decided about the domain %(name)s was taken back") % {"name": self},
                actor=by,
                dom0=self.dom0,
            )


def _seen(dom0: Dom0, uuid: UUID) -> dict[str, Any]:
    for row in dom0.foreign:
        if row.get("uuid") == str(uuid):
            return dict(row)
    raise Conflict(_("%(dom0)s has no such domain any more; look again.") % {"dom0": dom0})
