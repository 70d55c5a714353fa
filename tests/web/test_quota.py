"""Quota: the pages, the lines behind the numbers, asking for more, limits that operators set."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from accounts.models import DefaultLimit, Membership, QuotaEntry, Role, Tenant
from accounts.models.quota import grant_default, sums, use
from tests.web.conftest import Browser, Cast
from tests.web.test_request import text
from vps.models import Domu, Event, Request

LIMITS = {"servers": "9", "memory_mib": "8192", "vcpus": "8", "disk_mib": "40960", "kernel_mib": "2048"}


def quota(name: str, tenant: Tenant, *more: str) -> str:
    return reverse(name, args=[tenant.pk, *more])


def test_each_number_leads_to_its_lines(browser: Browser, cast: Cast, domu: Domu) -> None:
    owner = browser(cast.owner)
    assert quota("quota_entries", cast.tenant, "memory_mib") in text(owner.get(reverse("servers")))
    page = text(owner.get(quota("quota", cast.tenant)))
    for resource in ("servers", "memory_mib", "vcpus", "disk_mib", "kernel_bytes"):
        assert quota("quota_entries", cast.tenant, resource) in page
    lines = text(owner.get(quota("quota_entries", cast.tenant, "memory_mib")))
    assert "+ 4 GiB" in lines and "default for new tenants" in lines
    assert "web1 was approved" in lines and reverse("server", args=[domu.pk]) in lines
    assert "- 256 MiB" in lines or "-256 MiB" in lines  # what the request used
    granted = text(owner.get(quota("quota_entries", cast.tenant, "memory_mib"), {"kind": "grant"}))
    assert "default for new tenants" in granted and "web1" not in granted


def test_the_lines_page(browser: Browser, cast: Cast) -> None:
    for number in range(60):
        use(cast.tenant, {"vcpus": 1 if number % 2 else -1}, "x", f"line {number}", over=True)
    url = quota("quota_entries", cast.tenant, "vcpus")
    assert "Page 1 of 2, 61 in all" in text(browser(cast.viewer).get(url))
    assert "line 3<" in text(browser(cast.viewer).get(url, {"page": "2"}))


def test_others_see_nothing(browser: Browser, cast: Cast) -> None:
    for url in (quota("quota", cast.tenant), quota("quota_entries", cast.tenant, "vcpus")):
        assert browser(cast.stranger).get(url).status_code == 404
        assert browser(cast.operator).get(url).status_code == 200
        assert browser(cast.owner).post(url).status_code == 405
    assert browser(cast.owner).get(quota("quota_entries", cast.tenant, "gold")).status_code == 404


def test_the_lines_of_a_dom0s_room(browser: Browser, cast: Cast, domu: Domu) -> None:
    url = reverse("dom0_room", args=[domu.dom0_id, "memory_mib"])
    page = text(browser(cast.operator).get(url))
    assert "web1 was placed" in page and "+ 256 MiB" in page and reverse("server", args=[domu.pk]) in page
    assert browser(cast.owner).get(url).status_code == 404
    wrong = reverse("dom0_room", args=[domu.dom0_id, "gold"])
    assert browser(cast.operator).get(wrong).status_code == 404


# Asking for more


def test_asking_waits_and_gives_nothing_yet(browser: Browser, cast: Cast) -> None:
    before = sums(cast.tenant)
    url = quota("quota_ask", cast.tenant)
    answer = browser(cast.admin).post(url, {"memory_mib": "2048", "kernel_mib": "10", "why": "two more"})
    asked = Request.objects.get()
    assert answer.url == reverse("request", args=[asked.pk])
    assert asked.amounts == {
        "servers": 0,
        "memory_mib": 2048,
        "vcpus": 0,
        "disk_mib": 0,
        "kernel_bytes": 10 * 1024 * 1024,
    }
    assert sums(cast.tenant) == before
    page = text(browser(cast.viewer).get(quota("quota", cast.tenant)))
    assert "waits:" in page and "+ 2 GiB of memory" in page
    assert "more quota" in text(browser(cast.owner).get(reverse("servers")))
    again = browser(cast.owner).post(url, {"vcpus": "1", "why": "more"})
    assert again.status_code == 422 and "waits for more quota already" in text(again)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param({"why": "x"}, "Nothing is asked for", id="nothing"),
        pytest.param({"vcpus": "1"}, "Say what it is for", id="no reason"),
        pytest.param({"vcpus": "-1", "why": "x"}, "It must be 0 or more.", id="less"),
        pytest.param({"vcpus": "many", "why": "x"}, "Give a whole number.", id="words"),
        pytest.param({"servers": "10001", "why": "x"}, "It must be 10000 or less.", id="too many"),
    ],
)
def test_bad_input(browser: Browser, cast: Cast, data: dict[str, str], words: str) -> None:
    answer = browser(cast.owner).post(quota("quota_ask", cast.tenant), data)
    assert answer.status_code == 422 and words in text(answer)
    assert not Request.objects.exists()


@pytest.mark.parametrize(
    ("given", "memory_mib"),
    [pytest.param("2048", 6144, id="as asked"), pytest.param("1024", 5120, id="partly")],
)
def test_approving(browser: Browser, cast: Cast, given: str, memory_mib: int) -> None:
    asked = Request.ask_quota(cast.tenant, cast.owner, {"memory_mib": 2048}, "two more")
    page = text(browser(cast.operator).get(reverse("request", args=[asked.pk])))
    assert "request: more quota" in page and "<td>4 GiB</td><td>+ 2 GiB</td><td>6 GiB</td>" in page
    data = {"memory_mib": given, "words": "until May"}
    url = reverse("request_approve", args=[asked.pk])
    assert browser(cast.operator).post(url, data).status_code == 302
    assert sums(cast.tenant)["memory_mib"]["limit"] == memory_mib
    line = QuotaEntry.objects.filter(kind="grant").latest("id")
    assert (line.subject, line.reason, line.by) == (asked.subject, "until May", cast.operator)
    again = browser(cast.second).post(url, data)
    assert again.status_code == 409 and sums(cast.tenant)["memory_mib"]["limit"] == memory_mib


def test_giving_nothing_is_a_refusal(browser: Browser, cast: Cast) -> None:
    asked = Request.ask_quota(cast.tenant, cast.owner, {"memory_mib": 2048}, "two more")
    answer = browser(cast.operator).post(
        reverse("request_approve", args=[asked.pk]), {"memory_mib": "0", "words": ""}
    )
    assert answer.status_code == 422 and "refuse the request with words instead" in text(answer)
    asked.refresh_from_db()
    assert asked.state == "waiting"


def test_nobody_gives_to_themselves(browser: Browser, cast: Cast) -> None:
    asked = Request.ask_quota(cast.tenant, cast.owner, {"memory_mib": 2048}, "two more")
    Membership.objects.create(tenant=cast.tenant, user=cast.operator, role=Role.VIEWER)
    answer = browser(cast.operator).post(reverse("request_approve", args=[asked.pk]), {"memory_mib": "2048"})
    assert answer.status_code == 409
    limits = browser(cast.operator).post(quota("quota_limits", cast.tenant), {**LIMITS, "reason": "mine"})
    assert limits.status_code == 403
    assert sums(cast.tenant)["memory_mib"]["limit"] == 4096


# Limits that operators set


def test_limits_are_changed_with_a_reason(browser: Browser, cast: Cast) -> None:
    url = quota("quota_limits", cast.tenant)
    assert "Change the limits" in text(browser(cast.operator).get(quota("quota", cast.tenant)))
    assert "Change the limits" not in text(browser(cast.owner).get(quota("quota", cast.tenant)))
    without = browser(cast.operator).post(url, LIMITS)
    assert without.status_code == 422 and "Say why; it stays in the ledger." in text(without)
    assert 'value="8192"' in text(without)
    assert browser(cast.operator).post(url, {**LIMITS, "reason": "paid"}).status_code == 302
    now = sums(cast.tenant)
    assert (now["memory_mib"]["limit"], now["servers"]["limit"]) == (8192, 9)
    lines = QuotaEntry.objects.filter(tenant=cast.tenant, reason="paid")
    assert {line.resource: line.amount for line in lines} == {"memory_mib": 4096, "servers": 4}
    event = Event.objects.get(kind="quota.changed")
    assert (event.reason, event.before["memory_mib"], event.after["memory_mib"]) == ("paid", 4096, 8192)
    browser(cast.operator).post(url, {**LIMITS, "reason": "again"})
    assert not QuotaEntry.objects.filter(reason="again").exists()
    assert Event.objects.filter(kind="quota.changed").count() == 1


def test_limits_can_go_below_what_is_used(browser: Browser, cast: Cast, domu: Domu) -> None:
    data = {**LIMITS, "memory_mib": "0", "reason": "not paid"}
    assert browser(cast.operator).post(quota("quota_limits", cast.tenant), data).status_code == 302
    assert sums(cast.tenant)["memory_mib"] == {"limit": 0, "used": 256, "left": -256}


def test_the_default_is_what_new_tenants_get(browser: Browser, cast: Cast, settings: Any) -> None:
    settings.BERTH_DEFAULT_QUOTA = {"servers": 5, "memory_mib": 4096}
    operator = browser(cast.operator)
    assert 'value="4096"' in text(operator.get(reverse("quota_default")))
    bad = operator.post(reverse("quota_default"), {**LIMITS, "vcpus": ""})
    assert bad.status_code == 422 and not DefaultLimit.objects.exists()
    assert operator.post(reverse("quota_default"), LIMITS).status_code == 302
    new = Tenant.objects.create(name="New")
    grant_default(new)
    assert sums(new)["memory_mib"]["limit"] == 8192
    assert sums(new)["kernel_bytes"]["limit"] == 2048 * 1024 * 1024
    assert sums(cast.tenant)["memory_mib"]["limit"] == 4096, "others keep theirs"
    assert Event.objects.get(kind="quota.default").after["servers"] == 9
