"""Killed agents, Redis away, an xl that hangs or prints rubbish, a dom0 without Xen: nothing lost, nothing twice."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import pytest
from agent_rig import Rig, until

from vps.agent.outbox import RESEND
from vps.xen.messages import FINAL_OUTCOMES, NoteKind, ReportKind, Verb


def test_killed_while_xl_creates(rig: Rig) -> None:
    """The xl of the dead agent goes on; the next agent waits for it and finds its domain."""
    rig.start()
    domu = rig.domu()
    rig.done(Verb.PREPARE, domu)
    rig.sim.set(faults={"slow_create": 3.0})
    order = rig.order(Verb.START, domu)
    until(
        lambda: any(path.stat().st_size for path in rig.config.domu_dir.glob("*.pid")), "xl create is at work"
    )
    rig.kill()
    rig.start()
    last = rig.ended(order)
    assert (last["outcome"], last["result"]["boots"]) == ("done", 1)
    assert "Waiting for the creation that was under way" in [step["name"] for step in last["steps"]]
    assert len(rig.effects("create", domu)) == 1
    assert len(rig.effects("unpause", domu)) == 1
    assert [body["boots"] for body in rig.bodies(ReportKind.BOOTED, domu.id)] == [1]
    until(lambda: "6.1.0-test" in rig.record(domu))


def test_killed_while_a_boot_disk_is_made(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was laid out for mke2fs is in nobody's way later, least of all when the domU is deleted."""
    slow = tmp_path / "slow" / "mke2fs"
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/sh\nsleep 3\nexec {shutil.which("mke2fs")} "$@"\n')
    slow.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
        rig.start()
        domu = rig.domu()
        order = rig.order(Verb.PREPARE, domu)
        folder = rig.config.domu_dir / str(domu.id)
        until(lambda: list(folder.glob("*.stage")), "a boot disk is being made")
        rig.kill()
    (left_over,) = folder.glob("*.stage")
    rig.start()
    assert rig.ended(order)["outcome"] == "done"
    assert not left_over.exists()
    left_over.mkdir()  # whatever else may come in the way
    (left_over / "menu.lst").touch()
    rig.done(Verb.DELETE, domu)
    assert not folder.exists()


def test_killed_while_it_reboots(rig: Rig) -> None:
    rig.sim.set(times={**rig.sim.settings["times"], "shutdown": 2.0})
    rig.start()
    domu = rig.domu()
    rig.done(Verb.START, domu)
    until(lambda: "# " in rig.record(domu))
    order = rig.order(Verb.REBOOT, domu)
    until(lambda: rig.effects("reboot", domu), "the guest is asked")
    rig.kill()
    until(lambda: not rig.running(domu), "the guest goes on with its reboot")
    rig.start()
    last = rig.ended(order)
    assert (last["outcome"], last["result"]["boots"]) == ("done", 2)
    assert len(rig.effects("create", domu)) == 2


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [1])
def test_killed_at_any_moment(rig: Rig, seed: int) -> None:
    """A life of orders, with kill -9 at random moments: each is ended once, and boots are what was built."""
    dice = random.Random(seed)
    domus = [rig.domu(f"web{number}") for number in range(2)]
    rig.start()
    orders = []
    for verbs in zip(
        [Verb.START, Verb.REBOOT, Verb.DESTROY, Verb.START],
        [Verb.PREPARE, Verb.START, Verb.SHUTDOWN, Verb.START],
        strict=True,
    ):
        batch = [rig.order(verb, domu) for verb, domu in zip(verbs, domus, strict=True)]
        orders += batch
        deadline = time.monotonic() + 100
        while not all(rig.state(order) in FINAL_OUTCOMES for order in batch):
            assert time.monotonic() < deadline, rig.log.read_text()[-5000:]
            until(lambda: rig.told_since_start(), "the agent is there")
            time.sleep(dice.uniform(0.0, 1.5))
            rig.kill()
            rig.start()
        until(lambda batch=batch: all(rig.state(order) in FINAL_OUTCOMES for order in batch))
    outcomes = {str(order.operation): {body["outcome"] for body in rig.of(order)} for order in orders}
    assert all(len(states & FINAL_OUTCOMES) == 1 for states in outcomes.values()), outcomes
    assert all("done" in states for states in outcomes.values()), (outcomes, rig.log.read_text()[-5000:])
    for domu, boots in zip(domus, (3, 2), strict=True):
        # The newest inventory may be older than the last start.
        until(lambda domu=domu, boots=boots: rig.counted(domu) == boots, f"{domu.name} has {boots} boots")
        assert len(rig.effects("create", domu)) == boots
        told = [body["boots"] for body in rig.bodies(ReportKind.BOOTED, domu.id)]
        assert told == list(range(1, boots + 1))
        assert rig.running(domu)


