"""Figures for Prometheus: what they say, in which form, and to whom."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from django.test import Client

from tests.conftest import RedisServer
from tests.web.conftest import Cast, finish
from tests.web.world import Mouth, make_dom0
from vps import metrics
from vps.models import Domu, Request
from vps.redis import client as redis_client
from vps.xen.messages import Channels, Verb

pytestmark = pytest.mark.django_db
LINE = re.compile(r'([a-z_0-9]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)+)\})? (\S+)')


def read(answer: Any) -> dict[tuple[str, str], float]:
    assert answer.status_code == 200 and answer["Content-Type"].startswith("text/plain; version=0.0.4")
    found = {}
    for line in answer.content.decode().splitlines():
        if not line.startswith("#"):
            match = LINE.fullmatch(line)
            assert match, line
            found[match[1], match[2] or ""] = float(match[3])
    return found


def test_what_they_say(
    client: Client, cast: Cast, mouth: Mouth, running: Domu, asked: Request, web_redis: RedisServer
) -> None:
    make_dom0("silent")
    running.order(Verb.SHUTDOWN, None)
    finish(mouth, running, "refused", error={"code": 'a"b\\c\n', "text": "no"})
    redis_client().rpush(Channels(mouth.dom0.pk).orders, "one", "two")
    redis_client().zadd("console:user:1", {"now": time.time() + 9, "then": time.time() - 9})
    found = read(client.get("/metrics"))
    for key, value in {
        ("berth_operations", 'state="refused"'): 1,
        ("berth_operations", 'state="running"'): 0,
        ("berth_dom0s", ""): 2,
        ("berth_dom0s_heard", ""): 1,
        ("berth_servers", 'wanted="running",observed="running"'): 1,
        ("berth_refusals", 'what="operation",reason="a\\"b\\\\c\\n"'): 1,
        ("berth_requests_waiting", ""): 0,
        ("berth_redis_up", ""): 1,
        ("berth_queue_depth", 'queue="orders"'): 2,
        ("berth_queue_depth_most", 'queue="orders"'): 2,
        ("berth_consoles_open", ""): 1,
    }.items():
        assert found.get(key) == value, (key, found.get(key))


def test_without_redis_the_rest_is_told(client: Client, settings: Any) -> None:
    settings.BERTH_REDIS_URL = "redis://127.0.0.1:1/0"
    redis_client.cache_clear()
    found = read(client.get("/metrics"))
    redis_client.cache_clear()
    assert found["berth_redis_up", ""] == 0 and found["berth_dom0s", ""] == 0


def test_to_whom(client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vps.views.health.exposition", lambda: "x 1\n")
    assert client.get("/metrics").status_code == 200
    assert client.get("/metrics", REMOTE_ADDR="192.0.2.1").status_code == 404
    assert client.get("/metrics", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 404
    assert client.post("/metrics").status_code == 405
    settings.BERTH_METRICS_TOKEN = "a token"
    for given, status in ((None, 404), ("Bearer other", 404), ("a token", 404), ("Bearer a token", 200)):
        headers = {"Authorization": given} if given else {}
        assert client.get("/metrics", headers=headers, REMOTE_ADDR="192.0.2.1").status_code == status
    assert client.get("/metrics").status_code == 404


def test_a_label_cannot_end_its_line() -> None:
    (line,) = list(metrics.Metric("m", "about", values=[({"a": 'x"} 1\ny'}, 2)]).lines())[2:]
    assert line == 'm{a="x\\"} 1\\ny"} 2'
