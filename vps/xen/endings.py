"""How a domain ended, as Xen numbers it (xen: xen/include/public/sched.h, SHUTDOWN_*)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class EndReason(StrEnum):
    """Why a domain is gone, as reports say it."""

    POWEROFF = "poweroff"
    REBOOT = "reboot"
    CRASH = "crash"
    DESTROY = "destroy"
    UNKNOWN = "unknown"


# Xen's word for each code, and what it is to us. Others are unknown (252 was seen from GNU Mach).
SHUTDOWN_CODES: dict[int, tuple[str, EndReason]] = {
    0: ("poweroff", EndReason.POWEROFF),
    1: ("reboot", EndReason.REBOOT),
    2: ("suspend", EndReason.UNKNOWN),
    3: ("crash", EndReason.CRASH),
    4: ("watchdog", EndReason.CRASH),
    5: ("soft_reset", EndReason.REBOOT),
}


def reason_of(code: int | None) -> EndReason:
    """What a shutdown code means; None is an ending of which nothing is known."""
    if code is None:
        return EndReason.UNKNOWN
    return SHUTDOWN_CODES.get(code, ("", EndReason.UNKNOWN))[1]


def code_word(code: int | None) -> str:
    """Xen's own word for a shutdown code, "unknown" for one that it has no word for."""
    return "unknown" if code is None else SHUTDOWN_CODES.get(code, ("unknown", EndReason.UNKNOWN))[0]


@dataclass(frozen=True)
class Ending:
    """The end of a domain. `code` is Xen's shutdown code, None for one that was destroyed."""

    reason: EndReason
    code: int | None = None
