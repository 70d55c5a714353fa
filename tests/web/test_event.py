"""Events: everybody's own, by server, searched, by pages."""

from __future__ import annotations

import csv
import io
import json

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


def test_filters_hold_in_the_link(browser: Browser, cast: Cast, mouth: Mouth, domu: Domu) -> None:
    Event.record("one.thing", "by the admin", actor=cast.admin, tenant=cast.tenant)
    Event.record("two.thing", "elsewhere", tenant=cast.other, dom0=mouth.dom0)
    client, url = browser(cast.operator), reverse("events")
    for query, there, gone in (
        ({"kind": "one"}, "by the admin", "elsewhere"),
        ({"who": "admin@example.org"}, "by the admin", "elsewhere"),
        ({"who": "Admin"}, "by the admin", "elsewhere"),
        ({"tenant": "Elsewhere"}, "elsewhere", "by the admin"),
        ({"dom0": "dom0-a", "kind": "two"}, "elsewhere", "by the admin"),
        ({"from": "2020-01-01", "tenant": "Elsewhere"}, "elsewhere", "by the admin"),
    ):
        page = text(client.get(url, query))
        assert there in page and gone not in page, query
        assert f"{next(iter(query))}={next(iter(query.values()))}".replace("@", "%40") in page, query
    for query in ({"until": "2020-01-01"}, {"from": "2999-01-01"}, {"kind": "nothing"}):
        assert "Nothing like that happened." in text(client.get(url, query))


def test_a_day_that_is_none(browser: Browser, cast: Cast) -> None:
    client = browser(cast.owner)
    for value in ("yesterday", "2026-02-31", "9999-12-31"):
        answer = client.get(reverse("events"), {"until": value})
        assert answer.status_code == 422 and f"{value} is no day" in text(answer)
    assert client.get(reverse("events_export", args=["csv"]), {"from": "x"}).status_code == 404


def test_export_has_ones_own_only_and_what_was_chosen(browser: Browser, cast: Cast) -> None:
    Event.record("test.a", '=1+1, "quoted"\nline', actor=cast.admin, tenant=cast.tenant, after={"n": 1})
    Event.record("test.b", "theirs", tenant=cast.other)
    url = reverse("events_export", args=["csv"])
    answer = browser(cast.viewer).get(url, {"kind": "test"})
    assert answer.streaming and "events.csv" in answer["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.getvalue().decode())))
    assert [(row["kind"], row["who"], row["after"]) for row in rows] == [("test.a", "Admin", '{"n": 1}')]
    assert rows[0]["what"] == '\'=1+1, "quoted"\nline', "no table program takes it for a formula"
    answer = browser(cast.operator).get(reverse("events_export", args=["jsonl"]), {"kind": "test"})
    lines = [json.loads(line) for line in answer.getvalue().decode().splitlines()]
    assert [(line["kind"], line["after"]) for line in lines] == [("test.a", {"n": 1}), ("test.b", {})]
    assert browser(cast.owner).get(reverse("events_export", args=["xml"])).status_code == 404


def test_a_large_export_is_sent_in_parts(browser: Browser, cast: Cast) -> None:
    Event.objects.bulk_create(Event(kind="many", text=f"line {n}", tenant=cast.tenant) for n in range(3000))
    answer = browser(cast.owner).get(reverse("events_export", args=["jsonl"]), {"kind": "many"})
    parts = list(answer.streaming_content)
    assert len(parts) == 3000 and b"line 2999" in parts[-1]
