"""The process that is a domain: its console, its control socket, its timers and its guest.

It is started with `-S` and imports little, so that many domains fit on one machine; reading boot disks and judging
kernels happens in short-lived children. It sleeps until something happens.
"""

# pathlib would cost every domain, and every `xl list`, memory and milliseconds.
# ruff: noqa: PTH103, PTH108, PTH110, PTH120
from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Generator
from typing import Any

from vps.agent.sim import meters
from vps.agent.sim.host import Machine, read_json, write_json
from vps.agent.sim.wire import Drain, Ended, Event, Guest, Wait, Work

RING = 16 * 1024  # what xenconsoled keeps while nobody is attached
AHEAD = 64 * 1024  # a guest that writes faster than the console reads waits here
CHECK = 30.0  # s; a process whose directory was deleted ends by itself


class Console:
    """The console's socket: one client, a ring while there is none."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.selector = selector
        self.pending = bytearray()
        self.client: socket.socket | None = None
        self.listener = listen("console.sock")
        selector.register(self.listener, selectors.EVENT_READ, "console-accept")

    def accept(self) -> None:
        client, _ = self.listener.accept()
        client.setblocking(False)
        if self.client is not None:
            client.close()  # the client's lock keeps second ones away; this is for who goes around it
            return
        self.client = client
        self.selector.register(client, selectors.EVENT_READ, "console")
        self.flush()

    def write(self, data: bytes) -> None:
        self.pending += data
        self.flush()

    def flush(self) -> None:
        if self.client is None:
            if len(self.pending) > RING:
                del self.pending[: len(self.pending) - RING]
            return
        try:
            while self.pending:
                sent = self.client.send(self.pending[:65536])
                del self.pending[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self.drop()
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.pending else 0)
        self.selector.modify(self.client, events, "console")

    def read(self) -> bytes:
        assert self.client is not None
        try:
            data = self.client.recv(4096)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self.drop()
        return data

    def drop(self) -> None:
        if self.client is not None:
            self.selector.unregister(self.client)
            self.client.close()
            self.client = None
        self.flush()

    def finish(self) -> None:
        """Close after the last bytes, for which a slow reader gets a second."""
        if self.client is not None:
            self.client.settimeout(1.0)
            with contextlib.suppress(OSError):
                self.client.sendall(self.pending)
        self.pending.clear()
        self.drop()
        self.listener.close()

    @property
    def drained(self) -> bool:
        return self.client is None or len(self.pending) < AHEAD


def listen(name: str) -> socket.socket:
    """A unix socket in the working directory: the name stays short whatever the state directory is."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name)
    listener.bind(name)
    listener.listen(8)
    listener.setblocking(False)
    return listener


