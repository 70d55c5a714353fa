"""Processes that a measurement starts beside itself: Redis of its own, children that say when they are ready."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Redis(NamedTuple):
    """A Redis of one's own, on loopback."""

    pid: int
    port: int
    url: str  # the web's, with its password


@contextlib.contextmanager
def child(*argv: str, wait: bool = False, log: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A child, ended with all its own; with `wait` it has said "ready" before the block begins."""
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(log.open("ab")) if log else None
        process = subprocess.Popen(
            argv, cwd=ROOT, stdout=subprocess.PIPE if wait else errors, stderr=errors, start_new_session=True
        )
        try:
            if wait and process.stdout is not None and process.stdout.readline() != b"ready\n":
                raise SystemExit(f"{argv} did not come up: {log.read_text() if log else ''}")
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[Redis]:
    """Redis as the quick start has it, with its files in `folder`."""
    from vps.quickstart import ports
    from vps.quickstart import redis_server as embedded

    port, password = ports.free_port(), secrets.token_urlsafe(16)
    program = embedded.choose(
        embedded.candidates(),
        lambda path: subprocess.run([path, "--version"], capture_output=True, text=True).stdout,
    )
    (folder / "redis").mkdir()
    config = folder / "redis.conf"
    config.write_text(embedded.configuration(port=port, folder=folder / "redis"))
    (folder / "redis" / embedded.ACL_FILE).write_text(embedded.users(password))
    with child(str(program.path), str(config), log=folder / "redis.log") as process:
        while not embedded.answers(port, password):
            time.sleep(0.02)
        yield Redis(process.pid, port, embedded.url(port, password))
