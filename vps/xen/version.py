"""Which toolstack a Xen version wants, and which services with it (the HOWTO, "Versions of Xen", "dom0")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_VERSION = re.compile(r"(\d{1,3})\.(\d{1,3})(?![0-9])", re.ASCII)


class VersionRefused(ValueError):
    """A text that is no Xen version."""


class Dialect(StrEnum):
    """The toolstack's command, and the language of its configuration files."""

    XL = "xl"
    XM = "xm"


@dataclass(frozen=True)
class ToolstackRule:
    """What a Xen version is driven with.

    `services` are the lines that NetBSD's rc.conf must have, `never` those that it must not have (H4).
    `supported` is False where Xen's makers publish no security fixes that one could install (H3).
    """

    tool: Dialect
    supported: bool
    why: str
    services: tuple[str, ...]
    never: tuple[str, ...] = ()


_XEND = "xend=YES"
_BACKEND = "xenbackendd=YES"
_COMMONS = "xencommons=YES"

# From the first version on that the rule holds for, up to the next line's.
_RULES: tuple[tuple[tuple[int, int], ToolstackRule], ...] = (
    (
        (0, 0),
        ToolstackRule(
            Dialect.XM,
            False,
            "Xen before 3.3 has xm only and no security patches; move to a current Xen.",
            (_XEND,),
            (_COMMONS,),
        ),
    ),
    (
        (3, 3),
        ToolstackRule(
            Dialect.XM,
            False,
            "Xen 3.3 has xm only and no security patches; move to a current Xen.",
            (_XEND, _BACKEND),
            (_COMMONS,),
        ),
    ),
    (
        (4, 1),
        ToolstackRule(Dialect.XM, True, "In Xen 4.1 xl is poor; xm is the toolstack.", (_COMMONS, _XEND)),
    ),
    (
        (4, 2),
        ToolstackRule(
            Dialect.XL,
            True,
            "Xen 4.2 has xm and xl; xl is taken, for later versions have nothing else.",
            (_COMMONS,),
            (_XEND, _BACKEND),
        ),
    ),
    (
        (4, 3),
        ToolstackRule(
            Dialect.XL,
            True,
            "Xen 4.4 is the last with xm, which is deprecated there; xl is taken.",
            (_COMMONS,),
            (_XEND, _BACKEND),
        ),
    ),
    (
        (4, 5),
        ToolstackRule(Dialect.XL, True, "From Xen 4.5 on there is xl only.", (_COMMONS,), (_XEND, _BACKEND)),
    ),
)


def toolstack_for(version: str) -> ToolstackRule:
    """The rule for a version such as `4.17.7` or `4.17.7-rc1`. Raises VersionRefused."""
    key = parse_version(version)
    return [rule for first, rule in _RULES if first <= key][-1]


def parse_version(version: str) -> tuple[int, int]:
    """Major and minor number. Raises VersionRefused."""
    match = _VERSION.match(version)
    if match is None:
        raise VersionRefused(f"{version[:40]!a} is not the version of a Xen.")
    return int(match[1]), int(match[2])


def versions_fit(xen: str, tools: str) -> bool:
    """Whether hypervisor and tools are of the same version, as they must be (H2). Raises VersionRefused."""
    return parse_version(xen) == parse_version(tools)
