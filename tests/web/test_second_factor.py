"""Second factors: apps, recovery codes, who must have one, fresh log-ins."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path, reverse

from accounts.access import fresh_login_required
from accounts.adapter import SecondFactorAdapter
from accounts.models import Mail, User
from tests.web.conftest import PASSWORD, Browser, Cast, log_in_freshly, set_up_second_factor
from tests.web.test_request import text
from vps import urls

pytestmark = pytest.mark.django_db


def code(secret: str) -> str:
    """What an authenticator app shows now."""
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30))


def log_in(client: Client, user: User) -> Any:
    return client.post(reverse("login"), {"login": user.email, "password": PASSWORD})


def test_an_operator_without_one_gets_to_set_it_up_and_nowhere_else(
    cast: Cast, django_capture_on_commit_callbacks: Any
) -> None:
    Authenticator.objects.filter(user=cast.operator).delete()
    client = Client()
    log_in(client, cast.operator)
    for name in ("today", "servers", "persons", "me", "account_change_password", "outbox"):
        assert client.get(reverse(name)).url == reverse("mfa_index"), name
    assert "Operators need a second factor" in text(client.get(reverse("mfa_index")))
    form = client.get(reverse("mfa_activate_totp"))
    secret = form.context["form"].secret
    assert secret in text(form) and "data:image/svg+xml;base64," in text(form)
    wrong = client.post(reverse("mfa_activate_totp"), {"code": "000000"})
    assert "The code is not right" in text(wrong)
    with django_capture_on_commit_callbacks() as after:
        done = client.post(reverse("mfa_activate_totp"), {"code": code(secret)})
    for call in after:
        call()
    assert done.url == reverse("mfa_view_recovery_codes")
    assert len(client.get(done.url).context["unused_codes"]) == 10
    assert client.get(reverse("today")).status_code == 200
    assert Mail.objects.filter(template="totp_activated", to=cast.operator.email).exists()


def test_the_quick_start_asks_for_none(cast: Cast, settings: Any, browser: Browser) -> None:
    settings.BERTH_QUICKSTART = True
    Authenticator.objects.filter(user=cast.operator).delete()
    assert browser(cast.operator).get(reverse("today")).status_code == 200


def test_others_need_none(cast: Cast, browser: Browser) -> None:
    assert browser(cast.owner).get(reverse("servers")).status_code == 200


def test_logging_in_with_an_app(cast: Cast) -> None:
    secret = set_up_second_factor(cast.owner)
    client = Client()
    assert log_in(client, cast.owner).url == reverse("mfa_authenticate")
    assert client.get(reverse("servers")).status_code == 302, "the password alone lets nobody in"
    assert "The code is not right" in text(client.post(reverse("mfa_authenticate"), {"code": "000000"}))
    now = code(secret)
    assert client.post(reverse("mfa_authenticate"), {"code": now}).status_code == 302
    assert client.get(reverse("servers")).status_code == 200
    other = Client()
    log_in(other, cast.owner)
    again = other.post(reverse("mfa_authenticate"), {"code": now})
    assert "The code is not right" in text(again), "who looked over the shoulder does not get in with it"


def test_a_recovery_code_works_once(cast: Cast) -> None:
    set_up_second_factor(cast.owner)
    client = Client()
    client.force_login(cast.owner)
    log_in_freshly(client, cast.owner)
    assert client.post(reverse("mfa_generate_recovery_codes")).status_code == 302
    first = client.get(reverse("mfa_view_recovery_codes")).context["unused_codes"][0]
    for status in (302, 200):
        other = Client()
        log_in(other, cast.owner)
        assert other.post(reverse("mfa_authenticate"), {"code": first}).status_code == status
    file = client.get(reverse("mfa_download_recovery_codes"))
    assert first not in text(file) and len(text(file).split()) == 9


def test_removing_it_says_so_by_mail(cast: Cast) -> None:
    set_up_second_factor(cast.owner)
    client = Client()
    client.force_login(cast.owner)
    url = reverse("mfa_deactivate_totp")
    assert "/again/" in client.post(url).url, "only with a fresh log-in"
    log_in_freshly(client, cast.owner)
    assert client.post(url).url == reverse("mfa_index")
    assert not Authenticator.objects.filter(user=cast.owner).exists()
    assert Mail.objects.filter(template="totp_deactivated", to=cast.owner.email).exists()


def test_a_copy_of_the_database_gives_no_second_factor(cast: Cast, settings: Any) -> None:
    secret = set_up_second_factor(cast.owner)
    row = Authenticator.objects.get(user=cast.owner)
    assert secret not in str(row.data)
    assert row.wrap().validate_code(code(secret))
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "rolled"
    assert SecondFactorAdapter().decrypt(row.data["secret"]) == secret


def test_the_pages_with_passkeys_keep_the_policy(cast: Cast) -> None:
    client = Client()
    client.force_login(cast.owner)
    log_in_freshly(client, cast.owner)
    for page in (client.get(reverse("mfa_add_webauthn")), Client().get(reverse("login"))):
        assert page.status_code == 200
        assert "unsafe" not in page["Content-Security-Policy"]
        words = text(page)
        assert "js/passkey.js" in words and "onclick" not in words
        assert "<script>" not in words and ' style="' not in words
    options = Client().get(reverse("mfa_login_webauthn"), headers={"Accept": "application/json"}).json()
    assert options["request_options"]["publicKey"]["challenge"]


@pytest.mark.parametrize(
    "rubbish", ["", "no JSON", "[]", '"x"', '{"id": "x"}', '{"id": "AA", "rawId": "AA"}']
)
def test_rubbish_instead_of_a_passkey_is_refused(cast: Cast, rubbish: str) -> None:
    answer = Client().post(reverse("mfa_login_webauthn"), {"credential": rubbish})
    assert answer.status_code == 302 and answer.url == reverse("account_login")
    client = Client()
    client.force_login(cast.owner)
    log_in_freshly(client, cast.owner)
    client.get(reverse("mfa_add_webauthn"))
    answer = client.post(reverse("mfa_add_webauthn"), {"credential": rubbish, "name": "mine"})
    assert answer.status_code == 200 and 'class="error"' in text(answer)
    assert not Authenticator.objects.filter(user=cast.owner).exists()


# -- fresh log-ins ------------------------------------------------------------------------------------------


@fresh_login_required
def guarded(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{request.user} {request.method} {request.POST.get('word', '')}")


@pytest.fixture
def guarded_page(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    from django.urls import clear_url_caches

    monkeypatch.setattr(urls, "urlpatterns", [*urls.urlpatterns, path("guarded/", guarded, name="guarded")])
    clear_url_caches()
    yield "/guarded/"
    clear_url_caches()


def test_a_session_left_open_proves_who_it_is_and_goes_on(cast: Cast, guarded_page: str) -> None:
    client = Client()
    client.force_login(cast.owner)
    away = client.post(guarded_page, {"word": "kept"})
    assert away.url == f"{reverse('account_reauthenticate')}?next=%2Fguarded%2F"
    assert "Once more: is it you?" in text(client.get(away.url))
    data = {"next": guarded_page}
    wrong = client.post(reverse("account_reauthenticate"), {**data, "password": "wrong"})
    assert "That is not your password." in text(wrong)
    back = client.post(reverse("account_reauthenticate"), {**data, "password": PASSWORD})
    assert text(back) == "Owner POST kept"
    assert text(client.get(guarded_page)) == "Owner GET "


def test_a_fresh_log_in_is_enough_for_ten_minutes(
    cast: Cast, guarded_page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client()
    log_in(client, cast.owner)
    assert client.get(guarded_page).status_code == 200
    later = time.time() + 601
    monkeypatch.setattr("accounts.access.time.time", lambda: later)
    assert client.get(guarded_page).status_code == 302


def test_who_is_not_in_logs_in_first(guarded_page: str) -> None:
    assert Client().get(guarded_page).url == f"{reverse('login')}?next=/guarded/"
