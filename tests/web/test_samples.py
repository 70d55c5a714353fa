"""Samples: the first inventory of a minute, rates with gaps, thinned out and forgotten; the pages with them."""

from __future__ import annotations

import json
import re
import time
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tests.web.conftest import Browser, Cast
from tests.web.test_request import text
from tests.web.world import Mouth, make_dom0, make_domu
from vps import plots
from vps.models import Dom0, Domu, Sample
from vps.models.holding import settle
from vps.xen.messages import ReportKind

MINUTE = 60_000


def tell(mouth: Mouth, domu: Domu, at: int, **figures: Any) -> None:
    """An inventory at a time (ms) in which the domain of `domu` has these figures."""
    body = {
        "xen": {"version": "4.17.7", "caps": []},
        "memory_mib": 4096,
        "free_memory_mib": 3000,
        "cpus": 4,
        "disk_mib": 100_000,
        "free_disk_mib": 90_000,
        "domains": [
            {"uuid": "0" * 8, "name": "Domain-0", "domid": 0, "memory_mib": 512, "state": "running"},
            {
                "uuid": str(domu.pk),
                "name": domu.name,
                "domid": 1,
                "memory_mib": 256,
                "state": "running",
                **figures,
            },
        ],
    }
    mouth.clock = at - 1000
    mouth.say(ReportKind.INVENTORY, body, kept=False)
    mouth.dom0.refresh_from_db()


@pytest.mark.django_db
def test_the_first_of_each_minute_is_kept() -> None:
    mouth = Mouth(make_dom0())
    domu = make_domu(mouth.dom0)
    for at, cpu in ((10 * MINUTE, 5.0), (10 * MINUTE + 10_000, 6.0), (11 * MINUTE + 1, 7.0)):
        tell(mouth, domu, at, cpu_seconds=cpu, read_bytes=512)
    assert [(row.minute, row.domus[str(domu.pk)]) for row in Sample.objects.all()] == [
        (10, [1, 256, 5.0, 512.0, None, None, None]),
        (11, [1, 256, 7.0, 512.0, None, None, None]),
    ]
    assert Sample.objects.first().host == {
        "cpu_seconds": 5.0,
        "own_seconds": 0,
        "memory_mib": 1096,
        "disk_mib": 10_000,
    }


@pytest.mark.django_db
def test_an_inventory_without_xen_or_with_rubbish_leaves_no_sample() -> None:
    mouth = Mouth(make_dom0())
    domu = make_domu(mouth.dom0)
    mouth.inventory({domu: "running"}, xen=False)
    tell(mouth, domu, 10 * MINUTE, cpu_seconds="much")
    assert not Sample.objects.exists()


@pytest.mark.django_db
def test_old_ones_are_thinned_out_and_forgotten() -> None:
    dom0, now = make_dom0(), 100_000
    Sample.objects.bulk_create(
        Sample(dom0=dom0, minute=now - age, at_ms=0) for age in (*range(0, 140), 26 * 60, 26 * 60 + 1)
    )
    assert Sample.objects.trim(now) > 0
    left = sorted(now - minute for minute in Sample.objects.values_list("minute", flat=True))
    assert left == [*range(0, 121), 125, 130, 135, 136, 137, 138, 139, 1560]
    assert Sample.objects.trim(now) == 0


@pytest.mark.django_db
def test_a_rate_is_known_between_two_readings_of_one_domain() -> None:
    mouth = Mouth(make_dom0())
    domu = make_domu(mouth.dom0)
    readings = [
        (10, 1, 100.0, 0),  # the first one says nothing
        (11, 1, 130.0, 6000),  # 30 s of cpu in a minute, 100 B/s
        (12, 2, 500.0, 9000),  # another domain
        (13, 2, 560.0, 3000),  # a whole cpu; the counter went back
        (60, 2, 570.0, 4000),  # long not heard
        (61, 2, 570.0, 4000),
    ]
    for minute, domid, cpu, read in readings:
        tell(mouth, domu, minute * MINUTE, domid=domid, cpu_seconds=cpu, read_bytes=read)
    cpu, memory, disk, network = plots.of_domu(domu, 61 * MINUTE)
    assert cpu.lines == [[None, 50.0, None, 100.0, None, 0.0]]
    assert disk.lines[0] == [None, 100.0, None, None, None, 0.0]
    assert disk.lines[1] == [None] * 6
    assert memory.lines == [[256] * 6] and memory.top == 256
    assert (cpu.last, disk.last) == ([("used", "0.0 %")], [("read", "0 B/s"), ("written", "–")])
    assert cpu.known and disk.known and not network.known
    assert cpu.table[0][1] == ["0.0 %"] and len(cpu.table) == 6
    used = plots.of_dom0(mouth.dom0, 61 * MINUTE)
    assert used[0].lines[0] == [None, 50.0, 616.67, 100.0, None, 0.0]
    assert used[1].last == [("used", "1.1 GiB")] and used[2].last == [("used", "9.8 GiB")]


