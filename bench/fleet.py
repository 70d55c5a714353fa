"""A database full of dom0s and servers, as months of use leave them; nothing of it runs."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

if TYPE_CHECKING:
    from accounts.models import Tenant, User
    from vps.models import Dom0, Domu

VERBS = [
    "cancel",
    "delete",
    "destroy",
    "look",
    "pause",
    "prepare",
    "reboot",
    "shutdown",
    "start",
    "try",
    "unpause",
]
EVENTS = 3  # of each server
BATCH = 1000
DISK_MIB = 8192


def database(folder: Path) -> None:
    """Django with an empty database: in `folder`, or where BERTH_DATABASE_URL says."""
    os.environ.update(
        DJANGO_SETTINGS_MODULE="bench.settings",
        BERTH_DATA_DIR=str(folder),
        BERTH_SECRET_KEY=secrets.token_urlsafe(32),
        BERTH_QUICKSTART="1",  # operators need no second factor there
        BERTH_LOG_LEVEL="WARNING",
    )
    folder.mkdir(parents=True, exist_ok=True)
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def person(name: str, *, operator: bool = False) -> User:
    from accounts.models import User

    # Without a password: making its sum takes longer than all the rest of a row.
    return User.objects.create_user(f"{name}@example.org", None, name=name, is_operator=operator)


def tenant(name: str, owner: User) -> Tenant:
    from accounts.models import Tenant

    return Tenant.found(name, owner)


def fleet(dom0s: int, domus: int, tenants: Sequence[Tenant], prefix: str = "") -> list[Dom0]:
    """Heard just now, each server running, with a disk, an address, a saved menu and events."""
    from django.utils import timezone

    from vps.models import Dom0, Domu

    now = timezone.now()
    hosts = [
        Dom0(
            name=f"{prefix}dom0-{n:04}", simulated=True, secret_sha256=secrets.token_hex(32), heard_at=now,
            memory_mib=65536, cpus=32, disk_mib=2_000_000,
        )
        for n in range(dom0s)
    ]  # fmt: skip
    rows = [
        Domu(
            tenant=tenants[n % len(tenants)], dom0=hosts[n % dom0s], name=f"{prefix}web{n:05}",
            guest_os="netbsd" if n % 3 else "linux", memory_mib=256 << n % 3, vcpus=1 + n % 2, made=True,
            wanted="running", observed="running", observed_ms=1, domid=1 + n // dom0s, run=uuid4(), boots=1 + n % 7,
            booted_at=now - timedelta(hours=n % 500), booted_label="NetBSD 10.1, XEN3_DOMU", menu_serial=1,
            prepared_serial=1, n=3,
        )
        for n in range(domus)
    ]  # fmt: skip
    on: dict[UUID, list[Domu]] = {host.pk: [] for host in hosts}
    for row in rows:
        on[row.dom0_id].append(row)
    for host in hosts:
        host.inventory = inventory(on[host.pk])
    Dom0.objects.bulk_create(hosts, BATCH)
    Domu.objects.bulk_create(rows, BATCH)
    _belongings(rows)
    _ledgers(rows)
    return hosts


def _belongings(rows: list[Domu]) -> None:
    from vps.models import BootMenu, Disk, Event, MacAddress, Nic

    boot = {
        "method": "pvgrub", "serial": 1, "default": 0, "timeout": 5,
        "loader": {"sha256": "c" * 64, "size": 1_000_000},
        "entries": [
            {
                "title": f"NetBSD {n}", "label": "NetBSD 10.1, XEN3_DOMU", "arguments": "root=xbd0a", "os": "netbsd",
                "kernel": {"sha256": f"{n}" * 64, "size": 20_000_000}, "ramdisk": None,
            }
            for n in range(3)
        ],
    }  # fmt: skip
    first = 0x00163E000000
    numbers = [first | (n & 0xFFFF) | (n & ~0xFFFF) << 1 for n in range(len(rows))]
    start = MacAddress.objects.count()
    numbers = [number + start * 4 for number in numbers] if start else numbers
    macs = [MacAddress(number=n, given_to=row.pk) for n, row in zip(numbers, rows, strict=True)]
    MacAddress.objects.bulk_create(macs, BATCH)
    nics = [Nic(domu=row, mac=mac, bridge="xenbr0") for row, mac in zip(rows, macs, strict=True)]
    Nic.objects.bulk_create(nics, BATCH)
    Disk.objects.bulk_create((Disk(domu=row, index=0, size_mib=DISK_MIB) for row in rows), BATCH)
    BootMenu.objects.bulk_create((BootMenu(domu=row, serial=1, boot=boot) for row in rows), BATCH)
    for n in range(EVENTS):
        told = (
            Event(
                kind="domu.booted", text=f"{row.name} booted NetBSD 10.1, XEN3_DOMU ({n})", domu=row,
                tenant_id=row.tenant_id, dom0_id=row.dom0_id,
            )
            for row in rows
        )  # fmt: skip
        Event.objects.bulk_create(told, BATCH)


def _ledgers(rows: list[Domu]) -> None:
    from accounts.models.quota import QuotaEntry
    from vps.models import CapacityEntry
    from vps.models.dom0 import BOOT_DISK_MIB

    used = (
        QuotaEntry(
            tenant_id=row.tenant_id, resource=resource, kind=QuotaEntry.Kind.USE, amount=amount, subject=row.subject
        )
        for row in rows
        for resource, amount in (
            ("servers", 1), ("memory_mib", row.memory_mib), ("vcpus", row.vcpus), ("disk_mib", DISK_MIB)
        )
    )  # fmt: skip
    QuotaEntry.objects.bulk_create(used, BATCH)
    promised = (
        CapacityEntry(dom0_id=row.dom0_id, resource=resource, amount=amount, subject=row.subject)
        for row in rows
        for resource, amount in (("memory_mib", row.memory_mib), ("disk_mib", DISK_MIB + BOOT_DISK_MIB))
    )
    CapacityEntry.objects.bulk_create(promised, BATCH)


def inventory(rows: Sequence[Domu], state: str = "running", boots: int = 0) -> dict[str, Any]:
    """The body of the report in which a dom0 names these domains."""
    own = {"uuid": str(UUID(int=0)), "name": "Domain-0", "domid": 0, "memory_mib": 1024, "vcpus": 2,
           "state": "running", "cpu_seconds": 4711.5}  # fmt: skip
    domains = [
        {
            "uuid": str(row.pk), "name": row.name, "domid": n, "memory_mib": row.memory_mib, "vcpus": row.vcpus,
            "state": state, "cpu_seconds": 12.5 * n, "read_bytes": 1000 * n, "written_bytes": 2000 * n,
            "received_bytes": 3000 * n, "sent_bytes": 4000 * n,
        }
        for n, row in enumerate(rows, start=1)
    ]  # fmt: skip
    agents = [
        {
            "id": str(row.pk), "generation": [row.epoch, row.n], "wanted": row.wanted, "phase": "idle",
            "menu_serial": row.menu_serial, "boots": boots or row.boots, "run": str(row.run),
        }
        for row in rows
    ]  # fmt: skip
    return {
        "agent": {"version": "0.2", "schema": 1, "verbs": VERBS, "simulated": True, "started": 1, "keys": ["0" * 16],
                  "credential": "0" * 16},
        "xen": {"version": "4.17.7", "caps": ["xen-3.0-x86_64", "hvm-3.0-x86_64"], "virt_caps": ["pv", "hvm"],
                "toolstack": "xl"},
        "error": "", "memory_mib": 66560, "free_memory_mib": 30000, "cpus": 32, "disk_mib": 2_000_000,
        "free_disk_mib": 900_000, "skew_ms": 1, "bridges": ["xenbr0"], "kernel": "6.1.0-28-amd64",
        "domains": [own, *domains], "domus": agents, "alarms": [], "heads": [[n, "f" * 64] for n in range(8)],
    }  # fmt: skip
