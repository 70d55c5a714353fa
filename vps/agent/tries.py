"""The try of a domU in the journal: what is tried, how far it is, what its console said, and how it ended.

Written before each step, so that an agent that was killed goes on, or back, with Redis and web away. The time that
is left is counted on the machine's own monotonic clock, which goes on while no agent runs; a dom0 that was booted
ends every try.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any
from uuid import UUID

from vps.agent.console_record import plain_text
from vps.agent.context import Context, report_order
from vps.agent.scans import PIECE
from vps.agent.toolstack import ToolstackError
from vps.xen.endings import EndReason
from vps.xen.messages import Generation
from vps.xen.trying import MAX_LINE, Scan, SignKind, Try, TryOutcome, matches

_TAIL = 4096  # bytes of the console's end that are told


class State(StrEnum):
    """How far a try is."""

    ARMED = "armed"  # it is the next boot, whenever that comes (vps.agent.arming)
    BUILDING = "building"  # its domain is about to be built
    WAITING = "waiting"  # its domain runs; no sign of health yet
    FAILING = "failing"  # it came to nothing, and its domain is being ended


@dataclass(frozen=True)
class Tried:
    """A try that has not ended. `began`, `deadline`: time.monotonic(); `until`: Redis TIME in ms."""

    domu: UUID
    operation: UUID
    what: Try
    generation: Generation
    state: State = State.BUILDING
    run: UUID | None = None
    began: float = 0.0
    deadline: float = 0.0
    until: int = 0
    word: bool = False  # the web said that it is well
    why: str = ""
    text: str = ""

    @property
    def on(self) -> bool:
        """Whether its domain was built."""
        return self.state not in (State.ARMED, State.BUILDING)

    def as_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "domu": str(self.domu),
            "operation": str(self.operation),
            "what": self.what.as_dict(),
            "generation": self.generation.as_list(),
            "run": str(self.run) if self.run else None,
        }

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Tried:
        return cls(
            **{
                **value,
                "domu": UUID(value["domu"]),
                "operation": UUID(value["operation"]),
                "what": Try.of(value["what"]),
                "generation": Generation.of(value["generation"]),
                "state": State(value["state"]),
                "run": UUID(value["run"]) if value["run"] else None,
            }
        )


@dataclass(frozen=True)
class Verdict:
    """What a look at a try says. `well`: a sign of health, named by `text`; else why it came to nothing."""

    well: bool
    why: str
    text: str


def of(context: Context, domu: UUID) -> Tried | None:
    value = context.journal.tried(domu)
    return Tried.of(value) if value else None


def under_way(context: Context, domu: UUID) -> bool:
    """Whether something is tried, and not merely armed."""
    tried = of(context, domu)
    return tried is not None and tried.state is not State.ARMED


def write(context: Context, tried: Tried, **changes: Any) -> Tried:
    """Write down how far it is; gives it as it is now."""
    now = replace(tried, **changes)
    context.journal.set_tried(now.domu, now.as_dict())
    return now


def said_well(context: Context, body: Mapping[str, Any]) -> None:
    """A note of the web's: the owner, or a call of the guest, says that it is well. Late ones mean nothing."""
    try:
        domu, operation = UUID(str(body["domu"])), UUID(str(body["operation"]))
    except (KeyError, ValueError):
        return
    with context.journal.transaction():
        tried = of(context, domu)
        if tried is not None and tried.operation == operation and tried.state is State.WAITING:
            write(context, tried, word=True)


def built(context: Context, tried: Tried, run: UUID) -> None:
    """Its domain exists: from now on it has its time."""
    now = time.monotonic()
    tried = write(
        context,
        tried,
        state=State.WAITING,
        run=run,
        began=now,
        deadline=now + tried.what.seconds,
        until=context.clock.now_ms() + tried.what.seconds * 1000,
    )
    if tried.what.once:
        end(context, tried, TryOutcome.GIVEN_UP, "once", "It was to be booted once.")


