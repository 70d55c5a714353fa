"""Programs on ptys of their own, all read by one thread.

A guest that writes to a console which nobody reads stands still, so reading never waits for anything:
what is read goes to a callback that must return at once, and what is to be typed waits in a bounded buffer.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import logging
import os
import pty
import selectors
import signal
import struct
import subprocess  # noqa: TID251
import termios
import threading
import time
import tty
from collections import deque
from collections.abc import Callable, Mapping, Sequence

CHUNK = 64 * 1024  # bytes given to a callback at once, at most
TYPED_LIMIT = 64 * 1024  # bytes that wait for a program which does not read
COLUMNS, ROWS = 80, 24
_GRACE = 1.0  # seconds between SIGTERM and SIGKILL
_GIVE_UP = 5.0  # seconds after which a process that cannot be killed is left to the kernel
_REAP_EVERY = 0.05

log = logging.getLogger(__name__)


class PtyFailed(Exception):
    """A program could not be started on a pty. The text names the program and the reason."""


class Pty:
    """One program on a pty. Made by `Ptys.start`; may be written to from any thread."""

    def __init__(
        self,
        owner: Ptys,
        process: subprocess.Popen[bytes],
        master: int,
        complaints: int,
        on_bytes: Callable[[bytes], None],
        on_end: Callable[[int | None, str], None],
    ) -> None:
        self.pid = process.pid
        self.process = process
        self._owner = owner
        self._master = master
        self._complaints = complaints
        self._on_bytes = on_bytes
        self._on_end = on_end
        self._lock = threading.Lock()
        self._typed = bytearray()
        self._asked_to_end = 0.0
        self.open = threading.Event()  # the program has the terminal as it wants it
        self.over = threading.Event()  # nothing of it is left

    def is_raw(self) -> bool:
        """Whether the program has switched its terminal to raw mode.

        xenconsole does so only after it has opened the guest's console (tools/console/client/main.c), and the
        terminal starts in line mode: so this is the sign that it is attached.
        """
        with self._lock:
            if self._master < 0:
                return False
            with contextlib.suppress(termios.error):
                return not termios.tcgetattr(self._master)[3] & termios.ICANON
            return False

    def make_raw(self) -> None:
        """Switch the terminal to raw mode in the place of a program that does not."""
        with self._lock:
            if self._master >= 0:
                with contextlib.suppress(termios.error):
                    tty.setraw(self._master, termios.TCSANOW)

    def opened(self) -> None:
        """From now on the program gets what is typed; before, it would throw it away."""
        self.open.set()
        self._owner.call(self.flush)

    def write(self, data: bytes) -> int:
        """Type bytes; gives how many were taken. The rest is lost: the program does not read."""
        with self._lock:
            if self._master < 0:
                return 0
            taken = data[: TYPED_LIMIT - len(self._typed)]
            self._typed += taken
            if not self.open.is_set():
                return len(taken)
            rest = self._write_now()
        if rest:
            self._owner.call(self.flush)
        return len(taken)

    def _write_now(self) -> bool:
        """Write what the pty takes without waiting; whether something is left. Needs the lock."""
        while self._typed and self._master >= 0:
            try:
                del self._typed[: os.write(self._master, self._typed[:4096])]
            except BlockingIOError:
                return True
            except OSError:
                self._typed.clear()
        return False

    def flush(self) -> None:
        """On the owner's thread: go on writing, and watch for room while there is something left."""
        with self._lock:
            if self._master < 0:
                return
            left = self.open.is_set() and self._write_now()
        self._owner.watch(self, self._master, writing=left)

    def drain(self) -> bool:
        """On the owner's thread: read what is there, CHUNK bytes at most; False at the end."""
        parts: list[bytes] = []
        size, alive = 0, True
        while size < CHUNK:
            try:
                part = os.read(self._master, CHUNK - size)
            except BlockingIOError:
                break
            except OSError:  # EIO on Linux: no program has the other side open
                part = b""
            if not part:
                alive = False
                break
            parts.append(part)
            size += len(part)
        if parts:
            self._on_bytes(b"".join(parts))
        return alive

    def stop(self) -> None:
        """End the program: SIGTERM, then SIGKILL, to its whole group. `over` is set when it is gone."""
        self._owner.call(self.hang_up)

    def hang_up(self) -> None:
        """On the owner's thread: read what is left, close the pty, and see the program to its end."""
        if self._asked_to_end:
            return
        self._asked_to_end = time.monotonic()
        for _ in range(64):  # bounded: a guest may write for ever
            before = self._master
            if before < 0 or not self.drain():
                break
        self._owner.forget(self, self._master)
        with self._lock:
            os.close(self._master)
            self._master = -1
            self._typed.clear()
        self._signal(signal.SIGTERM)
        self._reap()

    def _reap(self) -> None:
        waited = time.monotonic() - self._asked_to_end
        if self.process.poll() is None and waited < _GIVE_UP:
            if waited > _GRACE:
                self._signal(signal.SIGKILL)
            self._owner.later(_REAP_EVERY, self._reap)
            return
        self._signal(signal.SIGKILL)  # what the program started and left behind
        words = _read_complaints(self._complaints)
        self._owner.gone(self)
        self.over.set()
        self._on_end(self.process.returncode, words)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


