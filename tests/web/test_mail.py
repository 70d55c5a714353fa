"""Mail: written with its change, sent after the commit, tried again, seen in the outbox."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import allauth
import pytest
from django.core import mail as sent_mail
from django.db import transaction
from django.template import TemplateSyntaxError
from django.urls import reverse
from django.utils import timezone

from accounts import mail
from accounts.models import Mail
from accounts.models.mail import KEPT, TRIES
from accounts.tasks import send_mail
from tests.web.conftest import Browser, Cast
from tests.web.test_request import text

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def words(settings: Any, tmp_path: Path) -> Path:
    """A folder of templates of the tests' own, before the product's."""
    folder = tmp_path / "mail"
    folder.mkdir()
    (folder / "hello.txt").write_text("Hello {{ name }}\n\n{{ name }} & you: {{ base_url }}/servers/\n")
    (folder / "empty.txt").write_text("Only a subject\n")
    pages = settings.TEMPLATES[0]
    settings.TEMPLATES = [{**pages, "DIRS": [tmp_path, *pages["DIRS"]]}]
    return folder


@pytest.fixture
def rung_for(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The mails that the worker was rung for."""
    found: list[Any] = []
    monkeypatch.setattr(send_mail, "ring", lambda pk: found.append(pk) or True, raising=False)
    return found


def test_it_is_sent_after_the_commit(
    cast: Cast, rung_for: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        made = mail.send([cast.owner, "x@example.org", cast.owner], "hello", {"name": "A <b>"})
        assert rung_for == []
    assert rung_for == [one.pk for one in made]
    for pk in rung_for:
        send_mail(str(pk))
        send_mail(str(pk))  # the bell may ring twice
    assert [one.to for one in sent_mail.outbox] == [["owner@example.org"], ["x@example.org"]]
    assert sent_mail.outbox[0].subject == "Hello A <b>"
    assert sent_mail.outbox[0].body == "A <b> & you: http://localhost:8000/servers/\n"
    row = Mail.objects.get(pk=made[0].pk)
    assert row.state == Mail.State.SENT and row.sent_at is not None
    assert row.text == "", "what may hold an address that works once is not kept"


def test_a_change_that_was_taken_back_sends_nothing(cast: Cast, rung_for: list[Any]) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        mail.send(cast.owner, "hello", {"name": "A"})
        raise RuntimeError
    assert not Mail.objects.exists() and not rung_for


def test_nobody_without_access_gets_mail(cast: Cast) -> None:
    cast.viewer.is_active = False
    assert [one.to for one in mail.send([cast.viewer, cast.owner], "hello", {"name": "A"})] == [
        "owner@example.org"
    ]


@pytest.mark.parametrize("template", ["nowhere", "empty"])
def test_a_broken_template_does_not_break_the_request(
    cast: Cast, template: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert mail.send(cast.owner, template) == []
    assert f"the mail {template} could not be rendered" in caplog.text


def test_a_subject_is_one_line(words: Path) -> None:
    assert mail.render("hello", {"name": "A\tB"})[0] == "Hello A B"
    with pytest.raises(TemplateSyntaxError):
        mail.render("empty", {})


def test_redis_away_means_later(cast: Cast, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: Any, **options: Any) -> None:
        raise ConnectionRefusedError("no Redis")

    monkeypatch.setattr(send_mail, "apply_async", away)
    made = mail.send(cast.owner, "hello", {"name": "A"})
    assert send_mail.ring(made[0].pk) is False
    assert Mail.objects.due().count() == 1


def test_the_sweep_rings_for_what_waits_and_forgets_what_is_old(cast: Cast, rung_for: list[Any]) -> None:
    waits, old, later = (mail.send(cast.owner, "hello", {"name": n})[0] for n in "ABC")
    Mail.objects.filter(pk=old.pk).update(created_at=timezone.now() - KEPT - timedelta(days=1))
    Mail.objects.filter(pk=later.pk).update(next_try_at=timezone.now() + timedelta(minutes=1))
    assert mail.sweep_mail() == 1
    assert rung_for == [waits.pk]
    assert not Mail.objects.filter(pk=old.pk).exists()


def test_a_server_that_refuses_is_asked_again_and_given_up_at_last(cast: Cast, settings: Any) -> None:
    settings.EMAIL_BACKEND = "accounts.mail.NoServer"
    made = mail.send(cast.owner, "hello", {"name": "A"})[0]
    for n in range(1, TRIES + 1):
        row = Mail.objects.get(pk=made.pk)
        assert row.state == Mail.State.WAITING
        mail.post(row)
        row.refresh_from_db()
        assert row.tries == n and "BERTH_EMAIL_URL" in row.error
        assert row.next_try_at > timezone.now() + timedelta(minutes=1)
        mail.post(row)  # not due: no try
        assert Mail.objects.get(pk=made.pk).tries == n
        Mail.objects.filter(pk=made.pk).update(next_try_at=timezone.now())
    assert Mail.objects.get(pk=made.pk).state == Mail.State.FAILED
    assert Mail.objects.get(pk=made.pk).text == ""


def test_two_workers_do_not_send_it_twice(cast: Cast) -> None:
    made = mail.send(cast.owner, "hello", {"name": "A"})[0]
    first, second = Mail.objects.get(pk=made.pk), Mail.objects.get(pk=made.pk)
    assert first.claim() is True
    assert second.claim() is False


def test_the_quick_start_keeps_the_text(cast: Cast, settings: Any, browser: Browser) -> None:
    settings.BERTH_QUICKSTART = True
    made = mail.send(cast.owner, "hello", {"name": "<i>A</i>"})[0]
    mail.post(Mail.objects.get(pk=made.pk))
    page = text(browser(cast.operator).get(reverse("outbox")))
    assert "owner@example.org" in page and "keeps no" not in page
    assert "&lt;i&gt;A&lt;/i&gt;" in page and "<i>A" not in page
    assert 'href="http://localhost:8000/servers/"' in page


def test_the_outbox_is_sought_and_says_when_it_is_empty(cast: Cast, browser: Browser) -> None:
    operator = browser(cast.operator)
    assert "No mail went out yet." in text(operator.get(reverse("outbox")))
    mail.send([cast.owner, cast.viewer], "hello", {"name": "A"})
    assert "viewer@example.org" not in text(operator.get(reverse("outbox"), {"q": "owner"}))
    assert "No mail with “zzz”" in text(operator.get(reverse("outbox"), {"q": "zzz"}))
    part = operator.get(reverse("outbox"), headers={"HX-Request": "true"})
    assert "<html" not in text(part) and "owner@example.org" in text(part)


# What allauth can send and we have turned off.
UNUSED = {"login_code", "password_reset_code", "unknown_account"}


THEIRS = sorted(
    {
        file.name.removesuffix("_subject.txt")
        for app in ("account", "mfa")
        for file in (Path(allauth.__file__).parent / "templates" / app / "email").glob("*_subject.txt")
    }
    - UNUSED
)


@pytest.mark.parametrize("name", THEIRS)
def test_every_mail_of_allauth_has_our_words(name: str) -> None:
    subject, body = mail.render(name, {"timestamp": "now", "ip": "192.0.2.1", "user_agent": "x"})
    assert subject and "{" not in subject + body
