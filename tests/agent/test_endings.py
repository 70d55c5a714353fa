"""What the agent does by itself: guests that power off, reboot, crash, also while it was dead; dom0s that boot."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from uuid import uuid4

from agent_rig import Rig, until

from vps.xen.description import Boot, BootEntry, DiskSpec
from vps.xen.messages import ReportKind, Verb


def prompt(rig: Rig, domu: object, boots: int) -> None:
    until(lambda: rig.record(domu).count("# ") >= boots, "the guest's prompt")  # type: ignore[arg-type]


def last_ended(rig: Rig, domu: object, count: int = 1) -> dict[str, object]:
    return until(lambda: (e := rig.bodies(ReportKind.ENDED, domu.id)) and len(e) >= count and e)[-1]  # type: ignore[attr-defined,no-any-return]


def test_poweroff_in_the_guest_stays_off(rig: Rig) -> None:
    rig.start()
    domu = rig.domu()
    rig.done(Verb.START, domu)
    prompt(rig, domu, 1)
    rig.type(domu, "poweroff\n")
    ended = last_ended(rig, domu)
    assert (ended["reason"], ended["code"], ended["next"], ended["restart_in"]) == (
        "poweroff",
        0,
        "stopped",
        None,
    )
    until(lambda: rig.inventory()["domus"][0]["wanted"] == "stopped")
    assert not rig.running(domu)
    rig.kill()
    rig.start()
    rig.read().clear()
    rig.inventory()
    assert len(rig.effects("create", domu)) == 1


def test_reboot_in_the_guest_builds_anew_from_the_current_description(rig: Rig) -> None:
    rig.start()
    domu = rig.domu()
    rig.done(Verb.START, domu)
    prompt(rig, domu, 1)
    other = replace(domu.boot.entries[0], title="Newer", kernel=rig.kernel("6.6.6-newer"))
    newer = replace(domu, memory_mib=96, boot=replace(domu.boot, serial=2, entries=(other,)))
    rig.done(Verb.PREPARE, newer)
    rig.type(domu, "reboot\n")
    ended = last_ended(rig, domu)
    assert (ended["reason"], ended["next"], ended["restart_in"]) == ("reboot", "rebuild", 0)
    booted = until(lambda: (b := rig.bodies(ReportKind.BOOTED, domu.id)) and len(b) == 2 and b)[-1]
    assert (booted["why"], booted["entry"], booted["menu_serial"], booted["boots"]) == (
        "reboot",
        "Newer",
        2,
        2,
    )
    until(lambda: "6.6.6-newer" in rig.record(domu), "the newer kernel's words")
    row = next(row for row in rig.inventory()["domains"] if row["uuid"] == str(domu.id))
    assert row["memory_mib"] == 96


def test_crashes_are_restarted_up_to_the_limit(rig: Rig) -> None:
    rig.start()
    domu = rig.domu(crash_limit=1)
    rig.done(Verb.START, domu)
    prompt(rig, domu, 1)
    rig.type(domu, "crash\n")
    ended = last_ended(rig, domu)
    assert (ended["reason"], ended["code"], ended["next"], ended["restart_in"]) == ("crash", 3, "restart", 1)
    until(lambda: len(rig.bodies(ReportKind.BOOTED, domu.id)) == 2)
    assert rig.bodies(ReportKind.BOOTED, domu.id)[1]["why"] == "crash"
    prompt(rig, domu, 2)
    rig.type(domu, "crash\n")
    assert last_ended(rig, domu, 2)["next"] == "limit"
    until(lambda: rig.inventory()["domus"][0]["phase"] == "limit")
    # A person's start forgives.
    assert rig.done(Verb.START, domu)["result"]["boots"] == 3
    until(lambda: rig.inventory()["domus"][0]["phase"] == "idle")


def test_ends_while_the_agent_was_dead(rig: Rig) -> None:
    rig.start()
    off, again, crash = rig.domu("off"), rig.domu("again"), rig.domu("crash")
    for domu in (off, again, crash):
        rig.done(Verb.START, domu)
        prompt(rig, domu, 1)
    rig.kill()
    rig.sim.ok("shutdown", "off")
    rig.sim.ok("reboot", "again")
    console = rig.sim.console("crash")

    def all_gone() -> bool:
        with contextlib.suppress(OSError):
            console.type("crash\n")  # what is typed before xl console is attached is lost
        return rig.sim.ok("list").count("\n") == 2

    until(all_gone, "all three are gone")
    rig.start()
    assert last_ended(rig, off)["reason"] == "poweroff"
    assert last_ended(rig, again)["reason"] == "reboot"
    assert last_ended(rig, crash)["reason"] == "crash"
    until(lambda: rig.running(again) and rig.running(crash))
    assert [body["why"] for body in rig.bodies(ReportKind.BOOTED, again.id)] == ["start", "reboot"]
    assert not rig.running(off)


def test_the_dom0_boots_anew(rig: Rig) -> None:
    rig.start()
    wanted, stopped, manual = rig.domu("wanted"), rig.domu("stopped"), rig.domu("manual", autostart=False)
    for domu in (wanted, stopped, manual):
        rig.done(Verb.START, domu)
    rig.done(Verb.SHUTDOWN, stopped)
    rig.kill()
    rig.sim.ok("sim-reset")
    (rig.config.boot_id).write_text('"second"\n')
    rig.start()
    booted = until(lambda: (b := rig.bodies(ReportKind.BOOTED, wanted.id)) and len(b) == 2 and b)[-1]
    assert booted["why"] == "autostart"
    ended = last_ended(rig, wanted)
    assert (ended["reason"], ended["next"]) == ("unknown", "restart")
    assert last_ended(rig, manual)["next"] == "stopped"
    rig.kill()
    rig.start()
    until(lambda: all(row["phase"] == "idle" for row in rig.inventory()["domus"]))
    assert len(rig.effects("create", wanted)) == 2
    assert len(rig.effects("create", stopped)) == 1
    assert len(rig.effects("create", manual)) == 1


def test_restart_needs_no_web(rig: Rig) -> None:
    """A description whose kernel cannot be had does not keep a guest from coming back from its reboot."""
    rig.start()
    domu = rig.domu()
    rig.done(Verb.START, domu)
    prompt(rig, domu, 1)
    missing = BootEntry("Missing", replace(domu.boot.entries[0].kernel, sha256="0" * 64))
    boot: Boot = replace(domu.boot, serial=2, entries=(missing,))
    failed = rig.ended(rig.order(Verb.PREPARE, replace(domu, boot=boot)))
    assert failed["error"]["code"] == "blob_unknown"
    rig.type(domu, "reboot\n")
    booted = until(lambda: (b := rig.bodies(ReportKind.BOOTED, domu.id)) and len(b) == 2 and b)[-1]
    assert (booted["menu_serial"], booted["entry"]) == (1, "")
    until(lambda: rig.record(domu).count("6.1.0-test") >= 2)
    assert any(alarm["code"] == "old" for alarm in until(lambda: rig.inventory()["alarms"]))


def test_what_may_boot_no_more_is_not_fallen_back_to(rig: Rig) -> None:
    """A description with nothing to boot could not be made ready; what lies ready from before is not for it."""
    rig.start()
    domu = rig.domu()
    rig.done(Verb.START, domu)
    prompt(rig, domu, 1)
    nothing = replace(
        domu,
        disks=(*domu.disks, DiskSpec(uuid4(), 1, 1_000_000)),
        boot=replace(domu.boot, serial=2, entries=()),
    )
    assert rig.ended(rig.order(Verb.PREPARE, nothing))["outcome"] == "failed"
    rig.type(domu, "crash\n")
    last_ended(rig, domu)
    alarms = until(lambda: rig.inventory()["alarms"], "an alarm")
    assert [alarm["code"] for alarm in alarms] == ["restart"], (
        "not `old`: it does not run from what was ready"
    )
    assert len(rig.bodies(ReportKind.BOOTED, domu.id)) == 1
