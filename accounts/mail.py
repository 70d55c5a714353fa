"""Mail: rendered at once, written with the change that it tells of, sent by the worker after the commit.

    send(tenant.members.all(), "request_decided", {"request": asked})

The template is templates/mail/NAME.txt: its first line is the subject, the rest the text. Every template knows
`base_url`. Whatever goes wrong is logged and never breaks the request; the sweep rings again for what waits.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction
from django.template import Context, TemplateSyntaxError
from django.template.loader import get_template
from django.utils import timezone

from accounts.models import User
from accounts.models.mail import KEPT, Mail

log = logging.getLogger(__name__)


def send(
    to: User | str | Iterable[User | str], template: str, context: Mapping[str, Any] | None = None
) -> list[Mail]:
    """Write a mail for each address (people without access left out), and ring for it after the commit."""
    addresses = _addresses(to)
    try:
        subject, text = render(template, context or {})
    except Exception:  # a broken template is our fault, and no reason to refuse what the person wants
        log.exception("the mail %s could not be rendered; %d people do not get it", template, len(addresses))
        return []
    mails = [Mail(to=address, subject=subject, text=text, template=template) for address in addresses]
    Mail.objects.bulk_create(mails)
    transaction.on_commit(lambda: _ring(mails))
    return mails


def render(template: str, context: Mapping[str, Any]) -> tuple[str, str]:
    """Subject and text of templates/mail/TEMPLATE.txt. Nothing is escaped: it is no HTML."""
    loaded = get_template(f"mail/{template}.txt")
    known = {"base_url": settings.BERTH_BASE_URL, **context}
    text = loaded.template.render(Context(known, autoescape=False))  # type: ignore[attr-defined]
    subject, _, body = text.strip().partition("\n")
    if not subject.strip() or not body.strip():
        raise TemplateSyntaxError(f"mail/{template}.txt gave no subject or no text.")
    return " ".join(subject.split())[:200], body.strip() + "\n"


def _addresses(to: User | str | Iterable[User | str]) -> list[str]:
    """Each address once, in order."""
    each = [to] if isinstance(to, (User, str)) else list(to)
    people = [one for one in each if isinstance(one, str) or one.is_active]
    return list(dict.fromkeys(one if isinstance(one, str) else one.email for one in people))


def _ring(mails: Iterable[Mail]) -> None:
    from accounts.tasks import send_mail

    for mail in mails:
        if not send_mail.ring(mail.pk):
            return  # the sweep rings for all that wait


def post(mail: Mail) -> None:
    """One try to send a mail; a second call meanwhile does nothing. Called by the worker."""
    if not mail.claim():
        return
    mail.tries += 1
    try:
        EmailMessage(mail.subject, mail.text, to=[mail.to]).send()
    except Exception as error:  # whatever a mail server does, the others are still sent
        log.warning("mail %s to %s was not sent (try %d): %s", mail.template, mail.to, mail.tries, error)
        mail.failed(str(error) or type(error).__name__)
    else:
        mail.sent(keep_text=settings.BERTH_QUICKSTART)


def sweep_mail() -> int:
    """Ring again for what waits, forget what is old; gives how many were rung for."""
    from accounts.tasks import send_mail

    Mail.objects.filter(created_at__lt=timezone.now() - KEPT).delete()
    due = list(Mail.objects.due().order_by("next_try_at").values_list("pk", flat=True)[:100])
    return sum(send_mail.ring(pk) for pk in due)


class NoServer(BaseEmailBackend):
    """Where no mail server is set: what should go out waits, and the outbox says why."""

    def send_messages(self, email_messages: Any) -> int:
        raise ConnectionError(
            "No mail server is set: set BERTH_EMAIL_URL, like smtp+tls://name:password@host:587"
        )
