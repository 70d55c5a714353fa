"""What the dom0 is and has, for the web: on every change and at an interval. Not kept: the next one says it better."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vps.agent import tries
from vps.agent.context import Context
from vps.agent.counters import Counters, read_counters
from vps.agent.files import free_bytes, total_bytes
from vps.agent.journal import DomuRow
from vps.agent.run import CommandMissing, CommandTimeout, run
from vps.agent.toolstack import ToolstackError
from vps.agent.verbs import VERBS
from vps.agent.version import agent_version
from vps.xen.messages import SCHEMA, Head, Verb
from vps.xen.reconcile import Phase
from vps.xen.xlparse import DomainRow, HostInfo

logger = logging.getLogger(__name__)

EVERY = 8.0  # seconds; looks come every 5 s, so that an inventory goes every 10 s
_SILENT = 15.0  # seconds without a look, after which it is told that xl does not answer
_MIB = 1024 * 1024
_SKEW = 5000  # ms; more is an alarm
_LEAST_DISK = 1024  # MiB of the pool; less is an alarm

# What agents of earlier releases do not know, beside verbs; the web asks only for what is announced.
CAN = ("own_menu",)

# Of a domain: what changes all the time is no change.
_MOVING = frozenset({"cpu_seconds", "read_bytes", "written_bytes", "received_bytes", "sent_bytes"})


class Inventory:
    """Makes inventories of what is looked at anyway. `seen` is called with every look at the domains."""

    def __init__(self, context: Context, kids: Callable[[], list[str]]) -> None:
        """`kids` gives the names of the web's keys that are trusted now."""
        self._context, self._kids = context, kids
        self._started = context.clock.now_ms()
        # Which credential is in use, by the first digits of its sum: the web then ends the one before.
        self._credential = hashlib.sha256(context.config.secret.encode()).hexdigest()[:16]
        self._asked = threading.Event()
        self._told_at = 0.0
        self._looked_at = 0.0
        self._info_at = 0.0
        self._told: Any = None
        self._info: HostInfo | None = None
        self._info_error = ""
        self._counters: dict[int, Counters] = {}
        self._counted: tuple[int, frozenset[int]] = (0, frozenset())  # in which minute, of which domains
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin to tell also when no look comes to an end, for xl hangs."""
        self._looked_at = time.monotonic()
        threading.Thread(target=self._work, name="inventory", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def _work(self) -> None:
        while not self._stopping.wait(2.0):
            if time.monotonic() - self._looked_at <= _SILENT:
                continue
            try:
                with self._lock:
                    self._take(None, "xl does not answer; see what it waits for on the dom0.")
            except Exception:
                logger.exception("an inventory could not be made")

    def ask(self) -> None:
        """Tell at the next look, changed or not."""
        self._asked.set()

    def seen(self, domains: tuple[DomainRow, ...] | None, error: str) -> None:
        """Tell what was seen, when it changed, when it was asked for, or when it is time."""
        with self._lock:
            self._looked_at = time.monotonic()
            self._take(domains, error)

    def _take(self, domains: tuple[DomainRow, ...] | None, error: str) -> None:
        asked = self._asked.is_set()
        self._asked.clear()
        now = time.monotonic()
        if domains is not None and (asked or now - self._info_at >= EVERY):
            self._look_at_host()
            self._info_at = now
        self._count(domains or ())
        domains_told = [_domain(domain, self._counters.get(domain.domid)) for domain in domains or ()]
        rows = self._context.journal.domus()
        domus = [_domu(self._context, row) for row in rows]
        still = (
            [{key: value for key, value in domain.items() if key not in _MOVING} for domain in domains_told],
            domus,
            error,
        )
        if not asked and still == self._told and now - self._told_at < EVERY:
            return
        self._told, self._told_at = still, now
        body = self._body(domains is not None, domains_told, domus, error or self._info_error)
        body["alarms"] += self._memory_alarm(rows, domains or ())
        self._context.outbox.tell(body)

    def _count(self, domains: tuple[DomainRow, ...]) -> None:
        """Read the counters when a minute begins, for the web keeps the first inventory of each.

        Also when domains came or went, for their numbers may be others'.
        """
        now = (self._context.clock.now_ms() // 60_000, frozenset(domain.domid for domain in domains))
        if now != self._counted:
            self._counters, self._counted = read_counters(self._context.config.sysfs), now

    def _look_at_host(self) -> None:
        try:
            self._info, self._info_error = self._context.toolstack.info(), ""
        except ToolstackError as error:
            self._info, self._info_error = None, error.text

    def _body(
        self, xen: bool, domains: list[dict[str, Any]], domus: list[dict[str, Any]], error: str
    ) -> dict[str, Any]:
        context, info = self._context, self._info
        folder = context.config.disk_dir
        try:
            disk, free_disk = total_bytes(folder) // _MIB, free_bytes(folder) // _MIB
        except OSError:
            disk = free_disk = 0
        return {
            "agent": {
                "version": agent_version(),
                "schema": SCHEMA,
                "verbs": [*(verb.value for verb in VERBS), Verb.CANCEL.value],
                "can": list(CAN),
                "simulated": context.config.simulated,
                "started": self._started,
                "keys": self._kids(),
                "credential": self._credential,
            },
            "xen": {
                "version": info.version,
                "caps": list(info.caps),
                "virt_caps": list(info.virt_caps),
                "toolstack": "xl",
            }
            if xen and info
            else None,
            "kernel": info.release if info else "",
            "error": error,
            "memory_mib": info.total_memory_mib if info else 0,
            "free_memory_mib": info.free_memory_mib if info else 0,
            "cpus": info.cpus if info else 0,
            "disk_mib": disk,
            "free_disk_mib": free_disk,
            "skew_ms": context.clock.skew_ms or 0,
            "bridges": bridges(context.config.bridges),
            "domains": domains,
            "domus": domus,
            "alarms": self._alarms(free_disk),
            "heads": [head.as_list() for head in spread(context.journal.heads())],
        }

    def _alarms(self, free_disk: int) -> list[dict[str, str]]:
        context = self._context
        # A key is a code, or a code and what it is about: "restart:<id>".
        told = [
            {"code": key.partition(":")[0], "text": text}
            for key, text in sorted(context.alarms.copy().items())
        ]
        skew = context.clock.skew_ms
        if skew is not None and abs(skew) > _SKEW:
            told.append(
                {"code": "skew", "text": f"The dom0's clock is {skew / 1000:.0f} s off; set it, and run NTP."}
            )
        if free_disk < _LEAST_DISK:
            told.append(
                {"code": "disk", "text": f"The pool {context.config.disk_dir} has {free_disk} MiB left."}
            )
        return told

    def _memory_alarm(
        self, rows: tuple[DomuRow, ...], domains: tuple[DomainRow, ...]
    ) -> list[dict[str, str]]:
        """Whether somebody else took the memory that servers which do not run were promised."""
        if self._info is None or not domains:
            return []
        there = {domain.uuid for domain in domains}
        waiting = sum(row.description.memory_mib for row in rows if row.id not in there)
        free = self._info.free_memory_mib
        if free >= waiting:
            return []
        text = f"{free} MiB of memory are free, and the servers that are stopped need {waiting} MiB."
        return [{"code": "memory", "text": f"{text} See which domains are not Berth's."}]


def spread(heads: tuple[Head, ...]) -> tuple[Head, ...]:
    """Some heads that stand for all: the newest, and older ones at growing distances; newest first."""
    found, step, at = [], 1, len(heads) - 1
    while at > 0:
        found.append(heads[at])
        at, step = at - step, step * 2
    return (*found, heads[0]) if heads else ()


def bridges(configured: tuple[str, ...]) -> list[str]:
    """The bridges that domUs can be put on: those of the configuration, else what the system shows."""
    if configured:
        return list(configured)
    net = Path("/sys/class/net")
    if net.is_dir():
        return sorted(path.name for path in net.iterdir() if (path / "bridge").is_dir())
    try:
        shown = run(["ifconfig", "-l"], timeout=10).stdout.decode(errors="replace")
    except (CommandMissing, CommandTimeout):
        return []
    return sorted(name for name in shown.split() if name.startswith("bridge"))


def _domain(domain: DomainRow, counters: Counters | None) -> dict[str, Any]:
    return {
        "uuid": str(domain.uuid),
        "name": domain.name,
        "domid": domain.domid,
        "memory_mib": domain.memory_mib,
        "vcpus": domain.vcpus,
        "state": domain.state.value,
        "cpu_seconds": domain.seconds,
        **(counters.as_dict() if counters else {}),
    }


def _domu(context: Context, row: DomuRow) -> dict[str, Any]:
    tried = tries.of(context, row.id)
    waiting = tried is not None and tried.on and row.phase is Phase.IDLE
    told = {"trying": {"operation": str(tried.operation), "until": tried.until}} if tried and waiting else {}
    return {
        "id": str(row.id),
        "generation": row.generation.as_list(),
        "wanted": row.wanted.value,
        "phase": Phase.TRYING.value if waiting else row.phase.value,
        "menu_serial": (row.prepared or {}).get("menu_serial"),
        "boots": row.boots,
        "run": str(row.run) if row.run else None,
        **told,
    }
