"""A stand-in for `xl console`, and guests at its other end.

Run as a program, `guests.py --state DIR console DOMID` connects its terminal to the socket DIR/DOMID, as xenconsole
connects it to the guest's tty: raw mode only once the other side is open, gone when that goes, gone upon ^].
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import termios
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Seen = TypeVar("Seen")
XL = [sys.executable, "-S", "-E", str(Path(__file__).resolve())]


def until(look: Callable[[], Seen], seconds: float = 10.0) -> Seen:
    """Look again and again until there is something to see, and give it."""
    give_up = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < give_up, f"not within {seconds:g} s: {look}"
        time.sleep(0.005)
    return seen


class Guest:
    """The far end of a console, played by the test."""

    def __init__(self, state: Path, domid: int) -> None:
        self.path = state / str(domid)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(8)
        self.connection: socket.socket | None = None

    def accept(self, seconds: float = 10.0) -> None:
        """Wait until an `xl console` is there."""
        if self.connection is not None:
            self.hang_up()
        self.listener.settimeout(seconds)
        self.connection, _ = self.listener.accept()

    def say(self, data: bytes) -> None:
        assert self.connection is not None
        self.connection.sendall(data)

    def hear(self, size: int, seconds: float = 10.0) -> bytes:
        """Exactly `size` bytes that were typed."""
        assert self.connection is not None
        self.connection.settimeout(seconds)
        data = b""
        while len(data) < size:
            part = self.connection.recv(size - len(data))
            assert part, f"the console went away after {data!r}"
            data += part
        return data

    def hang_up(self) -> None:
        """End the one `xl console`; the guest lives on."""
        assert self.connection is not None
        self.connection.close()
        self.connection = None

    def die(self) -> None:
        self.path.unlink(missing_ok=True)
        self.listener.close()
        if self.connection is not None:
            self.hang_up()


def main(argv: list[str]) -> int:
    _, state, _, domid = argv
    guest = socket.socket(socket.AF_UNIX)
    try:
        guest.connect(f"{state}/{domid}")
    except OSError as error:
        print(f"xenconsole: Could not read tty from store: {error}", file=sys.stderr)
        return 2
    with contextlib.suppress(termios.error):
        tty.setraw(0)
    while True:
        ready, _, _ = select.select([0, guest], [], [])
        if 0 in ready:
            typed = os.read(0, 60)
            if typed in (b"", b"\x1d"):
                return 0
            guest.sendall(typed)
        if guest in ready:
            said = guest.recv(512)
            if not said:
                return 0
            os.write(1, said)


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        sys.exit(main(sys.argv[1:]))
