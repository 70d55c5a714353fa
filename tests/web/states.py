"""Every state that a page has a face for, at once: for the tests that look at pages."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from tests.web.conftest import ASKED, Cast, make_version
from tests.web.world import Mouth, make_dom0, make_domu
from vps.models import Alarm, Dom0, Domu, Event, KernelVersion, Operation, Request
from vps.models.boot import BootMenu
from vps.models.boot_try import BootTry
from vps.models.operation import State
from vps.models.sample import Sample
from vps.xen.messages import Verb
from vps.xen.reconcile import Phase

PANIC = """[    1.204871] VFS: Cannot open root device "xvda9" or unknown-block(0,0): error -6
[    1.204902] Please append a correct "root=" boot option; here are the available partitions:
[    1.204944] ca01          8388608 xvda1  driver: vbd
[    1.204979] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)
"""
XL_SAYS = """libxl: error: libxl_create.c:1223:domcreate_launch_dm: Domain 7:unable to add disk devices
libxl: error: libxl_domain.c:1183:libxl__destroy_domid: Domain 7:Non-existant domain
"""
LONG_NAME = "mail-and-everything-else-of-the-whole-department-of-physics-2026"[:63]


def silent_dom0(name: str = "dom0-silent", hours: int = 5) -> Mouth:
    """A dom0 that said nothing for hours, with the alarm that was opened for it."""
    mouth = Mouth(make_dom0(name))
    mouth.inventory({})
    since = timezone.now() - timedelta(hours=hours)
    Dom0.objects.filter(pk=mouth.dom0.pk).update(heard_at=since)
    mouth.dom0.refresh_from_db()
    Alarm.objects.create(
        kind=Alarm.Kind.SILENT,
        subject=f"dom0:{mouth.dom0.pk}",
        dom0=mouth.dom0,
        text=f"{name} was not heard for a while. What runs there goes on; what is asked for waits.",
        opened_at=since + timedelta(minutes=2),
    )
    return mouth


def all_servers(cast: Cast, mouth: Mouth, version: KernelVersion) -> dict[str, Domu]:
    """A server of the cast's tenant in each state, by the word of the state."""
    made: dict[str, Domu] = {}

    def server(name: str, **fields: Any) -> Domu:
        return make_domu(mouth.dom0, name, cast.tenant, **{"n": 3, **fields})

    def under_way(domu: Domu, verb: Verb, step: str) -> Operation:
        return Operation.objects.create(
            domu=domu,
            dom0=domu.dom0,
            verb=verb.value,
            state=State.RUNNING,
            by=cast.owner,
            step=step,
            steps=[{"name": "Files", "seconds": 0.4}, {"name": step, "seconds": None}],
            sent_at=timezone.now(),
            heard_at=timezone.now(),
            epoch=1,
            n=3,
        )

    made["running"] = server("web-up", observed="running", wanted="running", domid=2, boots=3)
    Domu.objects.filter(pk=made["running"].pk).update(
        booted_at=timezone.now() - timedelta(hours=30), booted_label="generic 1"
    )
    made["provisioning"] = server("web-new", observed="gone")
    Domu.objects.filter(pk=made["provisioning"].pk).update(made=False)
    under_way(made["provisioning"], Verb.PREPARE, "Writing disk 0")
    made["unfinished"] = server("web-unfinished", observed="gone")
    Domu.objects.filter(pk=made["unfinished"].pk).update(made=False)
    failed_operation(made["unfinished"], cast, Verb.PREPARE, "The volume group vg0 has no room for 40 GiB.")
    made["starting"] = server("web-starting", observed="gone", wanted="running")
    under_way(made["starting"], Verb.START, "Building the domain")
    made["stopping"] = server("web-stopping", observed="running")
    under_way(made["stopping"], Verb.SHUTDOWN, "Waiting for the guest")
    made["rebooting"] = server("web-rebooting", observed="running", wanted="running", phase=Phase.RESTARTING)
    made["deleting"] = server("web-deleting", observed="running")
    under_way(made["deleting"], Verb.DELETE, "Destroying the domain")
    made["paused"] = server(LONG_NAME, observed="paused", wanted="running", domid=4)
    made["failed"] = server("web-failed", observed="gone")
    failed_operation(
        made["failed"], cast, Verb.START, "xl could not add a disk of the server; its backend did not answer."
    )
    made["gone_wrong"] = server("web-gone", observed="gone", wanted="running")
    made["crashed"] = server(
        "web-crashed",
        observed="gone",
        wanted="running",
        phase=Phase.LIMIT,
        last_end={
            "reason": "crash",
            "code": 3,
            "next": "limit",
            "tail": PANIC,
            "at": (timezone.now() - timedelta(minutes=9)).isoformat(),
        },
    )
    made["locked"] = server("web-locked", observed="gone", locked="It sent mail to half the world.")
    silent = silent_dom0()
    made["not_heard"] = make_domu(
        silent.dom0, "web-silent", cast.tenant, n=3, observed="running", wanted="running"
    )
    no_xen = Mouth(make_dom0("dom0-without-xen"))
    no_xen.inventory({}, xen=False)
    made["unknown"] = make_domu(
        no_xen.dom0, "web-unknown", cast.tenant, n=3, observed="running", wanted="running"
    )
    made["deleted"] = server("web-wiped", observed="gone")
    past = timezone.now() - timedelta(days=3)
    Domu.objects.filter(pk=made["deleted"].pk).update(deleted_at=past, keep_until=past, purged_at=past)
    made["trying"] = trying(server("web-trying", observed="running", wanted="running"), cast, version)
    return made


