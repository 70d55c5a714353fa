"""The web side's log: lines for people, or JSON lines for machines; each with the id of the click that it is of.

The id goes with an operation to the dom0 (`request_id`), whose agent logs in the same form (vps/agent/logs.py), and
with a task to the web's own worker: one search for it leads from a click to xl's exit.
"""

from __future__ import annotations

import json
import logging
import time

from django.http import HttpRequest

from vps.middleware import loggable, request_id


class SecretPaths(logging.Filter):
    """Of what Django says of a refused request: no address that is a secret itself."""

    def filter(self, record: logging.LogRecord) -> bool:
        request = getattr(record, "request", None)
        if isinstance(request, HttpRequest) and isinstance(record.args, tuple):
            where = loggable(request)
            record.args = tuple(where if arg == request.path else arg for arg in record.args)
        return True


class Plain(logging.Formatter):
    """`2026-11-30 12:00:00,000 INFO vps.dispatch sent ... request=ID`"""

    def format(self, record: logging.LogRecord) -> str:
        click = request_id.get()
        first, newline, rest = super().format(record).partition("\n")
        return f"{first}{f' request={click}' if click else ''}{newline}{rest}"


class Json(logging.Formatter):
    """One object a line: time, level, logger, event, and where there is one request and exception."""

    def format(self, record: logging.LogRecord) -> str:
        value = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if click := request_id.get():
            value["request"] = click
        if record.exc_info:
            value["exception"] = self.formatException(record.exc_info)
        return json.dumps(value, ensure_ascii=True)
