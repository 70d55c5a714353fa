"""Running other programs: argument lists, a timeout on every call, and an error that says what failed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.errors import LabError

_TAIL = 15
# An ordinary user's PATH lacks the sbin folders, where mke2fs, makefs and modprobe live.
PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[bytes]:
    """Run `argv` and return what it wrote. `timeout` is in seconds.

    Raises LabError when the program is missing, takes too long or, with `check`, ends with anything but 0.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C", "PATH": PATH, **(env or {})},
            input=b"" if stdin is None else stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise LabError(
            f"{words[0]} is not installed: `python -m lab install-packages` says what is missing."
        ) from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{words[0]} did not finish within {timeout:.0f} s: {' '.join(words)[:200]}") from None
    if check and done.returncode != 0:
        raise LabError(
            f"{' '.join(words)[:300]} ended with {done.returncode}:\n{tail(done.stderr or done.stdout)}"
        )
    return done


def output(argv: Sequence[str | Path], *, timeout: float = 60, cwd: Path | None = None) -> str:
    """Standard output of a command that has to succeed."""
    return run(argv, timeout=timeout, cwd=cwd).stdout.decode(errors="replace")


def tail(text: bytes, lines: int = _TAIL) -> str:
    return "\n".join(text.decode(errors="replace").splitlines()[-lines:])
