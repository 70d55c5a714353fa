"""`xl console`: joins the terminal to a domain's console, as xenconsole does (xen: tools/console/client/main.c)."""

# pathlib would cost every domain, and every `xl list`, memory and milliseconds.
# ruff: noqa: PTH110
from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import sys
import termios
import time
import tty
from collections.abc import Callable
from typing import Any

from vps.agent.sim import domains
from vps.agent.sim.host import Machine
from vps.agent.sim.options import options

ESCAPE = 0x1D  # ^]
PATIENCE = 5.0  # s for the console of a new domain to appear


def xl_console(machine: Machine, arguments: list[str]) -> int:
    found, rest = options("console", arguments, 1)
    if found.get("t", "pv") not in ("pv", "serial", "vuart"):
        print("console type supported are: pv, serial, vuart", file=sys.stderr)
        return 1
    domid = domains.domid_of(machine, rest[0])
    if domid is None:
        print(f"{rest[0]} is an invalid domain identifier (rc=-6)", file=sys.stderr)
        return 1
    return attach(machine, domid)


def attach(machine: Machine, domid: int, attached: Callable[[], None] | None = None) -> int:
    """Be the console of a domain until ^], end of input, or its end. `attached` is called once it is joined."""
    try:
        os.chdir(machine.domain_path(domid))
    except OSError:
        print(f"{domains.NO_TYPE}{domid}\nUnable to attach console", file=sys.stderr)
        return 1
    lock = os.open("console.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        why = os.strerror(errno.EAGAIN)
        return _fail(f"Could not lock /var/lock/xenconsole.{domid}: {why}", errno.EAGAIN)
    console = _join()
    if console is None:
        return _fail(f"Could not read tty from store: {os.strerror(errno.ENOENT)}", errno.ENOENT)
    before = _raw(0)
    try:
        if attached is not None:
            attached()
        _loop(console)
    finally:
        if before is not None:
            termios.tcsetattr(0, termios.TCSAFLUSH, before)
        console.close()
        os.close(lock)
    return 0


def _fail(text: str, status: int) -> int:
    print(f"xenconsole: {text}", file=sys.stderr)
    return status


def _join() -> socket.socket | None:
    deadline = time.monotonic() + PATIENCE
    while True:
        console = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            console.connect("console.sock")
            return console
        except OSError:
            console.close()
            if time.monotonic() > deadline or not os.path.exists("domain.json"):
                return None
            time.sleep(0.05)


def _raw(terminal: int) -> list[Any] | None:
    try:
        before = termios.tcgetattr(terminal)
        tty.setraw(terminal, termios.TCSAFLUSH)
    except termios.error:
        return None
    return before


def _loop(console: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            ready, _, _ = select.select([0, console.fileno()], [], [])
            if console.fileno() in ready:
                data = console.recv(65536)
                if not data:
                    return
                _write(1, data)
            if 0 in ready:
                typed = os.read(0, 60)
                if not typed or typed == bytes([ESCAPE]):
                    return
                console.sendall(typed)


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
