"""The console's page, its tickets, and what the database says about who may stay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from accounts.models import Membership, Role, Tenant, User
from tests.conftest import RedisServer
from tests.web.conftest import set_up_second_factor
from tests.web.world import make_dom0, make_domu
from vps import redis as web_redis
from vps import tickets
from vps.console_rights import DjangoRights, Seat
from vps.models import Domu

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def use_real_redis(redis_server: RedisServer, settings: object) -> Iterator[None]:
    settings.BERTH_REDIS_URL = redis_server.url  # type: ignore[attr-defined]
    web_redis.client.cache_clear()
    yield
    web_redis.client().close()
    web_redis.client.cache_clear()


@pytest.fixture
def domu() -> Domu:
    return make_domu(make_dom0())


def person(name: str, tenant: Tenant | None = None, role: str = Role.DEVELOPER) -> User:
    user = User.objects.create_user(f"{name}@example.org", "long enough 1", name=name.capitalize())
    if tenant is not None:
        Membership.objects.create(user=user, tenant=tenant, role=role)
    return user


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def ticket_of(client: Client, domu: Domu) -> str:
    answer = client.post(reverse("console_ticket", args=[domu.pk]))
    assert answer.status_code == 200
    return str(answer.json()["ticket"])


ORIGIN = "http://testserver"


def test_page(domu: Domu) -> None:
    answer = logged_in(person("ana", domu.tenant)).get(reverse("console", args=[domu.pk]))
    assert answer.status_code == 200
    page = answer.content.decode()
    assert reverse("console_ticket", args=[domu.pk]) in page
    assert "<script>" not in page and "onclick" not in page and "style=" not in page


def test_styles_are_looser_on_this_page_only(domu: Domu) -> None:
    client = logged_in(person("ana", domu.tenant))
    policy = client.get(reverse("console", args=[domu.pk])).headers["Content-Security-Policy"]
    parts = {part.split()[0]: part.split()[1:] for part in policy.split(";")}
    assert "'unsafe-inline'" in parts["style-src"]
    assert "'unsafe-inline'" not in parts["script-src"]
    other = client.get(reverse("servers")).headers["Content-Security-Policy"]
    assert "'unsafe-inline'" not in other


@pytest.mark.parametrize("name", ["console", "console_ticket"])
@pytest.mark.parametrize(
    ("who", "status"),
    [("visitor", 302), ("stranger", 404), ("viewer", 200), ("developer", 200), ("operator", 200)],
)
def test_who_gets_what(domu: Domu, name: str, who: str, status: int) -> None:
    if who == "visitor":
        client = Client()
    elif who == "stranger":
        client = logged_in(person(who, Tenant.objects.create(name="Another")))
    elif who == "operator":
        user = person(who)
        user.is_operator = True
        user.save()
        set_up_second_factor(user)
        client = logged_in(user)
    else:
        client = logged_in(person(who, domu.tenant, who))
    address = reverse(name, args=[domu.pk])
    answer = client.get(address) if name == "console" else client.post(address)
    assert answer.status_code == status


@pytest.mark.parametrize(("name", "method"), [("console", "post"), ("console_ticket", "get")])
def test_wrong_method(domu: Domu, name: str, method: str) -> None:
    client = logged_in(person("ana", domu.tenant))
    assert getattr(client, method)(reverse(name, args=[domu.pk])).status_code == 405


def test_ticket_needs_the_token_of_a_form(domu: Domu) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(person("ana", domu.tenant))
    assert client.post(reverse("console_ticket", args=[domu.pk])).status_code == 403


def test_deleted_server_has_no_console(domu: Domu) -> None:
    client = logged_in(person("ana", domu.tenant))
    domu.retire()
    assert client.get(reverse("console", args=[domu.pk])).status_code == 404
    assert client.post(reverse("console_ticket", args=[domu.pk])).status_code == 404


def test_ticket_without_redis(domu: Domu, settings: object) -> None:
    client = logged_in(person("ana", domu.tenant))
    settings.BERTH_REDIS_URL = "redis://127.0.0.1:1/0"  # type: ignore[attr-defined]
    web_redis.client.cache_clear()
    answer = client.post(reverse("console_ticket", args=[domu.pk]))
    assert answer.status_code == 503
    assert "just now" in answer.json()["error"]


def test_tickets_are_counted(domu: Domu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "PER_MINUTE", 2)
    monkeypatch.setattr(tickets.time, "time", lambda: 1_000_000.0)
    ana = logged_in(person("ana", domu.tenant))
    answers = [ana.post(reverse("console_ticket", args=[domu.pk])).status_code for _ in range(3)]
    assert answers == [200, 200, 429]
    ticket_of(logged_in(person("ben", domu.tenant)), domu)


def test_redeemed_once(domu: Domu) -> None:
    ana = person("ana", domu.tenant)
    ticket = ticket_of(logged_in(ana), domu)
    seat, access = DjangoRights().redeem(ticket, ORIGIN) or pytest.fail("refused")
    assert (seat.user_id, seat.domu_id) == (ana.pk, domu.pk)
    assert access is not None and access.may_type
    assert DjangoRights().redeem(ticket, ORIGIN) is None


def test_ticket_lives_for_a_minute(domu: Domu, redis_server: RedisServer) -> None:
    ticket_of(logged_in(person("ana", domu.tenant)), domu)
    with redis_server.client() as client:
        [key] = client.keys("console:ticket:*")
        assert 55 < client.ttl(key) <= 60


def test_redis_does_not_hold_the_ticket_itself(domu: Domu, redis_server: RedisServer) -> None:
    ticket = ticket_of(logged_in(person("ana", domu.tenant)), domu)
    with redis_server.client() as client:
        kept = [(key, client.get(key)) for key in client.keys("console:ticket:*")]
    assert ticket.encode() not in b"".join(part for pair in kept for part in pair)


@pytest.mark.parametrize(
    ("text", "origin"),
    [("no such ticket", ORIGIN), ("", ORIGIN), ("\x00", ORIGIN), (None, "http://other.test"), (None, "")],
    ids=["unknown", "empty", "control character", "another page's origin", "no origin"],
)
def test_refused_ticket(domu: Domu, text: str | None, origin: str) -> None:
    ticket = ticket_of(logged_in(person("ana", domu.tenant)), domu)
    assert DjangoRights().redeem(ticket if text is None else text, origin) is None


def test_ticket_of_somebody_who_logged_out(domu: Domu) -> None:
    client = logged_in(person("ana", domu.tenant))
    ticket = ticket_of(client, domu)
    client.logout()
    assert DjangoRights().redeem(ticket, ORIGIN) is None


def test_ticket_of_another_log_in(domu: Domu, redis_server: RedisServer) -> None:
    """The session belongs to Ben by the time the ticket comes: it is worth nothing."""
    ana, ben = person("ana", domu.tenant), person("ben", domu.tenant)
    ticket = tickets.issue(ana.pk, logged_in(ben).session.session_key, domu.pk)
    assert DjangoRights().redeem(ticket, ORIGIN) is None


def seat_of(user: User, domu: Domu) -> tuple[Client, Seat]:
    client = logged_in(user)
    found = DjangoRights().redeem(ticket_of(client, domu), ORIGIN)
    assert found is not None
    return client, found[0]


# The rights close their connection, as in the gateway; within a transaction PostgreSQL would have lost it.
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "change",
    [
        "logs out",
        "changes the password",
        "is made inactive",
        "leaves the tenant",
        "loses the server",
        "is deleted",
    ],
)
def test_who_may_not_stay(domu: Domu, change: str) -> None:
    ana, ben = person("ana", domu.tenant), person("ben", domu.tenant)
    client, seat = seat_of(ana, domu)
    _, other = seat_of(ben, domu)
    assert set(DjangoRights().check({seat, other})) == {seat, other}
    if change == "logs out":
        client.logout()
    elif change == "changes the password":
        ana.set_password("another long one 2")
        ana.save()
    elif change == "is made inactive":
        User.objects.filter(pk=ana.pk).update(is_active=False)
    elif change == "leaves the tenant":
        Membership.objects.filter(user=ana).delete()
    elif change == "loses the server":
        domu.retire()
    elif change == "is deleted":
        ana.delete()
    found = DjangoRights().check({seat, other})
    assert set(found) == ({other} if change != "loses the server" else set())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("change", "may_type"),
    [
        ({"role": Role.VIEWER}, False),
        ({"role": Role.ADMIN}, True),
        ({"locked": "because"}, False),
        ({"suspended": "because"}, False),
    ],
    ids=["made a viewer", "made an admin", "server locked", "tenant suspended"],
)
def test_who_may_still_type(domu: Domu, change: dict[str, str], may_type: bool) -> None:
    ana = person("ana", domu.tenant)
    _, seat = seat_of(ana, domu)
    if "role" in change:
        Membership.objects.filter(user=ana).update(**change)
    elif "locked" in change:
        Domu.objects.filter(pk=domu.pk).update(**change)
    else:
        Tenant.objects.filter(pk=domu.tenant.pk).update(**change)
    access = DjangoRights().check({seat})[seat]
    assert access.may_watch
    assert access.may_type is may_type


@pytest.mark.django_db(transaction=True)
def test_check_asks_a_constant_number_of_queries(domu: Domu, django_assert_max_num_queries: object) -> None:
    seats = {seat_of(person(f"user{n}", domu.tenant), domu)[1] for n in range(8)}
    with django_assert_max_num_queries(7):  # type: ignore[operator]
        assert len(DjangoRights().check(seats)) == 8


@pytest.mark.parametrize(
    ("origin", "host", "ours"),
    [
        pytest.param("http://localhost:8000", "localhost:8001", True, id="the page's own, gateway beside it"),
        pytest.param("http://testserver", "testserver", True, id="same host"),
        pytest.param("https://testserver", "testserver", True, id="same host, TLS"),
        pytest.param("http://testserver:99", "testserver", False, id="another port"),
        pytest.param("http://evil.test", "testserver", False, id="stranger"),
        pytest.param("http://evil.test", "evil.test", False, id="a stranger's name that points here"),
        pytest.param("http://testserver.evil.test", "testserver", False, id="begins like ours"),
        pytest.param("", "testserver", False, id="none"),
        pytest.param("null", "testserver", False, id="null"),
        pytest.param("file://testserver", "testserver", False, id="file"),
        pytest.param("http://[::1", "testserver", False, id="broken"),
    ],
)
def test_origin(origin: str, host: str, ours: bool) -> None:
    assert settings.CSRF_TRUSTED_ORIGINS == ["http://localhost:8000"]
    assert DjangoRights().origin_is_ours(origin, host) is ours


@pytest.mark.parametrize(
    ("origin", "ours"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://localhost:1", True),
        ("http://evil.test", False),
        ("null", False),
    ],
)
def test_origin_of_the_quick_start(settings: object, origin: str, ours: bool) -> None:
    settings.BERTH_QUICKSTART = True  # type: ignore[attr-defined]
    settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1"]  # type: ignore[attr-defined]
    assert DjangoRights().origin_is_ours(origin, "localhost:8001") is ours


def test_session_without_a_person(domu: Domu, redis_server: RedisServer) -> None:
    client = Client()
    client.session.save()
    ticket = tickets.issue(uuid4(), client.session.session_key or "none", domu.pk)
    assert DjangoRights().redeem(ticket, ORIGIN) is None


def test_words_have_their_places_filled() -> None:
    from vps.views.console import words

    assert json.dumps(words())
    assert all(text for text in words().values())
    assert UUID(int=0).hex not in json.dumps(words())
