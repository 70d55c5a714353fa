"""The domains that exist: found, listed, and swept away when their process is gone."""

# pathlib would cost every domain, and every `xl list`, memory and milliseconds.
# ruff: noqa: PTH104, PTH123, PTH208
from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import time
from dataclasses import dataclass
from typing import Any

from vps.agent.sim.host import XEN_OVERHEAD, Machine, read_json

DOM0_UUID = "00000000-0000-0000-0000-000000000000"
POWEROFF, REBOOT, SUSPEND, CRASH, WATCHDOG = range(5)
_REASONS = "-rscwS"
# What xl says of a number that no domain has; the number follows (recorded).
NO_TYPE = "libxl: error: libxl_dom.c:37:libxl__domain_type: unable to get domain type for domid="


@dataclass(frozen=True)
class Listed:
    """A domain as `xl list` shows it. `name` is None while it is being rebuilt; memory in MiB."""

    domid: int
    name: str | None
    uuid: str
    memory: int
    vcpus: int
    running: bool
    blocked: bool
    paused: bool
    shutdown: int | None
    dying: bool
    seconds: float
    record: dict[str, Any]

    @property
    def flags(self) -> str:
        return "".join(
            (
                "r" if self.running else "-",
                "b" if self.blocked else "-",
                "p" if self.paused else "-",
                "s" if self.shutdown is not None else "-",
                _REASONS[self.shutdown or 0] if (self.shutdown or 0) < len(_REASONS) else "?",
                "d" if self.dying else "-",
            )
        )


def dom0(machine: Machine) -> Listed:
    settings = machine.settings
    return Listed(
        domid=0,
        name="Domain-0",
        uuid=DOM0_UUID,
        memory=settings["dom0_memory"],
        vcpus=settings["dom0_vcpus"],
        running=True,
        blocked=False,
        paused=False,
        shutdown=None,
        dying=False,
        seconds=round(time.process_time() + time.monotonic() * 0.01, 1),
        record={},
    )


def guests(machine: Machine) -> list[Listed]:
    """Every domU, by number. A domain whose process was killed is gone, as after a power cut: it is removed."""
    found = []
    for domid in sorted(int(name) for name in os.listdir(machine.path("domains")) if name.isdigit()):
        record = read_json(machine.domain_path(domid, "domain.json"))
        if record is None:
            continue
        state = read_json(machine.domain_path(domid, "state.json"))
        if state is not None and not alive(machine, domid):
            sweep(machine, record)
            continue
        found.append(_listed(record, state))
    return found


def alive(machine: Machine, domid: int) -> bool:
    """Whether the domain's process holds its lock."""
    try:
        handle = os.open(machine.domain_path(domid, "alive"), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    finally:
        os.close(handle)
    return False


def sweep(machine: Machine, record: dict[str, Any]) -> None:
    with machine.lock("state"):
        if not alive(machine, record["domid"]) and remove(machine, record["domid"]):
            machine.effect("lost", record)


def remove(machine: Machine, domid: int) -> bool:
    """Take a domain's directory away in one step. False when somebody else did."""
    gone = machine.path("domains", f".gone-{domid}-{os.getpid()}")
    try:
        os.rename(machine.domain_path(domid), gone)
    except FileNotFoundError:
        return False
    shutil.rmtree(gone, ignore_errors=True)
    from vps.agent.sim import meters  # not before: every `xl list` loads this module

    meters.remove(machine, domid)
    return True


def _listed(record: dict[str, Any], state: dict[str, Any] | None) -> Listed:
    if state is None:  # being built, or left half built by an xl that was killed
        state = {"paused": True}
    paused, shutdown = bool(state.get("paused")), state.get("shutdown")
    idle = paused or shutdown is not None or bool(state.get("dying"))
    since = state.get("spinning")
    seconds = 0.0
    if state.get("begun"):
        seconds = max(0.0, float(state["seconds"]) + _process_seconds(state.get("pid")))
    if since and not idle:
        seconds += max(0.0, time.time() - since)
    return Listed(
        domid=record["domid"],
        name=None if state.get("unnamed") else record["name"],
        uuid=record["uuid"],
        memory=record["memory"],
        vcpus=record["vcpus"],
        running=bool(since) and not idle,
        blocked=not since and not idle,
        paused=paused,
        shutdown=shutdown,
        dying=bool(state.get("dying")),
        seconds=seconds,
        record=record,
    )


def _process_seconds(pid: int | None) -> float:
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def free_memory(machine: Machine, domains: list[Listed] | None = None) -> int:
    """MiB that no domain has."""
    domains = guests(machine) if domains is None else domains
    taken = sum(domain.memory for domain in domains)
    total, own = int(machine.settings["total_memory"]), int(machine.settings["dom0_memory"])
    return max(0, total - XEN_OVERHEAD - own - taken)


def domid_of(machine: Machine, text: str) -> int | None:
    """What xl's find_domain makes of a name, a number or a uuid; a number need not exist."""
    if text.isascii() and text.isdigit():
        return int(text)
    if text == "Domain-0":
        return 0
    is_uuid = re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text)
    for domain in guests(machine):
        if domain.name == text or (is_uuid and domain.uuid == text):
            return domain.domid
    return None


def get(machine: Machine, domid: int) -> Listed | None:
    if domid == 0:
        return dom0(machine)
    return next((domain for domain in guests(machine) if domain.domid == domid), None)
