"""What the web says to browsers in production, and what it refuses before it looks at it."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import URLResolver, get_resolver, reverse
from django.utils import timezone

from accounts.models import User
from tests.product import ROOT
from tests.web.conftest import PASSWORD, Browser, Cast, make_version
from tests.web.test_request import text
from vps.middleware import SECRET_PATHS
from vps.models import Kernel, KernelVersion, Upload, UploadToken

HOST = "berth.example.org"
TOLD = (
    *("ALLOWED_HOSTS", "CSRF_COOKIE_SECURE", "CSRF_TRUSTED_ORIGINS", "DEBUG", "SECURE_HSTS_SECONDS"),
    *("SECURE_PROXY_SSL_HEADER", "SECURE_SSL_REDIRECT", "SESSION_COOKIE_HTTPONLY", "SESSION_COOKIE_SAMESITE"),
    "SESSION_COOKIE_SECURE",
)


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of an installation with nothing set but what must be."""
    data = tmp_path_factory.mktemp("production")
    (data / "secret").write_text(secrets.token_urlsafe(48))
    ours = {name: value for name, value in os.environ.items() if not name.startswith("BERTH_")}
    return ours | {
        "DJANGO_SETTINGS_MODULE": "vps.settings",
        "BERTH_DATA_DIR": str(data),
        "BERTH_BASE_URL": f"https://{HOST}",
        "BERTH_SECRET_KEY_FILE": str(data / "secret"),
    }


def run(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=110
    )


@pytest.fixture
def secured(production: dict[str, str], settings: Any) -> None:
    """These tests' web with what production's settings say."""
    ask = f"import json; from django.conf import settings as s; print(json.dumps([getattr(s, n) for n in {TOLD!r}]))"
    done = run(["-c", ask], production)
    assert done.returncode == 0, done.stderr
    for name, value in zip(TOLD, json.loads(done.stdout), strict=True):
        setattr(settings, name, tuple(value) if name == "SECURE_PROXY_SSL_HEADER" else value)


def test_djangos_own_check_finds_nothing(production: dict[str, str]) -> None:
    done = run(["manage.py", "check", "--deploy", "--fail-level", "WARNING"], production)
    assert done.returncode == 0, done.stderr
    # It does look: a key that is too short is found.
    weak = {name: value for name, value in production.items() if name != "BERTH_SECRET_KEY_FILE"}
    done = run(
        ["manage.py", "check", "--deploy", "--fail-level", "WARNING"], {**weak, "BERTH_SECRET_KEY": "x"}
    )
    assert done.returncode == 1 and "security.W009" in done.stderr


def test_nothing_starts_without_its_secret(production: dict[str, str]) -> None:
    without = {name: value for name, value in production.items() if name != "BERTH_SECRET_KEY_FILE"}
    done = run(["manage.py", "check"], without)
    assert done.returncode != 0
    assert "Set BERTH_SECRET_KEY_FILE to a file that holds the secret" in done.stderr


@pytest.mark.django_db
def test_cookies_and_hsts(secured: None, cast: Cast) -> None:
    client = Client(HTTP_HOST=HOST)
    assert client.get(reverse("login")).url == f"https://{HOST}{reverse('login')}"
    data = {"login": "owner@example.org", "password": PASSWORD}
    answer = client.post(reverse("login"), data, headers={"X-Forwarded-Proto": "https"})
    assert answer.status_code == 302
    assert answer["Strict-Transport-Security"] == "max-age=31536000"
    assert answer["X-Content-Type-Options"] == "nosniff" and answer["X-Frame-Options"] == "DENY"
    session, token = answer.cookies["sessionid"], answer.cookies["csrftoken"]
    assert session["secure"] and token["secure"]
    assert session["httponly"] and session["samesite"] == token["samesite"] == "Lax"


@pytest.mark.django_db
@pytest.mark.parametrize("host", ["evil.example.org", f"{HOST}.evil.org", "127.0.0.1", f"{HOST}@evil.org"])
def test_another_host_is_refused(secured: None, host: str) -> None:
    answer = Client(HTTP_HOST=host).get(reverse("login"), headers={"X-Forwarded-Proto": "https"})
    assert answer.status_code == 400


class Unread:
    """A body that nobody may read."""

    def read(self, *size: int) -> bytes:
        raise AssertionError("it was read")

    readline = read


@pytest.mark.django_db
@pytest.mark.parametrize("who", [None, "owner"])
@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("name", ["login", "ask", "kernel_upload", "api_kernel_verdict"])
def test_a_large_body_is_refused_unread(
    name: str, kind: str, who: str | None, cast: Cast, browser: Browser, settings: Any
) -> None:
    args = [make_version(cast.tenant, "generic").pk] if name == "api_kernel_verdict" else []
    client = browser(who and getattr(cast, who))
    answer = client.generic(
        "POST",
        reverse(name, args=args),
        content_type=kind,
        **{"wsgi.input": Unread(), "CONTENT_LENGTH": str(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)},
    )
    assert answer.status_code == 413
    assert "A form takes at most 1.0" in text(answer)


