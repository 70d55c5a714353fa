"""Who gets to a page at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account.internal.flows.login import get_authentication_records
from allauth.core.exceptions import ReauthenticationRequired
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse

from accounts.models import User

View = Callable[..., HttpResponse]


def operator_required(view: View) -> View:
    """For operators; to everybody else the page does not exist."""

    @login_required
    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not isinstance(request.user, User) or not request.user.is_operator:
            raise Http404
        return view(request, *args, **kwargs)

    return checked


def logged_in_freshly(request: HttpRequest) -> bool:
    """Whether this session proved who it is (password, code, passkey) within ACCOUNT_REAUTHENTICATION_TIMEOUT."""
    records = get_authentication_records(request, request.user)
    return bool(records) and time.time() - records[-1]["at"] < settings.ACCOUNT_REAUTHENTICATION_TIMEOUT


def fresh_login_required(view: View) -> View:
    """For what a session left open must not do: who did not log in lately proves who they are first.

    Then the view goes on where it was, with the form that was sent.
    """

    @login_required
    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not logged_in_freshly(request):
            raise ReauthenticationRequired  # AccountMiddleware leads there and back
        return view(request, *args, **kwargs)

    return checked
