"""Processes of a quick start that nobody looks after any more, found by a mark in their environment.

A simulated domain outlives the `xl` that made it and the agent, as a real one would, in a session of its own.
The mark is what all that a quick start ever started has in common. Linux only: elsewhere nothing is found.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

MARK = "BERTH_RUN"  # environment variable; its value is the data folder


def find(value: str, proc: Path = Path("/proc")) -> list[int]:
    """Process ids whose environment, at their start, had MARK=`value`; not this process."""
    wanted = f"{MARK}={value}".encode()
    found = []
    with contextlib.suppress(OSError):
        for process in proc.iterdir():
            if not process.name.isdigit() or int(process.name) == os.getpid():
                continue
            # Gone meanwhile, or another user's. A zombie's environment is empty.
            with contextlib.suppress(OSError):
                if wanted in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
    return found


def end(value: str, grace: float) -> int:
    """End them all: SIGTERM, SIGKILL for those still there after `grace` seconds. Returns their number."""
    seen: set[int] = set()
    give_up = time.monotonic() + grace
    while pids := find(value):
        late = time.monotonic() >= give_up
        for pid in pids:
            if late or pid not in seen:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        seen.update(pids)
        if time.monotonic() >= give_up + 5:
            break  # stuck in the kernel; nothing more can be done from here
        time.sleep(0.02)
    return len(seen)