class Domain:
    """One domain from its creation to its end, over xl's own restarts."""

    def __init__(self, machine: Machine, domid: int) -> None:
        self.machine = machine
        self.boot_id = machine.boot_id()
        self.boots = 0
        self.settle(domid)

    def settle(self, domid: int) -> None:
        """Move into the directory of a (new) domain number."""
        self.domid = domid
        os.chdir(self.machine.domain_path(domid))
        self.lock = os.open("alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        record = read_json("domain.json")
        assert record is not None
        self.record: dict[str, Any] = record
        meters.make(self.machine, record)
        self.selector = selectors.DefaultSelector()
        self.console = Console(self.selector)
        self.control = listen("control.sock")
        self.selector.register(self.control, selectors.EVENT_READ, "control-accept")
        self.state: dict[str, Any] = {"pid": os.getpid(), "paused": bool(record["paused"]), "seconds": 0.0}
        # How often xl paused it: Xen counts (recorded). `paused` in the state is what xl list shows.
        self.held = int(record["paused"])
        self.listening = False
        self.requests: list[tuple[socket.socket, str]] = []
        self.wait: Wait | Drain | Work = Wait(0)
        self.deadline: float | None = 0.0
        self.input = bytearray()
        self.child: tuple[int, int, bytearray] | None = None
        self.save()

    # What the guest sees of its machine.

    def write(self, data: bytes) -> None:
        self.console.write(data)

    def listen(self, listening: bool) -> None:
        """Whether the guest reacts to xl shutdown and xl reboot."""
        self.listening = listening

    def spin(self, spinning: bool) -> None:
        """A guest that polls uses a whole cpu: `r-----` and growing seconds in xl list."""
        since = self.state.get("spinning")
        if bool(since) == spinning:
            return
        if since:
            self.state["seconds"] += time.time() - since
        self.state["spinning"] = time.time() if spinning else None
        self.save()

    def unread(self, keys: bytes) -> None:
        """Keep keys that came too early for whoever asks next."""
        self.input[:0] = keys

    def booted(self, kernel: dict[str, Any], command: str) -> int:
        """A kernel runs: counted in the effects log. Returns which boot of this domain it is."""
        count = self.machine.path("boots", self.record["uuid"])
        os.makedirs(os.path.dirname(count), exist_ok=True)
        self.boots = int(read_json(count) or 0) + 1
        write_json(count, self.boots)
        self.machine.effect(
            "boot", self.record, kernel=kernel.get("sha256"), arguments=command, boot=self.boots
        )
        return self.boots

    def save(self) -> None:
        write_json("state.json", self.state)

    # The loop.

    def run(self, guest: Guest) -> int:
        """Run the guest until it ends; returns Xen's shutdown reason, or -1 when it was destroyed."""
        begun = False
        self.wait, self.deadline = Wait(), None
        try:
            while True:
                if not begun and not self.held:  # a domain created paused begins when it is unpaused
                    begun = True
                    self.state |= {"begun": True, "seconds": self.state["seconds"] - time.process_time()}
                    self.save()
                    self.step(guest, None)
                    self._deliver(guest)
                for key, mask in self.selector.select(self._pause()):
                    if self._ready(key, mask):
                        return -1
                if not os.path.exists("domain.json"):
                    return -1
                if begun:
                    self._deliver(guest)
        except Ended as end:
            return end.reason

    def step(self, guest: Guest, event: Event | None) -> None:
        try:
            self.wait = next(guest) if event is None else guest.send(event)
        except StopIteration:
            raise Ended(0) from None
        self.deadline = None
        if isinstance(self.wait, Wait) and self.wait.seconds is not None:
            self.deadline = time.monotonic() + self.wait.seconds
        if isinstance(self.wait, Work):
            self._start(self.wait)

    def _pause(self) -> float:
        if self.held or self.deadline is None:
            return CHECK
        return min(CHECK, max(0.0, self.deadline - time.monotonic()))

    def _deliver(self, guest: Guest) -> None:
        """Give the guest whatever has come, one thing at a time, unless it is paused."""
        while not self.held:
            event = self._event()
            if event is None:
                return
            self.step(guest, event)

    def _event(self) -> Event | None:
        if self.listening and self.requests and isinstance(self.wait, Wait):
            client, what = self.requests.pop(0)
            answer(client, {"ok": True})
            return Event(power=what)
        if isinstance(self.wait, Work):
            if self.child is None or self.child[0] >= 0:
                return None
            data, self.child = bytes(self.child[2]), None
            return Event(result=json.loads(data or b"{}"))
        if isinstance(self.wait, Drain):
            return Event() if self.console.drained else None
        if self.input and self.wait.keys:
            data = bytes(self.input)
            self.input.clear()
            return Event(keys=data)
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return Event()
        return None

    def _ready(self, key: selectors.SelectorKey, mask: int) -> bool:
        """Handle one ready file; true when the domain is to be destroyed."""
        if key.data == "console-accept":
            self.console.accept()
        elif key.data == "console":
            if mask & selectors.EVENT_WRITE:
                self.console.flush()
            if mask & selectors.EVENT_READ and self.console.client is not None:
                self.input += self.console.read()
                del self.input[65536:]
        elif key.data == "control-accept":
            client, _ = self.control.accept()
            self.selector.register(client, selectors.EVENT_READ, "control")
        elif key.data == "control":
            return self._control(key.fileobj)
        elif key.data == "child":
            self._child()
        return False

    def _control(self, client: Any) -> bool:
        try:
            data = client.recv(4096)
        except OSError:
            data = b""
        if not data:
            self.selector.unregister(client)
            self.requests = [request for request in self.requests if request[0] is not client]
            client.close()
            return False
        verb = data.decode().strip()
        if verb in ("poweroff", "reboot"):
            self.requests.append((client, verb))
        elif verb in ("pause", "unpause"):
            self._hold(1 if verb == "pause" else -1)
            answer(client, {"ok": True})
        elif verb == "destroy":
            self.state["dying"] = True
            self.save()
            return True
        return False

    def _hold(self, step: int) -> None:
        before, self.held = self.held, max(0, self.held + step)
        paused = bool(self.held)
        if bool(before) == paused:
            return
        since = self.state.get("spinning")
        if since:
            if paused:
                self.state["seconds"] += time.time() - since
            self.state["spinning"] = time.time()
        if not paused and self.deadline is not None:
            self.deadline = max(self.deadline, time.monotonic())
        self.state["paused"] = paused
        self.save()

    def _start(self, work: Work) -> None:
        """Run something heavy in a child, which alone loads what it needs."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(self.lock)  # or the domain would seem alive when only its child is
                os.close(reader)
                import site

                site.main()
                with os.fdopen(writer, "w") as output:
                    json.dump(work.call(*work.arguments), output)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(0)
        os.close(writer)
        self.child = (pid, reader, bytearray())
        self.selector.register(reader, selectors.EVENT_READ, "child")

    def _child(self) -> None:
        assert self.child is not None
        pid, reader, data = self.child
        chunk = os.read(reader, 65536)
        if chunk:
            data += chunk
            return
        self.selector.unregister(reader)
        os.close(reader)
        os.waitpid(pid, 0)
        self.child = (-1, -1, data)

    def idle(self, seconds: float | None) -> bool:
        """Stay as one is for some seconds (for ever: None); true when destroyed meanwhile."""

        def nothing() -> Generator[Wait, Event, None]:
            end = None if seconds is None else time.monotonic() + seconds
            while end is None or time.monotonic() < end:
                yield Wait(None if end is None else max(0.0, end - time.monotonic()), keys=False)
            raise Ended(0)

        self.listening, self.held = False, 0
        self.stop_child()
        return self.run(nothing()) == -1

    def stop_child(self) -> None:
        if self.child is not None and self.child[0] >= 0:
            pid, reader, _ = self.child
            self.selector.unregister(reader)
            os.close(reader)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.child = None

    def close(self) -> None:
        """Let everything go but the lock `alive`: as long as the directory is there, somebody must hold it."""
        self.stop_child()
        self.console.finish()
        self.selector.close()
        self.control.close()


def answer(client: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        client.sendall(json.dumps(message).encode() + b"\n")
