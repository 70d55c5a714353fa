"""Trying once: what may be tried, which lines are signs of health, and which are the end."""

from __future__ import annotations

import time
from typing import Any

import pytest

from vps.xen.description import BlobRef, Boot, BootEntry, BootMethod, DescriptionRefused, DomainType
from vps.xen.trying import (
    MAX_LINE,
    Scan,
    Sign,
    SignKind,
    Try,
    TryRefused,
    check_key,
    check_pattern,
    dead_end,
    matches,
)

BLOB = BlobRef("a" * 64, 1)
BOOT = Boot(BootMethod.PVGRUB, 2, (BootEntry("Newer", BLOB),), 0, 5, BLOB)
TRY = Try(DomainType.PV, BOOT, 60, (Sign(SignKind.CONSOLE, "login:"),), True)


def test_a_try_survives_the_wire() -> None:
    assert Try.of(TRY.as_dict()) == TRY


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param({"type": "hvm"}, "this agent knows pv, pvh", id="type"),
        pytest.param({"seconds": True}, "whole number", id="seconds of a truth"),
        pytest.param({"seconds": 9}, "from 10 to 3600", id="too short"),
        pytest.param({"seconds": 3601}, "from 10 to 3600", id="too long"),
        pytest.param({"signs": None}, "at most 8", id="no list"),
        pytest.param({"signs": [{"kind": "console", "text": "x123"}] * 9}, "at most 8", id="too many"),
        pytest.param({"signs": [{"kind": "smell", "text": "x"}]}, "no kind of sign", id="kind"),
        pytest.param({"signs": [{"kind": "console"}]}, "a kind and a text", id="no text"),
        pytest.param({"boot": {}}, "must be a list", id="no boot"),
        pytest.param({"boot": {**BOOT.as_dict(), "entries": []}}, "nothing to boot", id="nothing"),
    ],
)
def test_what_cannot_be_tried_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DescriptionRefused, match=sentence):
        Try.of({**TRY.as_dict(), **change})


@pytest.mark.parametrize("value", [None, [], "try", 7], ids=repr)
def test_what_is_no_try_is_refused(value: Any) -> None:
    with pytest.raises(TryRefused):
        Try.of(value)


@pytest.mark.parametrize(
    ("pattern", "line", "found"),
    [
        pytest.param("login:", "web1 login: ", True, id="a part"),
        pytest.param("login:", "Login: ", False, id="case counts"),
        pytest.param("Run * as init process", "[    1.2] Run /sbin/init as init process", True, id="star"),
        pytest.param("a*b*a", "a b", False, id="a piece is not found twice"),
        pytest.param("*ready*", "ready", True, id="stars at the ends"),
        pytest.param("(a+)+$", "aaaaaaaaaaaaaaaaaaaaaaaa!", False, id="no regular expression"),
        pytest.param("(a+)+$", "it is (a+)+$ here", True, id="every sign stands for itself"),
    ],
)
def test_patterns(pattern: str, line: str, found: bool) -> None:
    assert matches(pattern, line) is found


def test_a_hostile_line_takes_linear_time() -> None:
    began = time.perf_counter()
    assert not matches("a*" * 99 + "b", "a" * 200_000)
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize("text", ["", "  ", "***", "a*b", "x" * 201, "a line\nand another", "bell\x07here"])
def test_patterns_that_say_nothing_are_refused(text: str) -> None:
    with pytest.raises(TryRefused):
        check_pattern(text)


@pytest.mark.parametrize(
    ("text", "kept"), [("berth/up", "berth/up"), ("data/up=1", "up=1"), (" up=a.b:c-d_e ", "up=a.b:c-d_e")]
)
def test_keys(text: str, kept: str) -> None:
    assert check_key(text) == kept


@pytest.mark.parametrize("text", ["", "/local/domain/0", "../x", "a//b", "a b", "up=1 2", "up;ls", "x" * 121])
def test_keys_that_lead_elsewhere_are_refused(text: str) -> None:
    with pytest.raises(TryRefused):
        check_key(text)


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        (
            "[    3.114159] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
            "panicked",
        ),
        ("Kernel panic - not syncing: Attempted to kill init!", "panicked"),
        ("panic: cnopen: no console device", "panicked"),
        ("[   1.0000030] panic: init died (signal 0, exit 11)", "panicked"),
        ("fatal page fault in supervisor mode", "faulted"),
        ("db{0}> ", "debugger"),
        ("root device (default xbd0a): ", "no root"),
        ("root device: ", "no root"),
        ("Failed to boot both default and fallback entries.", "boot nothing"),
    ],
)
def test_lines_that_are_the_end(line: str, meaning: str) -> None:
    assert meaning in dead_end(line)


@pytest.mark.parametrize(
    "line",
    [
        "Kernel command line: panic=1 console=hvc0",
        "sshd[12]: panic: not really",
        "root on xbd0a dumps on xbd0b",
        "error: file `/boot/grub/menu.lst' not found.",
        "# echo db{0}>",
    ],
)
def test_lines_that_are_not(line: str) -> None:
    assert dead_end(line) == ""


def test_the_first_thing_said_counts() -> None:
    scan = Scan(("login:",))
    scan.look(["booting", "web1 login: ", "panic: too late"])
    assert (scan.seen, scan.ended) == ("login:", "")
    other = Scan(("login:",))
    other.look(["Kernel panic - not syncing: early", "login:"])
    assert (other.seen, other.ended, other.line) == (
        "",
        "The kernel panicked",
        "Kernel panic - not syncing: early",
    )


def test_only_the_beginning_of_a_long_line_is_looked_at() -> None:
    scan = Scan(("login:",))
    scan.look(["x" * MAX_LINE + "login:"])
    assert not scan.over
