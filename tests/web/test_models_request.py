"""Two at once, for real: threads with connections of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection

from accounts.models import QuotaExceeded, User
from accounts.models.quota import grant, sums
from tests.web.conftest import ASKED, Cast
from tests.web.world import Mouth
from vps.models import Conflict, Domu, NoRoom, Operation, Request

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*calls: Callable[[], object]) -> list[str]:
    """Run all at the same time; what each ended with: "ok" or the error's text."""
    start, ends = threading.Barrier(len(calls)), [""] * len(calls)

    def run(place: int, call: Callable[[], object]) -> None:
        try:
            start.wait(timeout=10)
            _patiently(call)
            ends[place] = "ok"
        except (Conflict, QuotaExceeded, NoRoom) as error:
            ends[place] = str(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(i, call)) for i, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return ends


def _patiently(call: Callable[[], object]) -> None:
    """As the product's database file would have it: in memory SQLite says "locked" instead of waiting."""
    give_up = time.monotonic() + 20
    while True:
        try:
            call()
            return
        except OperationalError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.005)


def test_two_operators_approve_at_once(
    cast: Cast, mouth: Mouth, asked: Request, rung: list[Operation]
) -> None:
    def approve(by: User) -> Callable[[], Domu]:
        mine = Request.objects.get(pk=asked.pk)
        return lambda: mine.approve(by, mouth.dom0)

    ends = at_once(approve(cast.operator), approve(cast.second))
    assert sorted(end == "ok" for end in ends) == [False, True]
    assert any("was first: the request was approved already." in end for end in ends)
    assert Domu.objects.count() == 1
    assert [operation.verb for operation in rung] == ["prepare"]
    assert sums(cast.tenant)["memory_mib"]["used"] == 256
    assert mouth.dom0.capacity()["memory_mib"]["promised"] == 256


def test_two_ask_for_the_last_of_the_quota(cast: Cast) -> None:
    grant(cast.tenant, {"memory_mib": 300 - 4096}, "little is left")

    def ask(name: str) -> Callable[[], Request]:
        return lambda: Request.ask(tenant=cast.tenant, by=cast.owner, name=name, **ASKED)

    ends = at_once(ask("web1"), ask("web2"))
    assert sorted(end == "ok" for end in ends) == [False, True]
    assert any("asks for 256 MiB of memory, but 44 MiB of 300 MiB is left" in end for end in ends)
    assert Request.objects.count() == 1


def test_two_take_one_name(cast: Cast) -> None:
    def ask(tenant: Any, by: User) -> Callable[[], Request]:
        return lambda: Request.ask(tenant=tenant, by=by, name="web1", **ASKED)

    ends = at_once(ask(cast.tenant, cast.owner), ask(cast.other, cast.stranger))
    assert sorted(ends) == ["The name web1 is taken; choose another one.", "ok"]
    assert sum(sums(t)["servers"]["used"] for t in (cast.tenant, cast.other)) == 1


def test_two_requests_for_the_last_room_of_a_dom0(cast: Cast, mouth: Mouth, rung: list[Operation]) -> None:
    size = {**ASKED, "memory_mib": 2000}
    first = Request.ask(tenant=cast.tenant, by=cast.owner, name="web1", **size)
    second = Request.ask(tenant=cast.other, by=cast.stranger, name="web2", **size)
    ends = at_once(
        lambda: first.approve(cast.operator, mouth.dom0), lambda: second.approve(cast.second, mouth.dom0)
    )
    assert sorted(end == "ok" for end in ends) == [False, True]
    assert any("dom0-a has 1584 MiB of memory left; the server wants 2000 MiB." in end for end in ends)
    assert Request.objects.waiting().count() == 1


def test_two_click_start_at_once(cast: Cast, bootable: Domu, rung: list[Operation]) -> None:
    def start() -> Callable[[], Operation]:
        mine = Domu.objects.get(pk=bootable.pk)
        return lambda: mine.start(cast.owner)

    ends = at_once(start(), start())
    assert sorted(end == "ok" for end in ends) == [False, True]
    assert any("Start is still under way" in end for end in ends)
    bootable.refresh_from_db()
    assert len(rung) == 1 and rung[0].n == bootable.n
