"""A person's own pages: name, address, password, sessions, SSH keys."""

from __future__ import annotations

import re
import time
from datetime import timedelta

import pytest
from allauth.usersessions.models import UserSession
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Mail, SshKey
from accounts.models.ssh_key import read_public_key
from tests.web.conftest import PASSWORD, Browser, Cast
from tests.web.test_request import text
from vps.models import Event

# A key whose fingerprint ssh-keygen told.
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJVmz1tdKQgIPGcwpjeMYpZDBtQZQnqqxSHdIEZBGRzA"


def public(key: object) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()  # type: ignore[attr-defined]


def logged_in(cast: Cast, agent: str = "Firefox") -> Client:
    client = Client(headers={"User-Agent": agent})
    client.post(reverse("login"), {"login": "owner@example.org", "password": PASSWORD})
    return client


@pytest.mark.django_db
def test_the_page_leads_everywhere(cast: Cast, browser: Browser) -> None:
    page = text(browser(cast.owner).get(reverse("me")))
    for name in ("account_email", "account_change_password", "mfa_index", "sessions", "ssh_keys"):
        assert reverse(name) in page
    assert "Example" in page and "owner@example.org" in page
    assert "operator of this installation" in text(browser(cast.operator).get(reverse("me")))


@pytest.mark.django_db
def test_changing_the_name(cast: Cast, browser: Browser) -> None:
    client = browser(cast.owner)
    assert client.post(reverse("me"), {"name": "Olga"}).url == reverse("me")
    assert "Olga" in text(client.get(reverse("me")))
    answer = client.post(reverse("me"), {"name": ""})
    assert answer.status_code == 422 and ">Olga<" in text(answer)


@pytest.mark.django_db
def test_a_new_address_counts_when_it_is_confirmed(cast: Cast) -> None:
    client = logged_in(cast)
    url = reverse("account_email")
    assert client.post(url, {"action_add": "yes", "email": "New@example.org"}).url == url
    assert "<b>new@example.org</b> waits" in text(client.get(url))
    cast.owner.refresh_from_db()
    assert cast.owner.email == "owner@example.org"
    mail = Mail.objects.get(template="email_confirmation")
    assert mail.to == "new@example.org"
    client.post(re.search(r"^http://[^/]+(/\S+)$", mail.text, re.MULTILINE)[1])  # type: ignore[index]
    cast.owner.refresh_from_db()
    assert cast.owner.email == "new@example.org"
    told = Mail.objects.get(template="email_changed")
    assert told.to == "owner@example.org", "the old address learns of it"
    assert not cast.owner.emailaddress_set.filter(email="owner@example.org").exists()


@pytest.mark.django_db
def test_anothers_address_is_not_had(cast: Cast) -> None:
    client = logged_in(cast)
    client.post(reverse("account_email"), {"action_add": "yes", "email": "viewer@example.org"})
    for mail in Mail.objects.filter(template="email_confirmation"):
        client.post(re.search(r"^http://[^/]+(/\S+)$", mail.text, re.MULTILINE)[1])  # type: ignore[index]
    cast.owner.refresh_from_db()
    assert cast.owner.email == "owner@example.org"


@pytest.mark.django_db
def test_an_address_is_not_changed_by_a_session_left_open(cast: Cast, browser: Browser) -> None:
    answer = browser(cast.owner).post(
        reverse("account_email"), {"action_add": "yes", "email": "x@example.org"}
    )
    assert reverse("account_reauthenticate") in answer.url
    assert not cast.owner.emailaddress_set.filter(email="x@example.org").exists()


@pytest.mark.django_db
def test_a_new_password_ends_all_other_sessions(cast: Cast) -> None:
    here, there = logged_in(cast), logged_in(cast)
    url, new = reverse("account_change_password"), "quite other words"
    wrong = here.post(url, {"oldpassword": "no", "password1": new, "password2": new})
    assert "That is not your password." in text(wrong)
    assert here.post(url, {"oldpassword": PASSWORD, "password1": new, "password2": new}).url == reverse("me")
    assert here.get(reverse("me")).status_code == 200
    assert there.get(reverse("me")).status_code == 302
    assert Mail.objects.filter(template="password_changed", to="owner@example.org").exists()


# -- sessions -----------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_sessions_are_listed_and_ended(cast: Cast) -> None:
    here, there = logged_in(cast, "Firefox on NetBSD"), logged_in(cast, "Safari on a phone")
    page = text(here.get(reverse("sessions")))
    for words in ("Firefox on NetBSD", "Safari on a phone", "this one", "127.0.0.1"):
        assert words in page
    other = UserSession.objects.get(user_agent="Safari on a phone")
    assert here.post(reverse("session_end", args=[other.pk])).url == reverse("sessions")
    assert there.get(reverse("me")).status_code == 302
    assert here.post(reverse("session_end", args=[other.pk])).status_code == 404, "already ended"
    this = UserSession.objects.get(user_agent="Firefox on NetBSD")
    assert here.post(reverse("session_end", args=[this.pk])).url == reverse("login")
    assert here.get(reverse("me")).status_code == 302


