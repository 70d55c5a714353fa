"""Alive, and ready: what supervisors and load balancers ask."""

from __future__ import annotations

import time

import pytest
import redis
from django.test import Client

from tests.web.world import Mouth, make_dom0
from vps.views import health

pytestmark = pytest.mark.django_db


class Answers:
    def ping(self) -> bool:
        return True


class Away:
    def ping(self) -> bool:
        raise redis.ConnectionError("away")


def test_healthz_asks_nothing(client: Client) -> None:
    assert client.get("/healthz").status_code == 200
    assert client.post("/healthz").status_code == 405


def test_ready_counts_the_dom0s_that_were_heard(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "client", Answers)
    Mouth(make_dom0()).inventory({})
    make_dom0("silent")
    assert client.get("/readyz").json() == {"database": True, "redis": True, "dom0s": 2, "dom0s_heard": 1}
    assert client.get(f"/readyz?since={time.time() + 5}").json()["dom0s_heard"] == 0
    for rubbish in ("x", "nan", "inf", "-1", "9" * 400):
        assert client.get("/readyz", {"since": rubbish}).status_code == 200


def test_not_ready_without_redis(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "client", Away)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["redis"]) == (503, False)