def test_redis_away_loses_nothing(rig: Rig) -> None:
    rig.start()
    domu = rig.domu()
    rig.done(Verb.START, domu)
    until(lambda: "# " in rig.record(domu))
    rig.acknowledge = False
    rig.redis_server.kill()
    rig.sim.ok("reboot", "web1")
    until(lambda: len(rig.effects("create", domu)) == 2, "the agent goes on without Redis")
    (rig.redis_server.folder / "appendonlydir").rename(
        rig.redis_server.folder / "lost"
    )  # it loses all it held
    rig.redis_server.start()
    rig._last = "0"
    rig.acknowledge = True
    until(lambda: len(rig.bodies(ReportKind.BOOTED, domu.id)) == 2)
    assert rig.bodies(ReportKind.ENDED, domu.id)[0]["reason"] == "reboot"
    rig.done(Verb.DESTROY, domu)


def test_lost_reports_are_sent_again_as_soon_as_they_are_missed(rig: Rig) -> None:
    rig.acknowledge = False
    rig.start()
    domu = rig.domu()
    order = rig.order(Verb.PREPARE, domu)
    rig.ended(order)
    first = min(report.seq for report in rig.read() if report.seq)
    assert {report.oldest for report in rig.read() if report.seq} == {first}
    rig.redis_server.client().xtrim(rig.channels.out, maxlen=0)
    journal = str(rig.read()[0].journal)
    rig.note(NoteKind.ACKNOWLEDGE, {"journal": journal, "seq": first - 1, "missing": True})
    until(
        lambda: [r.seq for r in rig.read() if r.seq].count(first) == 2,
        "sent again before its time",
        seconds=RESEND / 2,
    )
    rig.done(Verb.DESTROY, domu)


def test_unacknowledged_reports_come_again(rig: Rig) -> None:
    rig.acknowledge = False
    rig.start()
    domu = rig.domu()
    order = rig.order(Verb.PREPARE, domu)
    rig.ended(order)
    seen = [report.seq for report in rig.read() if report.seq]
    until(lambda: [r.seq for r in rig.read() if r.seq].count(seen[0]) >= 2, "sent again", seconds=20)
    rig.acknowledge = True
    rig._last = "0"
    until(lambda: len(rig.read()))
    rig.kill()
    rig.start()
    count = len([report for report in rig.read() if report.seq])
    rig.done(Verb.DESTROY, domu)
    new = [report.seq for report in rig.read() if report.seq][count:]
    assert min(new) > max(seen), "a number is never used again"


def test_xl_prints_rubbish_hangs_or_has_no_xen(rig: Rig) -> None:
    rig.start()
    domu = rig.domu()
    rig.done(Verb.START, domu)
    for faults, code in (({"rubbish": True}, "rubbish"), ({"no_xen": True}, "no_xen")):
        rig.sim.set(faults=faults)
        failed = rig.ended(rig.order(Verb.PAUSE, domu))
        assert (failed["outcome"], failed["error"]["code"]) == ("failed", code)
        # A look that began before the fault may have its domains, and then no answer to `xl info`.
        inventory = until(lambda: (i := rig.inventory()) and i["error"] and not i["domains"] and i)
        assert inventory["xen"] is None
        rig.sim.set(faults={})
        until(lambda: rig.inventory()["xen"])
    assert rig.bodies(ReportKind.ENDED, domu.id) == []  # nothing counted as gone
    assert rig.running(domu)


