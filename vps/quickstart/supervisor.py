"""Keeps a few programs running: logs, starting again after a growing pause, ending all of them.

How a process is started is given from outside (`vps.quickstart` has the door). Each child leads a session
of its own, so that Ctrl-C reaches the supervisor alone, and the workers of a dead child can be ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

PAUSES = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before a child is started again
SETTLED = 30.0  # seconds after which a child counts as one that stays up
GRACE = 5.0  # seconds between SIGTERM and SIGKILL
LOG_LIMIT = 10 * 1024 * 1024  # bytes of a log before it is put aside as NAME.log.1
_LOOK_AT_LOGS = 60.0


@dataclass(frozen=True)
class Child:
    """A program to keep running. `descriptors` are handed to it under the same numbers."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    descriptors: tuple[int, ...] = ()


class Process(Protocol):
    """What the supervisor needs of a started process; subprocess.Popen has it."""

    pid: int

    def poll(self) -> int | None: ...


Spawn = Callable[[Child, int], Process]  # the child, and the descriptor of its log


class DoesNotStayUp(Exception):
    """A child ended again and again before the product was ready. The text has the end of its log."""


@dataclass
class _Kept:
    child: Child
    process: Process | None = None
    started: float = 0.0  # monotonic
    again_at: float = 0.0  # monotonic; when there is no process
    failures: int = 0  # in a row


@dataclass
class Supervisor:
    """Children by name. `say` prints a line for the person; `changed` is called after each start."""

    spawn: Spawn
    logs: Path
    say: Callable[[str], None]
    changed: Callable[[dict[str, int]], None] = lambda pids: None
    give_up_after: int | None = None  # ends in a row; None: never
    asked_to_end: int = 0  # how many times, by signal
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _wake: int = -1
    _logs_seen: float = 0.0

    def listen_to_signals(self) -> None:
        """SIGINT, SIGTERM and SIGHUP ask to end; SIGCHLD wakes `tend`. Call it in the main thread."""
        self._wake, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask_to_end)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def _ask_to_end(self, number: int, frame: FrameType | None) -> None:
        self.asked_to_end += 1

    def start(self, child: Child) -> None:
        """Start a child and keep it running from now on."""
        kept = self._kept[child.name] = _Kept(child)
        self._start(kept)

    def pids(self) -> dict[str, int]:
        """The process ids of those that run."""
        return {name: kept.process.pid for name, kept in self._kept.items() if kept.process is not None}

    def tend(self, seconds: float) -> None:
        """Look after the children for `seconds`, or until a signal comes. Raises DoesNotStayUp."""
        now = time.monotonic()
        due = [kept.again_at - now for kept in self._kept.values() if kept.process is None]
        self._sleep(max(0.0, min([seconds, *due])))
        for kept in self._kept.values():
            self._look_after(kept)
        if time.monotonic() - self._logs_seen > _LOOK_AT_LOGS:
            self._logs_seen = time.monotonic()
            for kept in self._kept.values():
                put_aside(self.log_of(kept.child.name))

    def end(self, last: tuple[str, ...] = ()) -> None:
        """End all, those in `last` afterwards: SIGTERM to each, SIGKILL to the groups of the late."""
        self._end([kept for name, kept in self._kept.items() if name not in last])
        self._end([kept for name, kept in self._kept.items() if name in last])

    def log_of(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def tail(self, name: str, lines: int = 15) -> str:
        """The end of a child's log."""
        try:
            with self.log_of(name).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 16384))
                text = log.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _start(self, kept: _Kept) -> None:
        path = self.log_of(kept.child.name)
        put_aside(path)
        log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            kept.process = self.spawn(kept.child, log)
        finally:
            os.close(log)
        kept.started = time.monotonic()
        self.changed(self.pids())

    def _look_after(self, kept: _Kept) -> None:
        if kept.process is None:
            if time.monotonic() >= kept.again_at and not self.asked_to_end:
                self._start(kept)
            return
        code = kept.process.poll()
        if code is None:
            return
        self._kill_group(kept.process.pid)  # workers that outlived a killed master
        settled = time.monotonic() - kept.started >= SETTLED
        kept.failures = 1 if settled else kept.failures + 1
        kept.process = None
        name = kept.child.name
        if self.asked_to_end:
            return
        if self.give_up_after is not None and kept.failures >= self.give_up_after:
            raise DoesNotStayUp(
                f"{name} ended {kept.failures} times in a row ({how_it_ended(code)}). The end of"
                f" {self.log_of(name)}:\n{self.tail(name)}"
            )
        pause = PAUSES[min(kept.failures, len(PAUSES)) - 1]
        kept.again_at = time.monotonic() + pause
        self.say(f"{name} ended ({how_it_ended(code)}); again in {pause:g} s. See {self.log_of(name)}")

    def _end(self, some: list[_Kept]) -> None:
        running = [kept.process for kept in some if kept.process is not None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
        give_up = time.monotonic() + GRACE
        while running := [process for process in running if process.poll() is None]:
            if time.monotonic() >= give_up or self.asked_to_end > 1:  # a second Ctrl-C
                break
            self._sleep(min(0.5, max(0.0, give_up - time.monotonic())))
        for kept in some:
            if kept.process is not None:
                self._kill_group(kept.process.pid)
        for process in running:
            while process.poll() is None:
                time.sleep(0.01)
        for kept in some:
            kept.process = None

    def _sleep(self, seconds: float) -> None:
        """Until a signal or for `seconds`."""
        if self._wake < 0:
            time.sleep(min(seconds, 0.05))
            return
        ready, _, _ = select.select([self._wake], [], [], seconds)
        if ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)

    @staticmethod
    def _kill_group(pid: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def how_it_ended(code: int) -> str:
    """A return code in words."""
    if code >= 0:
        return f"exit {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def put_aside(log: Path, limit: int = LOG_LIMIT) -> None:
    """Copy a log that grew past `limit` bytes to NAME.log.1 and empty it; the writer appends, and goes on."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > limit:
            shutil.copyfile(log, log.with_name(log.name + ".1"))
            os.truncate(log, 0)
