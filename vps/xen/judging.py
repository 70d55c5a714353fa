"""What a transcript of a trial boot says: how far the kernel came.

The patterns are what the systems print themselves (LAB-FACTS; NetBSD sys/kern/init_main.c and kern_subr.c, Linux
init/do_mounts.c and kernel/panic.c, GRUB 2.06). A trial has no disk but Berth's own, so that a kernel which looks for
its root in vain has come as far as it can. The transcript is the kernel's own word: who made the kernel can have
it print anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from vps.xen.endings import Ending, EndReason

MAX_LINE = 300  # characters of a line that are looked at and kept


class Verdict(StrEnum):
    """How a trial boot went."""

    LOGIN = "login"  # a login, a shell or an installer waits for somebody
    ROOT_PROMPT = "root_prompt"  # it looked for its root and found none, for a trial has none
    PANICKED = "panicked"
    REFUSED = "refused"  # by Xen or by the loader
    EXITED = "exited"  # it ended by itself
    SILENT = "silent"  # the loader handed over, and nothing came
    UNDECIDED = "undecided"  # it said something, but nothing that decides, until the time was over


GOOD = frozenset({Verdict.LOGIN, Verdict.ROOT_PROMPT})
"""Verdicts with which a kernel counts as tried well."""


@dataclass(frozen=True)
class Judgement:
    """`line` is the line that decided, at most MAX_LINE characters; "" when none did."""

    verdict: Verdict
    line: str = ""


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


# In this order for each line: Linux says in one line that it panics and that it is for the lack of a root.
_RULES: tuple[tuple[Verdict, re.Pattern[str]], ...] = (
    (
        Verdict.ROOT_PROMPT,
        _any(
            r"^root device(?: \(default [^)]*\))?: ?",
            r"VFS: (?:Unable to mount|Cannot open) root",
            r"^\(initramfs\) ?",
            r"Gave up waiting for root (?:file system )?device",
            r"ALERT! +\S+ does not exist\. +Dropping to a shell",
            r"^cannot mount root, error = ",
            r"^init path \(default /sbin/init\): ?",
        ),
    ),
    (
        Verdict.LOGIN,
        _any(
            r"^(?:\S{1,64} )?login: ?$",
            r"^Enter pathname of shell or RETURN for /bin/sh: ?",
            r"^Please press Enter to activate this console",
            r"^Terminal type\? \[",
            r"Installation messages in English",
            r"Welcome to sysinst",
            r"^\(I\)nstall, \(S\)hell or \(H\)alt",
            r"^Give root password for maintenance",
        ),
    ),
    (
        Verdict.PANICKED,
        _any(
            r"Kernel panic - not syncing",
            r"^(?:\[ *[0-9.]+\] )?panic: ",
            r"^(?:\[ *[0-9.]+\] )?fatal (?:page fault|protection fault|privileged instruction fault|.{1,40} trap) in ",
            r"^Stopped in pid [0-9.]+ \(",
            r"^Page fault at linear address ",
            r"---\[ end Kernel panic",
        ),
    ),
    (
        Verdict.REFUSED,
        _any(
            r"^error: couldn't load file ",
            r"^error: file `[^']*' not found",
            r"^error: you need to load the kernel first",
            r"^error: (?:invalid|unsupported|premature end of|unrecognized|not (?:xen|an ELF)) ?",
            r"^error: no server is specified",
            r"^Berth loader: ",
            r"Failed to boot both default and fallback entries",
        ),
    ),
)
_SHELL = re.compile(r"(?:\S{0,40} ?)[#$] ?")
_LOADING = re.compile(
    r" {2}Booting `|^Welcome to GRUB!|GNU GRUB {2}version|^ *$|^ *[|+]|^ {6}|^ {3}The highlighted"
)


def judge(transcript: str) -> Judgement | None:
    """What the transcript so far decides; None while nothing is decided. The first line that decides counts."""
    lines = _lines(transcript)
    for line in lines:
        for verdict, pattern in _RULES:
            if pattern.search(line):
                return Judgement(verdict, line)
    # A prompt stands at the end, and only behind something: GRUB's own lines have neither # nor $.
    if len(lines) > 1 and _SHELL.fullmatch(lines[-1]):
        return Judgement(Verdict.LOGIN, lines[-1])
    return None


def conclude(transcript: str, ending: Ending | None) -> Judgement:
    """The judgement when the trial is over: `ending` is how its domain ended, None when time was up."""
    decided = judge(transcript)
    if decided is not None:
        return decided
    said = [line for line in _lines(transcript) if line.strip() and not _LOADING.search(line)]
    last = said[-1] if said else ""
    if ending is not None:
        crashed = ending.reason is EndReason.CRASH
        return Judgement(Verdict.PANICKED if crashed else Verdict.EXITED, last)
    return Judgement(Verdict.UNDECIDED, last) if said else Judgement(Verdict.SILENT)


def _lines(transcript: str) -> list[str]:
    return [line.strip("\r")[:MAX_LINE] for line in transcript.split("\n")]
