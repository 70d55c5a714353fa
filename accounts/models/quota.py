"""The quota ledger: what a tenant was granted and what it uses, as entries that are never changed.

The sum of the grants is the limit, the sum of the uses is what is taken. A pending request uses already, so that
two requests cannot both be approved into the same room.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.conf import settings
from django.db import models, transaction
from django.db.models import Sum
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts.models.tenant import Tenant
from accounts.models.user import User


class Resource(models.TextChoices):
    SERVERS = "servers", gettext_lazy("servers")
    MEMORY = "memory_mib", gettext_lazy("memory")
    VCPUS = "vcpus", gettext_lazy("virtual cpus")
    DISK = "disk_mib", gettext_lazy("disk")
    KERNELS = "kernel_bytes", gettext_lazy("kernels")


class QuotaExceeded(Exception):
    """A tenant asked for more than is left; the text says what and how much."""


class QuotaEntry(models.Model):
    """One line of the ledger. `amount` is in the unit that the resource's name tells; it may be negative."""

    class Kind(models.TextChoices):
        GRANT = "grant", gettext_lazy("granted")
        USE = "use", gettext_lazy("used")

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="quota_entries")
    resource = models.CharField(max_length=16, choices=Resource.choices)
    kind = models.CharField(max_length=8, choices=Kind.choices)
    amount = models.BigIntegerField()
    subject = models.CharField(max_length=80)  # "domu:<id>", "request:<id>", "kernel-version:<id>"
    reason = models.CharField(max_length=500, blank=True)
    by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["tenant", "resource", "kind"]), models.Index(fields=["subject"])]

    def __str__(self) -> str:
        return f"{self.tenant}: {self.kind} {self.amount} {self.resource} ({self.subject})"

    def save(self, *args: object, **kwargs: object) -> None:
        if self.pk is not None:
            raise TypeError("A line of the ledger is never changed; write another one.")
        super().save(*args, **kwargs)  # type: ignore[arg-type]

    def delete(self, *args: object, **kwargs: object) -> tuple[int, dict[str, int]]:
        raise TypeError("A line of the ledger is never deleted; write another one.")


class DefaultLimit(models.Model):
    """A limit that new tenants begin with, as an operator set it."""

    resource = models.CharField(primary_key=True, max_length=16, choices=Resource.choices)
    amount = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.resource}: {self.amount}"


def sums(tenant: Tenant) -> dict[str, dict[str, int]]:
    """{resource: {"limit", "used", "left"}} of a tenant."""
    found: dict[str, dict[str, int]] = {r: {"limit": 0, "used": 0, "left": 0} for r in Resource.values}
    rows = (
        QuotaEntry.objects.filter(tenant=tenant)
        .order_by()
        .values("resource", "kind")
        .annotate(total=Sum("amount"))
    )
    for row in rows:
        key = "limit" if row["kind"] == QuotaEntry.Kind.GRANT else "used"
        found[row["resource"]][key] = row["total"]
    for line in found.values():
        line["left"] = line["limit"] - line["used"]
    return found


def grant(
    tenant: Tenant,
    amounts: Mapping[str, int],
    reason: str,
    by: User | None = None,
    *,
    subject: str = "",
) -> None:
    """Raise (or, with negative amounts, lower) the limits of a tenant. `subject`: what it came of."""
    QuotaEntry.objects.bulk_create(
        QuotaEntry(
            tenant=tenant,
            resource=resource,
            kind=QuotaEntry.Kind.GRANT,
            amount=amount,
            subject=subject or f"tenant:{tenant.pk}",
            reason=reason,
            by=by,
        )
        for resource, amount in amounts.items()
        if amount
    )


def default_limits() -> dict[str, int]:
    """What a new tenant gets: what operators set, and settings.BERTH_DEFAULT_QUOTA for what they did not."""
    return {**settings.BERTH_DEFAULT_QUOTA, **dict(DefaultLimit.objects.values_list("resource", "amount"))}


def grant_default(tenant: Tenant, by: User | None = None) -> None:
    """Give a new tenant the default."""
    grant(tenant, default_limits(), "default for new tenants", by)