class Ptys:
    """All ptys of an agent, and the thread that reads them. Callbacks run on that thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._calls: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._all: set[Pty] = set()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="ptys", daemon=True)
        self._thread.start()

    def start(
        self,
        argv: Sequence[str],
        on_bytes: Callable[[bytes], None],
        on_end: Callable[[int | None, str], None],
        env: Mapping[str, str] | None = None,
    ) -> Pty:
        """Start a program on a pty of 80x24, raw but for line mode (see `Pty.is_raw`).

        `on_bytes` gets what it writes, `on_end` its exit code and the last words on its stderr. Raises PtyFailed.
        """
        master, slave = pty.openpty()
        complaints, stderr = os.pipe()
        try:
            _prepare(slave)
            os.set_blocking(master, False)
            os.set_blocking(complaints, False)
            process = subprocess.Popen(  # noqa: S603 - an argv list, never a shell
                list(argv),
                stdin=slave,
                stdout=slave,
                stderr=stderr,
                env={**os.environ, "TERM": "xterm", **(env or {}), "LC_ALL": "C"},
                start_new_session=True,
            )
        except OSError as error:
            os.close(master)
            os.close(complaints)
            raise PtyFailed(f"{argv[0]} cannot be run: {error.strerror}") from error
        finally:
            os.close(slave)
            os.close(stderr)
        started = Pty(self, process, master, complaints, on_bytes, on_end)
        self._all.add(started)
        self.call(lambda: self.watch(started, master, writing=False))
        return started

    def call(self, call: Callable[[], None]) -> None:
        """Have something done on the thread."""
        self._calls.append(call)
        if threading.current_thread() is not self._thread:
            with contextlib.suppress(BlockingIOError, OSError):  # full: it wakes up anyway
                os.write(self._wake_write, b"!")

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Have something done on the thread after a while."""
        when = time.monotonic() + seconds
        self.call(lambda: heapq.heappush(self._timers, (when, next(self._count), call)))

    def watch(self, one: Pty, master: int, *, writing: bool) -> None:
        """On the thread: read a pty, and wait for room in it when `writing`."""
        if master < 0 or one not in self._all or one._asked_to_end:
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        try:
            if self._selector.get_key(master).events != events:
                self._selector.modify(master, events, one)
        except KeyError:
            self._selector.register(master, events, one)

    def forget(self, one: Pty, master: int) -> None:
        """On the thread: no longer read a pty."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(master)

    def gone(self, one: Pty) -> None:
        """On the thread: the program has ended."""
        self._all.discard(one)

    def close(self) -> None:
        """End every program and the thread. Timers that still wait are dropped."""
        self._closing = True
        for one in list(self._all):
            one.stop()
        self.call(lambda: None)
        self._thread.join(_GIVE_UP + 2)

    def _run(self) -> None:
        while not (self._closing and not self._all):
            for key, events in self._selector.select(self._patience()):
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake_read, 4096)
                    continue
                if events & selectors.EVENT_WRITE:
                    self._safely(key.data.flush)
                if events & selectors.EVENT_READ:
                    self._safely(key.data.drain, key.data.hang_up)
            self._do_what_is_due()
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _patience(self) -> float | None:
        if self._calls:
            return 0
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _do_what_is_due(self) -> None:
        for _ in range(len(self._calls)):
            self._safely(self._calls.popleft())
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            self._safely(heapq.heappop(self._timers)[2])

    def _safely(self, call: Callable[[], object], otherwise: Callable[[], None] | None = None) -> None:
        """One console's trouble must not stop the others."""
        try:
            if call() is False and otherwise is not None:
                otherwise()
        except Exception:
            log.exception("A console's step failed.")


def _prepare(slave: int) -> None:
    tty.setraw(slave, termios.TCSANOW)
    attributes = termios.tcgetattr(slave)
    attributes[3] |= termios.ICANON
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))


def _read_complaints(descriptor: int) -> str:
    try:
        return os.read(descriptor, 4096).decode(errors="replace").strip()
    except OSError:
        return ""
    finally:
        os.close(descriptor)
