"""On PostgreSQL: whoever books room waits for the collector with nothing in hand that the collector wants next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction

from accounts.models import Tenant
from tests.web.conftest import Cast, finish
from tests.web.world import Mouth
from vps.models import Dom0, Domu, Request, kept
from vps.models.size import resize, shrink

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite locks the whole file"),
]


@pytest.mark.parametrize("what", ["resize", "shrink", "undelete", "approve", "approve a size"])
def test_the_dom0_is_taken_first(cast: Cast, mouth: Mouth, bootable: Domu, rung: Any, what: str) -> None:
    bootable.refresh_from_db()
    call = _call(what, cast, mouth, bootable)
    failures: list[BaseException] = []

    def click() -> None:
        try:
            call()
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    clicking = threading.Thread(target=click)
    with transaction.atomic():  # as the collector applies a report
        Dom0.objects.select_for_update(no_key=True).get(pk=bootable.dom0_id)
        clicking.start()
        _until_it_waits()
        Domu.objects.select_for_update(nowait=True).get(pk=bootable.pk)
        Tenant.objects.select_for_update(nowait=True, no_key=True).get(pk=bootable.tenant_id)
    clicking.join(20)
    assert not clicking.is_alive() and failures == []


def _call(what: str, cast: Cast, mouth: Mouth, domu: Domu) -> Callable[[], object]:
    memory, vcpus = domu.memory_mib, domu.vcpus
    if what == "resize":
        return lambda: resize(domu, cast.operator, memory + 64, vcpus)
    if what == "shrink":
        return lambda: shrink(domu, cast.owner, memory - 64, vcpus)
    if what == "undelete":
        kept.delete(domu, cast.owner)
        finish(mouth, domu)
        return lambda: kept.undelete(domu, cast.owner)
    if what == "approve a size":
        larger = Request.ask_size(domu, cast.owner, memory + 64, vcpus)
        return lambda: larger.approve_size(cast.second)
    size = {"memory_mib": 64, "vcpus": 1, "disk_mib": 64}
    asked = Request.ask(tenant=cast.tenant, by=cast.owner, name="web2", guest_os="netbsd", **size)
    return lambda: asked.approve(cast.second, domu.dom0)


def _until_it_waits() -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                return
        time.sleep(0.05)
    raise AssertionError("the click did not wait for the dom0")
