"""The quick start's folder: who holds it, its secrets, what was already done in it, who runs."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_UNDERTAKER = 12.0  # seconds that the undertaker of a dead run is waited for


class FolderUnusable(Exception):
    """The folder is held by another run, or cannot be written. The text names it and the cure."""


@contextlib.contextmanager
def lock(data: Path, tidy_up: Callable[[int], None]) -> Iterator[None]:
    """Make the folder and hold it for this process alone. Raises FolderUnusable.

    The lock is the kernel's and ends with its holder, so a stale file locks nothing: what it still says is
    the process that was cut off, which `tidy_up` gets.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (data / "lock").open("a+")
    except OSError as error:
        raise FolderUnusable(
            f"The data folder {data} cannot be used: {error.strerror}. Take another: make run DATA=FOLDER"
        ) from error
    with file:
        file.seek(0)
        text = file.read().strip()
        before = int(text) if text.isdigit() else 0
        _take(file.fileno(), data, before)
        if before:
            tidy_up(before)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:  # not run when this process is killed: then the next one tidies up
            file.seek(0)
            file.truncate()


def _take(descriptor: int, data: Path, holder: int) -> None:
    # A dead run's undertaker holds the lock until all that the run had started is gone.
    give_up = time.monotonic() + (0 if _alive(holder) else _UNDERTAKER)
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up:
                break
            time.sleep(0.05)
    raise FolderUnusable(
        f"Berth already runs with the data in {data}, as process {holder or '(unknown)'}. End that one"
        f" (Ctrl-C, or: kill {holder or 'PID'}), or run a second one: make run DATA=FOLDER PORT=8010"
    )


def _alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def make_secrets(data: Path, names: Iterable[str]) -> None:
    """Make the secrets that are not there yet, one file each below secrets/, readable by this user only."""
    folder = data / "secrets"
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in names:
        if not (folder / name).exists():
            write(folder / name, secrets.token_urlsafe(40))


def read_secret(data: Path, name: str) -> str:
    """The text of a secret."""
    return (data / "secrets" / name).read_text().strip()


def write(path: Path, text: str) -> None:
    """Write a file of mode 0600 whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file of mode 0600 whole or not at all."""
    write(path, json.dumps(value, indent=2, default=str) + "\n")


class Stamps:
    """What was done already, and with what: so that a warm start does nothing twice."""

    def __init__(self, data: Path) -> None:
        self.folder = data / "stamps"
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def fresh(self, name: str, state: str) -> bool:
        """Whether `name` was done with this very state."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / name).read_text() == state
        return False

    def set(self, name: str, state: str) -> None:
        write(self.folder / name, state)

    def forget(self, *names: str) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)


def state_of(root: Path, patterns: Iterable[str]) -> str:
    """A digest of names, sizes and times of the files that match; for `Stamps`."""
    digest = hashlib.sha256()
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            if path.is_file():
                facts = path.stat()
                digest.update(f"{path.relative_to(root)} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def point_agent_at(config: Path, *, web: str, redis: str) -> None:
    """Bring `web` and `redis` of an agent's TOML up to date: ports may differ from those of the last run."""
    old = config.read_text()
    new = old
    for key, value in (("web", web), ("redis", redis)):
        new = re.sub(rf'(?m)^{key}\s*=\s*"[^"\n]*"', f'{key} = "{value}"', new, count=1)
    if new != old:
        write(config, new)
