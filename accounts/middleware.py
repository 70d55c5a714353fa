"""Operators have a second factor, or get to the pages where they set one up and to nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from allauth.mfa.utils import is_mfa_enabled
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from accounts.models import User

# What somebody needs to set up a second factor, or to leave; and what is for machines.
OPEN = frozenset(
    {"account_reauthenticate", "login", "account_login", "logout", "healthz", "readyz", "agent_blob"}
)
SEEN_EVERY = 300  # seconds between two notes of when a session was last used


class SecondFactorMiddleware:
    """Keeps operators without a second factor out, except in the quick start; notes when sessions are used."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.noted: dict[str, float] = {}

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *view: Any) -> HttpResponse | None:
        name = (request.resolver_match.url_name if request.resolver_match else "") or ""
        if name in OPEN or not request.user.is_authenticated:
            return None
        self._note(request)
        if name.startswith("mfa_") or not needs_second_factor(request.user):
            return None
        return redirect("mfa_index")

    def _note(self, request: HttpRequest) -> None:
        """When a session was used last: one UPDATE in five minutes, for each worker."""
        key, now = request.session.session_key, time.monotonic()
        if len(self.noted) > 10_000:
            self.noted.clear()
        if key is None or now - self.noted.setdefault(key, now) < SEEN_EVERY:
            return
        self.noted[key] = now
        before = timezone.now() - timedelta(seconds=SEEN_EVERY)
        rows = UserSession.objects.filter(session_key=key, last_seen_at__lt=before)
        rows.update(last_seen_at=timezone.now())


def needs_second_factor(user: User) -> bool:
    """Whether this person must set one up before anything else."""
    return user.is_operator and not settings.BERTH_QUICKSTART and not is_mfa_enabled(user)
