"""The fixed cast of the web tests, and the things they have."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from allauth.account.internal.userkit import user_id_to_str
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client

from accounts.models import Membership, Role, Tenant, User
from accounts.models.quota import grant_default
from tests.conftest import RedisServer
from tests.web.chrome import chrome, opened  # noqa: F401  fixtures
from tests.web.world import Mouth, make_dom0
from vps import dispatch
from vps.models import Blob, Domu, Kernel, KernelVersion, Loader, Operation, Request, Size
from vps.models.boot import EntryDraft, save_menu
from vps.redis import client


@pytest.fixture
def web_redis(redis_server: RedisServer, settings: Any) -> Iterator[RedisServer]:
    """The web side on a real Redis."""
    settings.BERTH_REDIS_URL = redis_server.url
    client.cache_clear()
    dispatch._bell.cache_clear()
    yield redis_server
    client().close()
    dispatch._bell().close()
    client.cache_clear()
    dispatch._bell.cache_clear()


PASSWORD = "a long enough password"
ASKED = {"guest_os": "netbsd", "memory_mib": 256, "vcpus": 1, "disk_mib": 1024, "why": "mail"}


@dataclass
class Cast:
    """Owner, admin, developer and viewer of one tenant; a stranger, who owns another; two operators."""

    tenant: Tenant
    other: Tenant
    owner: User
    admin: User
    developer: User
    viewer: User
    stranger: User
    operator: User
    second: User


@pytest.fixture
def cast(db: None) -> Cast:
    people = {
        name: User.objects.create_user(f"{name}@example.org", PASSWORD, name=name.capitalize())
        for name in ("owner", "admin", "developer", "viewer", "stranger")
    }
    operators = {
        name: User.objects.create_user(
            f"{name}@example.org", PASSWORD, name=name.capitalize(), is_operator=True
        )
        for name in ("operator", "second")
    }
    for operator in operators.values():
        set_up_second_factor(operator)
    tenant, other = Tenant.objects.create(name="Example"), Tenant.objects.create(name="Elsewhere")
    for each in (tenant, other):
        grant_default(each)
    for role in (Role.OWNER, Role.ADMIN, Role.DEVELOPER, Role.VIEWER):
        Membership.objects.create(tenant=tenant, user=people[role.value], role=role)
    Membership.objects.create(tenant=other, user=people["stranger"], role=Role.OWNER)
    return Cast(tenant, other, **people, **operators)


def set_up_second_factor(user: User) -> str:
    """An authenticator app, without which operators get nowhere outside the quick start; gives its key."""
    secret = generate_totp_secret()
    TOTP.activate(user, secret)
    return secret


def log_in_freshly(client: Client, user: User) -> Client:
    """What a session holds after a log-in by form, which `fresh_login_required` asks for."""
    session = client.session
    session["account_authentication_methods"] = [{"method": "password", "at": time.time()}]
    session["account_authentication_methods_user"] = user_id_to_str(user)
    session.save()
    return client


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[Operation]:
    """What was given to vps.dispatch.send after a commit, and not sent (there is no Redis)."""
    sent: list[Operation] = []
    monkeypatch.setattr("vps.dispatch.not_after", lambda: None)
    monkeypatch.setattr("vps.dispatch.send", lambda operation: sent.append(operation) or True)
    return sent


@pytest.fixture
def mouth(db: None) -> Mouth:
    """A dom0 that was heard just now, with 3.5 GiB for servers."""
    speaks = Mouth(make_dom0())
    speaks.inventory({})
    speaks.dom0.refresh_from_db()
    return speaks


Browser = Callable[[User | None], Client]


@pytest.fixture
def browser() -> Browser:
    """A browser in which a person is logged in."""

    def logged_in(user: User | None) -> Client:
        client = Client()
        if user is not None:
            client.force_login(user)
        return client

    return logged_in


@pytest.fixture
def sizes(db: None) -> list[Size]:
    return [
        Size.objects.create(name="Small", memory_mib=256, vcpus=1, disk_mib=1024),
        Size.objects.create(name="Large", memory_mib=1024, vcpus=2, disk_mib=8192),
    ]


@pytest.fixture
def asked(cast: Cast) -> Request:
    """A request of the owner's that waits."""
    return Request.ask(tenant=cast.tenant, by=cast.owner, name="web1", **ASKED)


@pytest.fixture
def domu(cast: Cast, mouth: Mouth, asked: Request, rung: list[Operation]) -> Domu:
    """A server of the cast's tenant: approved, prepared, stopped, without a kernel."""
    made = asked.approve(cast.operator, mouth.dom0)
    finish(mouth, made)
    rung.clear()
    made.refresh_from_db()
    return made


@pytest.fixture
def version(cast: Cast) -> KernelVersion:
    """A NetBSD kernel of the cast's tenant that boots PV."""
    return make_version(cast.tenant, "generic")


@pytest.fixture
def bootable(cast: Cast, mouth: Mouth, domu: Domu, version: KernelVersion, rung: list[Operation]) -> Domu:
    """The server with a menu of one kernel on its dom0, stopped."""
    make_loaders()
    save_menu(domu, [EntryDraft(version, "NetBSD", "root=xbd0a")], cast.owner)
    finish(mouth, domu)
    rung.clear()
    domu.refresh_from_db()
    return domu


@pytest.fixture
def running(mouth: Mouth, bootable: Domu) -> Domu:
    """The server, running as its dom0 says."""
    bootable.start(None)
    finish(mouth, bootable)
    mouth.inventory({bootable: "running"})
    bootable.refresh_from_db()
    return bootable


def finish(mouth: Mouth, domu: Domu, outcome: str = "done", **more: Any) -> Operation:
    """The dom0 reports how the server's open operation ended."""
    operation = domu.operations.open().get()
    if operation.verb == "prepare" and outcome == "done":
        more.setdefault("result", {"menu_serial": Domu.objects.get(pk=domu.pk).menu_serial})
    mouth.outcome(operation, outcome, **more)
    domu.refresh_from_db()
    operation.refresh_from_db()
    return operation


def make_blob(content: bytes) -> Blob:
    import hashlib

    sha256 = hashlib.sha256(content).hexdigest()
    if found := Blob.objects.filter(pk=sha256).first():
        return found
    name = default_storage.save(f"blobs/{sha256}", ContentFile(content))
    return Blob.objects.create(sha256=sha256, size=len(content), name=name)


def make_loaders() -> None:
    for kind in Loader.Kind:
        if not Loader.objects.filter(kind=kind, current=True).exists():
            Loader.objects.create(kind=kind, blob=make_blob(b"loader " + kind.encode()), version="test")


def make_version(tenant: Tenant | None, name: str, number: int = 1, **report: Any) -> KernelVersion:
    """An inspected kernel of a tenant, or of the catalogue."""
    kernel, _ = Kernel.objects.get_or_create(
        tenant=tenant, name=name, defaults={"in_catalogue": tenant is None}
    )
    facts = {
        "verdict": "ok",
        "paths": {"pvgrub": "ok", "direct_pv": "ok", "direct_pvh": "It has no PVH entry."},
        "architecture": "x86_64",
        "pv": True,
        "pvh": False,
        "release": "NetBSD 10.1",
        "role": "domU",
    }
    return KernelVersion.objects.create(
        kernel=kernel,
        number=number,
        state=KernelVersion.State.OK,
        filename=f"netbsd-{name}",
        original=make_blob(f"kernel {name} {number}".encode()),
        report={**facts, **report},
        summary="NetBSD 10.1, XEN3_DOMU, amd64. Boots as PV.",
    )
