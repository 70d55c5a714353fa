"""Alarms: opened once, closed when over, mailed once and after a while, to whom it concerns."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models.mail import Mail
from tests.web.conftest import Cast
from tests.web.world import Mouth
from vps import alarms
from vps.models import Alarm, Dom0, Domu, Event
from vps.xen.messages import ReportKind

pytestmark = pytest.mark.django_db


def hours(n: float) -> timedelta:
    return timedelta(hours=n)


def silence() -> None:
    Dom0.objects.update(heard_at=timezone.now() - hours(1))


def ripen() -> None:
    """As if what is open had been so for two minutes."""
    Alarm.objects.open().update(opened_at=timezone.now() - timedelta(minutes=2))


def mailed() -> list[tuple[str, str]]:
    return sorted(Mail.objects.filter(template="alarm").values_list("to", "subject"))


def test_a_silent_dom0_is_mailed_once_to_the_operators(cast: Cast, mouth: Mouth) -> None:
    assert alarms.watch() == 0
    silence()
    assert (alarms.watch(), alarms.watch()) == (1, 0)
    assert mailed() == [], "it may be back in a moment"
    ripen()
    alarms.watch()
    alarms.watch()
    subject = "dom0-a: dom0 not heard"
    assert mailed() == [("operator@example.org", subject), ("second@example.org", subject)]
    assert f"/dom0s/{mouth.dom0.pk}/" in Mail.objects.first().text
    mouth.inventory({})
    assert alarms.watch() == 1
    assert not Alarm.objects.open().exists()
    assert list(
        Event.objects.filter(kind__startswith="alarm.").order_by("pk").values_list("kind", flat=True)
    ) == [
        "alarm.opened",
        "alarm.closed",
    ]


def test_what_comes_and_goes_is_mailed_once_within_the_quiet_time(cast: Cast, mouth: Mouth) -> None:
    for _ in range(3):
        silence()
        alarms.watch()
        ripen()
        alarms.watch()
        mouth.inventory({})
        alarms.watch()
    assert len(mailed()) == 2
    Alarm.objects.exclude(mailed_at=None).update(mailed_at=timezone.now() - hours(2))
    silence()
    alarms.watch()
    ripen()
    alarms.watch()
    assert len(mailed()) == 4


def test_never_heard_is_no_alarm(cast: Cast, mouth: Mouth) -> None:
    Dom0.objects.update(heard_at=None)
    assert alarms.watch() == 0


def pool(mouth: Mouth, free: int) -> None:
    body = {**Dom0.objects.get(pk=mouth.dom0.pk).inventory, "disk_mib": 1000, "free_disk_mib": free}
    mouth.say(ReportKind.INVENTORY, body, kept=False)


def test_a_full_pool_and_a_little_more_before_it_is_over(cast: Cast, mouth: Mouth) -> None:
    said = []
    for free in (100, 99, 110, 119, 120, 110):
        pool(mouth, free)
        alarms.watch()
        said.append(Alarm.objects.open().filter(kind=Alarm.Kind.DISK).count())
    assert said == [0, 1, 1, 1, 0, 0]


def test_the_crash_limit_is_told_to_the_owner_too(cast: Cast, running: Domu) -> None:
    Domu.objects.filter(pk=running.pk).update(phase="limit")
    alarms.watch()
    ripen()
    alarms.watch()
    assert [to for to, _subject in mailed()] == [
        "operator@example.org",
        "owner@example.org",
        "second@example.org",
    ]
    assert Event.objects.get(kind="alarm.opened").tenant == cast.tenant
    Domu.objects.filter(pk=running.pk).update(phase="idle")
    assert alarms.watch() == 1


def test_what_is_not_as_wanted_is_no_mail(cast: Cast, mouth: Mouth, running: Domu) -> None:
    Domu.objects.filter(pk=running.pk).update(wanted="stopped")
    alarms.watch()
    ripen()
    alarms.watch()
    assert [(row.kind, row.text) for row in Alarm.objects.open()] == [
        ("differs", "web1 should be stopped, and runs.")
    ]
    assert mailed() == [] and not Event.objects.filter(kind="alarm.opened").exists()
    silence()
    alarms.watch()
    assert [row.kind for row in Alarm.objects.open()] == ["silent"], "nobody knows how it is"


def test_a_watch_of_many_costs_few_queries(mouth: Mouth, django_assert_max_num_queries: Any) -> None:
    Dom0.objects.bulk_create(
        Dom0(name=f"d{n}", secret_sha256="x", heard_at=timezone.now(), disk_mib=10, free_disk_mib=9)
        for n in range(50)
    )
    with django_assert_max_num_queries(8):
        alarms.watch()
