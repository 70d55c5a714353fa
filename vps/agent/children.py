"""Programs of an agent that was killed: whether the `xl create` that it started still works.

`run.py` gives every program a session of its own, so that it outlives the agent. An agent that starts must not take
"there is no domain" for an answer while such a program is about to make one.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from vps.agent.files import remove
from vps.agent.run import OUTPUT, CommandMissing, CommandTimeout, run

_PROC = Path("/proc")
_UNWRITTEN = (
    15.0  # seconds; between the start of a program and the writing of its number is far less than one
)


class Child:
    """The program at work on a domU. `word`, the path of its configuration file, is among its arguments.

    Where there is a Linux /proc the program itself is looked for. Elsewhere its number is remembered in a file.
    """

    def __init__(self, folder: Path, domu: UUID) -> None:
        self._path = folder / f"{domu}.pid"

    def begin(self) -> None:
        """A program is about to be started."""
        self._path.write_text("")

    def started(self, pid: int) -> None:
        self._path.write_text(str(pid))

    def ended(self) -> None:
        remove(self._path)

    def at_work(self, word: str) -> bool:
        """Whether a program of an earlier agent still runs."""
        if sys.platform.startswith("linux") and (_PROC / "self" / "cmdline").exists():
            return any(_is_an_agents(process) for process in _with_word(word))
        try:
            text = self._path.read_text()
            age = time.time() - self._path.stat().st_mtime
        except OSError:
            return False
        if not text:
            return age < _UNWRITTEN
        return text.isdigit() and _still_has(int(text), word)


def _with_word(word: str) -> Iterator[Path]:
    for process in _PROC.iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                if word.encode() in (process / "cmdline").read_bytes().split(b"\0"):
                    yield process
            except OSError:
                continue


def _is_an_agents(process: Path) -> bool:
    """Whether its output is what `run` gave it; that of the xl which stays to watch a domain goes into a log."""
    try:
        return OUTPUT in str((process / "fd" / "1").readlink())
    except OSError:
        return False


def _still_has(pid: int, word: str) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False  # gone, or the number was given to somebody else's program
    try:
        done = run(["ps", "-ww", "-o", "args=", "-p", str(pid)], timeout=10)
    except (CommandMissing, CommandTimeout):
        return True
    return word.encode() in done.stdout
