"""Each verb: done, done already, refused, aborted, failed with a sentence; with the simulated xl."""

from __future__ import annotations

import time
from dataclasses import replace
from uuid import uuid4

import pytest
from agent_rig import Rig, until

from vps.xen.description import BootMethod
from vps.xen.messages import Generation, ReportKind, Verb


@pytest.fixture
def started(rig: Rig) -> Rig:
    rig.start()
    return rig


def test_shutdown_and_reboot(started: Rig) -> None:
    rig, domu = started, started.domu()
    assert rig.done(Verb.SHUTDOWN, domu)["result"] == {}  # nothing runs: it is so already
    rig.done(Verb.START, domu)
    until(lambda: "# " in rig.record(domu))
    first = rig.bodies(ReportKind.BOOTED, domu.id)[0]
    again = rig.done(Verb.REBOOT, domu)["result"]
    assert again["boots"] == 2
    assert again["run"] != first["run"]
    ended = rig.bodies(ReportKind.ENDED, domu.id)[0]
    assert (ended["run"], ended["reason"], ended["next"]) == (first["run"], "reboot", "rebuild")
    until(lambda: rig.record(domu).count("# ") >= 2)
    rig.done(Verb.SHUTDOWN, domu)
    assert not rig.running(domu)
    assert rig.bodies(ReportKind.ENDED, domu.id)[1]["reason"] == "poweroff"
    assert [line["verb"] for line in rig.sim.effects() if line["verb"] == "create"] == ["create", "create"]
    # At once after the end, which is when a real dom0 says "already exists".
    rig.done(Verb.START, domu)
    rig.done(Verb.SHUTDOWN, domu)
    rig.done(Verb.START, domu)


def test_pause_and_unpause(started: Rig) -> None:
    rig, domu = started, started.domu()
    assert rig.ended(rig.order(Verb.PAUSE, domu))["error"]["code"] == "not_running"
    rig.done(Verb.START, domu)
    rig.done(Verb.PAUSE, domu)
    assert rig.sim.flags("web1") == "--p---"
    refused = rig.ended(rig.order(Verb.SHUTDOWN, domu))
    assert (refused["outcome"], refused["error"]["code"]) == ("failed", "paused")
    rig.kill()  # an agent that starts does not let a paused guest go on
    rig.start()
    rig.done(Verb.PAUSE, domu)
    assert rig.sim.flags("web1") == "--p---"
    rig.done(Verb.UNPAUSE, domu)
    assert rig.sim.flags("web1")[2] == "-"


def test_delete_leaves_nothing(started: Rig) -> None:
    rig, domu = started, started.domu()
    other = rig.domu("other", boot=replace(domu.boot, serial=7))
    rig.done(Verb.PREPARE, other)
    rig.done(Verb.START, domu)
    result = rig.done(Verb.DELETE, domu)["result"]
    assert result["wiped"][str(domu.disks[0].id)] in ("punched", "overwritten")
    assert not rig.running(domu)
    left = [
        path
        for folder in (
            rig.config.config_dir,
            rig.config.disk_dir,
            rig.config.domu_dir,
            rig.config.console_dir,
        )
        for path in folder.rglob("*")
        if str(domu.id) in str(path) or path.name == "web1" or str(domu.disks[0].id) in str(path)
    ]
    assert left == []
    # What the other one needs stays.
    assert {path.name for path in rig.config.blob_dir.iterdir()} == {
        blob.sha256 for blob in other.boot.blobs()
    }
    assert rig.done(Verb.DELETE, domu)["result"]["wiped"] == {str(domu.disks[0].id): "absent"}
    refused = rig.ended(rig.order(Verb.START, domu))
    assert (refused["outcome"], refused["error"]["code"]) == ("refused", "deleted")
    rig.done(Verb.DELETE, other)
    assert list(rig.config.blob_dir.iterdir()) == []


