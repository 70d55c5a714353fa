"""The two hosts of the contract suite: a simulated dom0 in a folder, and the lab's, on which the real xl is called.

Both have the same files under the same names, so that one configuration does for both; `Host.said` takes out of xl's
words what differs from run to run, and `recorded` gives what the real one said once.
"""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lab import record
from lab.machine import Machine
from tests.agent import sim_kernels
from tests.agent.sim_dom0 import FAST, SimDom0
from tests.agent.sim_dom0 import Console as SimConsole
from vps.agent.toolstack import ToolstackError
from vps.agent.xl import Xl
from vps.xen.endings import Ending
from vps.xen.xlparse import DomainRow, DomainState

RECORDED = Path(__file__).parent / "recorded"
LOCAL = Path("/etc/xen")  # where recorded configurations lay
OWN = {
    "alpha": "018f3e6a-0000-7000-8000-00000000000a",
    "beta": "018f3e6a-0000-7000-8000-00000000000b",
    "gamma": "018f3e6a-0000-7000-8000-0000000000ff",
}
NO_DEVICES = {"disk": "", "vif": ""}  # each costs a hotplug script, five seconds under emulation


@dataclass(frozen=True)
class Said:
    """How an xl ended, and its words without what differs from run to run."""

    exit: int
    out: str
    words: str


class Terminal(Protocol):
    """An `xl console` on a terminal."""

    def read(self) -> bytes:
        """All that it has written so far."""

    def type(self, text: str) -> None: ...

    def over(self) -> int | None:
        """Its exit status, once it has ended."""

    def close(self) -> None: ...


class Host:
    """What the suite needs of a host; `toolstack` is the agent's own adapter, as it is installed."""

    kind: str
    toolstack: Xl
    prompt: bytes  # of the guest's shell
    patience: float  # seconds that anything may take
    deaf: float  # seconds after which xl gives a deaf guest up
    place: str
    images: str

    def xl(self, *words: str, timeout: float = 120) -> Said:
        raise NotImplementedError

    def put(self, path: str, text: str) -> None:
        raise NotImplementedError

    def console(self, name: str) -> Terminal:
        raise NotImplementedError

    def log(self, name: str) -> str:
        """What xl's monitor wrote of the domains of this name."""
        raise NotImplementedError

    def config(self, name: str, **settings: str) -> Path:
        """A configuration as lab.record writes them."""
        path = self.path(name)
        text = record.config(name, **settings)
        self.put(path, text.replace(record.PLACE, self.place).replace(record.IMAGES, self.images))
        return Path(path)

    def path(self, name: str) -> str:
        raise NotImplementedError

    def plain(self, text: str) -> str:
        """Without numbers of domains and processes, and with the paths that were recorded."""
        for ours, theirs in ((self.place, record.PLACE), (self.images, record.IMAGES)):
            text = text.replace(ours, theirs)
        return plain(text)

    def take_long_to_clear_away(self, long: bool) -> None:
        """Whether a domain that is built now is to be there for some seconds when it has ended, as on the real one."""

    def row(self, name: str) -> DomainRow | None:
        return next((row for row in self.toolstack.domains() if row.name == name), None)

    def guests(self) -> dict[str, DomainState]:
        return {row.name: row.state for row in self.toolstack.domains() if row.domid}

    def ending(self, name: str, domid: int) -> Ending | None:
        return self.toolstack.ending(name, domid)

    def until(self, what: str, look: Callable[[], object], seconds: float = 0) -> None:
        deadline = time.monotonic() + (seconds or self.patience)
        while not look():
            assert time.monotonic() < deadline, f"not within {seconds or self.patience:.0f} s: {what}"
            time.sleep(0.05)

    def gone(self, name: str) -> list[DomainState]:
        """Wait until no domain has the name; the states that were seen, each once."""
        seen: list[DomainState] = []

        def look() -> bool:
            row = self.row(name)
            if row is not None and row.state not in seen:
                seen.append(row.state)
            return row is None

        self.until(f"{name} is gone", look)
        return seen

    def destroy_all(self) -> None:
        for row in self.toolstack.domains():
            if row.domid:
                try:
                    self.toolstack.destroy(row.domid)
                except ToolstackError as error:  # it was ending by itself
                    assert error.code == "no_domain"
                self.gone(row.name)


