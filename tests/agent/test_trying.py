"""Trying a boot once: every way in which it ends, with the agent alone, killed, cut off, and told otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from agent_rig import Rig
from agent_rig import until as until_in

from vps.xen.description import Boot, BootEntry, Description
from vps.xen.messages import NoteKind, Order, ReportKind, Verb
from vps.xen.trying import Sign, SignKind, Try


def until(question: Callable[[], Any], what: str = "", seconds: float = 120.0) -> Any:
    return until_in(question, what, seconds)


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


def tried(rig: Rig, order: Order, seconds: float = 120.0) -> dict[str, Any]:
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
        until(lambda: len(rig.bodies(ReportKind.BOOTED, domu.id)) >= count, f"boot {count}")
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
    folder = rig.config.domu_dir / str(domu.id)
    until(lambda: not [*folder.glob("try-*")], "that nothing of the try is left")


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
    until(lambda: rig.record(domu).count("Mounted root") >= 2, "the good entry again")
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


# -- the agent is killed, the dom0 is booted


@pytest.mark.parametrize("phase_of_death", ["ending what runs", "creating", "waiting"])
def test_a_killed_agent_goes_on(rig: Rig, phase_of_death: str) -> None:
    domu = running(rig)
    if phase_of_death == "creating":
        rig.sim.set(faults={"slow_create": 3.0})
    order = give(rig, domu, arguments=NO_ROOT if phase_of_death == "waiting" else "root=/dev/xvda")
    if phase_of_death == "ending what runs":
        until(lambda: "Asking the guest to shut down" in rig.log.read_text(), "the guest is asked")
    elif phase_of_death == "creating":
        until(lambda: rig.log.read_text().count("Creating the domain") == 2, "xl create")
    else:
        rig.ended(order)
    rig.kill()
    rig.sim.set(faults={})
    if phase_of_death == "waiting":
        until(lambda: not rig.running(domu), "it panics while nobody looks")
    rig.start()
    end = tried(rig, order)
    if phase_of_death == "waiting":
        # What the guest said while no agent listened is gone with it.
        assert end["outcome"] == "back" and end["why"] in ("crash", "panic")
        is_back(rig, domu)
    else:
        assert end["outcome"] == "healthy", end
        assert [body["why"] for body in boots(rig, domu, 2)] == ["start", "try"]
    assert len(rig.effects("create", domu)) == len(boots(rig, domu, 2))


def test_the_time_goes_on_while_no_agent_runs(rig: Rig) -> None:
    domu = running(rig)
    order = give(rig, domu, seconds=10, signs=(NEVER,))
    rig.ended(order)
    rig.kill()
    time.sleep(11)
    rig.start()
    end = tried(rig, order)
    assert (end["outcome"], end["why"]) == ("back", "deadline")
    is_back(rig, domu)


def test_an_agent_killed_while_it_goes_back_goes_on(rig: Rig) -> None:
    domu = running(rig)
    order = give(rig, domu, seconds=10, signs=(NEVER,))
    rig.ended(order)
    until(lambda: rig.record(domu).count("# ") >= 2, "the prompt of what is tried")
    rig.type(domu, "hang\n")
    rig.sim.set(times={**rig.sim.settings["times"], "ack": 60.0})
    until(lambda: phase(rig) == "stopping", "it is being ended")
    rig.kill()
    rig.start()
    assert tried(rig, order, 90)["why"] == "deadline"
    is_back(rig, domu)


def test_a_boot_of_the_dom0_is_back_to_good(rig: Rig) -> None:
    domu = running(rig)
    order = give(rig, domu, signs=(NEVER,))
    rig.ended(order)
    rig.kill()
    rig.sim.ok("sim-reset")
    rig.config.boot_id.write_text('"second"\n')
    rig.start()
    end = tried(rig, order)
    assert (end["outcome"], end["why"]) == ("given_up", "host")
    told = boots(rig, domu, 3)
    assert [(body["why"], body["entry"]) for body in told][2] == ("autostart", "Linux")


# -- other orders meanwhile


@pytest.mark.parametrize(
    ("verb", "entry"),
    [
        pytest.param(Verb.DESTROY, "", id="destroy"),
        pytest.param(Verb.SHUTDOWN, "", id="shutdown"),
        pytest.param(Verb.REBOOT, "Linux", id="reboot"),
    ],
)
def test_an_order_that_ends_it_gives_the_try_up(rig: Rig, verb: Verb, entry: str) -> None:
    domu = running(rig)
    order = give(rig, domu, signs=(NEVER,))
    rig.ended(order)
    until(lambda: rig.record(domu).count("# ") >= 2, "the prompt of what is tried")
    rig.done(verb, domu)
    assert tried(rig, order)["outcome"] == "given_up"
    if entry:
        assert boots(rig, domu, 3)[-1]["entry"] == entry
    else:
        assert not rig.running(domu)
    assert len(rig.bodies(ReportKind.BOOTED, domu.id)) == (3 if entry else 2)


def test_a_menu_saved_meanwhile_is_not_overruled(rig: Rig) -> None:
    domu = running(rig)
    order = give(rig, domu, signs=(KEY,), keep=True)
    rig.ended(order)
    newest = replace(domu, boot=replace(domu.boot, serial=3))
    rig.done(Verb.PREPARE, newest)
    assert rig.done(Verb.START, newest)["result"]["boots"] == 2, "it runs already"
    until(lambda: rig.record(domu).count("# ") >= 2, "the prompt of what is tried")
    rig.type(domu, "xenstore-write data/berth/up 1\n")
    end = tried(rig, order)
    assert (end["outcome"], end["default"]) == ("healthy", False)
    until(lambda: rig.inventory()["domus"][0]["menu_serial"] == 3, "the newest menu stays")


def test_one_boot_only_is_not_watched(rig: Rig) -> None:
    domu = running(rig)
    what = Try(domu.type, other_boot(rig, domu), 10, (), once=True)
    order = rig.order(Verb.TRY, domu, body={"domu": domu.as_dict(), "reason": "", "try": what.as_dict()})
    rig.ended(order)
    end = tried(rig, order)
    assert (end["outcome"], end["why"]) == ("given_up", "once")
    until(lambda: rig.record(domu).count("# ") >= 2, "the prompt of what is booted once")
    until(lambda: phase(rig) == "idle", "nothing is tried")
    assert boots(rig, domu, 2)[-1]["entry"] == "Newer"
    rig.type(domu, "reboot\n")
    assert boots(rig, domu, 3)[-1]["entry"] == "Linux"


def test_a_second_try_gives_the_first_up(rig: Rig) -> None:
    domu = running(rig)
    first = give(rig, domu, signs=(NEVER,))
    rig.ended(first)
    until(lambda: rig.record(domu).count("# ") >= 2, "the prompt of what is tried")
    second = give(rig, domu)
    rig.ended(second)
    assert tried(rig, first)["outcome"] == "given_up"
    assert tried(rig, second)["outcome"] == "healthy"


def test_a_line_that_no_boot_showed_is_refused(rig: Rig) -> None:
    domu = running(rig)
    seen = Sign(SignKind.CONSOLE, "Berth simulated guest: boot * of this server")
    failed = rig.ended(give(rig, domu, signs=(Sign(SignKind.CONSOLE, "all is fine now"),)))
    assert (failed["outcome"], failed["error"]["code"]) == ("failed", "unseen")
    assert len(rig.effects("shutdown", domu)) == 0 and rig.running(domu)
    assert tried(rig, give(rig, domu, signs=(seen,)))["text"] == seen.text


def test_what_cannot_be_built_leaves_the_good_one_running(rig: Rig) -> None:
    domu = running(rig)
    rig.sim.set(times={**rig.sim.settings["times"], "shutdown": 3.0})
    order = give(rig, domu, signs=(NEVER,))
    until(lambda: "Asking the guest to shut down" in rig.log.read_text(), "the guest is asked")
    rig.sim.set(faults={"no_bridge": True})
    failed = rig.ended(order)
    assert failed["outcome"] == "failed" and "last good boot" in failed["remains"]
    rig.sim.set(faults={})
    until(lambda: rig.running(domu), "the good one again")
    assert [body["why"] for body in boots(rig, domu, 2)] == ["start", "back"]
    assert tried(rig, order)["why"] == "create"
