"""Events: everybody's own, by server, searched, by pages."""

from __future__ import annotations

from django.urls import reverse

from tests.web.conftest import Browser, Cast
from tests.web.test_request import text
from tests.web.world import Mouth
from vps.models import Domu, Event


def test_ones_own_only(browser: Browser, cast: Cast, domu: Domu) -> None:
    Event.record("test", "something of theirs", tenant=cast.other)
    Event.record("test", "something of nobody's")
    url = reverse("events")
    mine, theirs, all_ = (text(browser(p).get(url)) for p in (cast.viewer, cast.stranger, cast.operator))
    assert "web1 was approved" in mine and "something of theirs" not in mine
    assert "something of nobody" not in mine and "something of nobody" in all_
    assert "something of theirs" in theirs and "web1" not in theirs


def test_who_why_before_and_after(browser: Browser, cast: Cast, mouth: Mouth, domu: Domu) -> None:
    Event.record(
        "test",
        "it was changed",
        actor=cast.admin,
        tenant=cast.tenant,
        domu=domu,
        reason="because",
        before={"memory_mib": 128, "same": 1},
        after={"memory_mib": 256, "same": 1},
    )
    page = text(browser(cast.owner).get(reverse("events")))
    for words in ("it was changed", "Admin", "because", "memory_mib: 128 → 256"):
        assert words in page, words
    assert "same:" not in page


def test_by_server_and_search(browser: Browser, cast: Cast, domu: Domu) -> None:
    Event.record("test", "another thing", tenant=cast.tenant)
    owner, url = browser(cast.owner), reverse("events")
    assert "another thing" not in text(owner.get(url, {"server": "web1"}))
    assert "another thing" in text(owner.get(url, {"q": "another"}))
    assert "Nothing with “zzz”." in text(owner.get(url, {"q": "zzz"}))
    assert "Nothing with “&lt;i&gt;”." in text(owner.get(url, {"q": "<i>"}))


def test_a_link_keeps_the_search_over_pages(browser: Browser, cast: Cast) -> None:
    for number in range(51):
        Event.record("test", f"line {number}", tenant=cast.tenant)
    page = text(browser(cast.owner).get(reverse("events"), {"q": "line"}))
    assert "Page 1 of 2, 51 in all" in page and "?q=line&amp;page=2" in page


def test_nothing_yet(browser: Browser, cast: Cast) -> None:
    assert "Nothing happened yet." in text(browser(cast.owner).get(reverse("events")))
    assert browser(cast.owner).post(reverse("events")).status_code == 405
