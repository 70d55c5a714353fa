"""One id that leads from a click to `xl`'s exit; and no body that nobody asked for."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

log = logging.getLogger(__name__)
request_id: ContextVar[str] = ContextVar("request_id", default="")
# Those that read a body themselves, piece by piece, and know how long it may be.
STREAMED = {"kernel_upload_piece": ("PUT",), "api_kernel_versions": ("PUT", "POST")}
# Addresses that are secrets themselves: letters lead to them.
SECRET_PATHS = frozenset({"account_confirm_email", "account_reset_password_from_key", "invitation", "well"})
_WORD = re.compile(r"[A-Za-z0-9-]{8,64}")


class RequestIdMiddleware:
    """Take X-Request-ID from the proxy or make one; keep it for orders, logs and the answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        name = given if _WORD.fullmatch(given) else secrets.token_hex(8)
        token, began = request_id.set(name), time.monotonic()
        try:
            response = self.get_response(request)
            # Looking is not worth a line: pages look every few seconds.
            if request.method not in ("GET", "HEAD"):
                seconds = time.monotonic() - began
                where = loggable(request)
                log.info("%s %s: %s after %.3f s", request.method, where, response.status_code, seconds)
        finally:
            request_id.reset(token)
        response["X-Request-ID"] = name
        return response


def loggable(request: HttpRequest) -> str:
    """The path; without what opens something to whoever has it."""
    match = request.resolver_match
    return f"/{match.route}" if match and match.url_name in SECRET_PATHS else request.path


class BodyLimitMiddleware:
    """Refuse a large body by its announced length, before anything reads it. In front of CsrfViewMiddleware.

    Without it Django puts files of a form into its temporary folder, however large and whoever sends them.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *view: Any) -> HttpResponse | None:
        name = (request.resolver_match.url_name if request.resolver_match else "") or ""
        length = request.META.get("CONTENT_LENGTH") or "0"
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        streamed = request.method in STREAMED.get(name, ())
        if streamed or (length.isascii() and length.isdigit() and int(length) <= limit):
            return None
        return render(request, "413.html", {"limit": limit}, status=413)