@pytest.mark.parametrize(
    ("unit", "value", "words"),
    [
        ("percent", 3.14159, "3.1 %"),
        ("percent", 250.4, "250 %"),
        ("mib", 1536, "1.5 GiB"),
        ("mib", 0, "0 MiB"),
        ("bytes", 1536.2, "1.5 KiB/s"),
        ("bytes", None, "–"),
    ],
)
def test_values_as_people_read_them(unit: str, value: float | None, words: str) -> None:
    assert plots.shown(unit, value) == words


def test_a_day_becomes_a_table_of_about_a_line_an_hour() -> None:
    times = list(range(0, 24 * 3600, 300))
    plot = plots.Plot("x", "X", "mib", times, ["a"], [[float(n) for n in range(len(times))]])
    assert len(plot.table) in (24, 25) and plot.table[0][1] == ["287 MiB"]
    assert not plots.Plot("x", "X", "mib", [], ["a"], [[]]).known


def test_the_page_has_plots_last_values_and_a_table(
    browser: Browser, cast: Cast, mouth: Mouth, running: Domu
) -> None:
    now = int(time.time() * 1000)
    for back in (2, 1, 0):
        tell(mouth, running, now - back * MINUTE, cpu_seconds=60.0 - back * 6, read_bytes=1024)
    url = reverse("server_samples", args=[running.pk])
    viewer = browser(cast.viewer)
    page = text(viewer.get(url))
    assert 'used <span class="plot-value">10 %</span>' in page and "100 % is one cpu" in page
    assert "has told nothing of it" in page, "of the network"
    told = [json.loads(unescape(data)) for data in re.findall(r'data-plot="([^"]+)"', page)]
    assert [plot["unit"] for plot in told] == ["percent", "mib", "bytes"]
    assert told[0]["data"][1][-2:] == [10.0, 10.0] and len(told[0]["data"][0]) == 3
    assert page.count("<table") == 3 and "<h1>" in page
    part = text(viewer.get(url, headers={"HX-Request": "true"}))
    assert "<h1>" not in part and 'hx-trigger="every 60s"' in part
    assert url in text(viewer.get(reverse("server", args=[running.pk])))
    page = text(browser(cast.operator).get(reverse("dom0_samples", args=[mouth.dom0.pk])))
    assert "Disk pool" in page and "9.8 GiB" in page


def test_nothing_yet(browser: Browser, cast: Cast, domu: Domu) -> None:
    Sample.objects.all().delete()
    page = text(browser(cast.owner).get(reverse("server_samples", args=[domu.pk])))
    assert "Nothing is known of the last day yet." in page


def test_a_steady_dom0_costs_few_queries(mouth: Mouth, django_assert_max_num_queries: Any) -> None:
    domus = [make_domu(mouth.dom0, f"s{number}") for number in range(12)]
    for _ in range(2):
        mouth.inventory(dict.fromkeys(domus, "running"))
    with django_assert_max_num_queries(12):
        mouth.inventory(dict.fromkeys(domus, "running"))
    assert set(Domu.objects.values_list("observed_ms", flat=True)) == {mouth.clock}
    assert Dom0.objects.get(pk=mouth.dom0.pk).heard_lately


@pytest.mark.parametrize("state", ["running", "paused"], ids=["as before", "changed"])
def test_many_servers_cost_an_inventory_as_many_queries_as_few(
    mouth: Mouth, django_assert_num_queries: Any, state: str
) -> None:
    def inventory_of(count: int) -> dict[Domu, str]:
        domus = [make_domu(mouth.dom0, f"s{count}-{number}") for number in range(count)]
        for domu in domus:
            settle(domu, "made")
        for _ in range(2):
            mouth.inventory(dict.fromkeys(domus, "running"))
        return dict.fromkeys(domus, state)

    few = inventory_of(5)
    with CaptureQueriesContext(connection) as queries:
        mouth.inventory(few)
    Domu.objects.update(purged_at=timezone.now())
    many = inventory_of(50)
    with django_assert_num_queries(len(queries)):
        mouth.inventory(many)
    assert Domu.objects.filter(observed=state, observed_ms=mouth.clock).count() == 50