@pytest.mark.django_db
def test_a_large_form_is_refused_unread_where_pieces_go(cast: Cast, browser: Browser) -> None:
    answer = browser(cast.owner).generic(
        "POST",
        reverse("kernel_upload_piece", args=["01a21c20-364d-7636-b747-921ba6ea786e"]),
        content_type="multipart/form-data; boundary=x",
        **{"wsgi.input": Unread(), "CONTENT_LENGTH": str(30 << 20)},
    )
    assert answer.status_code == 413


@pytest.mark.django_db
def test_a_length_that_is_none_is_refused(browser: Browser, cast: Cast) -> None:
    answer = browser(cast.owner).generic(
        "POST", reverse("ask"), **{"wsgi.input": Unread(), "CONTENT_LENGTH": "-1"}
    )
    assert answer.status_code == 413


@pytest.mark.django_db
def test_uploads_of_one_person_are_limited(browser: Browser, cast: Cast, settings: Any) -> None:
    settings.BERTH_PERSON_UPLOADS = 3
    data = {"tenant": str(cast.tenant.pk), "kernel": "mine", "filename": "netbsd", "size": "10"}

    def begin(who: User) -> Any:
        return browser(who).post(reverse("kernel_upload"), data)

    assert [begin(cast.developer).status_code for _ in range(3)] == [201] * 3
    refused = begin(cast.developer)
    assert refused.status_code == 429
    assert refused.json()["error"] == "You began 3 uploads in the last hour; wait before the next one."
    assert Upload.objects.count() == 3
    assert begin(cast.owner).status_code == 201, "others may"
    Upload.objects.update(created_at=timezone.now() - timedelta(hours=1, seconds=1))
    assert begin(cast.developer).status_code == 201


@pytest.fixture
def version(cast: Cast) -> KernelVersion:
    return make_version(cast.tenant, "generic")


@pytest.mark.django_db
def test_a_new_password_ends_the_tokens_that_were_made_before(
    browser: Browser, cast: Cast, version: KernelVersion
) -> None:
    kernel: Kernel = version.kernel
    _mine, secret = UploadToken.make(kernel, cast.owner, "ci", 7)
    _other, of_another = UploadToken.make(kernel, cast.developer, "ci2", 7)

    def verdict(bearer: str) -> int:
        url = reverse("api_kernel_verdict", args=[version.pk])
        return Client().get(url, headers={"Authorization": f"Bearer {bearer}"}).status_code

    assert (verdict(secret), verdict(of_another)) == (200, 200)
    # The same password, hashed anew as Django does at a log-in when the way of hashing changed: nothing ends.
    User.objects.filter(pk=cast.owner.pk).update(password="unsalted_md5$$" + "0" * 32)
    assert verdict(secret) == 200
    cast.owner.set_password(PASSWORD)
    cast.owner.save(update_fields=["password"])
    assert verdict(secret) == 200
    client, new = browser(cast.owner), "quite other words"
    form = {"oldpassword": PASSWORD, "password1": new, "password2": new}
    assert client.post(reverse("account_change_password"), form).status_code == 302
    assert (verdict(secret), verdict(of_another)) == (401, 200)
    page = text(browser(cast.developer).get(reverse("kernel", args=[kernel.pk])))
    assert "who made it has another password since" in page
    cast.owner.refresh_from_db()
    _new, secret = UploadToken.make(kernel, cast.owner, "ci3", 7)
    assert verdict(secret) == 200


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(SECRET_PATHS))
def test_secret_addresses_are_not_logged(name: str, caplog: pytest.LogCaptureFixture) -> None:
    args = ["abc", "word-of-a-letter"] if name == "account_reset_password_from_key" else ["word-of-a-letter"]
    with caplog.at_level(logging.INFO, logger="vps.middleware"):
        Client().post(reverse(name, args=args))
        Client(enforce_csrf_checks=True).post(reverse(name, args=args))
        Client().post(reverse("logout"))
    assert f"POST {reverse('logout')}: 302" in caplog.text
    assert sum(message.startswith("POST /") for message in caplog.messages) == 3, "each is logged"
    assert "word-of-a-letter" not in caplog.text


def test_every_address_with_a_secret_is_known() -> None:
    """An address that takes any text takes a secret; ids are UUIDs, other words slugs."""
    taking = {name for name, route in routes() if re.search(r"<(str:)?\w+>", route)}
    assert taking == SECRET_PATHS


def routes(resolver: URLResolver | None = None) -> Iterator[tuple[str, str]]:
    for pattern in (resolver or get_resolver()).url_patterns:
        if isinstance(pattern, URLResolver):
            yield from routes(pattern)
        else:
            yield pattern.name or "", str(pattern.pattern)
