"""The agent's only door to other programs: argv lists, a timeout on every call, `LC_ALL=C`, no shell."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess  # noqa: TID251
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class CommandTimeout(Exception):
    """The program did not end in time. It and its process group were killed."""


class CommandMissing(Exception):
    """There is no such program on this machine."""


@dataclass(frozen=True)
class Completed:
    """What a program did. `seconds` is how long it ran."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes
    seconds: float


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    input: bytes | None = None,
    env: Mapping[str, str] | None = None,
) -> Completed:
    """Run a program to its end; `timeout` in seconds, `env` is added to the agent's own.

    Raises CommandTimeout, CommandMissing.
    """
    started = time.monotonic()
    try:
        process = subprocess.Popen(  # noqa: S603 - an argv list, never a shell
            list(argv),
            stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {}), "LC_ALL": "C"},
            start_new_session=True,
        )
    except (FileNotFoundError, PermissionError) as error:
        raise CommandMissing(f"{argv[0]} cannot be run: {error.strerror}") from error
    try:
        stdout, stderr = process.communicate(input, timeout)
    except subprocess.TimeoutExpired as error:
        raise CommandTimeout(f"{' '.join(argv)} did not end within {timeout:g} s") from error
    finally:
        if process.poll() is None:
            # The whole group: a hung xl has hotplug scripts below it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=5)
    return Completed(tuple(argv), process.returncode, stdout, stderr, time.monotonic() - started)
