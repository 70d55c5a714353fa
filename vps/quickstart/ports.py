"""Ports on loopback: taking one, and who has it when it is taken."""

from __future__ import annotations

import contextlib
import errno
import socket
from dataclasses import dataclass
from pathlib import Path

_LISTENING = "0A"  # the state column of /proc/net/tcp


class PortBusy(Exception):
    """Another program listens on the port, or it may not be taken. The text names port, holder and cure."""


@dataclass(frozen=True)
class Holder:
    """The process that listens on a port, as far as /proc tells this user."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})"


def listen(port: int, cure: str = "") -> socket.socket:
    """Listen on 127.0.0.1; port 0 takes a free one. `cure` ends the sentence when that fails.

    The socket is made before the program that serves it, so that a busy port is seen at once, and connections
    wait in it while that program starts or is started again. Raises PortBusy.
    """
    # Browsers try ::1 first for `localhost`: what listens there would be taken for us.
    if port and _somebody_at_ip6(port):
        raise PortBusy(_busy(port, cure))
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(256)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortBusy(_busy(port, cure)) from error
        if error.errno == errno.EACCES:
            raise PortBusy(
                f"Port {port} is reserved for root; take one from 1024 on. {cure}".strip()
            ) from error
        raise
    return listener


def free_port() -> int:
    """A port of 127.0.0.1 that nobody had a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def is_free(port: int) -> bool:
    """Whether 127.0.0.1:`port` could be taken just now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def holder(port: int, proc: Path = Path("/proc")) -> Holder | None:
    """Who listens on `port`; None when /proc does not tell (another user's process, or no Linux)."""
    inodes = _listening_inodes((_text(proc / "net/tcp") + _text(proc / "net/tcp6")).splitlines(), port)
    links = {f"socket:[{inode}]" for inode in inodes}
    if not links:
        return None
    for process in proc.iterdir():
        if process.name.isdigit() and _holds(process, links):
            words = _text(process / "cmdline").split("\0")
            return Holder(int(process.name), " ".join(words).strip()[:80] or _text(process / "comm").strip())
    return None


def _listening_inodes(lines: list[str], port: int) -> set[str]:
    """Inodes of listening sockets; see proc(5): columns 2 address:port in hexadecimal, 4 state, 10 inode."""
    rows = (line.split() for line in lines)
    return {
        row[9]
        for row in rows
        if len(row) > 9 and row[3] == _LISTENING and row[1].rpartition(":")[2] == f"{port:04X}"
    }


def _holds(process: Path, links: set[str]) -> bool:
    with contextlib.suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()) in links:
                    return True
    return False


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _somebody_at_ip6(port: int) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex(("::1", port)) == 0
    return False


def _busy(port: int, cure: str) -> str:
    who = holder(port)
    by = f" by {who}" if who else " by another program"
    return f"Port {port} is taken{by}. {cure}".strip()
