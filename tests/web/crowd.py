"""One of the web's processes when many people come at once: does what each line of JSON on standard input says.

It answers each line with a line. `ask` and `approve` are done by as many threads as there are names, which post to
the product's own addresses, each with a connection to the database of its own.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import django

django.setup()

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import reverse  # noqa: E402
from django.utils import timezone  # noqa: E402

from accounts.models import Membership, Role, Tenant, User  # noqa: E402
from accounts.models.quota import grant, sums  # noqa: E402
from tests.web.conftest import set_up_second_factor  # noqa: E402
from vps import redis  # noqa: E402
from vps.management.commands.verify_ledgers import differences  # noqa: E402
from vps.models import Dom0, Domu, Operation, Request  # noqa: E402
from vps.models.dom0 import BOOT_DISK_MIB  # noqa: E402
from vps.xen.messages import Channels, Verb  # noqa: E402

SIZE = {"memory_mib": 256, "vcpus": 1, "disk_mib": 1024}
PLENTY = 10_000_000


def prepare(fit: int, room: int) -> dict[str, Any]:
    """A tenant with quota for `fit` servers and a bit, a dom0 with memory for `room` and a bit; who is logged in."""
    call_command("migrate", verbosity=0)
    tenant = Tenant.objects.create(name="Crowd")
    limits = {"servers": PLENTY, "vcpus": PLENTY, "disk_mib": PLENTY}
    grant(tenant, {**limits, "memory_mib": fit * SIZE["memory_mib"] + 255}, "for the crowd")
    owner = User.objects.create_user("owner@example.org", name="Owner")
    Membership.objects.create(tenant=tenant, user=owner, role=Role.OWNER)
    people = {"owner": owner}
    for name in ("first", "second"):
        people[name] = User.objects.create_user(f"{name}@example.org", name=name, is_operator=True)
        set_up_second_factor(people[name])
    dom0 = Dom0.objects.create(
        name="host1",
        secret_sha256="0" * 64,
        heard_at=timezone.now() + timedelta(hours=1),
        inventory={"xen": {"version": "4.17.7"}, "agent": {"verbs": [verb.value for verb in Verb]}},
        memory_mib=room * SIZE["memory_mib"] + 255,
        cpus=4,
        disk_mib=(SIZE["disk_mib"] + BOOT_DISK_MIB) * room * 2,
    )
    return {
        "tenant": str(tenant.pk),
        "dom0": str(dom0.pk),
        "sessions": {name: _session(person) for name, person in people.items()},
    }


def _session(person: User) -> str:
    store = SessionStore()
    store[SESSION_KEY] = str(person.pk)
    store[BACKEND_SESSION_KEY] = "allauth.account.auth_backends.AuthenticationBackend"
    store[HASH_SESSION_KEY] = person.get_session_auth_hash()
    store.create()
    return str(store.session_key)


def ask(session: str, tenant: str, names: list[str]) -> list[list[Any]]:
    """Everybody asks for a server at once: [status, the sentences of the page] of each."""
    fixed = {"tenant": tenant, "guest_os": "netbsd", "offer": "own", "why": "", **_texts(SIZE)}
    return _at_once([_post(session, reverse("ask"), {**fixed, "name": name}) for name in names])


def approve(session: str, dom0: str, requests: list[str]) -> list[list[Any]]:
    """One operator approves all of them at once."""
    data = {"dom0": dom0, "words": "", **_texts(SIZE)}
    return _at_once([_post(session, reverse("request_approve", args=[pk]), data) for pk in requests])


def waiting() -> list[str]:
    return [str(pk) for pk in Request.objects.waiting().values_list("pk", flat=True)]


def books(tenant: str, dom0: str) -> dict[str, Any]:
    """What there is in the end, and what the ledgers say of it."""
    host = Dom0.objects.get(pk=dom0)
    return {
        "servers": Domu.objects.count(),
        "prepares": Operation.objects.filter(verb=Verb.PREPARE).count(),
        "orders": redis.client().llen(Channels(host.pk).orders),
        "requests": Request.objects.count(),
        "quota": sums(Tenant.objects.get(pk=tenant)),
        "room": host.capacity(),
        "differences": list(differences()),
    }


def _texts(numbers: dict[str, int]) -> dict[str, str]:
    return {name: str(number) for name, number in numbers.items()}


def _post(session: str, url: str, data: dict[str, str]) -> Callable[[], list[Any]]:
    def post() -> list[Any]:
        client = Client(raise_request_exception=False, HTTP_HOST="localhost")
        client.cookies["sessionid"] = session
        answer = client.post(url, data)
        text = re.sub(r"<[^>]+>|\s+", " ", answer.content.decode())
        return [answer.status_code, text if answer.status_code != HTTPStatus.FOUND else ""]

    return post


def _at_once(calls: list[Callable[[], list[Any]]]) -> list[list[Any]]:
    start, ends = threading.Barrier(len(calls)), [[0, "did not end"] for _ in calls]

    def run(place: int) -> None:
        with _own_connection():
            start.wait(timeout=60)
            ends[place] = calls[place]()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


@contextmanager
def _own_connection() -> Iterator[None]:
    try:
        connection.ensure_connection()
        yield
    finally:
        connection.close()


DOES: dict[str, Callable[..., Any]] = {
    each.__name__: each  # type: ignore[attr-defined]
    for each in (prepare, ask, approve, waiting, books)
}

if __name__ == "__main__":
    for line in sys.stdin:
        what, options = json.loads(line)
        print(json.dumps(DOES[what](**options)), flush=True)
