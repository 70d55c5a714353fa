"""What the consoles of tries have said so far. Kept in memory: an agent that starts reads the records anew."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from vps.agent.console_record import plain_text
from vps.xen.trying import MAX_LINE, Scan

PIECE = 64 * 1024  # bytes of a console that are looked at at a time

Read = Callable[[UUID, UUID | None, int, int], tuple[int, bytes]]


@dataclass
class _Place:
    scan: Scan
    at: int = 0  # offset of the first line that is not whole yet


class Scans:
    """One for each run that is tried. Safe for threads."""

    def __init__(self) -> None:
        self._places: dict[UUID, _Place] = {}
        self._lock = threading.Lock()

    def look(self, domu: UUID, run: UUID, patterns: tuple[str, ...], read: Read) -> Scan:
        """Read on, to the end of what there is; `read` is that of the consoles."""
        with self._lock:
            place = self._places.setdefault(run, _Place(Scan(patterns)))
            while not place.scan.over:
                start, data = read(domu, run, place.at, PIECE)
                whole, newline, rest = data.rpartition(b"\n")
                if newline:
                    place.scan.look(plain_text(whole).split("\n"))
                    place.at = start + len(whole) + 1
                place.scan.look([plain_text(rest)])
                if len(rest) > MAX_LINE:
                    place.at = start + len(data) - MAX_LINE // 2  # a line without an end
                if len(data) < PIECE:
                    break
            return place.scan

    def forget(self, run: UUID) -> None:
        with self._lock:
            self._places.pop(run, None)