def end(
    context: Context,
    tried: Tried,
    outcome: TryOutcome,
    why: str,
    text: str,
    *,
    tail: str = "",
    default: bool = False,
) -> None:
    """Write down and report how it ended; told as part of the result of its operation."""
    seconds = round(time.monotonic() - tried.began, 1) if tried.on else 0.0
    told = {
        "outcome": outcome.value,
        "why": why,
        "text": text,
        "seconds": max(0.0, seconds),
        "default": default,
        "tail": tail,
        "at": context.clock.now_ms(),
        "run": str(tried.run) if tried.run else None,
    }
    journal = context.journal
    with journal.transaction():
        order = journal.order(tried.operation)
        if order is not None:
            journal.set_result(tried.operation, {**(order.result or {}), "tried": told})
        journal.set_tried(tried.domu, None)
        report_order(context, tried.operation)
    if tried.run:
        context.scans.forget(tried.run)


def give_up(context: Context, domu: UUID, text: str, *, but: UUID | None = None) -> None:
    """Something else is wanted now than the try that may be under way (but for the one of the operation `but`).

    What is armed for the next boot stays so.
    """
    tried = of(context, domu)
    if tried is not None and tried.state is not State.ARMED and tried.operation != but:
        end(context, tried, TryOutcome.GIVEN_UP, "order", text)


def disarm(context: Context, domu: UUID, text: str) -> None:
    """What is armed for the next boot is not any more."""
    tried = of(context, domu)
    if tried is not None and tried.state is State.ARMED:
        end(context, tried, TryOutcome.GIVEN_UP, "disarmed", text)


def end_of_run(context: Context, tried: Tried, reason: EndReason, *, back: bool, host: bool) -> None:
    """Its domain is gone without a sign of health. `back`: the last good boot follows."""
    why, text = tried.why, tried.text
    if host:
        why, text = "host", "The dom0 was booted meanwhile."
    elif not back:
        why, text = "order", text or "It was ended by an order before it had shown that it is well."
    elif not why:
        seen = _scan(context, tried).ended and _scan(context, tried).line
        why, text = reason.value, _GONE.get(reason, "Its domain was gone before a sign of health.")
        if seen:
            text = f"{text} It said: {seen}"
    tail = context.consoles.tail(tried.domu, _TAIL)
    end(context, tried, TryOutcome.BACK if back else TryOutcome.GIVEN_UP, why, text, tail=tail)


_GONE = {
    EndReason.CRASH: "It crashed before a sign of health.",
    EndReason.REBOOT: "It rebooted before a sign of health.",
    EndReason.POWEROFF: "It powered itself off before a sign of health.",
}


def judge(context: Context, tried: Tried, domid: int | None) -> Verdict | None:
    """Look for signs of a domain that runs; None while there are none and there is time."""
    if tried.word:
        return Verdict(True, "word", "the owner, or a call of the guest")
    if domid is not None:
        for sign in tried.what.signs:
            if sign.kind is SignKind.XENSTORE and _has_key(context, domid, sign.text):
                return Verdict(True, "xenstore", sign.text)
    scan = _scan(context, tried)
    if scan.ended:
        return Verdict(False, "panic", f"{scan.ended}: {scan.line}")
    if scan.seen:
        return Verdict(True, "console", scan.seen)
    if time.monotonic() >= tried.deadline:
        return Verdict(False, "deadline", f"It showed no sign of health within {tried.what.seconds} s.")
    return None


def seen_before(context: Context, domu: UUID, pattern: str) -> bool:
    """Whether the console of the last run has a line with the pattern."""
    place, lines = 0, ""
    while True:
        start, data = context.consoles.read(domu, None, place, PIECE)
        if not data:
            return any(matches(pattern, line[:MAX_LINE]) for line in lines.split("\n"))
        whole, _, rest = data.rpartition(b"\n")
        text = lines + plain_text(whole)
        if any(matches(pattern, line[:MAX_LINE]) for line in text.split("\n")):
            return True
        lines, place = plain_text(rest)[-MAX_LINE:], start + len(data)


def _scan(context: Context, tried: Tried) -> Scan:
    """What the console of its domain has said up to now."""
    assert tried.run is not None
    patterns = tuple(sign.text for sign in tried.what.signs if sign.kind is SignKind.CONSOLE)
    return context.scans.look(tried.domu, tried.run, patterns, context.consoles.read)


def _has_key(context: Context, domid: int, text: str) -> bool:
    key, stop, value = text.partition("=")
    try:
        found = context.toolstack.xenstore(domid, key)
    except ToolstackError:
        return False
    return found is not None and (not stop or found.strip() == value)