def failed_operation(domu: Domu, cast: Cast, verb: Verb, text: str, state: str = State.FAILED) -> Operation:
    """One that came to nothing, with the dom0's own words."""
    return Operation.objects.create(
        domu=domu,
        dom0=domu.dom0,
        verb=verb.value,
        state=state,
        by=cast.owner,
        epoch=1,
        n=3,
        steps=[{"name": "Files", "seconds": 0.4}, {"name": "Building the domain", "seconds": 12.0}],
        error={"code": "xl", "text": text, "output": XL_SAYS},
        remains="The server is stopped, as before.",
        sent_at=timezone.now(),
        ended_at=timezone.now() + timedelta(seconds=13),
    )


def trying(domu: Domu, cast: Cast, version: KernelVersion) -> Domu:
    """Make it one that runs something on trial, with a minute left."""
    entry = {"title": "NetBSD with npf", "version": str(version.pk)}
    menu = BootMenu.objects.create(
        domu=domu, serial=1, boot={"method": "pvgrub", "serial": 1, "entries": []}, by=cast.owner
    )
    operation = Operation.objects.create(
        domu=domu, dom0=domu.dom0, verb=Verb.TRY.value, state=State.DONE, by=cast.owner, epoch=1, n=3
    )
    BootTry.objects.create(
        domu=domu,
        operation=operation,
        menu=menu,
        title=entry["title"],
        label="npf 2",
        back="NetBSD 10.1 (generic 1)",
        seconds=120,
        signs=[{"kind": "console", "text": "login:"}],
        by=cast.owner,
        state=BootTry.State.TRYING,
        until=timezone.now() + timedelta(minutes=30),
    )
    Domu.objects.filter(pk=domu.pk).update(phase=Phase.TRYING)
    return Domu.objects.get(pk=domu.pk)


def all_requests(cast: Cast, domu: Domu, mouth: Mouth) -> dict[str, Request]:
    """A request of each kind that waits, and one of each ending."""
    made = {
        "resize": Request.ask_size(domu, cast.owner, 768, 2, "The build needs more memory."),
        "quota": Request.ask_quota(cast.tenant, cast.owner, {"memory_mib": 2048, "servers": 2}, "Spring."),
    }

    def asked(name: str) -> Request:
        small = {**ASKED, "memory_mib": 64, "disk_mib": 64}
        return Request.ask(tenant=cast.tenant, by=cast.owner, name=name, **small)

    made["refused"] = asked("web-no")
    made["refused"].refuse(cast.operator, "There is no room before May; ask again then, or for 512 MiB.")
    made["withdrawn"] = asked("web-never")
    made["withdrawn"].withdraw(cast.owner)
    made["expired"] = asked("web-late")
    made["expired"].expire()
    made["partly"] = asked("web-partly")
    made["partly"].approve(cast.operator, mouth.dom0, words="Half of it for now.", size={"memory_mib": 48})
    return made


def all_operations(cast: Cast, domu: Domu) -> dict[str, Operation]:
    """One of each ending."""
    return {
        state: failed_operation(domu, cast, Verb.REBOOT, "The order came too late.", state)
        for state in (State.FAILED, State.REFUSED, State.SUPERSEDED, State.CANCELLED, State.LOST)
    }


def all_kernels(cast: Cast) -> dict[str, KernelVersion]:
    """A version that is being looked at, and one that cannot boot."""
    waits = make_version(cast.tenant, "just-uploaded")
    KernelVersion.objects.filter(pk=waits.pk).update(
        state=KernelVersion.State.INSPECTING, report={}, summary=""
    )
    no = make_version(
        cast.tenant,
        "wrong-one",
        verdict="refused",
        paths={"pvgrub": "It is a DOM0 kernel.", "direct_pv": "It is a DOM0 kernel."},
        role="dom0",
    )
    sentence = "This is a DOM0 kernel (XEN3_DOM0): it is for the host. Upload netbsd-XEN3_DOMU.gz instead."
    KernelVersion.objects.filter(pk=no.pk).update(state=KernelVersion.State.REFUSED, summary=sentence)
    return {"inspecting": waits, "refused": no}


def a_day_of_samples(dom0: Dom0, domu: Domu) -> None:
    """Something for the plots."""
    now = int(timezone.now().timestamp()) // 60
    Sample.objects.bulk_create(
        Sample(
            dom0=dom0,
            minute=now - age,
            at_ms=(now - age) * 60_000,
            host={"cpu_seconds": 9000 - age * 20, "own_seconds": 0, "memory_mib": 900, "disk_mib": 9000},
            domus={str(domu.pk): [1, 256, 9000 - age * 20, 0, 0, 0, 0]},
        )
        for age in range(0, 600, 5)
    )


def many(cast: Cast, mouth: Mouth, number: int = 1000) -> None:
    """A tenant with a thousand servers, of which the stranger is the owner."""
    rows = [
        Domu(
            tenant=cast.other,
            dom0=mouth.dom0,
            name=f"node{n:04}",
            guest_os="netbsd",
            memory_mib=256,
            vcpus=1,
            made=True,
            observed="running" if n % 3 else "gone",
            wanted="running" if n % 3 else "stopped",
        )
        for n in range(number)
    ]
    Domu.objects.bulk_create(rows)
    Operation.objects.bulk_create(
        Operation(domu=domu, dom0=mouth.dom0, verb="start", state=State.DONE, by=cast.stranger, epoch=1, n=1)
        for domu in rows
    )
    Event.objects.bulk_create(
        Event(kind="domu.start", text=f"{domu.name} is to be started", tenant=cast.other, domu=domu)
        for domu in rows
    )
