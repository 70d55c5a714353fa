"""Programs of an agent that was killed: whether the `xl create` that it started still works.

`run.py` gives every program a session of its own, so that it outlives the agent. Its process id is written
into a file beside the domU's folder as soon as it runs.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from uuid import UUID

from vps.agent.files import remove
from vps.agent.run import CommandMissing, CommandTimeout, run

_UNWRITTEN = 3.0  # seconds; between a start and the writing of the file is far less than one


class Child:
    """The file that remembers a program which is at work on a domU."""

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
        """Whether the program of an earlier agent still runs; `word` is among its arguments."""
        try:
            text = self._path.read_text()
            age = time.time() - self._path.stat().st_mtime
        except OSError:
            return False
        if not text:
            return age < _UNWRITTEN
        return text.isdigit() and _has_word(int(text), word)


def _has_word(pid: int, word: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False  # of another user: the number was given out again
    proc = Path(f"/proc/{pid}")
    if Path("/proc/self/cmdline").exists():
        try:
            zombie = proc.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "Z"
            return not zombie and word.encode() in proc.joinpath("cmdline").read_bytes()
        except (OSError, IndexError):
            return False
    try:
        done = run(["ps", "-o", "args=", "-p", str(pid)], timeout=10)
    except (CommandMissing, CommandTimeout):
        return True
    return word.encode() in done.stdout
