"""First pages: the visitor's, the operator's; log-in and log-out; words for what is not there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.web.conftest import ASKED, PASSWORD, Browser, Cast, finish
from tests.web.test_request import text
from tests.web.world import Mouth
from vps.models import Domu, Operation, Request
from vps.xen.messages import Verb


def test_everybody_comes_to_their_own_first_page(browser: Browser, cast: Cast) -> None:
    assert "Xen servers that boot your kernel" in text(browser(None).get("/"))
    assert browser(cast.viewer).get("/").url == reverse("servers")
    assert browser(cast.operator).get("/").url == reverse("today")


def test_logging_in_and_out(cast: Cast) -> None:
    client = Client()
    url = reverse("login")
    wrong = client.post(url, {"login": "owner@example.org", "password": "wrong"})
    assert wrong.status_code == 200 and "No account has this address and this password." in text(wrong)
    target = reverse("events")
    right = client.post(url, {"login": "OWNER@example.org", "password": PASSWORD, "next": target})
    assert right.url == target
    assert client.get(target).status_code == 200
    client.post(reverse("logout"))
    assert client.get(target).url == f"{url}?next={target}"


def test_a_next_address_elsewhere_is_not_followed(cast: Cast) -> None:
    data = {"login": "owner@example.org", "password": PASSWORD, "next": "https://evil.example/"}
    assert Client().post(reverse("login"), data).url == reverse("home")


def test_today_has_what_waits_what_failed_and_what_is_stuck(
    browser: Browser, cast: Cast, mouth: Mouth, running: Domu
) -> None:
    Request.ask(tenant=cast.other, by=cast.stranger, name="other1", **{**ASKED, "why": "for fun"})
    running.order(Verb.REBOOT, cast.owner)
    finish(mouth, running, "failed", error={"code": "x", "text": "It is deaf."})
    stuck = running.order(Verb.SHUTDOWN, cast.owner)
    Operation.objects.filter(pk=stuck.pk).update(created_at=timezone.now() - timedelta(minutes=5))
    page = text(browser(cast.operator).get(reverse("today")))
    for words in ("other1", "for fun", "Decide", "It is deaf.", "stuck", "dom0-a", "1 server, 1 running"):
        assert words in page, words
    part = browser(cast.operator).get(reverse("today"), headers={"HX-Request": "true"})
    assert "<html" not in text(part)


def test_today_with_nothing_at_all(browser: Browser, cast: Cast) -> None:
    page = text(browser(cast.operator).get(reverse("today")))
    for words in ("No request waits.", "There is no dom0 yet.", "Nothing happened."):
        assert words in page, words


@pytest.mark.parametrize(
    "address", ["/nowhere/", "/servers/rubbish/", "/servers/01931f6a-7c1e-7b6e-9d3a-2f9a3c1e4b5d/"]
)
def test_what_is_not_there_is_said_in_words(browser: Browser, cast: Cast, address: str) -> None:
    answer = browser(cast.owner).get(address)
    assert answer.status_code == 404
    assert "There is nothing at this address, or it is not yours to see." in text(answer)


def test_a_role_too_low_is_said_in_words(browser: Browser, cast: Cast) -> None:
    answer = browser(cast.viewer).get(reverse("ask"))
    assert answer.status_code == 403
    assert "Only an owner or an admin can ask for servers" in text(answer)


def test_a_fault_of_ours_is_said_in_words(
    browser: Browser, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("vps.views.event.paged", broken)
    client = browser(cast.owner)
    client.raise_request_exception = False
    answer = client.get(reverse("events"))
    assert answer.status_code == 500
    assert "Berth&#x27;s fault, not yours" in text(answer) or "Berth's fault, not yours" in text(answer)