class Simulated(Host):
    """`berth-sim-xl` with a state in a folder."""

    kind = "simulated"
    prompt = b"/ # "
    patience = 40.0
    deaf = 0.5

    def __init__(self, folder: Path) -> None:
        self.dom0 = SimDom0.make(folder, bridges=["xenbr0"], total_memory=2047)
        self.toolstack = Xl(self.dom0.argv(), self.dom0.directory / "log")
        self.place, self.images = str(folder / "guests"), str(folder / "images")
        for path in (self.place, self.images):
            Path(path).mkdir()
        files = {
            # As large in memory as the lab's.
            "vmlinux.gz": sim_kernels.linux(memory=0x3A00 << 12),
            "rd.gz": b"\x1f\x8b a ramdisk",
            "xen": b"\x7fELF but nothing that boots",
            "berth-pv64.bin": self.dom0.loader("pv64").read_bytes(),
            "berth-pv32.bin": self.dom0.loader("pv32").read_bytes(),
        }
        for name, data in files.items():
            Path(self.images, name).write_bytes(data)
        for name in ("alpha", "beta"):
            with Path(self.place, f"{name}.img").open("wb") as disk:
                disk.truncate(1 << 20)
        Path(self.place, "text").write_text("hello\n")
        Path(self.place, "truncated.gz").write_bytes(gzip.compress(sim_kernels.linux())[:-40])

    def xl(self, *words: str, timeout: float = 120) -> Said:
        done = self.dom0.xl(*words, timeout=timeout)
        return Said(done.returncode, done.stdout, self.plain(done.stderr))

    def take_long_to_clear_away(self, long: bool) -> None:
        self.dom0.set(times={**FAST, "cleanup": 15.0} if long else FAST)

    def put(self, path: str, text: str) -> None:
        Path(path).write_text(text)

    def path(self, name: str) -> str:
        return str(self.dom0.files / name)

    def plain(self, text: str) -> str:
        return super().plain(text.replace(str(self.dom0.files), str(LOCAL)))

    def console(self, name: str) -> Terminal:
        return SimTerminal(self.dom0.console(name))

    def log(self, name: str) -> str:
        return (self.dom0.directory / "log" / f"xl-{name}.log").read_text()

    def close(self) -> None:
        self.dom0.end()


class SimTerminal:
    """The console of tests/agent, read without waiting."""

    def __init__(self, console: SimConsole) -> None:
        self._console = console
        self._ended = False

    def read(self) -> bytes:
        self._ended = self._ended or not self._console.look()
        return self._console.seen

    def type(self, text: str) -> None:
        self._console.type(text)

    def over(self) -> int | None:
        self.read()
        if not self._ended:
            return None
        self._console.pty.wait()
        status: int | None = self._console.pty.exitstatus
        return status

    def close(self) -> None:
        self._console.pty.close(force=True)


class Real(Host):
    """The lab's dom0; the adapter calls xl through SSH, and the logs are fetched to where it looks for them."""

    kind = "real"
    prompt = b"berth-guest:/# "
    patience = 240.0
    deaf = 60.0
    place, images = record.PLACE, record.IMAGES

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.ssh = machine.ssh()
        self.logs = folder / "log"
        self.logs.mkdir()
        self.toolstack = Xl([*self.ssh.argv(), "xl"], self.logs)
        record.prepare(self.ssh)

    def xl(self, *words: str, timeout: float = 120) -> Said:
        done = self.ssh.run(["xl", *words], timeout=timeout, check=False)
        return Said(done.exit, done.text, self.plain(done.stderr.decode(errors="replace")))

    def put(self, path: str, text: str) -> None:
        self.ssh.put(text.encode(), path)

    def path(self, name: str) -> str:
        return str(LOCAL / name)

    def console(self, name: str) -> Terminal:
        return RealTerminal(record.Console(self.ssh, name))

    def log(self, name: str) -> str:
        return self.ssh.get(f"/var/log/xen/xl-{name}.log").decode(errors="replace")

    def ending(self, name: str, domid: int) -> Ending | None:
        (self.logs / f"xl-{name}.log").write_text(self.log(name))
        return super().ending(name, domid)

    def close(self) -> None:
        self.destroy_all()


class RealTerminal:
    def __init__(self, console: record.Console) -> None:
        self._console = console

    def read(self) -> bytes:
        return self._console.read()

    def type(self, text: str) -> None:
        self._console.type(text)

    def over(self) -> int | None:
        return self._console.process.poll()

    def close(self) -> None:
        self._console.close()


@dataclass
class Guest:
    """A domain with a shell on its console."""

    host: Host
    name: str
    domid: int
    console: Terminal

    def wait(self, text: bytes) -> None:
        try:
            self.host.until(f"{text!r} on the console", lambda: text in self.console.read())
        except AssertionError as error:
            raise AssertionError(f"{error}\nIts end was: {self.console.read()[-600:]!r}") from None

    def ask(self, command: str, answer: bytes) -> None:
        """Type a command, and wait for an answer beyond what is there now and beyond the echo."""
        known = len(self.console.read())
        self.console.type(f"{command}\r")
        self.host.until(
            f"{answer!r} after {command!r}",
            lambda: answer in self.console.read()[known:].replace(command.encode(), b"", 1),
        )


def recorded(name: str) -> str:
    """What the real one said: without what differs from run to run."""
    version = json.loads((RECORDED / "index.json").read_text())["xen"]
    return plain((RECORDED / f"xl-{version}-{name}.txt").read_text())


def plain(text: str) -> str:
    text = re.sub(r"\b([Dd]omain|pid|domid) \d+", r"\1 N", text)
    text = re.sub(r"xenconsole\.\d+", "xenconsole.N", text)
    return re.sub(r"\[\d+\]", "[N]", text)