def test_put_away_the_name_is_free_and_a_preparation_brings_it_back(started: Rig) -> None:
    rig, domu = started, started.domu()
    rig.done(Verb.START, domu)
    kept = replace(domu, autostart=False)
    rig.done(Verb.DESTROY, kept, body={"domu": kept.as_dict(), "reason": "deleted", "put_away": True})
    assert not rig.running(domu)
    assert not (rig.config.config_dir / "web1").exists()
    assert (rig.config.disk_dir / f"{domu.disks[0].id}.img").exists()
    namesake = rig.domu("web1")
    rig.done(Verb.START, namesake)
    taken = rig.ended(rig.order(Verb.PREPARE, domu))
    assert (taken["outcome"], taken["error"]["code"]) == ("failed", "config_taken")
    rig.done(Verb.DELETE, namesake)
    rig.done(Verb.PREPARE, domu)
    assert str(domu.id) in (rig.config.config_dir / "web1").read_text()
    rig.done(Verb.START, domu)


def test_a_boot_says_what_it_was_built_with(started: Rig) -> None:
    rig, domu = started, started.domu()
    rig.done(Verb.START, domu)
    larger = replace(domu, memory_mib=domu.memory_mib * 2, vcpus=2)
    rig.done(Verb.PREPARE, larger)
    rig.done(Verb.REBOOT, larger)
    sizes = [(body["memory_mib"], body["vcpus"]) for body in rig.bodies(ReportKind.BOOTED, domu.id)]
    assert sizes == [(domu.memory_mib, domu.vcpus), (larger.memory_mib, 2)]


def test_deaf_guest_fails_and_destroy_supersedes(started: Rig) -> None:
    rig, domu = started, started.domu()
    rig.done(Verb.START, domu)
    until(lambda: "# " in rig.record(domu))
    rig.type(domu, "hang\n")
    until(lambda: rig.sim.flags("web1") == "r-----", "the guest hangs")
    failed = rig.ended(rig.order(Verb.SHUTDOWN, domu))
    assert (failed["outcome"], failed["error"]["code"]) == ("failed", "deaf")
    assert "still runs" in failed["remains"]
    assert rig.running(domu)
    rig.sim.set(times={**rig.sim.settings["times"], "ack": 60.0})
    shutdown = rig.order(Verb.SHUTDOWN, domu)
    until(lambda: rig.state(shutdown) == "running")
    began = time.monotonic()
    rig.done(Verb.DESTROY, domu)
    assert time.monotonic() - began < 10
    assert rig.ended(shutdown)["outcome"] == "superseded"
    assert not rig.running(domu)


def test_cancel(started: Rig) -> None:
    rig, domu = started, started.domu()
    rig.done(Verb.START, domu)
    until(lambda: "# " in rig.record(domu))
    rig.type(domu, "hang\n")
    until(lambda: rig.sim.flags("web1") == "r-----", "the guest hangs")
    rig.sim.set(times={**rig.sim.settings["times"], "ack": 60.0})
    running, waiting = rig.order(Verb.SHUTDOWN, domu), rig.order(Verb.PAUSE, domu)
    until(lambda: rig.state(running) == "running")
    assert rig.ended(rig.cancel(waiting.operation, domu.id))["result"]["outcome"] == "cancelled"
    assert rig.ended(waiting)["remains"] == "Nothing was done."
    rig.ended(rig.cancel(running.operation, domu.id))
    cancelled = rig.ended(running)
    assert cancelled["outcome"] == "cancelled"
    assert "may still do so" in cancelled["remains"]
    assert rig.running(domu)
    # An order that comes after its cancellation is not done.
    never = rig.web.order(Verb.DESTROY, domu.id, body={"domu": domu.as_dict()}, generation=Generation(1, 90))
    rig.ended(rig.cancel(never.operation, domu.id))
    rig.web.give(never)
    time.sleep(0.5)
    assert rig.ended(never)["outcome"] == "cancelled"
    assert rig.running(domu)
    # One that has ended stays as it ended.
    done = rig.order(Verb.DESTROY, domu, generation=Generation(1, 91))
    rig.ended(done)
    assert rig.ended(rig.cancel(done.operation, domu.id))["result"]["outcome"] == "done"


