"""menu.lst as GRUB 2's legacy parser takes it (grub: grub-core/commands/legacycfg.c; LAB-FACTS, "The boot disk")."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """One title with its commands, each a (name, rest of the line)."""

    title: str
    commands: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Menu:
    """What the loader shows. `timeout` in seconds, None waits for a key. `complaints` appear before the menu."""

    entries: tuple[Entry, ...]
    default: int = 0
    timeout: int | None = None
    fallback: tuple[int, ...] = ()
    complaints: tuple[str, ...] = ()


@dataclass
class _Draft:
    default: int = 0
    timeout: int | None = None
    fallback: tuple[int, ...] = ()
    complaints: list[str] = field(default_factory=list)
    entries: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)


def parse(text: str) -> Menu:
    """Read a menu. A line that GRUB cannot parse takes its entry and all later ones away; unknown commands vanish."""
    draft = _Draft()
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        name, _, rest = re.sub(r"^([a-z]+)[ \t=]+", r"\1 ", line).partition(" ")
        rest = rest.strip()
        if name == "title":
            draft.entries.append((rest, []))
        elif draft.entries:
            if name == "root" and not device(rest):
                draft.complaints.append("unrecognized number.")
                draft.entries.pop()
                break
            draft.entries[-1][1].append((name, rest))
        else:
            _setting(draft, name, rest)
    entries = tuple(Entry(title, tuple(commands)) for title, commands in draft.entries)
    return Menu(entries, draft.default, draft.timeout, draft.fallback, tuple(draft.complaints))


def _setting(draft: _Draft, name: str, rest: str) -> None:
    if name == "default" and rest == "saved":
        draft.complaints.append("file `/boot/grub/grubenv' not found.")
    elif name == "default" and rest.isdigit():
        draft.default = int(rest)
    elif name == "timeout" and rest.isdigit():
        draft.timeout = int(rest)
    elif name == "fallback":
        draft.fallback = tuple(int(word) for word in rest.split() if word.isdigit())


@dataclass(frozen=True)
class Device:
    """A disk as GRUB names it: by `vdev` as in (xen/xvda), or by its place as in (hd0); and a partition or None."""

    vdev: str | None
    place: int | None
    partition: int | None


def device(text: str) -> Device | None:
    """The device at the start of a text, or None when GRUB would not take it."""
    match = re.match(r"\((?:xen/([A-Za-z0-9]+)|hd(\d+))(?:,(?:msdos)?(\d+))?\)", text)
    if match is None:
        return None
    partition = None
    if match[3] is not None:
        # Legacy hdN counts partitions from 0, GRUB 2's own names from 1.
        partition = int(match[3]) - (1 if match[1] else 0)
    return Device(match[1], None if match[2] is None else int(match[2]), partition)


def split_path(text: str) -> tuple[Device | None, str]:
    """`(xen/xvda)/boot/x` as its device (None: the root) and path."""
    if not text.startswith("("):
        return None, text
    head, _, path = text.partition(")")
    return device(head + ")"), path
