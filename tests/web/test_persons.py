"""An operator's pages of people: who is there, closing accounts, making operators, sign-up's setting."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from django.urls import reverse

from accounts.conflict import Conflict
from accounts.models import Installation, Invitation, Mail, User
from tests.web.conftest import PASSWORD, Browser, Cast, log_in_freshly
from tests.web.test_request import text
from vps.access import console_access
from vps.console_rights import DjangoRights, Seat
from vps.models import Domu, Event

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(cast: Cast, browser: Browser) -> Client:
    return log_in_freshly(browser(cast.operator), cast.operator)


def test_everybody_is_listed_and_found(cast: Cast, operator: Client) -> None:
    page = text(operator.get(reverse("persons")))
    for name in ("owner@example.org", "stranger@example.org", "second@example.org"):
        assert name in page
    found = text(operator.get(reverse("persons"), {"q": "elsewhere"}))
    assert "stranger@example.org" in found and "owner@example.org" not in found
    assert "Nobody has “zzz”" in text(operator.get(reverse("persons"), {"q": "zzz"}))
    only = text(operator.get(reverse("persons"), {"who": "operators"}))
    assert "second@example.org" in only and "viewer@example.org" not in only


def test_a_thousand_people_are_paged(
    cast: Cast, operator: Client, django_assert_max_num_queries: Any
) -> None:
    User.objects.bulk_create(User(email=f"p{n}@example.org") for n in range(120))
    with django_assert_max_num_queries(15):
        page = text(operator.get(reverse("persons"), {"page": "2"}))
    assert "Page 2 of 3, 127 in all" in page


def test_a_person_is_shown_with_tenants_and_factors(cast: Cast, operator: Client) -> None:
    page = text(operator.get(reverse("person", args=[cast.owner.pk])))
    for words in ("owner@example.org", "confirmed", "Example", "Close the account", "Make an operator"):
        assert words in page
    own = text(operator.get(reverse("person", args=[cast.operator.pk])))
    assert "TOTP" in own and "Close the account" not in own


# The rights close their connection, as in the gateway; within a transaction PostgreSQL would have lost it.
@pytest.mark.django_db(transaction=True)
def test_closing_an_account_ends_sessions_and_consoles(cast: Cast, operator: Client, domu: Domu) -> None:
    client = Client()
    client.post(reverse("login"), {"login": "owner@example.org", "password": PASSWORD})
    seat = Seat(cast.owner.pk, client.session.session_key or "", UUID(str(domu.pk)))
    assert DjangoRights().check([seat]), "the session may be at the console"
    url = reverse("person_close", args=[cast.owner.pk])
    assert "All sessions and consoles end at once." in text(operator.get(url))
    wordless = operator.post(url, {"why": ""})
    assert wordless.status_code == 422 and cast.owner.is_active
    assert operator.post(url, {"why": "left the company"}).url == reverse("person", args=[cast.owner.pk])
    assert client.get(reverse("me")).status_code == 302
    assert not DjangoRights().check([seat])
    assert console_access(cast.owner.pk, domu.pk) is None
    event = Event.objects.get(kind="user.closed")
    assert (event.actor, event.reason) == (cast.operator, "left the company")
    again = operator.post(url, {"why": "again"})
    assert again.status_code == 409 and "That was done already." in text(again)
    assert operator.post(reverse("person_open", args=[cast.owner.pk]), {"why": ""}).status_code == 302
    answer = client.post(reverse("login"), {"login": "owner@example.org", "password": PASSWORD})
    assert answer.url == reverse("home")


def test_making_an_operator_and_taking_it_back(cast: Cast, operator: Client) -> None:
    make, unmake = (reverse(f"person_{deed}_operator", args=[cast.viewer.pk]) for deed in ("make", "unmake"))
    assert operator.post(make, {"why": "new colleague"}).status_code == 302
    cast.viewer.refresh_from_db()
    assert cast.viewer.is_operator
    assert operator.post(make, {"why": "twice"}).status_code == 409
    assert operator.post(unmake, {"why": "moved on"}).status_code == 302
    cast.viewer.refresh_from_db()
    assert not cast.viewer.is_operator
    assert list(
        Event.objects.filter(kind__startswith="user.").order_by("id").values_list("kind", flat=True)
    ) == [
        "user.operator",
        "user.no_operator",
    ]


@pytest.mark.parametrize("deed", ["close", "unmake_operator"])
def test_never_oneself(cast: Cast, operator: Client, deed: str) -> None:
    answer = operator.post(reverse(f"person_{deed}", args=[cast.operator.pk]), {"why": "tired"})
    assert answer.status_code == 409 and "Nobody does that to themselves" in text(answer)
    cast.operator.refresh_from_db()
    assert cast.operator.is_operator and cast.operator.is_active


def test_never_the_last(cast: Cast) -> None:
    cast.second.deactivate(cast.operator, "left")
    with pytest.raises(Conflict, match="Operator is the last operator"):
        cast.operator.unmake_operator(cast.second, "x")
    with pytest.raises(Conflict, match="Operator is the last operator"):
        cast.operator.deactivate(cast.second, "x")


def test_a_closed_account_is_made_no_operator(cast: Cast) -> None:
    cast.viewer.deactivate(cast.operator, "left")
    with pytest.raises(Conflict, match="is closed"):
        cast.viewer.make_operator(cast.operator, "x")


def test_a_session_left_open_makes_no_operator(cast: Cast, browser: Browser) -> None:
    url = reverse("person_make_operator", args=[cast.viewer.pk])
    answer = browser(cast.operator).post(url, {"why": "me"})
    assert reverse("account_reauthenticate") in answer.url
    cast.viewer.refresh_from_db()
    assert not cast.viewer.is_operator


def test_inviting_a_customer(cast: Cast, operator: Client) -> None:
    url = reverse("persons")
    assert operator.post(url, {"email": "shop@example.org"}).url == url
    assert "shop@example.org" in text(operator.get(url))
    assert "Operator invites you to sign up" in Mail.objects.get(to="shop@example.org").text
    known = operator.post(url, {"email": "owner@example.org"})
    assert known.status_code == 409 and "has an account already" in text(known)
    row = Invitation.objects.get()
    revoke = reverse("customer_invitation_revoke", args=[row.pk])
    assert operator.post(revoke).url == url
    row.refresh_from_db()
    assert row.state == Invitation.State.REVOKED
    assert "does not wait any more" in text(operator.post(revoke, follow=True))


def test_sign_up_is_set_with_an_event(cast: Cast, operator: Client) -> None:
    url = reverse("installation")
    assert Installation.current().sign_up == "invited", "the first setting lets no stranger in"
    for wanted, events in (("open", 1), ("open", 1), ("closed", 2)):
        assert operator.post(url, {"sign_up": wanted}).url == url
        assert Installation.current().sign_up == wanted
        assert Event.objects.filter(kind="installation.changed").count() == events
    last = Event.objects.filter(kind="installation.changed").order_by("-id")[0]
    assert (last.before, last.after) == ({"sign_up": "open"}, {"sign_up": "closed"})
    wrong = operator.post(url, {"sign_up": "ajar"})
    assert wrong.status_code == 422 and Installation.current().sign_up == "closed"