def set_limits(tenant: Tenant, limits: Mapping[str, int], reason: str, by: User) -> dict[str, dict[str, int]]:
    """Bring the limits to these numbers by lines that say why; {"before", "after"} of those that changed."""
    with transaction.atomic():
        Tenant.objects.select_for_update(no_key=True).get(pk=tenant.pk)
        now = sums(tenant)
        before = {name: now[name]["limit"] for name, limit in limits.items() if limit != now[name]["limit"]}
        after = {name: limits[name] for name in before}
        grant(tenant, {name: after[name] - before[name] for name in before}, reason, by)
    return {"before": before, "after": after}


def use(
    tenant: Tenant,
    amounts: Mapping[str, int],
    subject: str,
    reason: str,
    by: User | None = None,
    *,
    over: bool = False,
) -> None:
    """Book the use of `amounts` for `subject`. Raises QuotaExceeded, and then books nothing.

    The tenant's row is locked, so that two bookings are judged one after the other. `over` books even what
    exceeds (an operator's decision, or something that exists already).
    """
    with transaction.atomic():
        Tenant.objects.select_for_update(no_key=True).get(pk=tenant.pk)
        if not over:
            _check(tenant, amounts)
        QuotaEntry.objects.bulk_create(
            QuotaEntry(
                tenant=tenant,
                resource=resource,
                kind=QuotaEntry.Kind.USE,
                amount=amount,
                subject=subject,
                reason=reason,
                by=by,
            )
            for resource, amount in amounts.items()
            if amount
        )


def used_by(subject: str) -> dict[str, int]:
    """What is booked on one subject."""
    return used_by_each([subject])[subject]


def used_by_each(subjects: Iterable[str]) -> dict[str, dict[str, int]]:
    """What is booked on each subject, in one query."""
    found: dict[str, dict[str, int]] = {subject: {} for subject in subjects}
    rows = (
        QuotaEntry.objects.filter(subject__in=found, kind=QuotaEntry.Kind.USE)
        .order_by()
        .values("subject", "resource")
        .annotate(total=Sum("amount"))
    )
    for row in rows:
        if row["total"]:
            found[row["subject"]][row["resource"]] = row["total"]
    return found


def release(tenant: Tenant, subject: str, reason: str, by: User | None = None) -> None:
    """Take back all that is booked on `subject`; a second call finds nothing left to take."""
    with transaction.atomic():
        Tenant.objects.select_for_update(no_key=True).get(pk=tenant.pk)
        booked = used_by(subject)
        use(tenant, {r: -amount for r, amount in booked.items()}, subject, reason, by, over=True)


def _check(tenant: Tenant, amounts: Mapping[str, int]) -> None:
    now = sums(tenant)
    for resource, amount in amounts.items():
        if amount > 0 and amount > now[resource]["left"]:
            raise QuotaExceeded(
                _("%(tenant)s asks for %(amount)s of %(resource)s, but %(left)s of %(limit)s is left.")
                % {
                    "tenant": tenant.name,
                    "resource": Resource(resource).label,
                    "amount": shown(resource, amount),
                    "left": shown(resource, max(0, now[resource]["left"])),
                    "limit": shown(resource, now[resource]["limit"]),
                }
            )


def shown(resource: str, amount: int) -> str:
    """An amount as people read it: `1.5 GiB`, `3`."""
    if resource == Resource.KERNELS:
        return size_text(amount)
    if resource in (Resource.MEMORY, Resource.DISK):
        if not amount:
            return "0 MiB"
        return size_text(amount * 1024 * 1024)
    return str(amount)


def named(resource: str, amount: int) -> str:
    """An amount with what it is of."""
    if resource == Resource.SERVERS:
        return ngettext("%(n)d server", "%(n)d servers", amount) % {"n": amount}
    if resource == Resource.VCPUS:
        return ngettext("%(n)d cpu", "%(n)d cpus", amount) % {"n": amount}
    return _("%(amount)s of %(what)s") % {
        "amount": shown(resource, amount),
        "what": Resource(resource).label,
    }


def size_text(amount: int) -> str:
    """Bytes as B, KiB, MiB, GiB or TiB."""
    value = float(amount)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if value == int(value) else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
