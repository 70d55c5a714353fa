"""A whole dom0 for tests: the real agent as a process, the simulated xl, a real Redis, and the web's two doors."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import sim_kernels
from blob_web import BlobWeb
from redis_server import RedisServer
from sim_dom0 import XL, SimDom0
from web_side import Web

from vps.agent.config import Config
from vps.agent.sim.loader import placeholder
from vps.xen.description import (
    BlobRef,
    Boot,
    BootEntry,
    BootMethod,
    Description,
    DiskSpec,
    DomainType,
    GuestOS,
    NicSpec,
)
from vps.xen.messages import (
    FINAL_OUTCOMES,
    Channels,
    Generation,
    Note,
    NoteKind,
    Order,
    Outcome,
    Report,
    ReportKind,
    SigningKey,
    Verb,
)

ROOT = Path(__file__).parents[2]


def until(question: Callable[[], Any], what: str = "", seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, f"did not come true in {seconds} s: {what}"
        time.sleep(0.02)
    return answer


def write_toml(config: Config) -> Path:
    """Write a configuration file that reads as `config`."""
    values: dict[str, Any] = {"simulated": config.simulated, "lanes": config.lanes}
    for key in (
        "dom0",
        "name",
        "secret",
        "web",
        "redis",
        "state_dir",
        "config_dir",
        "disk_dir",
        "xl_log_dir",
        "boot_id",
    ):
        values[key] = str(getattr(config, key))
    for key in ("trusted_keys", "xl", "bridges"):
        values[key] = list(getattr(config, key))
    config.path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    config.path.chmod(0o600)
    return config.path


class Rig:
    """`start` runs the agent; `kill` is a kill -9. Reports are read from the stream as the collector does."""

    def __init__(
        self, place: Path, config: Config, key: SigningKey, redis_server: RedisServer, **settings: Any
    ) -> None:
        self.sim = SimDom0.make(place / "sim", **settings)
        self.redis_server = redis_server
        self.blobs = BlobWeb(f"{config.dom0}:{config.secret}")
        self.key = key
        (self.sim.directory / "boot_id").write_text('"first"\n')
        self.config = replace(
            config,
            web=self.blobs.url,
            xl=tuple(self.sim.argv()),
            xl_log_dir=self.sim.directory / "log",
            boot_id=self.sim.directory / "boot_id",
        )
        self.toml = write_toml(self.config)
        self.web = Web(redis_server.url, config.dom0, key)
        self.channels = Channels(config.dom0)
        self.process: subprocess.Popen[bytes] | None = None
        self.log = place / "agent.log"
        self._last = "0"
        self.reports: list[Report] = []
        self.acknowledge = True
        self.n = 0
        self._before = 0

    def told_since_start(self) -> bool:
        """Whether this agent process has told anything."""
        return len(self.read()) > self._before

    def start(self, clock: float = 0) -> None:
        """Start the agent; `clock` seconds is what the dom0's clock is ahead of the true time."""
        self._before = len(self.read())
        # A process cannot have a clock of its own: its Python is given one.
        wrong = f"import time; true = time.time; time.time = lambda: true() + {clock}"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-X", "faulthandler", "-c"),
                    f"{wrong}; import sys; from vps.agent.main import main; sys.exit(main())",
                    *("run", "--config", str(self.toml)),
                ],
                cwd=ROOT,
                stderr=log,
                stdout=log,
            )

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> float:
        """End the agent by SIGTERM; gives the seconds that it took."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(10) == 0
        self.process = None
        return time.monotonic() - began

    def close(self) -> None:
        self.kill()
        self.blobs.close()
        self.sim.xl("sim-reset")

    # -- the web's doors

    def read(self) -> list[Report]:
        """Take in what the agent reported; acknowledges it."""
        client = self.redis_server.client()
        for _, entries in client.xread({self.channels.out: self._last}, count=1000) or []:
            for number, fields in entries:
                self._last = number.decode()
                report = Report.parse(fields[b"r"].decode())
                self.reports.append(report)
                if self.acknowledge and report.seq:
                    self.note(NoteKind.ACKNOWLEDGE, {"journal": str(report.journal), "seq": report.seq})
        return self.reports

    def note(self, kind: NoteKind, body: dict[str, Any]) -> None:
        note = Note(self.config.dom0, kind, int(time.time() * 1000) + 10_000, body)
        self.redis_server.client().lpush(self.channels.line, self.key.seal(note))

    def order(self, verb: Verb, description: Description, **values: Any) -> Order:
        self.n += 1
        values.setdefault("generation", Generation(1, self.n))
        values.setdefault("body", {"domu": description.as_dict(), "reason": "test"})
        values.setdefault("request_id", f"request-{self.n}")
        order = self.web.order(verb, description.id, **values)
        return self.web.give(order)

    def cancel_as_the_web(self, operation: UUID, domu: UUID) -> None:
        """Cancel under the operation's own id (vps/dispatch.py)."""
        body = {"operation": str(operation)}
        self.web.give(self.web.order(Verb.CANCEL, domu, operation=operation, body=body))

    def cancel(self, operation: UUID, domu: UUID) -> Order:
        return self.web.give(self.web.order(Verb.CANCEL, domu, body={"operation": str(operation)}))

    def of(self, order: Order) -> list[dict[str, Any]]:
        """The bodies of the reports on an order."""
        return [
            dict(report.body)
            for report in self.read()
            if report.kind is ReportKind.OPERATION and report.body["operation"] == str(order.operation)
        ]

    def state(self, order: Order) -> str:
        bodies = self.of(order)
        return str(bodies[-1]["outcome"]) if bodies else ""

    def ended(self, order: Order, seconds: float = 90.0) -> dict[str, Any]:
        """Wait for the end of an order, and give its last report."""
        try:
            until(lambda: self.state(order) in FINAL_OUTCOMES, f"end of {order.verb}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text()[-6000:]}") from error
        return self.of(order)[-1]

    def done(self, verb: Verb, description: Description, **values: Any) -> dict[str, Any]:
        """Give an order and see it done."""
        last = self.ended(self.order(verb, description, **values))
        assert last["outcome"] == Outcome.DONE, f"{last}\n{self.log.read_text()[-6000:]}"
        return last

    def bodies(self, kind: ReportKind, domu: UUID | None = None) -> list[dict[str, Any]]:
        """Bodies of reports of a kind, each once however often it was sent."""
        seen: dict[Any, dict[str, Any]] = {}
        for index, report in enumerate(self.read()):
            if report.kind is kind and (domu is None or report.body.get("domu") == str(domu)):
                seen.setdefault((report.journal, report.seq) if report.seq else index, dict(report.body))
        return list(seen.values())

    def inventory(self) -> dict[str, Any]:
        """The newest inventory."""
        return until(lambda: self.bodies(ReportKind.INVENTORY), "an inventory")[-1]

    def counted(self, domu: Description) -> int | None:
        """The boots of a domU in the newest inventory."""
        rows = [row for row in self.inventory()["domus"] if row["id"] == str(domu.id)]
        return rows[0]["boots"] if rows else None

    # -- domUs

    def kernel(self, release: str = "6.1.0-test") -> BlobRef:
        return self.blobs.add(sim_kernels.linux(release))

    def domu(self, name: str = "web1", **values: Any) -> Description:
        """A domU with one disk and a kernel that boots through the loader."""
        entry = BootEntry("Linux", self.kernel(), None, "root=/dev/xvda", "my-kernel 3")
        values.setdefault(
            "boot", Boot(BootMethod.PVGRUB, 1, (entry,), 0, 0, self.blobs.add(placeholder("pv64")))
        )
        values.setdefault("disks", (DiskSpec(uuid4(), 0, 8),))
        values.setdefault("nics", (NicSpec("00:16:3e:00:00:01", "xenbr0"),))
        return Description(
            id=values.pop("id", uuid4()),
            name=name,
            type=DomainType.PV,
            guest_os=GuestOS.LINUX,
            memory_mib=values.pop("memory_mib", 64),
            vcpus=1,
            **values,
        )

    def type(self, domu: Description, text: str) -> None:
        """Type on a console as a watcher does."""
        watch = str(uuid4())
        self.note(NoteKind.WATCH, {"domu": str(domu.id), "watch": watch, "seconds": 30})
        data = base64.b64encode(text.encode()).decode()
        self.note(NoteKind.KEYS, {"domu": str(domu.id), "watch": watch, "n": 1, "data": data})

    def record(self, domu: Description) -> str:
        """What is on the record of all runs of a domU."""
        folder = self.config.console_dir
        text = b""
        for path in sorted(folder.rglob("*")):
            if str(domu.id) in str(path) and path.is_file():
                with contextlib.suppress(OSError):
                    text += path.read_bytes()
        return text.decode(errors="replace")

    def effects(self, verb: str, domu: Description) -> list[dict[str, Any]]:
        """Lines of the simulated xl's log of effects."""
        return [line for line in self.sim.effects(verb) if line["uuid"] == str(domu.id)]

    def running(self, domu: Description) -> bool:
        return str(domu.id) in self.sim.ok("list", "-v")


def xl_argv(*words: str) -> list[str]:
    return [*XL, *words]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}
