"""Trying a boot once: what is tried, what counts as a sign of health, what as its opposite. Pure; DESIGN.md 4.

A pattern is a plain text that must stand in one line of the console; `*` in it stands for anything. Its pieces are
looked for one after the other, so that the time is linear in the line, whatever a guest writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vps.xen.description import Boot, DescriptionRefused, DomainType, GuestOS

MIN_SECONDS, MAX_SECONDS = 10, 3600
MAX_SIGNS = 8
MAX_PATTERN = 200  # characters
MAX_LINE = 4096  # characters of a line that are looked at
_LEAST = 4  # characters of a pattern besides its stars; less would be found in any boot

_KEY = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*(=[A-Za-z0-9_.:-]*)?", re.ASCII)
MAX_KEY = 120  # characters


class SignKind(StrEnum):
    """Where a sign of health comes from. The web's word (a call, the owner's click) always counts as well."""

    CONSOLE = "console"  # text: a pattern
    XENSTORE = "xenstore"  # text: KEY or KEY=VALUE below the domain's data path


class TryOutcome(StrEnum):
    """How a try ended."""

    HEALTHY = "healthy"  # it goes on
    BACK = "back"  # the last good boot was built again
    GIVEN_UP = "given_up"  # an order or the dom0's own end came between


class TryRefused(DescriptionRefused):
    """A try that cannot be read, or a sign that may not be looked for; says why and what to do."""


@dataclass(frozen=True)
class Sign:
    """One sign of health."""

    kind: SignKind
    text: str

    def as_dict(self) -> dict[str, str]:
        return {"kind": self.kind.value, "text": self.text}

    @classmethod
    def of(cls, value: Any) -> Sign:
        """Raises TryRefused."""
        if not isinstance(value, dict) or not isinstance(value.get("text"), str):
            raise TryRefused("A sign of health has a kind and a text.")
        if value.get("kind") not in set(SignKind):
            raise TryRefused(f"{str(value.get('kind'))[:40]!r} is no kind of sign that this agent knows.")
        kind = SignKind(value["kind"])
        check = check_pattern if kind is SignKind.CONSOLE else check_key
        return cls(kind, check(value["text"]))


@dataclass(frozen=True)
class Try:
    """What is tried: one boot of the default entry of `boot`; `seconds` for a sign; `keep`: it becomes the default.

    `once`: it is booted once and nobody waits for a sign; the next boot is the default's again.
    """

    type: DomainType
    boot: Boot
    seconds: int
    signs: tuple[Sign, ...] = ()
    keep: bool = False
    once: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "type": self.type.value,
            "boot": self.boot.as_dict(),
            "seconds": self.seconds,
            "signs": [sign.as_dict() for sign in self.signs],
            "keep": self.keep,
            "once": self.once,
        }

    @classmethod
    def of(cls, value: Any) -> Try:
        """Read the `try` of an order's body. Raises DescriptionRefused."""
        if not isinstance(value, dict):
            raise TryRefused("The order does not say what is to be tried.")
        if value.get("type") not in set(DomainType):
            raise TryRefused(f"The try's type is {str(value.get('type'))[:40]!r}; this agent knows pv, pvh.")
        seconds, signs = value.get("seconds"), value.get("signs")
        if isinstance(seconds, bool) or not isinstance(seconds, int):
            raise TryRefused("The time of a try is a whole number of seconds.")
        if not MIN_SECONDS <= seconds <= MAX_SECONDS:
            raise TryRefused(
                f"A try of {seconds} s; give it from {MIN_SECONDS} to {MAX_SECONDS} s to show that it is well."
            )
        if not isinstance(signs, list) or len(signs) > MAX_SIGNS:
            raise TryRefused(f"The signs of a try are a list of at most {MAX_SIGNS}.")
        boot = Boot.of(value.get("boot"))
        if not boot.bootable:
            raise TryRefused("There is nothing to boot in what is to be tried; choose a kernel.")
        return cls(
            DomainType(value["type"]),
            boot,
            seconds,
            tuple(Sign.of(sign) for sign in signs),
            value.get("keep") is True,
            value.get("once") is True,
        )


# What a guest of this system says by itself when it is up; no boot before is needed to know it. Linux's kernel
# says the second line once it has its root and runs its first program (init/main.c, run_init_process).
OWN_SIGNS: Mapping[GuestOS, tuple[str, ...]] = {
    GuestOS.NETBSD: ("login:",),
    GuestOS.LINUX: ("login:", "Run * as init process"),
    GuestOS.SOLARIS: ("console login:",),
    GuestOS.OTHER: ("login:",),
}


def check_pattern(text: str) -> str:
    """Give a pattern back when it may be looked for on a console. Raises TryRefused."""
    text = text.strip()
    if len(text) > MAX_PATTERN:
        raise TryRefused(f"The pattern has {len(text)} characters; the limit is {MAX_PATTERN}.")
    for character in text:
        if not character.isprintable():
            raise TryRefused(
                f"The pattern holds {character!a}; write what stands in one line of the console."
            )
    if len(text.replace("*", "").replace(" ", "")) < _LEAST:
        raise TryRefused(
            f"The pattern {text!a} would be found in any boot; give at least {_LEAST} characters besides stars."
        )
    return text


def check_key(text: str) -> str:
    """Give `KEY` or `KEY=VALUE` back when it may be read below a domain's data path. Raises TryRefused."""
    text = text.strip().removeprefix("data/")
    if len(text) > MAX_KEY or not _KEY.fullmatch(text):
        raise TryRefused(
            f"{text[:40]!a} cannot be a key of the xenstore; write a name such as berth/up, or berth/up=1, "
            "of letters, digits, - and _."
        )
    return text


def matches(pattern: str, line: str) -> bool:
    """Whether the pieces of a pattern stand in the line, one after the other."""
    place = 0
    for piece in pattern.split("*"):
        place = line.find(piece, place)
        if place < 0:
            return False
        place += len(piece)
    return True


# Lines after which nothing good comes, with what they mean. Held against what kernels and GRUB wrote on real Xen.
_STAMP = r"(?:\[[ 0-9.]+\] ?)?"
_ENDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"^{_STAMP}Kernel panic - not syncing"), "The kernel panicked"),
    (re.compile(rf"^{_STAMP}panic: "), "The kernel panicked"),
    (re.compile(rf"^{_STAMP}fatal .{{1,60}} in supervisor mode"), "The kernel faulted"),
    (re.compile(r"^db(?:\{\d+\})?> "), "The kernel stopped in its debugger"),
    (re.compile(r"^root device(?: \(default [^)]{1,40}\))?: ?"), "The kernel found no root and asks for one"),
    (re.compile(r"^Failed to boot both default and fallback entries"), "The loader could boot nothing"),
)


def dead_end(line: str) -> str:
    """What it means when a line says that this boot came to nothing; "" for any other line."""
    return next((meaning for pattern, meaning in _ENDS if pattern.match(line)), "")


@dataclass
class Scan:
    """What a console said so far: the pattern that was seen, or the line that ended it. The first one counts."""

    patterns: tuple[str, ...]
    seen: str = ""
    ended: str = ""
    line: str = ""

    @property
    def over(self) -> bool:
        return bool(self.seen or self.ended)

    def look(self, lines: Iterable[str]) -> None:
        """Take in lines, the last of which may not be whole yet."""
        for whole in lines:
            if self.over:
                return
            line = whole[:MAX_LINE]
            if meaning := dead_end(line):
                self.ended, self.line = meaning, line[:200]
            else:
                self.seen = next((pattern for pattern in self.patterns if matches(pattern, line)), "")
                self.line = line[:200] if self.seen else ""