def test_cancel_under_the_operations_own_id(started: Rig) -> None:
    rig, domu = started, started.domu()
    rig.done(Verb.START, domu)
    until(lambda: "# " in rig.record(domu))
    rig.type(domu, "hang\n")
    until(lambda: rig.sim.flags("web1") == "r-----", "the guest hangs")
    rig.sim.set(times={**rig.sim.settings["times"], "ack": 60.0})
    running = rig.order(Verb.SHUTDOWN, domu)
    until(lambda: rig.state(running) == "running")
    rig.cancel_as_the_web(running.operation, domu.id)
    assert rig.ended(running)["outcome"] == "cancelled"
    rig.cancel_as_the_web(running.operation, domu.id)
    never = rig.web.order(Verb.DESTROY, domu.id, body={"domu": domu.as_dict()}, generation=Generation(1, 90))
    rig.cancel_as_the_web(never.operation, domu.id)
    rig.web.give(never)
    assert rig.ended(never)["outcome"] == "cancelled"
    assert rig.running(domu)


def test_refusals(started: Rig) -> None:
    rig, domu = started, started.domu()
    rig.done(Verb.PREPARE, domu, generation=Generation(1, 5))
    cases = {
        "older": rig.order(Verb.START, domu, generation=Generation(1, 4)),
        "expired": rig.order(
            Verb.START, domu, generation=Generation(1, 6), not_after=int(time.time() * 1000) - 1
        ),
        "description": rig.order(Verb.START, domu, generation=Generation(1, 6), body={"domu": {"id": "x"}}),
    }
    other = rig.web.order(Verb.START, uuid4(), body={"domu": domu.as_dict()})
    cases["description "] = rig.web.give(other)
    for code, order in cases.items():
        last = rig.ended(order)
        assert (last["outcome"], last["error"]["code"]) == ("refused", code.strip())
    assert not rig.running(domu)
    # A newer epoch counts more than a greater number.
    rig.done(Verb.PREPARE, domu, generation=Generation(2, 1))
    assert rig.ended(rig.order(Verb.START, domu, generation=Generation(1, 9)))["error"]["code"] == "older"


def test_an_order_again_is_answered_again(started: Rig) -> None:
    rig, domu = started, started.domu()
    order = rig.order(Verb.START, domu)
    rig.ended(order)
    before = len(rig.of(order))
    rig.web.give(order)
    until(lambda: len(rig.of(order)) == before + 1)
    assert rig.of(order)[-1]["result"]["boots"] == 1
    # Another one with the same wish finds it done.
    assert rig.done(Verb.START, domu)["result"]["boots"] == 1
    assert len(rig.effects("create", domu)) == 1


def test_what_is_not_signed_for_this_dom0_is_dropped(started: Rig) -> None:
    rig, domu = started, started.domu()
    from vps.xen.messages import SigningKey

    strange = rig.web.order(Verb.PREPARE, domu.id, body={"domu": domu.as_dict()})
    rig.web.send(SigningKey.generate().seal(strange), "rubbish", rig.key.seal(replace(strange, dom0=uuid4())))
    edited = rig.key.seal(strange).replace('"verb":"prepare"', '"verb":"destroy"')
    rig.web.send(edited)
    rig.done(Verb.PREPARE, domu)
    assert rig.of(strange) == []
    alarms = until(lambda: [a for a in rig.inventory()["alarms"] if a["code"] == "dropped"])
    assert alarms[0]["text"].startswith("4 orders were dropped")


def test_own_disk_and_direct_boot(started: Rig) -> None:
    rig = started
    own = rig.domu("own")
    own = replace(own, boot=replace(own.boot, method=BootMethod.OWN_DISK, entries=()))
    result = rig.done(Verb.PREPARE, own)["result"]
    assert "configfile (xen/xvda)" in result["menu_lst"]
    direct = rig.domu("direct")
    entry = replace(direct.boot.entries[0], ramdisk=rig.blobs.add(b"a ramdisk" * 1000))
    direct = replace(
        direct, boot=replace(direct.boot, method=BootMethod.DIRECT, entries=(entry,), loader=None)
    )
    result = rig.done(Verb.START, direct)
    until(lambda: "6.1.0-test" in rig.record(direct))
    folder = rig.config.domu_dir / str(direct.id)
    assert sorted(path.name.rpartition("-")[0] for path in folder.iterdir()) == [
        "direct-kernel",
        "direct-ramdisk",
    ]


