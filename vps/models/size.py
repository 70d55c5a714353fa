"""Sizes that are offered, and another size for a server that is there: memory and cpus."""

from __future__ import annotations

from django.db import models, transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import User
from accounts.models.quota import use, used_by
from vps.models.conflict import Conflict
from vps.models.dom0 import Dom0
from vps.models.domu import Domu
from vps.models.event import Event
from vps.models.holding import settle
from vps.models.operation import Operation
from vps.xen.messages import Verb


class Size(models.Model):
    """A size that is offered. Changing one changes no server."""

    name = models.CharField(gettext_lazy("name"), max_length=40, unique=True)
    memory_mib = models.PositiveIntegerField(gettext_lazy("memory in MiB"))
    vcpus = models.PositiveSmallIntegerField(gettext_lazy("virtual cpus"))
    disk_mib = models.PositiveIntegerField(gettext_lazy("disk in MiB"))
    offered = models.BooleanField(default=True)

    class Meta:
        ordering = ["memory_mib", "disk_mib"]

    def __str__(self) -> str:
        return self.name


def more_than_held(domu: Domu, memory_mib: int, vcpus: int) -> dict[str, int]:
    """What a size is above that which is booked for the server; {} when nobody has to approve it."""
    booked = used_by(domu.subject)
    wanted = {"memory_mib": memory_mib, "vcpus": vcpus}
    return {
        name: amount - booked.get(name, 0) for name, amount in wanted.items() if amount > booked.get(name, 0)
    }


def shrink(domu: Domu, by: User, memory_mib: int, vcpus: int) -> Operation:
    """Take a size for which nothing more has to be booked. Raises Conflict."""
    with transaction.atomic():
        Dom0.lock(domu.dom0_id)
        fresh = Domu.objects.select_for_update().get(pk=domu.pk)
        if more_than_held(fresh, memory_mib, vcpus):
            raise Conflict(
                _("%(name)s would be larger than what was approved; ask for it.") % {"name": fresh.name}
            )
        return resize(fresh, by, memory_mib, vcpus)


def resize(domu: Domu, by: User, memory_mib: int, vcpus: int, reason: str = "") -> Operation:
    """Give a server another size at its next boot; the dom0 prepares it now.

    What is more is booked at once, what is less when the domain that runs is not larger any more. Raises
    Conflict, NoRoom, QuotaExceeded.
    """
    with transaction.atomic():
        Dom0.lock(domu.dom0_id)
        fresh = Domu.objects.select_for_update().get(pk=domu.pk)
        before = {"memory_mib": fresh.memory_mib, "vcpus": fresh.vcpus}
        after = {"memory_mib": memory_mib, "vcpus": vcpus}
        if before == after:
            raise Conflict(_("%(name)s has this size already.") % {"name": fresh.name})
        why = _("%(name)s gets another size") % {"name": fresh.name}
        more = more_than_held(fresh, memory_mib, vcpus)
        use(fresh.tenant, more, fresh.subject, why, by)
        room = fresh.dom0.promised_to(fresh.subject).get("memory_mib", 0)
        fresh.dom0.extend(max(0, memory_mib - room), vcpus, fresh.subject, why)
        fresh.memory_mib, fresh.vcpus = memory_mib, vcpus
        fresh.save(update_fields=["memory_mib", "vcpus"])
        settle(fresh, why)
        Event.record(
            "domu.resized",
            _("%(name)s gets another size at its next boot") % {"name": fresh.name},
            actor=by,
            tenant=fresh.tenant,
            domu=fresh,
            dom0=fresh.dom0,
            reason=reason,
            before=before,
            after=after,
        )
        operation = fresh.order(Verb.PREPARE, by, reason)
    domu.refresh_from_db()
    return operation
