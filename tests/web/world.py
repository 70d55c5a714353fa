"""Rows that the tests of delivery share: a dom0 that was heard, a server on it, and its agent's mouth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from accounts.models import Tenant
from accounts.models.quota import grant_default
from vps import reports
from vps.agent.inventory import CAN
from vps.models import Disk, Dom0, Domu, MacAddress, Nic
from vps.xen.messages import Report, ReportKind, Verb


def make_dom0(name: str = "dom0-a", secret: str = "s3cret") -> Dom0:
    return Dom0.objects.create(name=name, secret_sha256=Dom0.digest(secret))


def make_domu(dom0: Dom0, name: str = "web1", tenant: Tenant | None = None, **fields: Any) -> Domu:
    """A server whose first prepare is done, stopped, not seen yet."""
    if tenant is None:
        tenant = Tenant.objects.create(name=f"Tenant of {name}")
        grant_default(tenant)
    domu = Domu.objects.create(
        tenant=tenant, dom0=dom0, name=name, guest_os="netbsd", memory_mib=256, vcpus=1, made=True, **fields
    )
    Disk.objects.create(domu=domu, index=0, size_mib=64)
    Nic.objects.create(domu=domu, mac=MacAddress.give(domu.pk), bridge="xenbr0")
    return domu


@dataclass
class Mouth:
    """Speaks as the agent of a dom0 would; `clock` is Redis TIME in ms."""

    dom0: Dom0
    journal: UUID = field(default_factory=uuid4)
    seq: int = 0
    clock: int = 1_000_000

    def say(self, kind: ReportKind, body: dict[str, Any], *, kept: bool = True) -> tuple[UUID, int] | None:
        self.clock += 1000
        if kept:
            self.seq += 1
        report = Report(self.dom0.pk, self.journal, self.seq if kept else 0, kind, self.clock, body)
        return reports.apply(self.dom0, report.as_text())

    def outcome(self, operation: Any, outcome: str, **more: Any) -> None:
        body = {
            "operation": str(operation.pk),
            "domu": str(operation.domu_id),
            "outcome": outcome,
            "generation": [operation.epoch, operation.n],
            **more,
        }
        self.say(ReportKind.OPERATION, body)

    def inventory(
        self,
        domains: dict[Domu, str],
        *,
        xen: bool = True,
        domus: list[dict[str, Any]] | None = None,
        **agent: Any,
    ) -> None:
        rows = [
            {"uuid": str(UUID(int=0)), "name": "Domain-0", "domid": 0, "memory_mib": 512, "state": "running"}
        ]
        for number, (domu, state) in enumerate(domains.items(), start=1):
            rows.append(
                {
                    "uuid": str(domu.pk),
                    "name": domu.name,
                    "domid": number,
                    "memory_mib": 256,
                    "state": state,
                }
            )
        body = {
            "agent": {
                "version": "0.1",
                "schema": 1,
                "verbs": [v.value for v in Verb],
                "can": list(CAN),
                **agent,
            },
            "xen": {"version": "4.17.7", "caps": ["xen-3.0-x86_64"]} if xen else None,
            "memory_mib": 4096,
            "free_memory_mib": 3000,
            "cpus": 4,
            "disk_mib": 100_000,
            "free_disk_mib": 90_000,
            "domains": rows if xen else [],
            "domus": domus or [],
            "alarms": [],
        }
        self.say(ReportKind.INVENTORY, body, kept=False)
