"""An operator's pages of tenants; suspending, locking, and what the people of a tenant see of it."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Tenant
from tests.web.conftest import Browser, Cast
from tests.web.test_request import text
from vps.access import console_access
from vps.models import Conflict, Domu, Event, Operation
from vps.xen.messages import Verb

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(cast: Cast, browser: Browser) -> Client:
    return browser(cast.operator)


def test_tenants_are_listed_found_and_paged(
    cast: Cast, operator: Client, domu: Domu, django_assert_max_num_queries: Any
) -> None:
    page = text(operator.get(reverse("tenants")))
    assert "Example" in page and "Elsewhere" in page
    for q in ("viewer@", "web1"):
        found = text(operator.get(reverse("tenants"), {"q": q}))
        assert "Example" in found and "Elsewhere" not in found, q
    found = text(operator.get(reverse("tenants"), {"q": "elsew"}))
    assert "Elsewhere" in found and "Example" not in found
    assert "No tenant has “zzz”" in text(operator.get(reverse("tenants"), {"q": "zzz"}))
    Tenant.objects.bulk_create(Tenant(name=f"T{n:03}") for n in range(120))
    with django_assert_max_num_queries(12):
        assert "Page 2 of 3, 122 in all" in text(operator.get(reverse("tenants"), {"page": "2"}))


def test_people_and_servers_are_counted_once_each(cast: Cast, operator: Client, domu: Domu) -> None:
    page = operator.get(reverse("tenants"), {"q": "viewer@"})
    [row] = page.context["page"].object_list
    assert (row.people, row.servers) == (4, 1)


def test_a_tenant_is_shown_with_people_quota_and_servers(cast: Cast, operator: Client, domu: Domu) -> None:
    page = text(operator.get(reverse("tenant", args=[cast.tenant.pk])))
    for words in ("viewer@example.org", "developer", "web1", "memory", "256 MiB", "Suspend"):
        assert words in page, words


def test_a_suspension_is_read_on_every_page_and_holds(
    cast: Cast, operator: Client, browser: Browser, bootable: Domu, rung: list[Operation]
) -> None:
    url = reverse("tenant_suspend", args=[cast.tenant.pk])
    assert "Its people read these words." in text(operator.get(url))
    assert operator.post(url, {"why": ""}).status_code == 422
    assert operator.post(url, {"why": "The bill of May <is> open."}).status_code == 302
    for name in ("servers", "kernels", "events", "me", "ssh_keys"):
        page = text(browser(cast.viewer).get(reverse(name)))
        assert "Example was suspended by an operator: The bill of May &lt;is&gt; open." in page, name
    assert "suspended by an operator" not in text(browser(cast.stranger).get(reverse("servers")))
    answer = browser(cast.owner).post(reverse("server_do", args=[bootable.pk, "start"]))
    assert answer.status_code == 409 and not rung
    access = console_access(cast.owner.pk, bootable.pk)
    assert access is not None and access.may_watch and not access.may_type
    again = operator.post(url, {"why": "again"})
    assert again.status_code == 409 and "suspended already" in text(again)
    assert "Example" in text(operator.get(reverse("tenants"), {"which": "suspended"}))


def test_lifting_it(cast: Cast, operator: Client, browser: Browser, bootable: Domu) -> None:
    cast.tenant.suspend(cast.operator, "unpaid")
    url = reverse("tenant_lift", args=[cast.tenant.pk])
    assert "unpaid" in text(operator.get(url))
    assert operator.post(url, {"why": ""}).url == reverse("tenant", args=[cast.tenant.pk])
    assert "suspended by an operator" not in text(browser(cast.owner).get(reverse("servers")))
    bootable.start(cast.owner)
    assert operator.post(url).status_code == 409
    kinds = Event.objects.filter(kind__in=["tenant.suspended", "tenant.lifted"]).order_by("id")
    assert [(event.kind, event.tenant, event.actor) for event in kinds] == [
        ("tenant.suspended", cast.tenant, cast.operator),
        ("tenant.lifted", cast.tenant, cast.operator),
    ]


def test_a_locked_server_is_only_ended(
    cast: Cast, operator: Client, browser: Browser, running: Domu, rung: list[Operation]
) -> None:
    rung.clear()
    url = reverse("server_lock", args=[running.pk])
    assert reverse("server_lock", args=[running.pk]) in text(
        operator.get(reverse("server", args=[running.pk]))
    )
    assert operator.post(url, {"why": "It sends spam."}).url == reverse("server", args=[running.pk])
    assert "It sends spam." in text(browser(cast.viewer).get(reverse("server", args=[running.pk])))
    assert browser(cast.owner).post(reverse("server_do", args=[running.pk, "reboot"])).status_code == 409
    again = operator.post(url, {"why": "again"})
    assert again.status_code == 409 and "locked already" in text(again)
    running.refresh_from_db()
    running.order(Verb.SHUTDOWN, cast.owner)
    event = Event.objects.get(kind="domu.locked")
    assert (event.domu, event.reason, event.tenant) == (running, "It sends spam.", cast.tenant)


def test_unlocking_it(cast: Cast, operator: Client, browser: Browser, bootable: Domu) -> None:
    bootable.lock(cast.operator, "spam")
    url = reverse("server_unlock", args=[bootable.pk])
    assert "spam" in text(operator.get(url))
    assert operator.post(url, {"why": "cleaned"}).status_code == 302
    assert browser(cast.owner).post(reverse("server_do", args=[bootable.pk, "start"])).status_code == 302
    assert operator.post(url).status_code == 409
    with pytest.raises(Conflict):
        bootable.unlock(cast.operator)


def test_an_owner_does_not_unlock(cast: Cast, browser: Browser, bootable: Domu) -> None:
    bootable.lock(cast.operator, "spam")
    assert browser(cast.owner).post(reverse("server_unlock", args=[bootable.pk])).status_code == 404
    page = text(browser(cast.owner).get(reverse("server", args=[bootable.pk])))
    assert reverse("server_unlock", args=[bootable.pk]) not in page
