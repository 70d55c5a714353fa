"""Compare the ledgers of quota and room with what exists, and say every difference."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand
from django.db import transaction
from django.db.models import Sum

from accounts.models import QuotaEntry, Tenant
from accounts.models.quota import shown, sums
from vps.models import CapacityEntry, Dom0, Domu, ForeignDomain, KernelVersion, Request, Upload
from vps.models.dom0 import BOOT_DISK_MIB
from vps.models.holding import is_certain, quota_of, room_of
from vps.models.size import more_than_held
from vps.models.trial import TrialBoot

Booked = dict[tuple[UUID, str], Counter[str]]  # (tenant or dom0, subject) -> what is booked


class Command(BaseCommand):
    help = "Compares the ledgers of quota and room with what exists. Prints each difference; exits 1 if there is one."

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic():  # one state of the database
            found = list(differences())
        for line in found:
            self.stdout.write(line)
        if found:
            self.stdout.write(f"{len(found)} differences")
            sys.exit(1)
        self.stdout.write("The ledgers agree with what exists.")


def differences() -> Iterator[str]:
    """A sentence for each."""
    quota, room = _booked_quota(), _booked_room()
    yield from _of_domus(quota, room)
    yield from _of_requests(quota)
    yield from _of_kernels(quota)
    yield from _of_others(room)
    tenants = dict(Tenant.objects.values_list("pk", "name"))
    for (tenant, subject), booked in quota.items():
        if any(booked.values()):
            yield f"{tenants[tenant]}: {_text(booked)} booked for {subject}, of which nothing is there."
    dom0s = dict(Dom0.objects.values_list("pk", "name"))
    for (dom0, subject), booked in room.items():
        if any(booked.values()):
            yield f"{dom0s[dom0]}: {_text(booked)} promised to {subject}, of which nothing is there."
    yield from _of_limits()
    yield from _of_dom0s()


def _booked_quota() -> Booked:
    rows = QuotaEntry.objects.filter(kind=QuotaEntry.Kind.USE).order_by()
    return _summed(rows.values_list("tenant", "subject", "resource").annotate(total=Sum("amount")))


def _booked_room() -> Booked:
    rows = CapacityEntry.objects.order_by()
    return _summed(rows.values_list("dom0", "subject", "resource").annotate(total=Sum("amount")))


def _summed(rows: Any) -> Booked:
    found: Booked = {}
    for owner, subject, resource, total in rows:
        found.setdefault((owner, subject), Counter())[resource] = total
    return found


def _of_domus(quota: Booked, room: Booked) -> Iterator[str]:
    """Servers, deleted ones too; what is booked for them is taken out of the books."""
    for domu in Domu.objects.present().select_related("tenant", "dom0").prefetch_related("disks"):
        booked = quota.pop((domu.tenant_id, domu.subject), Counter())
        promised = room.pop((domu.dom0_id, domu.subject), Counter())
        if not is_certain(domu):
            continue  # an old agent runs it, and does not tell its size
        yield from _differ(f"{domu.tenant}: {domu}", "booked", booked, quota_of(domu))
        yield from _differ(f"{domu.dom0}: {domu}", "promised", promised, room_of(domu))


def _of_requests(quota: Booked) -> Iterator[str]:
    for asked in Request.objects.waiting().select_related("tenant", "domu"):
        booked = quota.pop((asked.tenant_id, asked.subject), Counter())
        name = f"{asked.tenant}: the request for {asked.title}"
        if asked.kind == Request.Kind.SERVER:
            yield from _differ(name, "booked", booked, asked.amounts)
        elif asked.kind == Request.Kind.RESIZE and asked.domu is not None:
            # What the server held may have become less since; then more is asked for than is booked.
            most = more_than_held(asked.domu, asked.memory_mib, asked.vcpus)
            over = {n: amount for n, amount in booked.items() if amount > most.get(n, 0)}
            yield from _differ(name, "booked", Counter(over), {n: most.get(n, 0) for n in over})
        else:
            yield from _differ(name, "booked", booked, {})


def _of_kernels(quota: Booked) -> Iterator[str]:
    rows = KernelVersion.objects.exclude(kernel__tenant=None).filter(deleted_at=None)
    for version in rows.select_related("kernel__tenant"):
        tenant = version.kernel.tenant
        assert tenant is not None
        booked = quota.pop((tenant.pk, version.subject), Counter())
        if version.state == KernelVersion.State.INSPECTING:
            continue
        yield from _differ(f"{tenant}: kernel {version}", "booked", booked, {"kernel_bytes": stored(version)})
    for upload in Upload.objects.exclude(tenant=None).select_related("tenant"):
        quota.pop((upload.tenant_id, f"upload:{upload.pk}"), None)  # type: ignore[arg-type]


def _of_others(room: Booked) -> Iterator[str]:
    """What takes room on a dom0 beside servers: open trial boots, and domains that are not Berth's."""
    for trial in TrialBoot.objects.filter(ended_at=None).select_related("dom0", "version"):
        promised = room.pop((trial.dom0_id, trial.subject), Counter())
        wanted = {"memory_mib": trial.memory_mib, "disk_mib": BOOT_DISK_MIB}
        yield from _differ(f"{trial.dom0}: the trial boot of {trial.version}", "promised", promised, wanted)
    kept = ForeignDomain.objects.filter(standing=ForeignDomain.Standing.KEPT).select_related("dom0")
    for domain in kept:
        promised = room.pop((domain.dom0_id, domain.subject), Counter())
        wanted = {"memory_mib": domain.memory_mib}
        yield from _differ(f"{domain.dom0}: the domain {domain}", "promised", promised, wanted)


def stored(version: KernelVersion) -> int:
    """Bytes of all files of a version."""
    return sum(blob.size for blob in version.blobs)


def _differ(what: str, verb: str, booked: Counter[str], wanted: dict[str, int]) -> Iterator[str]:
    for name in sorted({*booked, *wanted}):
        if booked.get(name, 0) != wanted.get(name, 0):
            yield (
                f"{what}: {shown(name, booked.get(name, 0))} of {name} {verb}, "
                f"and it has {shown(name, wanted.get(name, 0))}."
            )


def _of_limits() -> Iterator[str]:
    for tenant in Tenant.objects.order_by("name"):
        for name, line in sums(tenant).items():
            if line["used"] < 0:
                yield f"{tenant}: {shown(name, line['used'])} of {name} used, which is less than nothing."


def _of_dom0s() -> Iterator[str]:
    """More promised than a dom0 has: it was shrunk, or something is wrong."""
    for dom0 in Dom0.objects.exclude(memory_mib=0):
        for name, line in dom0.capacity().items():
            if line["promised"] > line["total"]:
                yield (
                    f"{dom0}: {shown(name, line['promised'])} of {name} promised, "
                    f"and it has {shown(name, line['total'])}."
                )


def _text(booked: Counter[str]) -> str:
    return ", ".join(f"{shown(name, amount)} of {name}" for name, amount in sorted(booked.items()) if amount)
