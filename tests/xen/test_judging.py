"""What transcripts say, as the systems wrote them on real Xen (LAB-FACTS), and as somebody may have made them up."""

from __future__ import annotations

import time

import pytest

from vps.xen.endings import Ending, EndReason
from vps.xen.judging import MAX_LINE, Judgement, Verdict, conclude, judge

GRUB = "Welcome to GRUB!\n\n  Booting `Linux'\n\n"

DECIDED = [
    ("root device (default xbd0a): ", Verdict.ROOT_PROMPT, "root device (default xbd0a): "),
    ("root device: ", Verdict.ROOT_PROMPT, "root device: "),
    (
        "[    1.9] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\nmore\n",
        Verdict.ROOT_PROMPT,
        "[    1.9] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
    ),
    ("BusyBox v1.35\n\n(initramfs) ", Verdict.ROOT_PROMPT, "(initramfs) "),
    ("debian login: ", Verdict.LOGIN, "debian login: "),
    ("\n\nlogin: ", Verdict.LOGIN, "login: "),
    ("Terminal type? [vt100]: ", Verdict.LOGIN, "Terminal type? [vt100]: "),
    ("BusyBox\n/ # ", Verdict.LOGIN, "/ # "),
    (
        "[ 2.0] Kernel panic - not syncing: Attempted to kill init!",
        Verdict.PANICKED,
        "[ 2.0] Kernel panic - not syncing: Attempted to kill init!",
    ),
    ("panic: kernel diagnostic assertion\n", Verdict.PANICKED, "panic: kernel diagnostic assertion"),
    ("[   1.0000] panic: pmap\n", Verdict.PANICKED, "[   1.0000] panic: pmap"),
    ("fatal page fault in supervisor mode\n", Verdict.PANICKED, "fatal page fault in supervisor mode"),
    ("Stopped in pid 0.1 (system) at x\n", Verdict.PANICKED, "Stopped in pid 0.1 (system) at x"),
    ("error: couldn't load file /k/ab.\n", Verdict.REFUSED, "error: couldn't load file /k/ab."),
    ("error: no server is specified.\n", Verdict.REFUSED, "error: no server is specified."),
    ("Berth loader: there is no boot disk\n", Verdict.REFUSED, "Berth loader: there is no boot disk"),
]


@pytest.mark.parametrize(("text", "verdict", "line"), DECIDED, ids=range(len(DECIDED)))
def test_decided(text: str, verdict: Verdict, line: str) -> None:
    assert judge(GRUB + text) == Judgement(verdict, line)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "error: no such device: /boot/xen/pvboot-x86_64.elf.\n",
        "[    0.1] Linux version 6.1.0\n[    0.2] Command line: root=/dev/xvda login: no\n",
        "panic on oops is set\n",
        "the price is 5$ and\nmore\n",
        "audit: root login: denied earlier\n",
        "root device xbd0 was found\n",
    ],
)
def test_not_decided(text: str) -> None:
    assert judge(GRUB + text) is None


def test_the_first_line_that_decides_counts() -> None:
    text = "panic: first\nlogin: "
    assert judge(text) == Judgement(Verdict.PANICKED, "panic: first")


@pytest.mark.parametrize(
    ("text", "ending", "verdict", "line"),
    [
        pytest.param(GRUB, None, Verdict.SILENT, "", id="nothing behind the loader"),
        pytest.param("", None, Verdict.SILENT, "", id="nothing at all"),
        pytest.param(GRUB + "Linux version 6\n", None, Verdict.UNDECIDED, "Linux version 6", id="went on"),
        pytest.param(GRUB + "bye\n", Ending(EndReason.POWEROFF, 0), Verdict.EXITED, "bye", id="power-off"),
        pytest.param(GRUB + "bye\n", Ending(EndReason.REBOOT, 1), Verdict.EXITED, "bye", id="reboot"),
        pytest.param(GRUB + "oops\n", Ending(EndReason.CRASH, 3), Verdict.PANICKED, "oops", id="crash"),
        pytest.param(
            GRUB + "x login: ", Ending(EndReason.CRASH, 3), Verdict.LOGIN, "x login: ", id="login first"
        ),
    ],
)
def test_concluded(text: str, ending: Ending | None, verdict: Verdict, line: str) -> None:
    assert conclude(text, ending) == Judgement(verdict, line)


def test_hostile_transcripts_cost_little_and_give_short_lines() -> None:
    began = time.process_time()
    for text in (
        "a" * 300_000,
        " " * 300_000,
        "login: \x00" * 40_000,
        "fatal " * 50_000,
        "\n" * 300_000,
        "# " * 99,
    ):
        judged = conclude(text, None)
        assert len(judged.line) <= MAX_LINE
    long = conclude("panic: " + "x" * 100_000, None)
    assert long.verdict is Verdict.PANICKED and len(long.line) == MAX_LINE
    assert time.process_time() - began < 3
