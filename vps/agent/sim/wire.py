"""What passes between a guest and the process it runs in.

A guest is a generator: it yields what it waits for and is sent what happened. It ends by raising Ended.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Wait:
    """Wait for keys (unless `keys` is false), for xl shutdown, or for `seconds` to pass (None: no limit)."""

    seconds: float | None = None
    keys: bool = True


@dataclass(frozen=True)
class Drain:
    """Wait until the console has room again."""


@dataclass(frozen=True)
class Work:
    """Call something in a child process; its result (JSON) comes back in the event."""

    call: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Event:
    """What happened: keys typed, `poweroff` or `reboot` asked for by xl, a result, or nothing but time."""

    keys: bytes = b""
    power: str = ""
    result: Any = field(default=None)


class Ended(Exception):
    """The guest is over. `reason`: 0 power-off, 1 reboot, 3 crash (xen: xen/include/public/sched.h)."""

    def __init__(self, reason: int) -> None:
        super().__init__(reason)
        self.reason = reason


Guest = Generator[Wait | Drain | Work, Event, None]
Line = Generator[Wait | Drain | Work, Event, Any]
