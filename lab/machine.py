"""The emulated machine: start from nothing or from a snapshot, stop, and what is known of it in between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import cache
from lab.commands import output, run, tail
from lab.dom0_image import Dom0
from lab.errors import LabError
from lab.images import images
from lab.keys import keys
from lab.qmp import Qmp
from lab.ssh import Ssh

MEMORY_MIB = 2048
DOM0_MIB = 768
READY = b"lab: dom0 is ready"
DEADLINE = 240.0
SNAPSHOT = "ready"
_FATAL = (b"Panic on CPU", b"Kernel panic", b"the dom0 disk cannot be mounted")


@dataclass(frozen=True)
class State:
    """What is written down of a running machine. `started`: when the process did, in ticks since boot."""

    pid: int
    started: int
    sockets: str
    ssh_port: int
    seconds: float
    from_snapshot: bool

    @property
    def qmp(self) -> Path:
        return Path(self.sockets) / "qmp"


class Machine:
    """The machine called `name`; its files are in run/NAME of the cache folder."""

    def __init__(self, name: str = "lab") -> None:
        self.name = name
        self.place = cache.folder() / "run" / name
        self.console = self.place / "console.log"
        self._state_file = self.place / "state.json"
        self._overlay = self.place / "dom0.qcow2"
        self._snapshot_file = self.place / "snapshot.json"

    def state(self) -> State | None:
        """The running machine, or None."""
        try:
            state = State(**json.loads(self._state_file.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return state if _start_time(state.pid) == state.started else None

    def running(self) -> State:
        state = self.state()
        if state is None:
            raise LabError(f"The lab's Xen ({self.name}) is not running. Start it: python -m lab start")
        return state

    def ssh(self) -> Ssh:
        state = self.running()
        return Ssh(state.ssh_port, keys(), Path(state.sockets))

    def start(self, dom0: Dom0, *, fresh: bool = False) -> State:
        """Start Xen and wait for a working xl: from this dom0's snapshot, if there is one and not `fresh`.

        Every start is from the same state: what the last run changed is gone. Raises LabError.
        """
        if state := self.state():
            return state
        self.place.mkdir(parents=True, exist_ok=True)
        begin = time.monotonic()
        if not fresh and self._snapshot_fits(dom0):
            try:
                return self._start_loaded(dom0, begin)
            except LabError:
                # A snapshot that cannot be loaded is worth no more than none.
                self.stop()
        state = self._start_cold(dom0, begin)
        self._save_snapshot(state, dom0)
        return state

    def stop(self) -> None:
        """End the machine and whatever a killed run left behind. Nothing of it is kept."""
        if state := self.state():
            with suppress(LabError), Qmp(state.qmp, timeout=10) as qmp:
                qmp.quit()
            _end(state.pid, state.started)
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            shutil.rmtree(json.loads(self._state_file.read_text())["sockets"], ignore_errors=True)
        self._state_file.unlink(missing_ok=True)

    def reset(self) -> None:
        """The reset button; the disk keeps what was written, and dom0 boots again. Returns when xl works."""
        state = self.running()
        size = self.console.stat().st_size
        with Qmp(state.qmp) as qmp:
            qmp.command("system_reset")
        self.wait_ready(after=size)

    def wait_ready(self, *, after: int = 0, deadline: float = DEADLINE) -> None:
        """Wait until dom0 says, beyond byte `after` of its console, that xl works."""
        pid = self.running().pid
        _wait_ready(self.console, pid, after, deadline)

    def save_as(self, name: str) -> None:
        """Keep the state of now as a QEMU snapshot of its own, for `load`."""
        with Qmp(self.running().qmp, timeout=300) as qmp:
            _say(qmp.monitor(f"savevm {name}"))

    def load(self, name: str = SNAPSHOT) -> None:
        """Go back to a snapshot while running; dom0's clock is set."""
        state = self.running()
        with Qmp(state.qmp, timeout=300) as qmp:
            qmp.command("stop")
            _say(qmp.monitor(f"loadvm {name}"))
            qmp.command("cont")
        ssh = self.ssh()
        ssh.close()
        _set_clock(ssh)

    def _start_cold(self, dom0: Dom0, begin: float) -> State:
        self._overlay.unlink(missing_ok=True)
        self._snapshot_file.unlink(missing_ok=True)
        argv = [
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            str(dom0.disk),
            str(self._overlay),
        ]
        run(argv, timeout=60)
        state = self._launch(dom0, [])
        try:
            _wait_ready(self.console, state.pid, 0, DEADLINE)
            self._ssh(state).wait()
        except LabError:
            self._write(state)
            self.stop()
            raise
        return self._write(state, seconds=time.monotonic() - begin)

    def _start_loaded(self, dom0: Dom0, begin: float) -> State:
        state = self._launch(dom0, ["-loadvm", SNAPSHOT])
        self._write(state)
        ssh = self._ssh(state)
        ssh.wait(30)
        _set_clock(ssh)
        ssh.run(["xl", "list"], timeout=30)
        return self._write(state, seconds=time.monotonic() - begin, from_snapshot=True)

    def _launch(self, dom0: Dom0, more: list[str]) -> State:
        sockets = Path(tempfile.mkdtemp(prefix="berth-lab-"))
        pid_file = sockets / "pid"
        argv = qemu_arguments(dom0, images(dom0), self._overlay, self.console, sockets / "qmp")
        try:
            # QEMU goes into the background by itself, when all that can be refused has been.
            run([*argv, "-daemonize", "-pidfile", pid_file, *more], timeout=120)
            pid = int(pid_file.read_text())
            with Qmp(sockets / "qmp", timeout=60) as qmp:
                port = qmp.ssh_port()
        except (LabError, OSError, ValueError):
            _kill_by(pid_file)
            shutil.rmtree(sockets, ignore_errors=True)
            raise
        return State(pid, _start_time(pid) or 0, str(sockets), port, 0.0, False)

    def _write(self, state: State, *, seconds: float = 0.0, from_snapshot: bool = False) -> State:
        state = State(**{**asdict(state), "seconds": round(seconds, 1), "from_snapshot": from_snapshot})
        self._state_file.write_text(json.dumps(asdict(state)) + "\n")
        return state

    def _ssh(self, state: State) -> Ssh:
        return Ssh(state.ssh_port, keys(), Path(state.sockets))

    def _save_snapshot(self, state: State, dom0: Dom0) -> None:
        ssh = self._ssh(state)
        ssh.run(["sync"], timeout=60)
        ssh.close()
        with Qmp(state.qmp, timeout=300) as qmp:
            _say(qmp.monitor(f"savevm {SNAPSHOT}"))
        self._snapshot_file.write_text(json.dumps(self._snapshot_inputs(dom0)) + "\n")

    def _snapshot_fits(self, dom0: Dom0) -> bool:
        try:
            known = json.loads(self._snapshot_file.read_text())
        except (FileNotFoundError, ValueError):
            return False
        return self._overlay.exists() and known == self._snapshot_inputs(dom0)

    def _snapshot_inputs(self, dom0: Dom0) -> dict[str, object]:
        arguments = qemu_arguments(dom0, images(dom0), self._overlay, self.console, Path("qmp"))
        return {
            "dom0": dom0.digest,
            "arguments": arguments,
            "qemu": output(["qemu-system-x86_64", "--version"]),
        }


