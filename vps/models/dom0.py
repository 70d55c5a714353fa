"""Hosts, and the ledger of what was promised on them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import models, transaction
from django.db.models import Sum
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.ids import new_id

BOOT_DISK_MIB = 256  # what a domU's boot disk, its last good one and its kernels may take on the dom0


class NoRoom(Exception):
    """No dom0, or not this one, has the room; the text says what is missing."""


class Dom0(models.Model):
    """A host with Xen. What it is comes with its inventories; what is promised stands in CapacityEntry."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(gettext_lazy("name"), max_length=63, unique=True)
    simulated = models.BooleanField(gettext_lazy("simulated"), default=False)
    accepts_new = models.BooleanField(gettext_lazy("takes new servers"), default=True)
    trials = models.BooleanField(gettext_lazy("boots kernels on trial"), default=False)
    bridge = models.CharField(gettext_lazy("bridge"), max_length=15, default="xenbr0")
    secret_sha256 = models.CharField(max_length=64)  # of the agent's one credential
    old_secret_sha256 = models.CharField(max_length=64, blank=True)  # good until the agent uses the new one
    created_at = models.DateTimeField(auto_now_add=True)

    # As the last inventory has it.
    heard_at = models.DateTimeField(null=True, blank=True, db_index=True)
    inventory = models.JSONField(default=dict, blank=True)
    memory_mib = models.PositiveIntegerField(default=0)  # for guests: the host's less dom0's own
    cpus = models.PositiveIntegerField(default=0)
    disk_mib = models.PositiveBigIntegerField(default=0)
    journal = models.UUIDField(null=True, blank=True)  # whose reports `last_seq` counts
    last_seq = models.PositiveBigIntegerField(default=0)
    free_disk_mib = models.PositiveBigIntegerField(null=True, blank=True)
    foreign = models.JSONField(default=list, blank=True)  # its domains of which there is no row here
    sampled_minute = models.PositiveBigIntegerField(default=0)  # of the epoch: the last that Sample has

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def new_secret() -> str:
        return secrets.token_urlsafe(32)

    @property
    def secrets(self) -> list[str]:
        """The sums of the credentials that are good now."""
        return [sha256 for sha256 in (self.secret_sha256, self.old_secret_sha256) if sha256]

    def knows(self, secret: str) -> bool:
        """Whether this is a credential of this dom0's."""
        found = self.digest(secret)
        return any(secrets.compare_digest(found, good) for good in self.secrets)

    @property
    def uses_new_secret(self) -> bool:
        """Whether its agent said that it runs with the newest credential."""
        used = self.inventory.get("agent", {}).get("credential")
        return bool(used) and used == self.secret_sha256[:16]

    @staticmethod
    def digest(secret: str) -> str:
        return hashlib.sha256(secret.encode()).hexdigest()

    @property
    def heard_lately(self) -> bool:
        """Whether an inventory came within BERTH_SILENT_AFTER seconds."""
        limit = timezone.now() - timedelta(seconds=settings.BERTH_SILENT_AFTER)
        return self.heard_at is not None and self.heard_at >= limit

    @property
    def xen(self) -> dict[str, Any] | None:
        """Version and capabilities; None when the host runs without Xen or was never heard."""
        return self.inventory.get("xen")

    @property
    def verbs(self) -> list[str]:
        """The verbs that its agent announced."""
        return list(self.inventory.get("agent", {}).get("verbs", []))

    def can(self, what: str) -> bool:
        """Whether its agent announced a thing that older ones do not know; so may one that was never heard."""
        agent = self.inventory.get("agent")
        return not agent or what in agent.get("can", [])

    @property
    def alarms(self) -> list[dict[str, str]]:
        """What it says is wrong, and what is seen of it: sentences with a code."""
        told = list(self.inventory.get("alarms", []))
        there = self.inventory.get("bridges")
        # A simulated dom0 has no bridges of its own unless its configuration names some.
        if self.xen and there is not None and self.bridge not in there and (there or not self.simulated):
            text = _(
                "The bridge %(bridge)s of its servers is not there; make it on the dom0. It has %(there)s."
            )
            text %= {"bridge": self.bridge, "there": ", ".join(map(str, there)) or _("none")}
            told.append({"code": "bridge", "text": text})
        return told

    def capacity(self) -> dict[str, dict[str, int]]:
        """{resource: {"total", "promised", "free"}} for memory_mib and disk_mib."""
        totals = {"memory_mib": self.memory_mib, "disk_mib": self.disk_mib}
        promised = dict.fromkeys(totals, 0)
        rows = self.capacity_entries.order_by().values("resource").annotate(total=Sum("amount"))
        promised.update({row["resource"]: row["total"] for row in rows})
        return {
            r: {"total": total, "promised": promised[r], "free": total - promised[r]}
            for r, total in totals.items()
        }

    def why_not(self, memory_mib: int, vcpus: int, disk_mib: int) -> str:
        """Why a server of this size cannot be placed here, "" when it can (H8)."""
        if not self.accepts_new:
            return _("%(dom0)s takes no new servers; its page can change that.") % {"dom0": self.name}
        if not self.heard_lately:
            return _("%(dom0)s was not heard lately.") % {"dom0": self.name}
        if not self.xen:
            return _("%(dom0)s runs without Xen at the moment.") % {"dom0": self.name}
        if vcpus > self.cpus:
            return _("%(dom0)s has %(cpus)s cpus; the server wants %(vcpus)s.") % {
                "dom0": self.name,
                "cpus": self.cpus,
                "vcpus": vcpus,
            }
        free = self.capacity()
        if memory_mib > free["memory_mib"]["free"]:
            return _("%(dom0)s has %(free)s MiB of memory left; the server wants %(want)s MiB.") % {
                "dom0": self.name,
                "free": max(0, free["memory_mib"]["free"]),
                "want": memory_mib,
            }
        if disk_mib + BOOT_DISK_MIB > free["disk_mib"]["free"]:
            return _("%(dom0)s has %(free)s MiB of disk left; the server wants %(want)s MiB.") % {
                "dom0": self.name,
                "free": max(0, free["disk_mib"]["free"]),
                "want": disk_mib + BOOT_DISK_MIB,
            }
        return ""

    @classmethod
    def lock(cls, pk: UUID) -> Dom0:
        """The row, locked until the transaction ends. Whoever books room takes it first, before domUs and tenants.

        So does the collector (vps.reports): in another order the two could wait for each other. Not the key: whoever
        writes an operation of this dom0 refers to it while holding a domU, which may be wanted next.
        """
        return cls.objects.select_for_update(no_key=True).get(pk=pk)

    def promise(self, amounts: Mapping[str, int], subject: str, reason: str) -> None:
        """Book room without asking whether it is there (`place` asks, under the lock of this row)."""
        CapacityEntry.objects.bulk_create(
            CapacityEntry(dom0=self, resource=r, amount=amount, subject=subject, reason=reason)
            for r, amount in amounts.items()
            if amount
        )

    def place(self, memory_mib: int, vcpus: int, disk_mib: int, subject: str, reason: str) -> None:
        """Book the room of a server. Raises NoRoom, and then books nothing."""
        with transaction.atomic():
            locked = Dom0.lock(self.pk)
            if why := locked.why_not(memory_mib, vcpus, disk_mib):
                raise NoRoom(why)
            locked.promise({"memory_mib": memory_mib, "disk_mib": disk_mib + BOOT_DISK_MIB}, subject, reason)

    def extend(self, more_mib: int, vcpus: int, subject: str, reason: str) -> None:
        """Book more (or less) memory for a server that is here. Raises NoRoom, and then books nothing."""
        with transaction.atomic():
            locked = Dom0.lock(self.pk)
            if why := locked.why_not_larger(more_mib, vcpus):
                raise NoRoom(why)
            locked.promise({"memory_mib": more_mib}, subject, reason)

    def why_not_larger(self, more_mib: int, vcpus: int) -> str:
        """Why a server that is here cannot have so much more memory and so many cpus, "" when it can (H8)."""
        if self.cpus and vcpus > self.cpus:
            return _("%(dom0)s has %(cpus)s cpus; the server wants %(vcpus)s.") % {
                "dom0": self.name,
                "cpus": self.cpus,
                "vcpus": vcpus,
            }
        free = self.capacity()["memory_mib"]["free"]
        if more_mib > max(0, free):
            return _("%(dom0)s has %(free)s MiB of memory left; the server wants %(want)s MiB more.") % {
                "dom0": self.name,
                "free": max(0, free),
                "want": more_mib,
            }
        return ""

    def promised_to(self, subject: str) -> dict[str, int]:
        """What is booked on one subject."""
        return self.promised_to_each([subject])[subject]

    def promised_to_each(self, subjects: Iterable[str]) -> dict[str, dict[str, int]]:
        """What is booked on each subject, in one query."""
        found: dict[str, dict[str, int]] = {subject: {} for subject in subjects}
        rows = (
            self.capacity_entries.filter(subject__in=found)
            .order_by()
            .values("subject", "resource")
            .annotate(total=Sum("amount"))
        )
        for row in rows:
            if row["total"]:
                found[row["subject"]][row["resource"]] = row["total"]
        return found

    def give_back(self, subject: str, reason: str) -> None:
        """Take back all that is booked on `subject`."""
        with transaction.atomic():
            Dom0.lock(self.pk)
            booked = self.promised_to(subject)
            self.promise({resource: -amount for resource, amount in booked.items()}, subject, reason)


class CapacityEntry(models.Model):
    """One line of the ledger of a dom0's room, in MiB. Never changed, only added."""

    dom0 = models.ForeignKey(Dom0, models.PROTECT, related_name="capacity_entries")
    resource = models.CharField(max_length=16)
    amount = models.BigIntegerField()
    subject = models.CharField(max_length=80)
    reason = models.CharField(max_length=200)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["dom0", "resource"]), models.Index(fields=["subject"])]

    def __str__(self) -> str:
        return f"{self.dom0}: {self.amount} {self.resource} ({self.subject})"
