"""The next boot only: armed without booting, taken by whatever boots next, once, and taken back until then."""

from __future__ import annotations

import time

import pytest
from agent_rig import Rig
from test_trying import boots, other_boot, phase, running, tried, until

from vps.xen.description import Description
from vps.xen.messages import Order, ReportKind, Verb
from vps.xen.trying import MIN_SECONDS, Try


def arm(rig: Rig, domu: Description, arguments: str = "root=/dev/xvda") -> Order:
    what = Try(domu.type, other_boot(rig, domu, arguments), MIN_SECONDS, once=True)
    return rig.order(Verb.ARM, domu, body={"domu": domu.as_dict(), "reason": "test", "try": what.as_dict()})


def disarm(rig: Rig, domu: Description) -> Order:
    return rig.order(Verb.ARM, domu, body={"domu": domu.as_dict(), "reason": "test", "try": None})


def armed(rig: Rig, domu: Description) -> Order:
    """The order, once the dom0 has it; what runs goes on."""
    order = arm(rig, domu)
    assert rig.ended(order)["result"] == {"armed": True}
    until(lambda: phase(rig) == "idle", "nothing is under way")
    assert "trying" not in rig.inventory()["domus"][0]
    return order


def once(rig: Rig, order: Order) -> None:
    end = tried(rig, order)
    assert (end["outcome"], end["why"]) == ("given_up", "once")


def test_a_persons_reboot_takes_it_once(rig: Rig) -> None:
    domu = running(rig)
    order = armed(rig, domu)
    assert len(rig.bodies(ReportKind.BOOTED, domu.id)) == 1 and rig.running(domu)
    rig.done(Verb.REBOOT, domu)
    told = boots(rig, domu, 2)[-1]
    assert (told["why"], told["entry"], told["menu_serial"]) == ("try", "Newer", 2)
    once(rig, order)
    until(lambda: "6.6.6-newer" in rig.record(domu), "the armed kernel")
    rig.done(Verb.REBOOT, domu)
    assert boots(rig, domu, 3)[-1]["entry"] == "Linux"


def test_the_guests_own_reboot_takes_it_with_the_web_away_and_after_a_death_of_the_agent(rig: Rig) -> None:
    domu = running(rig)
    order = armed(rig, domu)
    rig.blobs.close()  # all that it needs is on the dom0
    rig.kill()
    rig.start()

    def listens() -> bool:  # keys are lost until the new agent has the console
        rig.type(domu, "echo listens\n")
        time.sleep(1)
        return "listens" in rig.record(domu)

    until(listens, "the console after the restart")
    rig.type(domu, "reboot\n")
    assert [body["entry"] for body in boots(rig, domu, 2)] == ["Linux", "Newer"]
    once(rig, order)
    until(lambda: rig.record(domu).count("# ") >= 2, "its prompt")
    rig.type(domu, "reboot\n")
    assert boots(rig, domu, 3)[-1]["entry"] == "Linux"


def test_it_waits_for_the_start_of_a_server_that_is_shut_down(rig: Rig) -> None:
    domu = running(rig)
    order = armed(rig, domu)
    rig.done(Verb.SHUTDOWN, domu)
    assert "tried" not in rig.of(order)[-1]["result"]
    rig.done(Verb.START, domu)
    assert boots(rig, domu, 2)[-1]["entry"] == "Newer"
    once(rig, order)


def test_it_is_taken_back(rig: Rig) -> None:
    domu = running(rig)
    order = armed(rig, domu)
    assert rig.ended(disarm(rig, domu))["result"] == {"armed": False}
    end = tried(rig, order)
    assert (end["outcome"], end["why"]) == ("given_up", "disarmed")
    rig.done(Verb.REBOOT, domu)
    assert boots(rig, domu, 2)[-1]["entry"] == "Linux"


def test_a_second_one_takes_its_place(rig: Rig) -> None:
    domu = running(rig)
    first, second = armed(rig, domu), armed(rig, domu)
    assert tried(rig, first)["why"] == "disarmed"
    rig.done(Verb.REBOOT, domu)
    once(rig, second)


def test_what_cannot_be_built_gives_way_to_the_default(rig: Rig) -> None:
    """The armed kernel is gone from the dom0 and the web is away: the reboot is the usual one, and it is said."""
    domu = running(rig)
    order = armed(rig, domu)
    newer = other_boot(rig, domu).entries[1].kernel
    rig.blobs.close()
    (rig.config.blob_dir / newer.sha256).unlink()
    rig.type(domu, "reboot\n")
    assert boots(rig, domu, 2)[-1]["entry"] == "Linux"
    end = tried(rig, order)
    assert (end["outcome"], end["why"]) == ("back", "create") and "could not be made ready" in end["text"]


@pytest.mark.parametrize("value", ["rubbish", {"type": "pv"}])
def test_rubbish_is_refused(rig: Rig, value: object) -> None:
    domu = running(rig)
    order = rig.order(Verb.ARM, domu, body={"domu": domu.as_dict(), "reason": "test", "try": value})
    assert rig.ended(order)["outcome"] == "refused"
