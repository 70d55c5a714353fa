"""What a server holds: of its tenant's quota, and of its dom0's room. The ledgers are kept at that.

A larger size is booked when it is approved, and a smaller one is given back when the domain that runs is not
larger any more. Of a domain that an old agent does not tell the size of, nothing is given back while it runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from django.db.models import Sum

from accounts.models.quota import use, used_by_each
from vps.models.disk import Disk
from vps.models.dom0 import BOOT_DISK_MIB, Dom0
from vps.models.domu import Domu


def is_certain(domu: Domu) -> bool:
    """Whether it is known what its domain has."""
    return not domu.runs or domu.running_memory_mib is not None


def quota_of(domu: Domu, disk_mib: int | None = None) -> dict[str, int]:
    """What it counts in the quota of its tenant. `disk_mib` of all its disks, where it is known."""
    if domu.purged_at:
        return {}
    disk = {"disk_mib": disks_of([domu])[domu.pk] if disk_mib is None else disk_mib}
    if domu.deleted_at:
        return disk
    return {
        "servers": 1,
        "memory_mib": max(domu.memory_mib, domu.running_memory_mib or 0),
        "vcpus": max(domu.vcpus, domu.running_vcpus or 0),
        **disk,
    }


def room_of(domu: Domu, disk_mib: int | None = None) -> dict[str, int]:
    """What is promised to it on its dom0. A deleted one has its memory until its domain is gone."""
    if domu.purged_at:
        return {}
    disk_mib = disks_of([domu])[domu.pk] if disk_mib is None else disk_mib
    memory = domu.running_memory_mib or 0
    if not domu.deleted_at:
        memory = max(memory, domu.memory_mib)
    return {"memory_mib": memory, "disk_mib": disk_mib + BOOT_DISK_MIB}


def disks_of(domus: Collection[Domu]) -> dict[UUID, int]:
    """MiB of all disks of each."""
    rows = Disk.objects.filter(domu__in=domus, purged_at=None).order_by().values_list("domu")
    return dict.fromkeys((domu.pk for domu in domus), 0) | dict(rows.annotate(Sum("size_mib")))


def settle(domu: Domu, reason: str) -> None:
    """Bring what is booked to what it holds. In the transaction of what changed, its row locked; asks for nothing.

    What runs is booked also where it exceeds what was asked for: the ledgers say what is.
    """
    settle_each(domu.dom0, {domu: reason})


def settle_each(dom0: Dom0, reasons: Mapping[Domu, str]) -> None:
    """The same for several servers of one dom0, each with its reason; three queries where nothing is to be booked."""
    if not reasons:
        return
    subjects = [domu.subject for domu in reasons]
    disks, used, promised = disks_of(reasons), used_by_each(subjects), dom0.promised_to_each(subjects)
    for domu, reason in reasons.items():
        certain = is_certain(domu)
        quota = _more(quota_of(domu, disks[domu.pk]), used[domu.subject])
        if quota and (domu.deleted_at or certain):
            use(domu.tenant, quota, domu.subject, reason, over=True)
        room = _more(room_of(domu, disks[domu.pk]), promised[domu.subject])
        if room and certain:
            dom0.promise(room, domu.subject, reason)


def _more(wanted: dict[str, int], booked: dict[str, int]) -> dict[str, int]:
    """What is to be booked yet (or, negative, given back); {} when they agree."""
    found = {name: wanted.get(name, 0) - booked.get(name, 0) for name in {**booked, **wanted}}
    return {name: amount for name, amount in found.items() if amount}