def test_nothing_to_boot(started: Rig) -> None:
    rig = started
    domu = rig.domu()
    empty = replace(domu, boot=replace(domu.boot, entries=(), loader=None))
    result = rig.done(Verb.PREPARE, empty)["result"]
    assert result["config"] == ""
    assert rig.config.disk_dir.joinpath(f"{domu.disks[0].id}.img").exists()
    failed = rig.ended(rig.order(Verb.START, empty))
    assert failed["error"]["code"] == "nothing_to_boot"


def test_the_last_good_boot_disk_is_kept_and_names_may_change(started: Rig) -> None:
    rig = started
    domu = rig.domu("before")
    first = rig.done(Verb.PREPARE, domu)["result"]
    folder = rig.config.domu_dir / str(domu.id)
    same = rig.done(Verb.PREPARE, domu)["result"]
    assert same == first
    second = replace(domu, boot=replace(domu.boot, serial=2, timeout=9))
    rig.done(Verb.PREPARE, second)
    assert sorted(path.name.split("-boot-")[1][0] for path in folder.glob("*-boot-*")) == ["1", "2"]
    third = replace(second, name="after", boot=replace(second.boot, serial=3, timeout=3))
    rig.done(Verb.PREPARE, third)
    assert sorted(path.name.split("-boot-")[1][0] for path in folder.glob("*-boot-*")) == ["2", "3"]
    assert sorted(path.name for path in rig.config.config_dir.iterdir()) == ["after"]
    rig.done(Verb.START, third)
    assert rig.sim.flags("after")


def test_a_foreign_configuration_is_not_overwritten(started: Rig) -> None:
    rig, domu = started, started.domu()
    (rig.config.config_dir / "web1").write_text("name = 'by hand'\n")
    failed = rig.ended(rig.order(Verb.START, domu))
    assert failed["error"]["code"] == "config_taken"
    assert (rig.config.config_dir / "web1").read_text() == "name = 'by hand'\n"


def test_what_the_dom0_cannot_do(started: Rig) -> None:
    rig = started
    fat = rig.domu("fat", memory_mib=100_000)
    big = rig.domu("big")
    big = replace(big, disks=(replace(big.disks[0], size_mib=2**25),))
    for domu, code in ((fat, "memory"), (big, "disk")):
        failed = rig.ended(rig.order(Verb.START, domu))
        assert (failed["outcome"], failed["error"]["code"]) == ("failed", code)
        assert not rig.running(domu)
    assert "error" in rig.ended(rig.order(Verb.START, fat))["error"]["output"]  # Xen's own words
    assert not list(rig.config.disk_dir.glob("*.new"))
    assert not (rig.config.disk_dir / f"{big.disks[0].id}.img").exists()


def test_a_lost_disk_is_not_made_again(started: Rig) -> None:
    """The pool is not mounted: an empty disk in its place would be worse than none."""
    rig, domu = started, started.domu()
    rig.done(Verb.START, domu)
    rig.done(Verb.DESTROY, domu)
    (rig.config.disk_dir / f"{domu.disks[0].id}.img").unlink()
    failed = rig.ended(rig.order(Verb.START, domu))
    assert failed["error"]["code"] in ("disk_lost", "disk_missing")
    changed = replace(domu, memory_mib=80)
    assert rig.ended(rig.order(Verb.PREPARE, changed))["error"]["code"] == "disk_lost"
    assert not list(rig.config.disk_dir.iterdir())
    rig.done(Verb.DELETE, domu)


def test_what_may_not_be_booted_any_more_is_not_built_again(started: Rig) -> None:
    """An approval that was taken back: the description has nothing to boot; what runs goes on until it ends."""
    rig = started
    direct = rig.domu("direct")
    direct = replace(direct, boot=replace(direct.boot, method=BootMethod.DIRECT, loader=None))
    rig.done(Verb.START, direct)
    until(lambda: "6.1.0-test" in rig.record(direct))
    rig.done(Verb.PREPARE, replace(direct, boot=replace(direct.boot, entries=())))
    assert rig.running(direct)
    rig.type(direct, "reboot\r")
    until(lambda: not rig.running(direct), "the guest has asked for a reboot")
    until(lambda: rig.bodies(ReportKind.ENDED, direct.id), "its end is told")
    failed = rig.ended(rig.order(Verb.START, replace(direct, boot=replace(direct.boot, entries=()))))
    assert failed["error"]["code"] == "nothing_to_boot"
    assert len(rig.effects("create", direct)) == 1
