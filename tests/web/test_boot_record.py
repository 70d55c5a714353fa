"""Each boot has a record; a good one ran for five minutes or showed a sign, and is counted for its version."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.utils import timezone

from tests.web.world import Mouth
from vps.models import BootRecord, Dom0, Domu, KernelVersion
from vps.models.boot_record import WELL_AFTER, judge_running
from vps.xen.messages import ReportKind

pytestmark = pytest.mark.django_db


def boot(mouth: Mouth, domu: Domu, **fields: Any) -> UUID:
    run = uuid4()
    body = {"domu": str(domu.pk), "run": str(run), "domid": 3, "boots": 1, "menu_serial": domu.menu_serial}
    entry = {"entry": "NetBSD", "label": "generic 1", "why": "start"}
    mouth.say(ReportKind.BOOTED, {**body, **entry, **fields})
    return run


def end(mouth: Mouth, domu: Domu, run: UUID, after: timedelta, reason: str = "poweroff") -> None:
    mouth.clock += int(after.total_seconds() * 1000) - 1000
    mouth.say(ReportKind.ENDED, {"domu": str(domu.pk), "run": str(run), "reason": reason, "next": "stopped"})


def test_a_boot_is_recorded_with_its_version(mouth: Mouth, bootable: Domu, version: KernelVersion) -> None:
    run = boot(mouth, bootable)
    record = BootRecord.objects.get()
    assert (record.domu, record.run, record.version) == (bootable, run, version)
    assert (record.entry, record.label, record.why) == ("NetBSD", "generic 1", "start")
    assert (record.well, record.ended_at) == (None, None)


@pytest.mark.parametrize(
    ("seconds", "reason", "well"),
    [(299, "poweroff", None), (300, "poweroff", True), (299, "crash", False), (4000, "crash", True)],
)
def test_how_long_it_ran(mouth: Mouth, bootable: Domu, seconds: int, reason: str, well: bool | None) -> None:
    run = boot(mouth, bootable)
    end(mouth, bootable, run, timedelta(seconds=seconds), reason)
    record = BootRecord.objects.get()
    assert (record.well, record.reason, record.sign) == (well, reason, "time" if well else "")
    assert record.ended_at is not None
    assert (record.ended_at - record.booted_at).total_seconds() == seconds


def test_a_sign_of_health_counts_at_once_and_for_good(mouth: Mouth, bootable: Domu) -> None:
    run = boot(mouth, bootable)
    record = BootRecord.of(bootable, run)
    assert record is not None
    assert record.seen_well("console") and not record.seen_well("owner")
    end(mouth, bootable, run, timedelta(seconds=20), "crash")
    record.refresh_from_db()
    assert (record.well, record.sign, record.reason) == (True, "console", "crash")


def test_a_boot_that_another_follows_has_ended(mouth: Mouth, bootable: Domu) -> None:
    first = boot(mouth, bootable)
    mouth.clock += 600_000
    second = boot(mouth, bootable, why="crash", boots=2)
    records = {r.run: r for r in BootRecord.objects.all()}
    assert (records[first].reason, records[first].well) == ("unknown", True)
    assert (records[second].ended_at, records[second].well) == (None, None)


def test_the_sweep_judges_what_goes_on(mouth: Mouth, running: Domu) -> None:
    run = boot(mouth, running)
    mouth.inventory({running: "running"})
    now = timezone.now()
    records = BootRecord.objects.all()
    records.update(booted_at=now - WELL_AFTER + timedelta(seconds=5))
    assert judge_running() == 0, "it is too early"
    records.update(booted_at=now - WELL_AFTER - timedelta(seconds=60))
    Dom0.objects.update(heard_at=now - timedelta(minutes=3))
    assert judge_running() == 0, "its dom0 was not heard since"
    Dom0.objects.update(heard_at=now)
    assert judge_running() == 1
    assert judge_running() == 0
    assert BootRecord.objects.well().get().run == run


def test_the_sweep_leaves_what_runs_no_more(mouth: Mouth, running: Domu) -> None:
    boot(mouth, running)
    BootRecord.objects.update(booted_at=timezone.now() - timedelta(hours=1))
    Domu.objects.update(observed="gone")
    assert judge_running() == 0
    Domu.objects.update(observed="running", run=uuid4())
    assert judge_running() == 0


def test_the_same_report_twice_and_strange_ones(mouth: Mouth, bootable: Domu) -> None:
    run = boot(mouth, bootable)
    boot(mouth, bootable, run=str(run))
    assert BootRecord.objects.count() == 1
    boot(mouth, bootable, entry="by hand", label="", menu_serial=None)
    assert BootRecord.objects.filter(version=None).count() == 1