@pytest.mark.django_db
def test_it_is_noted_when_a_session_was_last_used(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    here = logged_in(cast)
    here.get(reverse("me"))
    old = timezone.now() - timedelta(hours=1)
    UserSession.objects.update(last_seen_at=old)
    here.get(reverse("me"))
    assert UserSession.objects.get().last_seen_at == old, "not with every click"
    later = time.monotonic() + 301
    monkeypatch.setattr("accounts.middleware.time.monotonic", lambda: later)
    here.get(reverse("me"))
    assert UserSession.objects.get().last_seen_at > old


@pytest.mark.django_db
def test_all_others_are_ended(cast: Cast, browser: Browser) -> None:
    here, there, third = logged_in(cast), logged_in(cast), logged_in(cast)
    here.post(reverse("sessions_end_others"))
    assert here.get(reverse("me")).status_code == 200
    assert there.get(reverse("me")).status_code == third.get(reverse("me")).status_code == 302
    assert UserSession.objects.filter(user=cast.owner).count() == 1


@pytest.mark.django_db
def test_somebody_elses_session_is_not_there(cast: Cast, browser: Browser) -> None:
    logged_in(cast)
    row = UserSession.objects.get(user=cast.owner)
    assert browser(cast.viewer).post(reverse("session_end", args=[row.pk])).status_code == 404


# -- SSH keys -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(lambda: public(ed25519.Ed25519PrivateKey.generate()), id="ed25519"),
        pytest.param(lambda: public(ec.generate_private_key(ec.SECP256R1())), id="p256"),
        pytest.param(lambda: public(ec.generate_private_key(ec.SECP384R1())), id="p384"),
        pytest.param(lambda: public(ec.generate_private_key(ec.SECP521R1())), id="p521"),
        pytest.param(lambda: public(rsa.generate_private_key(65537, 2048)), id="rsa"),
    ],
)
def test_keys_that_are_taken(line: object) -> None:
    text = line()  # type: ignore[operator]
    read = read_public_key(f"  {text} ana@laptop, the blue one \n")
    assert read.line == text and read.comment == "ana@laptop, the blue one"
    assert read.kind == text.split()[0]


def test_the_fingerprint_is_as_ssh_keygen_shows_it() -> None:
    assert read_public_key(ED25519).fingerprint == "SHA256:FEePH/RtwE5LY/Ny7HOFLH59Q4LG7S43RdwREzUy0YQ"


def refused(text: str) -> str:
    with pytest.raises(ValidationError) as error:
        read_public_key(text)
    return error.value.messages[0]


def test_keys_that_are_refused_with_the_reason() -> None:
    whole = public(ed25519.Ed25519PrivateKey.generate())
    private = ed25519.Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
    )
    kind, body = whole.split()
    for pasted, words in (
        (private.decode(), "This is a private key"),
        (whole + "\n" + whole, "Paste one key, on one line."),
        ("", "Paste one key"),
        (f'command="id" {whole}', "without options before it"),
        (f"ssh-rsa {body}", "no whole public key"),
        (f"ecdsa-sha2-nistp256 {body}", "no whole public key"),
        (whole[:-10], "no whole public key"),
        (f"{kind} {body}AAAA", "no whole public key"),
        (f"{kind} näch", "no whole public key"),
        (kind, "no whole public key"),
        ("ssh-dss AAAA", "DSA keys are broken"),
        (whole + " " + "x" * 201, "at most 200"),
        (whole + " \x07", "at most 200"),
        (whole + " " + "x" * 17_000, "16384"),
        (public(rsa.generate_private_key(65537, 1024)), "The RSA key has 1024 bits; 2048 is the least."),
    ):
        assert words in refused(pasted), (pasted[:60], refused(pasted))


@pytest.mark.django_db
def test_adding_and_removing_a_key(cast: Cast, browser: Browser) -> None:
    client, url = browser(cast.owner), reverse("ssh_keys")
    assert "No key yet." in text(client.get(url))
    assert client.post(url, {"key": ED25519 + " ana@laptop"}).url == url
    page = text(client.get(url))
    assert "ana@laptop" in page and "SHA256:" in page
    again = client.post(url, {"key": ED25519 + " another comment"})
    assert again.status_code == 422 and "You have this key already: ana@laptop" in text(again)
    wrong = client.post(url, {"key": "ssh-ed25519 rubbish"})
    assert wrong.status_code == 422 and "ssh-ed25519 rubbish" in text(wrong), "what was pasted stays"
    other = browser(cast.viewer)
    assert other.post(url, {"key": ED25519}).status_code == 302, "two people may hold one key"
    key = SshKey.objects.get(user=cast.owner)
    assert key.authorized_line == ED25519 + " ana@laptop"
    assert other.post(reverse("ssh_key_remove", args=[key.pk])).status_code == 404
    assert client.post(reverse("ssh_key_remove", args=[key.pk])).url == url
    assert client.post(reverse("ssh_key_remove", args=[key.pk])).status_code == 404
    assert SshKey.objects.count() == 1
    kinds = list(Event.objects.filter(actor=cast.owner).order_by("id").values_list("kind", flat=True))
    assert kinds == ["user.key", "user.no_key"]
