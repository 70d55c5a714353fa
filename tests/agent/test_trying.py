"""Trying a boot once: every way in which it ends, with the agent alone, killed, cut off, and told otherwise."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from agent_rig import Rig, until

from vps.xen.description import Boot, BootEntry, Description
from vps.xen.messages import NoteKind, Order, ReportKind, Verb
from vps.xen.trying import Sign, SignKind, Try

INIT = Sign(SignKind.CONSOLE, "Run * as init process")
NEVER = Sign(SignKind.CONSOLE, "login:")  # the simulated Linux has no log-in
KEY = Sign(SignKind.XENSTORE, "berth/up=1")
NO_ROOT = "root=/dev/xvdq"


def other_boot(rig: Rig, domu: Description, arguments: str = "root=/dev/xvda") -> Boot:
    entry = BootEntry("Newer", rig.kernel("6.6.6-newer"), None, arguments, "my-kernel 4")
    return replace(domu.boot, serial=2, entries=(*domu.boot.entries, entry), default=1)


def give(
    rig: Rig,
    domu: Description,
    *,
    arguments: str = "root=/dev/xvda",
    seconds: int = 60,
    signs: Sequence[Sign] = (INIT,),
    keep: bool = False,
) -> Order:
    what = Try(domu.type, other_boot(rig, domu, arguments), seconds, tuple(signs), keep)
    body = {"domu": domu.as_dict(), "reason": "test", "try": what.as_dict()}
    return rig.order(Verb.TRY, domu, body=body)


def running(rig: Rig, **values: Any) -> Description:
    """A domU that runs its good entry, up to its prompt."""
    rig.start()
    domu = rig.domu(**values)
    rig.done(Verb.START, domu)
    until(lambda: "# " in rig.record(domu), "the guest's prompt")
    return domu


def tried(rig: Rig, order: Order, seconds: float = 60.0) -> dict[str, Any]:
    """How the try ended, as the last report on its order has it."""

    def told() -> Any:
        bodies = rig.of(order)
        return bodies and bodies[-1]["result"].get("tried")

    try:
        return dict(until(told, "the end of the try", seconds))
    except AssertionError as error:
        raise AssertionError(f"{error}\n{rig.log.read_text()[-6000:]}") from error


def boots(rig: Rig, domu: Description, count: int) -> list[dict[str, Any]]:
    """The reports of boots, once there are `count`."""
    try:
        until(lambda: len(rig.bodies(ReportKind.BOOTED, domu.id)) >= count, f"boot {count}", 60)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{rig.log.read_text()[-6000:]}") from error
    return rig.bodies(ReportKind.BOOTED, domu.id)


def is_back(rig: Rig, domu: Description, count: int = 3) -> None:
    """The good entry was built again, by the agent itself, once."""
    told = boots(rig, domu, count)
    assert [body["why"] for body in told] == ["start", "try", "back"]
    assert [body["entry"] for body in told] == ["Linux", "Newer", "Linux"]
    until(lambda: phase(rig) == "idle", "nothing is tried any more")
    assert rig.running(domu)


def phase(rig: Rig) -> str:
    return str(rig.inventory()["domus"][0]["phase"])


def test_a_sign_on_the_console_ends_the_try_well(rig: Rig) -> None:
    domu = running(rig)
    order = give(rig, domu)
    done = rig.ended(order)
    assert done["outcome"] == "done" and done["result"]["boots"] == 2
    end = tried(rig, order)
    assert (end["outcome"], end["why"], end["text"], end["default"]) == (
        "healthy",
        "console",
        "Run * as init process",
        False,
    )
    told = boots(rig, domu, 2)[-1]
    assert (told["why"], told["entry"], told["menu_serial"], told["label"]) == (
        "try",
        "Newer",
        2,
        "my-kernel 4",
    )
    assert "6.6.6-newer" in rig.record(domu)
    # What it was tried against boots next, whoever restarts it.
    rig.done(Verb.REBOOT, domu)
    assert boots(rig, domu, 3)[-1]["entry"] == "Linux"


def test_what_was_tried_becomes_the_default_if_asked(rig: Rig) -> None:
    domu = running(rig)
    order = give(rig, domu, keep=True)
    assert tried(rig, order)["default"] is True
    until(lambda: rig.inventory()["domus"][0]["menu_serial"] == 2, "menu 2 is in place")
    rig.blobs.close()  # all that it needs is on the dom0
    rig.type(domu, "reboot\n")
    assert boots(rig, domu, 3)[-1]["entry"] == "Newer"


def test_a_key_in_the_xenstore_is_a_sign(rig: Rig) -> None:
    domu = running(rig)
    order = give(rig, domu, signs=(NEVER, KEY))
    rig.ended(order)
    until(lambda: phase(rig) == "trying", "it is being tried")
    row = rig.inventory()["domus"][0]["trying"]
    assert row["operation"] == str(order.operation) and row["until"] > time.time() * 1000
    until(lambda: rig.record(domu).count("# ") >= 2, "the prompt of what is tried")
    rig.type(domu, "xenstore-write data/berth/up 0\n")
    time.sleep(2.5)
    assert phase(rig) == "trying", "another value is no sign"
    rig.type(domu, "xenstore-write data/berth/up 1\n")
    end = tried(rig, order)
    assert (end["outcome"], end["why"], end["text"]) == ("healthy", "xenstore", "berth/up=1")
    until(lambda: phase(rig) == "idle")


def test_the_owners_word_is_a_sign(rig: Rig) -> None:
    domu = running(rig)
    order = give(rig, domu, signs=())
    rig.ended(order)
    rig.note(NoteKind.HEALTHY, {"domu": str(domu.id), "operation": str(domu.id)})  # of no try
    time.sleep(1.5)
    assert not rig.of(order)[-1]["result"].get("tried")
    rig.note(NoteKind.HEALTHY, {"domu": str(domu.id), "operation": str(order.operation)})
    assert tried(rig, order)["outcome"] == "healthy"


def test_no_sign_in_time_goes_back_after_a_clean_end(rig: Rig) -> None:
    domu = running(rig)
    order = give(rig, domu, seconds=10, signs=(NEVER,))
    end = tried(rig, order)
    assert (end["outcome"], end["why"]) == ("back", "deadline")
    assert "within 10 s" in end["text"] and 10 <= end["seconds"] < 40
    assert "reboot: System halted" in end["tail"], "it was asked to shut down"
    is_back(rig, domu)
    ended = rig.bodies(ReportKind.ENDED, domu.id)[-1]
    assert (ended["reason"], ended["next"]) == ("poweroff", "rebuild")


def test_a_deaf_guest_is_destroyed(rig: Rig) -> None:
    domu = running(rig)
    order = give(rig, domu, seconds=10, signs=(NEVER,))
    rig.ended(order)
    until(lambda: rig.record(domu).count("# ") >= 2)
    rig.type(domu, "hang\n")
    assert tried(rig, order)["why"] == "deadline"
    is_back(rig, domu)
    assert len(rig.effects("destroy", domu)) == 1


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        pytest.param("reboot\n", "reboot", id="reboot"),
        pytest.param("poweroff\n", "poweroff", id="power-off"),
        pytest.param("crash\n", "panic|crash", id="crash"),
    ],
)
def test_an_end_before_a_sign_goes_back(rig: Rig, typed: str, why: str) -> None:
    domu = running(rig)
    order = give(rig, domu, signs=(NEVER,))
    rig.ended(order)
    until(lambda: rig.record(domu).count("# ") >= 2, "the prompt of what is tried")
    rig.type(domu, typed)
    end = tried(rig, order)
    assert end["outcome"] == "back" and end["why"] in why.split("|")
    is_back(rig, domu)


def test_a_kernel_that_finds_no_root_goes_back_with_redis_away(rig: Rig, redis_server: Any) -> None:
    domu = running(rig)
    rig.ended(rig.order(Verb.PREPARE, domu))
    order = give(rig, domu, arguments=NO_ROOT, signs=(NEVER,))
    until(lambda: rig.state(order) in ("accepted", "running", "done"), "the order is taken")
    redis_server.kill()
    until(lambda: rig.record(domu).count("Mounted root") >= 2, "the good entry again", 60)
    assert "Kernel panic - not syncing" in rig.record(domu)
    redis_server.start()
    redis_server.admit(rig.config.dom0, rig.config.secret)
    rig._last = "0"  # the stream is a new one
    end = tried(rig, order)
    assert end["outcome"] == "back" and "Kernel panic - not syncing: VFS" in end["text"]
    assert "Kernel panic" in end["tail"]
    assert [body["why"] for body in boots(rig, domu, 2)][-2:] == ["try", "back"]


def test_a_stopped_server_can_be_tried_too(rig: Rig) -> None:
    rig.start()
    domu = rig.domu()
    rig.done(Verb.PREPARE, domu)
    order = give(rig, domu, arguments=NO_ROOT, signs=(INIT,))
    assert tried(rig, order)["outcome"] == "back"
    assert [body["why"] for body in boots(rig, domu, 2)] == ["try", "back"]
