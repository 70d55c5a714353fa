"""What the agent knows for certain: a SQLite file on the dom0 that outlives agent, Redis, web and power.

Orders are in it once (the operation is the key), before they are acknowledged. An intent is written before each
effect whose repetition would do harm, and resolved afterwards; one that is open after a crash is resolved by
looking. Reports stay until the web has acknowledged them.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from vps.xen.description import Description
from vps.xen.messages import FINAL_OUTCOMES, Generation, Head, Order, Outcome, ReportKind, Verb
from vps.xen.reconcile import Phase, Wanted

SCHEMA = 1
_KEEP_HEADS = 1000  # of the newest numbers every head is kept
_KEEP_ORDERS = 90 * 24 * 3600  # seconds; long after not_after has refused every repetition


class JournalRefused(Exception):
    """The journal cannot be used; the text says why and what to do."""


@dataclass(frozen=True)
class OrderRow:
    """An order and how far it is. `received` and the times of steps are Redis TIME in ms."""

    operation: UUID
    domu: UUID | None
    verb: Verb
    generation: Generation
    not_after: int
    request_id: str
    body: Mapping[str, Any]
    state: Outcome
    received: int
    step: str = ""
    steps: tuple[Mapping[str, Any], ...] = ()
    error: Mapping[str, str] | None = None
    remains: str = ""
    result: Mapping[str, Any] | None = None

    @property
    def final(self) -> bool:
        return self.state in FINAL_OUTCOMES


@dataclass(frozen=True)
class DomuRow:
    """A domU as the dom0 keeps it. `run` names the domain that was built last and is not known to have ended.

    `run_name`, `domid` and `run_serial` are of that domain; all times are time.time().
    """

    id: UUID
    description: Description
    generation: Generation
    wanted: Wanted
    phase: Phase
    prepared: Mapping[str, Any] | None
    run: UUID | None
    run_name: str
    run_serial: int
    domid: int | None
    boots: int
    crash_times: tuple[float, ...]
    reboot_times: tuple[float, ...]
    restart_at: float | None
    restart_why: str  # reboot, crash or autostart
    disks: Mapping[str, bool]  # the ids of all disks that were ever to be made for it; True: it was made
    host_rebooted: bool  # the dom0 was booted since the domain was seen last
    deleted: bool


@dataclass(frozen=True)
class Intent:
    """An effect that was about to be made; open while nothing is known of how it went. `at` is time.time()."""

    id: int
    domu: UUID
    operation: UUID | None
    effect: str
    detail: Mapping[str, Any]
    at: float


@dataclass(frozen=True)
class KeptReport:
    """A report that the web has not acknowledged."""

    seq: int
    kind: ReportKind
    at: int
    body: Mapping[str, Any]


class Journal:
    """The journal in the file `path`. Safe for threads. Raises JournalRefused when it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=20)
            path.chmod(0o600)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._make()
        except (sqlite3.Error, OSError) as error:
            raise JournalRefused(
                f"The journal {path} cannot be used: {error}. Free disk space or mend the file; if it is lost, "
                "move it away: the web then tells everything anew, and what runs is found by looking."
            ) from error
        self.id = UUID(self.meta("journal") or "")

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside is written together or not at all. May be nested in one thread."""
        with self._lock:
            if self._depth == 0:
                self._db.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if self._depth == 0 and self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                try:
                    self._db.execute("COMMIT")
                except sqlite3.Error:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise

    def _make(self) -> None:
        with self.transaction():
            for statement in _TABLES:
                self._db.execute(statement)
            version = self.meta("schema")
            if version is None:
                self.set_meta("schema", str(SCHEMA))
                self.set_meta("journal", str(uuid4()))
            elif version != str(SCHEMA):
                raise sqlite3.DatabaseError(f"it is of schema {version}, this agent writes schema {SCHEMA}")

    # -- meta

    def meta(self, key: str) -> str | None:
        with self._lock:
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    def set_meta(self, key: str, value: str) -> None:
        with self.transaction():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    # -- orders

    def accept(
        self, order: Order, state: Outcome, received: int, error: Mapping[str, str] | None = None
    ) -> bool:
        """Write an order down; False when its operation is known already."""
        with self.transaction():
            done = self._db.execute(
                "INSERT OR IGNORE INTO orders (operation, domu, verb, epoch, n, not_after, request_id, body,"
                " state, received, error, changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    str(order.operation),
                    str(order.domu) if order.domu else None,
                    order.verb.value,
                    order.generation.epoch,
                    order.generation.n,
                    order.not_after,
                    order.request_id,
                    json.dumps(order.body),
                    state.value,
                    received,
                    json.dumps(error) if error else None,
                    time.time(),
                ),
            )
            return done.rowcount == 1

    def order(self, operation: UUID) -> OrderRow | None:
        with self._lock:
            row = self._db.execute("SELECT * FROM orders WHERE operation = ?", (str(operation),)).fetchone()
        return _order(row) if row else None

    def open_orders(self, domu: UUID | None = None) -> tuple[OrderRow, ...]:
        """Orders without an end, in the order in which they came; of one domU, or of all."""
        query = "SELECT * FROM orders WHERE state IN ('accepted', 'running')"
        with self._lock:
            if domu is None:
                rows = self._db.execute(query + " ORDER BY rowid").fetchall()
            else:
                rows = self._db.execute(query + " AND domu = ? ORDER BY rowid", (str(domu),)).fetchall()
        return tuple(_order(row) for row in rows)

    def move_order(
        self,
        operation: UUID,
        state: Outcome,
        *,
        step: str | None = None,
        steps: list[dict[str, Any]] | None = None,
        error: Mapping[str, str] | None = None,
        remains: str | None = None,
        result: Mapping[str, Any] | None = None,
    ) -> bool:
        """Write down how far an order is; False when it had ended already, which nothing changes."""
        changes: dict[str, Any] = {"state": state.value, "changed": time.time()}
        if step is not None:
            changes["step"] = step
        if steps is not None:
            changes["steps"] = json.dumps(steps)
        if error is not None:
            changes["error"] = json.dumps(error)
        if remains is not None:
            changes["remains"] = remains
        if result is not None:
            changes["result"] = json.dumps(result)
        names = ", ".join(f"{name} = ?" for name in changes)
        with self.transaction():
            done = self._db.execute(
                f"UPDATE orders SET {names} WHERE operation = ? AND state IN ('accepted', 'running')",  # noqa: S608
                (*changes.values(), str(operation)),
            )
            if done.rowcount and state in FINAL_OUTCOMES:
                # Which run a reboot is to end says nothing any more; a creation stays to be looked up.
                self._db.execute(
                    "UPDATE intents SET resolved = ? WHERE operation = ? AND effect = 'reboot'"
                    " AND resolved IS NULL",
                    (f"order {state.value}", str(operation)),
                )
            return done.rowcount == 1

    def set_result(self, operation: UUID, result: Mapping[str, Any]) -> None:
        """Write down what an order led to, also after its end."""
        with self.transaction():
            self._db.execute(
                "UPDATE orders SET result = ?, changed = ? WHERE operation = ?",
                (json.dumps(result), time.time(), str(operation)),
            )

    def forget_old_orders(self) -> None:
        with self.transaction():
            self._db.execute(
                "DELETE FROM orders WHERE changed < ? AND state NOT IN ('accepted', 'running')",
                (time.time() - _KEEP_ORDERS,),
            )

    # -- domUs

    def domu(self, domu: UUID) -> DomuRow | None:
        with self._lock:
            row = self._db.execute("SELECT * FROM domus WHERE id = ?", (str(domu),)).fetchone()
        return _domu(row) if row else None

    def domus(self) -> tuple[DomuRow, ...]:
        """Those that are not deleted."""
        with self._lock:
            rows = self._db.execute("SELECT * FROM domus WHERE deleted = 0 ORDER BY id").fetchall()
        return tuple(_domu(row) for row in rows)

    def describe(self, description: Description, generation: Generation) -> None:
        """Take the newest description of a domU; made stopped when it is not known."""
        values = (json.dumps(description.as_dict()), generation.epoch, generation.n)
        with self.transaction():
            self._db.execute(
                "INSERT INTO domus (id, description, epoch, n) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
                " SET description = excluded.description, epoch = excluded.epoch, n = excluded.n",
                (str(description.id), *values),
            )

    def set_domu(self, domu: UUID, **values: Any) -> None:
        """Set columns of a domU's row: enums, UUIDs, tuples and dictionaries are taken as they are."""
        names = ", ".join(f"{name} = ?" for name in values)
        with self.transaction():
            self._db.execute(
                f"UPDATE domus SET {names} WHERE id = ?",  # noqa: S608 - names of columns, from the code
                (*(_column(value) for value in values.values()), str(domu)),
            )

    # -- tries

    def tried(self, domu: UUID) -> dict[str, Any] | None:
        """The try of a domU that has not ended (vps.agent.tries)."""
        with self._lock:
            row = self._db.execute("SELECT value FROM tries WHERE domu = ?", (str(domu),)).fetchone()
        return dict(json.loads(row["value"])) if row else None

    def set_tried(self, domu: UUID, value: Mapping[str, Any] | None) -> None:
        """Write down how far a try is; None when it has ended."""
        with self.transaction():
            self._db.execute("DELETE FROM tries WHERE domu = ?", (str(domu),))
            if value is not None:
                self._db.execute("INSERT INTO tries VALUES (?, ?)", (str(domu), json.dumps(value)))

    # -- intents

    def intend(self, domu: UUID, effect: str, detail: Mapping[str, Any], operation: UUID | None) -> int:
        """Write down that an effect is about to be made; gives the number to resolve it by."""
        with self.transaction():
            done = self._db.execute(
                "INSERT INTO intents (domu, operation, effect, detail, at) VALUES (?, ?, ?, ?, ?)",
                (
                    str(domu),
                    str(operation) if operation else None,
                    effect,
                    json.dumps(detail, default=str),
                    time.time(),
                ),
            )
            return int(done.lastrowid or 0)

    def open_intents(self, domu: UUID, effect: str) -> tuple[Intent, ...]:
        with self._lock:
            rows = self._db.execute(
                "SELECT * FROM intents WHERE domu = ? AND effect = ? AND resolved IS NULL ORDER BY id",
                (str(domu), effect),
            ).fetchall()
        return tuple(_intent(row) for row in rows)

    def all_open_intents(self, effect: str) -> tuple[Intent, ...]:
        with self._lock:
            rows = self._db.execute(
                "SELECT * FROM intents WHERE effect = ? AND resolved IS NULL ORDER BY id", (effect,)
            ).fetchall()
        return tuple(_intent(row) for row in rows)

    def resolve(self, intent: int, how: str) -> None:
        """Write down how an effect went."""
        with self.transaction():
            self._db.execute("UPDATE intents SET resolved = ? WHERE id = ?", (how, intent))
            self._db.execute("DELETE FROM intents WHERE resolved IS NOT NULL AND id <= ? - 1000", (intent,))

    # -- heads of the web's chain of events

    def keep_head(self, head: Head) -> str:
        """Keep a head; gives the other seal that is kept under its number, "" when there is none."""
        with self.transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO heads VALUES (?, ?, ?)", (head.seq, head.seal, time.time())
            )
            kept = self._db.execute("SELECT seal FROM heads WHERE seq = ?", (head.seq,)).fetchone()[0]
            # All of the last ones, and one of each day before.
            self._db.execute(
                "DELETE FROM heads WHERE seq <= ? - ? AND seq NOT IN"
                " (SELECT min(seq) FROM heads GROUP BY CAST(at / 86400 AS INTEGER))",
                (head.seq, _KEEP_HEADS),
            )
        return "" if kept == head.seal else str(kept)

    def heads(self) -> tuple[Head, ...]:
        """The heads that are kept, oldest first."""
        with self._lock:
            rows = self._db.execute("SELECT seq, seal FROM heads ORDER BY seq").fetchall()
        return tuple(Head(row["seq"], row["seal"]) for row in rows)

    # -- reports

    def report(self, kind: ReportKind, body: Mapping[str, Any], at: int) -> int:
        """Keep a report until it is acknowledged; gives its number."""
        with self.transaction():
            done = self._db.execute(
                "INSERT INTO reports (kind, at, body) VALUES (?, ?, ?)", (kind.value, at, json.dumps(body))
            )
            return int(done.lastrowid or 0)

    def reports(self, after: int, limit: int = 200) -> tuple[KeptReport, ...]:
        """Kept reports with a greater number than `after`, oldest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT seq, kind, at, body FROM reports WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)
            ).fetchall()
        return tuple(
            KeptReport(row["seq"], ReportKind(row["kind"]), row["at"], json.loads(row["body"]))
            for row in rows
        )

    def acknowledge(self, seq: int) -> None:
        """The web has applied all reports up to `seq`."""
        with self.transaction():
            self._db.execute("DELETE FROM reports WHERE seq <= ?", (seq,))


_TABLES = (
    "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS orders (
        operation TEXT PRIMARY KEY, domu TEXT, verb TEXT NOT NULL, epoch INTEGER NOT NULL, n INTEGER NOT NULL,
        not_after INTEGER NOT NULL, request_id TEXT NOT NULL, body TEXT NOT NULL, state TEXT NOT NULL,
        received INTEGER NOT NULL, changed REAL NOT NULL, step TEXT NOT NULL DEFAULT '',
        steps TEXT NOT NULL DEFAULT '[]', error TEXT, remains TEXT NOT NULL DEFAULT '', result TEXT)""",
    "CREATE INDEX IF NOT EXISTS orders_open ON orders (domu) WHERE state IN ('accepted', 'running')",
    """CREATE TABLE IF NOT EXISTS domus (
        id TEXT PRIMARY KEY, description TEXT NOT NULL, epoch INTEGER NOT NULL, n INTEGER NOT NULL,
        wanted TEXT NOT NULL DEFAULT 'stopped', phase TEXT NOT NULL DEFAULT 'idle', prepared TEXT,
        run TEXT, run_name TEXT NOT NULL DEFAULT '', run_serial INTEGER NOT NULL DEFAULT 0, domid INTEGER,
        boots INTEGER NOT NULL DEFAULT 0, crash_times TEXT NOT NULL DEFAULT '[]',
        reboot_times TEXT NOT NULL DEFAULT '[]', restart_at REAL,
        restart_why TEXT NOT NULL DEFAULT '', disks TEXT NOT NULL DEFAULT '{}',
        host_rebooted INTEGER NOT NULL DEFAULT 0, deleted INTEGER NOT NULL DEFAULT 0)""",
    """CREATE TABLE IF NOT EXISTS intents (
        id INTEGER PRIMARY KEY AUTOINCREMENT, domu TEXT NOT NULL, operation TEXT, effect TEXT NOT NULL,
        detail TEXT NOT NULL, at REAL NOT NULL, resolved TEXT)""",
    "CREATE INDEX IF NOT EXISTS intents_open ON intents (domu) WHERE resolved IS NULL",
    "CREATE TABLE IF NOT EXISTS tries (domu TEXT PRIMARY KEY, value TEXT NOT NULL)",
    # AUTOINCREMENT: a number is never given out twice, also when all reports before were acknowledged.
    """CREATE TABLE IF NOT EXISTS reports (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS heads (seq INTEGER PRIMARY KEY, seal TEXT NOT NULL, at REAL NOT NULL)",
)


def _column(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value)
    return value


def _order(row: sqlite3.Row) -> OrderRow:
    return OrderRow(
        operation=UUID(row["operation"]),
        domu=UUID(row["domu"]) if row["domu"] else None,
        verb=Verb(row["verb"]),
        generation=Generation(row["epoch"], row["n"]),
        not_after=row["not_after"],
        request_id=row["request_id"],
        body=json.loads(row["body"]),
        state=Outcome(row["state"]),
        received=row["received"],
        step=row["step"],
        steps=tuple(json.loads(row["steps"])),
        error=json.loads(row["error"]) if row["error"] else None,
        remains=row["remains"],
        result=json.loads(row["result"]) if row["result"] else None,
    )


def _domu(row: sqlite3.Row) -> DomuRow:
    return DomuRow(
        id=UUID(row["id"]),
        description=Description.of(json.loads(row["description"])),
        generation=Generation(row["epoch"], row["n"]),
        wanted=Wanted(row["wanted"]),
        phase=Phase(row["phase"]),
        prepared=json.loads(row["prepared"]) if row["prepared"] else None,
        run=UUID(row["run"]) if row["run"] else None,
        run_name=row["run_name"],
        run_serial=row["run_serial"],
        domid=row["domid"],
        boots=row["boots"],
        crash_times=tuple(json.loads(row["crash_times"])),
        reboot_times=tuple(json.loads(row["reboot_times"])),
        restart_at=row["restart_at"],
        restart_why=row["restart_why"],
        disks=json.loads(row["disks"]),
        host_rebooted=bool(row["host_rebooted"]),
        deleted=bool(row["deleted"]),
    )


def _intent(row: sqlite3.Row) -> Intent:
    return Intent(
        id=row["id"],
        domu=UUID(row["domu"]),
        operation=UUID(row["operation"]) if row["operation"] else None,
        effect=row["effect"],
        detail=json.loads(row["detail"]),
        at=row["at"],
    )
