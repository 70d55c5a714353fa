"""Search over everything: found by name, address, sum and id; by pages; others' things are not there."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest
from django.urls import reverse

from accounts.models import Tenant, User
from tests.web.conftest import Browser, Cast, make_version
from tests.web.test_request import text
from tests.web.world import Mouth
from vps.models import Domu, Operation, Request
from vps.xen.messages import Verb


def find(browser: Browser, person: User, q: str, **more: str) -> str:
    return text(browser(person).get(reverse("search"), {"q": q, **more}))


def test_by_name_address_sum_and_id(browser: Browser, cast: Cast, running: Domu, asked: Request) -> None:
    operation = running.order(Verb.SHUTDOWN, cast.owner)
    Operation.objects.filter(pk=operation.pk).update(request_id="a-click-1")
    mac = str(running.nics.get().mac)
    version = make_version(cast.tenant, "mine")
    server = reverse("server", args=[running.pk])
    for q, url in (
        ("WEB1", server),
        (str(running.pk), server),
        (mac, server),
        (mac.upper().replace(":", "-"), server),
        (mac[:14], server),
        (mac[-8:], server),
        (version.original_id[:12], reverse("kernel", args=[version.kernel_id])),
        (version.original_id.upper(), reverse("kernel", args=[version.kernel_id])),
        ("mine", reverse("kernel", args=[version.kernel_id])),
        (str(operation.pk), reverse("operation", args=[operation.pk])),
        ("a-click-1", reverse("operation", args=[operation.pk])),
        ("web1", reverse("request", args=[asked.pk])),
    ):
        assert f'href="{url}"' in find(browser, cast.viewer, q), q
        assert f'href="{url}"' in find(browser, cast.operator, q), q
        assert "Nothing with" in find(browser, cast.stranger, q), q


def test_dom0s_tenants_and_people_are_the_operators(browser: Browser, cast: Cast, mouth: Mouth) -> None:
    for q, words in (
        ("dom0-a", reverse("dom0", args=[mouth.dom0.pk])),
        ("Elsewhere", reverse("quota", args=[cast.other.pk])),
        ("stranger@", "who=stranger@example.org"),
    ):
        assert words in find(browser, cast.operator, q)
        page = find(browser, cast.owner, q)
        assert words not in page and "Nothing with" in page
        for kind in ("dom0s", "tenants", "people"):
            assert words not in find(browser, cast.owner, q, **{"in": kind})


@pytest.mark.parametrize("q", ["", "x", "%", "'", "\0", "zz:zz", "ff:ff:ff:ff:ff:ff:ff:ff", "9" * 200, "<b>"])
def test_odd_words_find_nothing_and_break_nothing(
    browser: Browser, cast: Cast, running: Domu, q: str
) -> None:
    page = find(browser, cast.operator, q)
    assert "Nothing with" in page or "at least two characters" in page
    assert "<b>" not in page.replace("<b>What", "")


def test_one_kind_by_pages_among_twenty_thousand(browser: Browser, cast: Cast, mouth: Mouth) -> None:
    tenant = Tenant.objects.create(name="Large")
    Domu.objects.bulk_create(
        (
            Domu(
                id=uuid4(),
                tenant=tenant,
                dom0=mouth.dom0,
                name=f"node-{n:05}",
                guest_os="linux",
                memory_mib=64,
                vcpus=1,
            )
            for n in range(20_000)
        ),
        batch_size=500,
    )
    client = browser(cast.operator)
    client.get(reverse("search"), {"q": "node-1"})
    began = time.process_time()
    page = text(client.get(reverse("search"), {"q": "node-1234"}))
    took = time.process_time() - began
    assert page.count("node-1234") >= 7 and "All of them" in page
    assert took < 1.5, f"{took:.2f} s of cpu"
    page = text(client.get(reverse("search"), {"q": "node-", "in": "servers", "page": "400"}))
    assert "Page 400 of 400, 20000 in all" in page and "node-19999" in page
    assert "Nothing with" in find(browser, cast.owner, "node-123")