@pytest.mark.slow
def test_a_hanging_xl_is_told(rig: Rig) -> None:
    rig.start()
    domu = rig.domu()
    rig.done(Verb.START, domu)
    until(lambda: rig.inventory()["xen"])
    rig.sim.set(faults={"hang": 40})
    inventory = until(lambda: (i := rig.inventory()) and i["error"] and i, "the hang is told", 40)
    assert inventory["xen"] is None
    assert "does not answer" in inventory["error"] or "did not end" in inventory["error"]
    assert rig.stop() < 3, "the agent ends though xl hangs"
    rig.sim.set(faults={})
    rig.start()
    until(lambda: rig.inventory()["xen"], "a picture again")
    assert rig.bodies(ReportKind.ENDED, domu.id) == []


def test_sigterm_touches_no_domain(rig: Rig) -> None:
    rig.start()
    domu = rig.domu()
    rig.done(Verb.START, domu)
    rig.sim.set(times={**rig.sim.settings["times"], "ack": 60.0})
    until(lambda: "# " in rig.record(domu))
    rig.type(domu, "hang\n")
    until(lambda: rig.sim.flags("web1") == "r-----")
    order = rig.order(Verb.SHUTDOWN, domu)
    until(lambda: rig.state(order) == "running")
    assert rig.stop() < 3
    assert rig.running(domu)
    rig.sim.set(times={**rig.sim.settings["times"], "ack": 0.3})
    rig.start()
    assert rig.ended(order)["error"]["code"] == "deaf"


def test_a_lost_journal_finds_what_runs(rig: Rig) -> None:
    rig.start()
    domu = rig.domu()
    rig.done(Verb.START, domu)
    rig.kill()
    for path in rig.config.state_dir.glob("journal*"):
        path.unlink()
    rig.start()
    assert rig.done(Verb.START, domu)["result"]["domid"] == rig.effects("create", domu)[0]["domid"]
    assert len(rig.effects("create", domu)) == 1
    journals = {report.journal for report in rig.read()}
    assert len(journals) == 2
    rig.done(Verb.DELETE, domu)
    assert not list(rig.config.disk_dir.iterdir())


def test_killed_between_a_cancel_and_its_answer(rig: Rig) -> None:
    """A cancel that was written down and not done is done at the next start."""
    from vps.agent.journal import Journal
    from vps.xen.messages import Outcome

    domu = rig.domu()
    journal = Journal(rig.config.journal_path)
    target = rig.web.order(Verb.START, domu.id, body={"domu": domu.as_dict()})
    cancel = rig.web.order(Verb.CANCEL, domu.id, body={"operation": str(target.operation)})
    journal.accept(cancel, Outcome.ACCEPTED, 1)
    journal.close()
    rig.start()
    assert rig.ended(cancel)["result"]["outcome"] == "cancelled"
    rig.web.give(target)
    rig.done(Verb.PREPARE, domu)
    assert rig.ended(target)["outcome"] == "cancelled"
    assert not rig.running(domu)


def test_orders_that_waited_too_long_for_a_dead_agent(rig: Rig) -> None:
    from vps.agent.journal import Journal
    from vps.xen.messages import Outcome

    domu = rig.domu()
    journal = Journal(rig.config.journal_path)
    late = rig.web.order(
        Verb.START, domu.id, body={"domu": domu.as_dict()}, not_after=int(time.time() * 1000) - 1
    )
    journal.accept(late, Outcome.ACCEPTED, 1)
    journal.describe(domu, late.generation)
    journal.close()
    rig.start()
    assert rig.ended(late)["error"]["code"] == "expired"
    assert not rig.effects("create", domu)


def test_two_agents_in_one_folder(rig: Rig) -> None:
    import subprocess
    import sys

    from agent_rig import ROOT

    rig.start()
    rig.inventory()
    second = subprocess.run(
        [sys.executable, "-m", "vps.agent.main", "run", "--config", str(rig.toml)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert second.returncode == 2
    assert "Another agent" in second.stderr
