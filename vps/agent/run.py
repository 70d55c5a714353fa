"""The agent's only door to other programs: argv lists, a timeout on every call, `LC_ALL=C`, no shell."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess  # noqa: TID251
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import IO

OUTPUT = "berth-output"
_LOOK_EVERY = 0.1  # seconds between two looks at the abort event


class CommandTimeout(Exception):
    """The program did not end in time. It and its process group were killed."""


class CommandMissing(Exception):
    """There is no such program on this machine."""


class CommandAborted(Exception):
    """The abort event was set. The program and its process group were killed."""


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
    abort: Event | None = None,
    started: Callable[[int], None] | None = None,
    outlives: bool = False,
) -> Completed:
    """Run a program to its end; `timeout` in seconds, `env` is added to the agent's own.

    `started` gets the process id at once. Setting `abort` kills the program. With `outlives` the end of the agent
    is not its end: its output goes into a file without a name, for a broken pipe would kill it in the middle.
    Raises CommandTimeout, CommandMissing, CommandAborted.
    """
    began = time.monotonic()
    with contextlib.ExitStack() as files:
        output = [files.enter_context(_nameless()) for _ in range(2)] if outlives else []
        try:
            process = subprocess.Popen(  # noqa: S603 - an argv list, never a shell
                list(argv),
                stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
                stdout=output[0] if output else subprocess.PIPE,
                stderr=output[1] if output else subprocess.PIPE,
                env={**os.environ, **(env or {}), "LC_ALL": "C"},
                start_new_session=True,
            )
        except OSError as error:
            raise CommandMissing(f"{argv[0]} cannot be run: {error.strerror}") from error
        try:
            if started is not None:
                started(process.pid)
            stdout, stderr = _communicate(process, argv, input, began + timeout, timeout, abort)
        finally:
            if process.poll() is None:
                # The whole group: a hung xl has hotplug scripts below it.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=5)
        if output:
            stdout, stderr = (_content(file) for file in output)
    return Completed(tuple(argv), process.returncode, stdout, stderr, time.monotonic() - began)


def _nameless() -> IO[bytes]:
    """A file for output, by whose name in /proc a program of this agent is known."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create(OUTPUT), "w+b")
    return tempfile.TemporaryFile()


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _communicate(
    process: subprocess.Popen[bytes],
    argv: Sequence[str],
    input: bytes | None,
    deadline: float,
    timeout: float,
    abort: Event | None,
) -> tuple[bytes, bytes]:
    while True:
        left = deadline - time.monotonic()
        try:
            # After a TimeoutExpired communicate goes on where it was; nothing read is lost.
            return process.communicate(input, max(0.0, left if abort is None else min(left, _LOOK_EVERY)))
        except subprocess.TimeoutExpired as error:
            if abort is not None and abort.is_set():
                raise CommandAborted(f"{' '.join(argv)} was aborted") from error
            if time.monotonic() >= deadline:
                raise CommandTimeout(f"{' '.join(argv)} did not end within {timeout:g} s") from error
