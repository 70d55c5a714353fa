"""Every button pressed twice: the second press changes nothing more, and the page says what is so.

It walks the access table, so that a new address is pressed twice as well. What each does the first time, and in which
words it refuses, stands in the tests of its page.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.web.conftest import Browser, Cast, finish, log_in_freshly, make_version
from tests.web.test_access_table import PEOPLE, TABLE, Address, World, people, world  # noqa: F401  a fixture
from tests.web.world import Mouth
from vps.models import Dom0, Event, Kernel, KernelVersion, Operation, Request

pytestmark = pytest.mark.django_db
# What may be done as often as one likes, each time anew: asked for, written, looked at.
REPEATS = {
    "account_login",
    "boot",  # another menu each time; a stale page is refused by its serial
    "kernel_token",
    "person_close",
    "dom0_credential",
    "server_destroy",  # takes the place of whatever is under way, of a destroy that hangs as well
    "stuck_server",  # the same
    "members",  # another letter for who lost the first
    "persons",  # the same
}


def press(client: Client, address: Address, world: World) -> int:  # noqa: F811
    url = reverse(address.name, args=address.args(world))
    return client.post(url, {**(address.data or {}), **address.fill(world)}).status_code


@pytest.mark.timeout(300)
def test_a_second_press_changes_nothing_more(cast: Cast, world: World, browser: Browser) -> None:  # noqa: F811
    wrong = []
    for number, address in enumerate(TABLE):
        if address.data is None or address.name in REPEATS:
            continue
        Dom0.objects.update(heard_at=timezone.now())
        who = next(
            (
                name
                for name in reversed(PEOPLE)
                if address.wanted[PEOPLE.index(name)] == 302 and name != "visitor"
            ),
            None,
        )
        person = people(cast)[who] if who else None
        if person is None:
            continue
        with transaction.atomic():
            client = log_in_freshly(browser(person), person)
            first = press(client, address, world)
            done = Operation.objects.count(), Event.objects.count()
            second = press(client, address, world)
            again = Operation.objects.count(), Event.objects.count()
            transaction.set_rollback(True)
        if first >= 500 or second >= 500 or again != done:
            wrong.append(f"{number} {address.name} by {who}: {first}, then {second}; {done} became {again}")
    assert not wrong, "\n".join(wrong)


def test_a_version_is_deleted_once(cast: Cast, version: KernelVersion, browser: Browser) -> None:
    url = reverse("kernel_version_delete", args=[version.pk])
    for _press in range(2):
        assert browser(cast.developer).post(url).url == reverse("kernel", args=[version.kernel_id])
    version.refresh_from_db()
    assert version.deleted_at is not None
    assert Event.objects.filter(kind="kernel.deleted").count() == 1


def test_a_kernel_is_offered_once(cast: Cast, browser: Browser) -> None:
    kernel = make_version(None, "offered").kernel
    url = reverse("kernel_catalogue", args=[kernel.pk])
    for offered, wanted in (("no", False), ("no", False), ("yes", True), ("yes", True)):
        assert browser(cast.operator).post(url, {"offered": offered}).url == reverse(
            "kernel", args=[kernel.pk]
        )
        assert Kernel.objects.get(pk=kernel.pk).in_catalogue is wanted
    assert Event.objects.filter(kind="kernel.catalogue").count() == 2
    own = make_version(cast.tenant, "own").kernel
    assert browser(cast.operator).post(reverse("kernel_catalogue", args=[own.pk])).status_code == 404


def test_what_is_decided_is_not_refused(
    cast: Cast, mouth: Mouth, asked: Request, rung: Any, browser: Browser
) -> None:
    finish(mouth, asked.approve(cast.second, mouth.dom0))
    answer = browser(cast.operator).post(reverse("request_refuse", args=[asked.pk]), {"words": "no"})
    assert answer.status_code == 409
    assert "the request was approved already" in answer.content.decode()
    asked.refresh_from_db()
    assert asked.state == "approved"
