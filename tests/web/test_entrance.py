"""Coming in: sign-up in its three settings, confirming, resetting a password, limits, closed accounts."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Installation, Invitation, Mail, Membership, Role, Tenant, User
from accounts.models.quota import sums
from tests.web.conftest import PASSWORD, Cast
from tests.web.test_request import text
from vps.models import Event

pytestmark = pytest.mark.django_db
NEW = {
    "name": "Nora",
    "email": "Nora@example.org",
    "tenant": "Nora's shop",
    "password1": "some words of mine",
}


def letter(template: str) -> str:
    """The path that the last letter of this kind leads to."""
    body = Mail.objects.filter(template=template).order_by("-created_at")[0].text
    found = re.search(r"^http://[^/]+(/\S+)$", body, re.MULTILINE)
    assert found is not None, body
    return found[1]


def sign_up_is(setting: str) -> None:
    Installation.change(None, sign_up=setting)


def test_from_sign_up_to_the_first_page(db: None) -> None:
    sign_up_is("open")
    client = Client()
    assert reverse("account_signup") in text(client.get("/"))
    answer = client.post(reverse("account_signup"), NEW)
    assert answer.url == reverse("account_email_verification_sent")
    assert "We sent you a mail." in text(client.get(answer.url))
    user = User.objects.get(email="nora@example.org")
    assert not Tenant.objects.exists(), "nobody makes tenants with addresses that are not theirs"
    assert client.get(reverse("servers")).status_code == 302, "nothing works before the address is confirmed"
    confirm = letter("email_confirmation_signup")
    assert "nora@example.org" in text(client.get(confirm))
    assert client.post(confirm).status_code == 302
    tenant = Tenant.objects.get(members=user)
    assert (user.name, tenant.name, tenant.role_of(user)) == ("Nora", "Nora's shop", Role.OWNER)
    assert sums(tenant)["servers"]["limit"] == 5
    assert Event.objects.filter(kind="tenant.made", tenant=tenant, actor=user).exists()
    assert client.get(reverse("servers")).status_code == 200
    assert "was used already" in text(Client().get(confirm))


def test_a_log_in_before_confirming_sends_the_letter_again(db: None) -> None:
    sign_up_is("open")
    Client().post(reverse("account_signup"), NEW)
    cache.clear()  # three minutes later
    client = Client()
    answer = client.post(reverse("login"), {"login": "nora@example.org", "password": NEW["password1"]})
    assert answer.url == reverse("account_email_verification_sent")
    assert client.get(reverse("servers")).status_code == 302
    assert Mail.objects.filter(to="nora@example.org").count() == 2
    assert client.post(letter("email_confirmation_signup")).status_code == 302
    assert client.get(reverse("servers")).status_code == 200


def test_a_tenant_is_founded_once(db: None) -> None:
    user = User.objects.create_user("nora@example.org", PASSWORD, name="Nora", founds="Nora's shop")
    again = User.objects.get(pk=user.pk)  # as another log-in at the same moment has it
    user.found_tenant()
    again.found_tenant()
    assert [tenant.name for tenant in Tenant.objects.all()] == ["Nora's shop"]
    assert User.objects.get().founds == again.founds == ""


def test_who_never_confirms_is_forgotten_after_a_while(cast: Cast, settings: Any) -> None:
    sign_up_is("open")
    for name in ("late", "lately", "closed"):
        Client().post(reverse("account_signup"), {**NEW, "email": f"{name}@example.org"})
    old = timezone.now() - timedelta(days=settings.BERTH_UNCONFIRMED_DAYS, minutes=1)
    User.objects.exclude(email="lately@example.org").update(date_joined=old)
    User.objects.filter(email="closed@example.org").update(is_active=False)
    before = set(User.objects.values_list("email", flat=True))
    assert User.objects.forget_unconfirmed() == 1
    assert before - set(User.objects.values_list("email", flat=True)) == {"late@example.org"}
    assert User.objects.forget_unconfirmed() == 0
    again = Client().post(reverse("account_signup"), {**NEW, "email": "late@example.org"})
    assert again.url == reverse("account_email_verification_sent"), "the address is free again"
    assert User.objects.filter(email="late@example.org").exists()


def test_an_address_that_has_an_account_gets_a_letter_and_nobody_else_learns_of_it(cast: Cast) -> None:
    sign_up_is("open")
    answer = Client().post(reverse("account_signup"), {**NEW, "email": "owner@example.org"})
    assert answer.url == reverse("account_email_verification_sent")
    assert [mail.template for mail in Mail.objects.all()] == ["account_already_exists"]
    assert Tenant.objects.count() == 2


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("email", "nora", "valid email address"),
        ("password1", "short", "too short"),
        ("password1", "password1234", "too common"),
        ("name", "", "required"),
    ],
)
def test_wrong_fields_are_said_beside_them(field: str, value: str, words: str) -> None:
    sign_up_is("open")
    page = text(Client().post(reverse("account_signup"), {**NEW, field: value}))
    assert words in page
    assert not User.objects.exists()
    assert field == "name" or 'value="Nora"' in page, "what was typed stays"


@pytest.mark.parametrize("setting", ["invited", "closed"])
def test_without_invitation_the_door_stays_shut(setting: str) -> None:
    sign_up_is(setting)
    assert "Sign-up is not open" in text(Client().get(reverse("account_signup")))
    assert "Sign-up is not open" in text(Client().post(reverse("account_signup"), NEW))
    assert not User.objects.exists()
    assert reverse("account_signup") not in text(Client().get("/"))


def test_an_invited_newcomer_joins_by_signing_up(cast: Cast) -> None:
    Invitation.invite("new@example.org", cast.owner, cast.tenant, Role.DEVELOPER)
    client = Client()
    path = letter("invitation")
    page = text(client.get(path))
    assert "Invitation into Example" in page and "Sign up to accept" in page
    form = text(client.get(reverse("account_signup")))
    assert 'value="new@example.org"' in form and "Company or project" not in form
    sent = {"name": "New", "email": "other@example.org", "password1": "some words of mine"}
    assert client.post(reverse("account_signup"), sent).status_code == 302
    user = User.objects.get(email="new@example.org")
    assert cast.tenant.role_of(user) == Role.DEVELOPER
    assert Tenant.objects.count() == 2, "no tenant of their own"
    assert client.get(reverse("servers")).status_code == 200, "the letter proved the address"
    assert "used already" in text(client.get(path))
    assert Event.objects.filter(kind="member.joined", tenant=cast.tenant, actor=user).exists()


def test_a_customer_that_an_operator_invited_gets_a_tenant(cast: Cast) -> None:
    Invitation.invite("shop@example.org", cast.operator)
    client = Client()
    client.get(letter("invitation"))
    assert client.post(reverse("account_signup"), {**NEW, "email": "shop@example.org"}).status_code == 302
    assert Tenant.objects.get(name="Nora's shop").members.get().email == "shop@example.org"


def test_an_invitation_does_not_open_a_closed_door(cast: Cast) -> None:
    Invitation.invite("new@example.org", cast.owner, cast.tenant, Role.DEVELOPER)
    sign_up_is("closed")
    client = Client()
    assert "Sign-up is closed" in text(client.get(letter("invitation")))
    assert "Sign-up is not open" in text(client.post(reverse("account_signup"), NEW))


def test_resetting_a_password_ends_all_sessions(cast: Cast) -> None:
    elsewhere = Client()
    elsewhere.force_login(cast.owner)
    client = Client()
    answer = client.post(reverse("account_reset_password"), {"email": "owner@example.org"})
    assert "a mail is on its way" in text(client.get(answer.url))
    path = letter("password_reset_key")
    form = client.get(path).url
    wrong = client.post(form, {"password1": "other words of mine", "password2": "others"})
    assert "same password each time" in text(wrong)
    done = client.post(form, {"password1": "other words of mine", "password2": "other words of mine"})
    assert done.url == reverse("account_reset_password_from_key_done")
    assert elsewhere.get(reverse("servers")).status_code == 302
    assert "used already" in text(Client().get(path, follow=True))
    cast.owner.refresh_from_db()
    assert cast.owner.check_password("other words of mine")
    assert Mail.objects.filter(template="password_reset", to="owner@example.org").exists()


def test_a_reset_for_nobody_looks_the_same_and_sends_nothing(db: None) -> None:
    answer = Client().post(reverse("account_reset_password"), {"email": "nobody@example.org"})
    assert answer.url == reverse("account_reset_password_done")
    assert not Mail.objects.exists()


def test_the_quick_start_shows_the_letter_to_who_asked_for_it(cast: Cast, settings: Any) -> None:
    settings.BERTH_QUICKSTART = True
    client = Client()
    client.post(reverse("account_reset_password"), {"email": "owner@example.org"})
    page = text(client.get(reverse("account_reset_password_done")))
    assert letter("password_reset_key") in page
    assert letter("password_reset_key") not in text(Client().get(reverse("account_reset_password_done")))
    client.post(reverse("account_reset_password"), {"email": "operator@example.org"})
    page = text(client.get(reverse("account_reset_password_done")))
    assert letter("password_reset_key") not in page, "an operator's password is not had by asking"


def test_production_shows_no_letter(cast: Cast) -> None:
    client = Client()
    client.post(reverse("account_reset_password"), {"email": "owner@example.org"})
    assert "/reset/" not in text(client.get(reverse("account_reset_password_done"))).split("<h1>")[1]


def test_failed_log_ins_are_limited(cast: Cast) -> None:
    data = {"login": "owner@example.org", "password": "wrong"}
    pages = [text(Client().post(reverse("login"), data)) for _ in range(6)]
    assert "No account has this address" in pages[4]
    assert "Too many log-ins failed." in pages[5]
    right = Client().post(reverse("login"), {"login": "owner@example.org", "password": PASSWORD})
    assert right.status_code == 200, "also the right password waits"
    other = Client().post(reverse("login"), {"login": "viewer@example.org", "password": PASSWORD})
    assert other.status_code == 302, "others may log in"


@pytest.mark.parametrize(
    ("name", "most", "data"),
    [
        ("account_signup", 20, NEW),
        ("account_reset_password", 5, {"email": "owner@example.org"}),
    ],
)
def test_sign_up_and_reset_are_limited(cast: Cast, name: str, most: int, data: dict[str, str]) -> None:
    sign_up_is("open")
    data = {**data, "password1": "short"} if "password1" in data else data
    answers = [Client().post(reverse(name), data) for _ in range(most + 1)]
    assert {answer.status_code for answer in answers[:-1]} <= {200, 302}
    assert answers[-1].status_code == 429
    assert "That was too often" in text(answers[-1])


def test_limits_hold_over_all_workers(settings: Any) -> None:
    assert settings.CACHES["default"]["BACKEND"].endswith("DatabaseCache")


def test_a_closed_account_does_not_get_in(cast: Cast) -> None:
    cast.owner.deactivate(cast.operator, "left")
    answer = Client().post(reverse("login"), {"login": "owner@example.org", "password": PASSWORD})
    assert answer.status_code == 302 and answer.url == reverse("account_inactive")
    assert "closed by an operator" in text(Client().get(answer.url))


def test_two_people_do_not_share_an_address_by_case(db: None) -> None:
    sign_up_is("open")
    User.objects.create_user("nora@example.org", PASSWORD)
    Client().post(reverse("account_signup"), NEW)
    assert User.objects.count() == 1 and not Membership.objects.exists()
