"""What the web's worker does for accounts: send mail. The row says whether there is something to do."""

from __future__ import annotations

import logging
from uuid import UUID

from celery import Task, shared_task
from kombu.exceptions import OperationalError

from accounts.mail import post
from accounts.models.mail import Mail

log = logging.getLogger(__name__)


class Posting(Task):  # type: ignore[misc]
    """The task `send_mail`, and how it is rung for."""

    def ring(self, mail: UUID) -> bool:
        """Put it on the worker's queue; False when Redis is away (the sweep rings again)."""
        try:
            self.apply_async([str(mail)], retry=False)
        except (OperationalError, OSError) as error:
            log.warning("mail %s waits, Redis is away: %s", mail, error)
            return False
        return True


@shared_task(base=Posting, name="send_mail")
def send_mail(mail_id: str) -> None:
    """One try to send one mail; finds nothing to do when it went out already."""
    mail = Mail.objects.filter(pk=mail_id, state=Mail.State.WAITING).first()
    if mail is not None:
        post(mail)
