"""The simulated machine: `host.json`, its locks, its logs and the directories of its domains.

    DIR/host.json                 what the machine has, how long things take, faults to inject
    DIR/domains/ID/domain.json    a domain as it was created (never changed)
    DIR/domains/ID/state.json     what it does now (written by its process)
    DIR/domains/ID/alive          locked by its process for as long as it lives
    DIR/effects.log               one JSON line for each effect, fsynced
    DIR/log/xl-NAME.log           what the real xl writes into /var/log/xen

Nothing here imports more than it must: every domain process and every `xl list` loads this.
"""

# pathlib would cost every domain, and every `xl list`, memory and milliseconds.
# ruff: noqa: PTH100, PTH103, PTH104, PTH105, PTH110, PTH118, PTH123
from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

# MiB that Xen keeps for itself, as measured; what a domain costs beyond its memory is less than one.
XEN_OVERHEAD = 23

DEFAULTS: dict[str, Any] = {
    "hostname": "sim",
    "release": "6.1.0-sim",
    "machine": "x86_64",
    "nr_cpus": 4,
    "cpu_khz": 2400000,
    "total_memory": 8192,
    "dom0_memory": 768,
    "dom0_vcpus": 1,
    "xen_version": "4.17.7",
    "xen_caps": "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ",
    "virt_caps": "pv hvm hap shadow gnttab-v1 gnttab-v2",
    "xen_commandline": "placeholder dom0_mem=768M,max:768M dom0_max_vcpus=1",
    # The bridges that exist; null: whatever a configuration names.
    "bridges": None,
    # Debian's dom0 lets two domains write to one file (its block script does not see it); others refuse.
    "refuse_shared_disks": False,
    # Seconds. `ack` is how long xl waits for a guest that does not react.
    "times": {
        "boot": 1.0,
        "shutdown": 1.0,
        "cleanup": 1.0,
        "crash": 3.0,
        "restart": 2.0,
        "ack": 60.0,
        "loader_key": 10.0,
        "loader_fallback": 2.5,
    },
    # hang: seconds, rubbish: true, no_xen: true, slow_create: seconds, no_bridge: true
    "faults": {},
}


class Machine:
    """The simulated machine whose state is in `directory`; made with defaults when it is not there."""

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(directory)
        os.makedirs(self.path("domains"), exist_ok=True)
        os.makedirs(self.path("log"), exist_ok=True)
        self.settings = self._settings()

    def path(self, *names: str) -> str:
        return os.path.join(self.directory, *names)

    def _settings(self) -> dict[str, Any]:
        given = read_json(self.path("host.json"))
        if given is None:
            with self.lock("state"):
                given = read_json(self.path("host.json"))
                if given is None:
                    given = {}
                    write_json(self.path("host.json"), DEFAULTS, indent=1)
        settings = {**DEFAULTS, **given}
        settings["times"] = {**DEFAULTS["times"], **given.get("times", {})}
        return settings

    def time(self, name: str) -> float:
        """How long something takes here, in seconds."""
        return float(self.settings["times"][name])

    @property
    def faults(self) -> Mapping[str, Any]:
        faults: Mapping[str, Any] = self.settings["faults"]
        return faults

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold `state` for short changes of the directories, `create` for a whole `xl create`."""
        handle = os.open(self.path(f"{name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def next_domid(self) -> int:
        """The next domain number; hold the lock `state`."""
        domid = int(read_json(self.path("next_domid")) or 0) + 1
        write_json(self.path("next_domid"), domid)
        return domid

    def boot_id(self) -> str:
        """Changes when the simulated dom0 is reset, so that no process of the time before goes on."""
        return str(read_json(self.path("boot_id")) or "")

    def effect(self, verb: str, domain: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Write one line to the effects log: tests count boots and creates by it."""
        now = time.time()
        line: dict[str, Any] = {"time": round(now, 3), "verb": verb}
        if domain is not None:
            line |= {key: domain.get(key) for key in ("uuid", "name", "domid")}
        line |= more
        data = (json.dumps(line, separators=(",", ":")) + "\n").encode()
        handle = os.open(
            self.path("effects.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        try:
            os.write(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)

    def log_path(self, name: str) -> str:
        return self.path("log", f"xl-{name}.log")

    def rotate_log(self, name: str) -> None:
        """Begin a new xl-NAME.log as libxl_create_logfile does: .1 is the last one, .10 the oldest."""
        path = self.log_path(name)
        if not os.path.exists(path):
            return
        for number in range(9, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{path}.{number}", f"{path}.{number + 1}")
        os.rename(path, f"{path}.1")

    def log(self, name: str, line: str) -> None:
        with open(self.log_path(name), "a", encoding="utf-8") as log:
            log.write(line + "\n")

    def domain_path(self, domid: int, *names: str) -> str:
        return self.path("domains", str(domid), *names)


def read_json(path: str) -> Any:
    """The value in a file, or None when there is none (it may vanish at any time)."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_json(path: str, value: Any, indent: int | None = None) -> None:
    """Replace a file in one step: readers see the old or the new."""
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=indent)
        file.write("\n")
    os.replace(temporary, path)
