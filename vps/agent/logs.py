"""The agent's log, on stderr: lines for people, or JSON for machines. One id leads from a click to xl's exit."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar

# What the thread works on: ids that every line of its log carries.
WORK: ContextVar[Mapping[str, str]] = ContextVar("work", default={})  # noqa: B039 - it is never changed


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        ids = "".join(f" {key}={value}" for key, value in WORK.get().items() if value)
        text = f"{record.levelname.lower():7} {record.name.removeprefix('vps.agent.')}: {record.getMessage()}{ids}"
        return text + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        value = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **{key: value for key, value in WORK.get().items() if value},
        }
        if record.exc_info:
            value["exception"] = self.formatException(record.exc_info)
        return json.dumps(value, ensure_ascii=True)


def log_to_stderr(form: str) -> None:
    """Begin to log. `form` is "plain" or "json"."""
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(_Json() if form == "json" else _Plain())
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(logging.INFO)
    # Celery tells each task's coming and going; the intake says it better.
    for name in ("celery", "kombu", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