def qemu_arguments(dom0: Dom0, extra: Path, overlay: Path, console: Path, qmp: Path) -> list[str]:
    """The whole command line. Nothing in it listens but on 127.0.0.1 and a socket in a private folder."""
    # `max,-smap`: plain `max` crashes dom0 at once; QEMU then also emulates SVM with NPT, which PVH needs.
    # One vcpu for dom0: with two it was twice as slow. bootscrub=0 leaves untouched memory to the host.
    memory = f"dom0_mem={DOM0_MIB}M,max:{DOM0_MIB}M"
    xen = f"{memory} dom0_max_vcpus=1 console=com1 com1=115200,8n1 noreboot bootscrub=0"
    linux = "console=hvc0 root=/dev/vda rw mitigations=off"
    return [
        *["qemu-system-x86_64", "-name", "berth-lab", "-nodefaults", "-no-user-config", "-display", "none"],
        *[
            "-machine",
            "q35",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max,-smap",
            "-smp",
            "2",
            "-m",
            str(MEMORY_MIB),
        ],
        *["-kernel", str(dom0.xen), "-append", xen, "-initrd", f"{dom0.kernel} {linux},{dom0.initrd}"],
        *["-drive", f"file={overlay},format=qcow2,if=none,id=disk0,cache=unsafe,discard=unmap"],
        *["-device", "virtio-blk-pci,drive=disk0"],
        *["-drive", f"file={extra},format=raw,if=none,id=disk1,read-only=on"],
        *["-device", "virtio-blk-pci,drive=disk1"],
        *[
            "-netdev",
            "user,id=net0,ipv6=off,hostfwd=tcp:127.0.0.1:0-:22",
            "-device",
            "virtio-net-pci,netdev=net0",
        ],
        *["-device", "virtio-rng-pci", "-rtc", "base=utc"],
        *["-serial", f"file:{console}", "-qmp", f"unix:{qmp},server=on,wait=off"],
    ]


def _kill_by(pid_file: Path) -> None:
    """End a QEMU that came up but cannot be used."""
    with suppress(OSError, ValueError):
        os.kill(int(pid_file.read_text()), signal.SIGKILL)


def _wait_ready(console: Path, pid: int, after: int, deadline: float) -> None:
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        said = console.read_bytes()[after:] if console.exists() else b""
        if READY in said:
            return
        if found := next((word for word in _FATAL if word in said), None):
            raise LabError(
                f"Dom0 did not start ({found.decode()}). The last lines of {console}:\n{tail(said)}"
            )
        if _start_time(pid) is None:
            raise LabError(f"QEMU ended while dom0 was starting. The last lines of {console}:\n{tail(said)}")
        time.sleep(0.2)
    raise LabError(f"Dom0 had no working xl after {deadline:.0f} s. See {console}")


def _set_clock(ssh: Ssh) -> None:
    """After a snapshot is loaded dom0's clock is the snapshot's."""
    ssh.run(["date", "-u", "-s", f"@{time.time():.2f}"], timeout=30)


def _say(answer: str) -> None:
    if answer.strip():
        raise LabError(f"QEMU's snapshot failed: {answer.strip()}")


def _start_time(pid: int) -> int | None:
    """Start of a living process in clock ticks since boot: with the pid it names one process for ever."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def _end(pid: int, started: int) -> None:
    for number, wait in ((None, 10.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        if number is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        end = time.monotonic() + wait
        while time.monotonic() < end:
            if _start_time(pid) != started:
                return
            time.sleep(0.05)
    raise LabError(f"QEMU (process {pid}) cannot be ended.")
