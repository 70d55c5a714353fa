"""What a storm did, counted by many threads, and what it saw of the web's rows."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

OPEN = ("queued", "sent", "accepted", "running")


class Tally:
    """Counters: what was pressed and taken, declined, cut off by a kill; what was struck and meddled with."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.pressed: Counter[str] = Counter()
        self.declined: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()
        self.meddled: Counter[str] = Counter()
        self.errors: list[str] = []  # what may not be: answers 500, a person who was logged out

    def add(self, what: Counter[str], name: str) -> None:
        with self._lock:
            what[name] += 1

    def error(self, text: str) -> None:
        with self._lock:
            self.errors.append(text)


class Rows:
    """The web's database, read beside it."""

    def __init__(self, data: Path) -> None:
        self._path = data / "berth.sqlite3"

    def __call__(self, query: str, *values: object) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=20)) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(query, values)]

    def open_operations(self) -> list[dict[str, Any]]:
        marks = ",".join("?" * len(OPEN))
        return self(
            f"SELECT id, domu_id, verb, state, tries, step FROM vps_operation WHERE state IN ({marks})", *OPEN
        )
