"""Refuses every body unread, for a worker of gunicorn: `gunicorn tests.web.refuses:application`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("413 Content Too Large", [("Content-Length", "9")])
    return [b"too large"]
