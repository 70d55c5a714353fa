"""One id that leads from a click to `xl`'s exit."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable
from contextvars import ContextVar

from django.http import HttpRequest, HttpResponse

log = logging.getLogger(__name__)
request_id: ContextVar[str] = ContextVar("request_id", default="")
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
                log.info(
                    "%s %s: %s after %.3f s", request.method, request.path, response.status_code, seconds
                )
        finally:
            request_id.reset(token)
        response["X-Request-ID"] = name
        return response
