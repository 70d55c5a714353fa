"""The loops behind `manage.py collector`. Both survive a Redis or a database that is away for a while."""

from __future__ import annotations

import logging
import threading
from typing import Any

import redis
from django.conf import settings
from django.db import DatabaseError, close_old_connections

from vps import dispatch, reports
from vps.models import Dom0
from vps.pulse import beat
from vps.redis import client
from vps.sweep import sweep
from vps.xen.messages import Channels, NoteKind

log = logging.getLogger(__name__)
BLOCK_MS = 1000
BATCH = 200
PAUSE = 1.0  # seconds after a fault


def collect(stop: threading.Event) -> None:
    """Read all report streams until `stop`."""
    while not stop.is_set():
        try:
            round_of_reports(BLOCK_MS)
            beat("collect")
        except (redis.RedisError, DatabaseError) as error:
            log.warning("collecting reports: %s", error)
            close_old_connections()
            stop.wait(PAUSE)


def sweep_forever(stop: threading.Event, every: float) -> None:
    """Sweep every `every` seconds until `stop`."""
    while not stop.is_set():
        try:
            sweep()
            beat("sweep")
        except (redis.RedisError, DatabaseError) as error:
            log.warning("sweeping: %s", error)
            close_old_connections()
        except Exception:  # a storage that is away, or a fault of ours: the next round shall come
            log.exception("a round of sweeping ended early")
            close_old_connections()
        stop.wait(every)


def round_of_reports(block_ms: int) -> int:
    """Apply what lies in the streams, cut it off there, acknowledge; gives how many reports there were.

    A stream is cut only after its reports were committed: after a crash they are read again, and (journal, seq)
    says which were applied.
    """
    dom0s = {Channels(dom0.pk).out: dom0 for dom0 in Dom0.objects.only("name")}
    if not dom0s:
        threading.Event().wait(block_ms / 1000)
        return 0
    count = 0
    for key, entries in _read(dict.fromkeys(dom0s, "0"), block_ms):
        count += _apply(dom0s[key], key, entries)
    return count


def _read(positions: dict[str, str], block_ms: int) -> list[tuple[str, list[Any]]]:
    """XREAD of all streams; where one agent spoiled its own key, each alone."""
    try:
        answer = client().xread(positions, count=BATCH, block=block_ms)
    except redis.ResponseError:
        answer = []
        for key in positions:
            try:
                answer += client().xread({key: "0"}, count=BATCH) or []
            except redis.ResponseError as error:
                log.error("the report stream %s was spoiled (%s); it is made anew", key, error)
                client().delete(key)
        if not answer:
            threading.Event().wait(block_ms / 1000)
    pairs = answer.items() if isinstance(answer, dict) else answer or []
    return [(_text(key), _flat(entries)) for key, entries in pairs]


def _apply(dom0: Dom0, key: str, entries: list[Any]) -> int:
    acknowledged: dict[Any, int] = {}
    missing: set[Any] = set()
    for _, fields in entries:
        try:
            found = reports.apply(dom0, _text(fields.get(b"r", b"")))
        except reports.Missing as error:
            log.warning("%s: %s; they are asked for", dom0, error)
            found = error.journal, error.seq
            missing.add(error.journal)
        if found:
            journal, seq = found
            acknowledged[journal] = max(seq, acknowledged.get(journal, 0))
    if entries:
        last = _text(entries[-1][0])
        milliseconds, _, n = last.partition("-")
        client().xtrim(key, minid=f"{milliseconds}-{int(n) + 1}", approximate=False)
    for journal, seq in acknowledged.items():
        told = {"journal": str(journal), "seq": seq, **({"missing": True} if journal in missing else {})}
        dispatch.note(dom0, NoteKind.ACKNOWLEDGE, told, seconds=60)
    if client().xlen(key) > settings.BERTH_OUTPUT_LIMIT:
        client().xtrim(key, maxlen=settings.BERTH_OUTPUT_LIMIT)
    return len(entries)


def _flat(entries: Any) -> list[Any]:
    """redis-py gives the entries of a stream in one more list under RESP3."""
    return entries[0] if entries and isinstance(entries[0], list) else entries


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
