"""The pages that say that a letter is on its way; in the quick start they show it."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from accounts.adapter import SHOWN_MAIL
from accounts.models import Mail
from accounts.pages import show


@require_safe
def letter_sent(request: HttpRequest) -> HttpResponse:
    """After sign-up, or a log-in with an address that was not confirmed."""
    return show(request, "account/verification_sent.html", {"mails": _shown(request)})


@require_safe
def reset_sent(request: HttpRequest) -> HttpResponse:
    """After asking for a new password."""
    return show(request, "account/password_reset_done.html", {"mails": _shown(request)})


def _shown(request: HttpRequest) -> list[Mail]:
    """What went out because of this visitor, in the quick start only: nothing is sent there."""
    if not settings.BERTH_QUICKSTART:
        return []
    return list(Mail.objects.filter(pk__in=request.session.get(SHOWN_MAIL, [])).order_by("-created_at")[:3])
