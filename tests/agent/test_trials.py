"""Trial boots on the simulated dom0: every verdict, and that nothing of a trial is left, whatever ended it."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
import sim_kernels
from agent_rig import Rig, until

from vps.agent.sim.loader import placeholder
from vps.xen.description import BlobRef, BootEntry, DomainType, GuestOS
from vps.xen.messages import Order, Outcome, Verb
from vps.xen.trial import make


def ordered(
    rig: Rig, kernel: bytes, arguments: str = "", ramdisk: bytes = b"", seconds: int = 150, **changes: Any
) -> Order:
    operation = uuid4()
    entry = BootEntry(
        "Trial", rig.blobs.add(kernel), rig.blobs.add(ramdisk) if ramdisk else None, arguments, "k 1"
    )
    trial = make(
        operation,
        kind=DomainType.PV,
        guest_os=GuestOS.OTHER,
        loader=rig.blobs.add(placeholder("pv64")),
        entry=entry,
        memory_mib=64,
        seconds=seconds,
    )
    body = {**trial.as_body(), **changes}
    return rig.web.give(rig.web.order(Verb.TRIAL, None, operation=operation, body=body))


def nothing_is_left(rig: Rig, trial: UUID) -> None:
    assert str(trial) not in rig.sim.ok("list", "-v")
    left = [str(path) for path in rig.config.state_dir.rglob("*") if str(trial) in str(path)]
    assert left == []
    assert list(rig.config.config_dir.iterdir()) == []
    assert list(rig.config.blob_dir.iterdir()) == []


pytestmark = pytest.mark.timeout(400)

VERDICTS = [
    pytest.param(sim_kernels.linux(), "", b"ramdisk", "login", "/ #", id="shell"),
    pytest.param(sim_kernels.netbsd(), "root=xbd0a", b"", "login", "login:", id="login"),
    pytest.param(
        sim_kernels.netbsd(), "root=xbd7a", b"", "root_prompt", "root device", id="NetBSD's question"
    ),
    pytest.param(
        sim_kernels.linux(), "root=/dev/xvda", b"", "root_prompt", "VFS: Unable to mount root", id="no root"
    ),
    pytest.param(sim_kernels.linux(), "sim=panic", b"", "panicked", "Attempted to kill init", id="panic"),
    pytest.param(sim_kernels.netbsd(), "sim=panic", b"", "panicked", "panic: ", id="NetBSD's panic"),
    pytest.param(sim_kernels.linux(), "sim=exit", b"", "exited", "Booting kernel on Xen", id="exit"),
    pytest.param(
        sim_kernels.linux(wide=False), "", b"", "refused", "error: couldn't load file /k/", id="GRUB refuses"
    ),
]


@pytest.mark.parametrize(("kernel", "arguments", "ramdisk", "verdict", "line"), VERDICTS)
def test_verdict(rig: Rig, kernel: bytes, arguments: str, ramdisk: bytes, verdict: str, line: str) -> None:
    rig.start()
    order = ordered(rig, kernel, arguments, ramdisk)
    last = rig.ended(order, 200)
    assert last["outcome"] == Outcome.DONE, last
    result = last["result"]
    assert (result["verdict"], last["domu"]) == (verdict, None)
    assert line in result["line"] and "Welcome to GRUB!" in result["transcript"]
    assert line in result["transcript"]
    assert 0 < result["seconds"] < 150, "it stops when the verdict is final"
    nothing_is_left(rig, order.operation)


def test_silence_lasts_until_time_is_up(rig: Rig) -> None:
    rig.start()
    result = rig.ended(ordered(rig, sim_kernels.linux(), "sim=silent", seconds=5), 200)["result"]
    assert (result["verdict"], result["line"], result["ended"]) == ("silent", "", None)
    assert result["seconds"] >= 5


def test_it_is_counted_nowhere_and_gone_after_a_cancel(rig: Rig) -> None:
    rig.start()
    order = ordered(rig, sim_kernels.linux(), "sim=silent", seconds=300)
    until(lambda: str(order.operation) in rig.sim.ok("list", "-v"), "the trial's domain", 100)
    assert rig.inventory()["domus"] == []
    assert "trial" in rig.inventory()["agent"]["verbs"]
    body = {"operation": str(order.operation)}
    rig.web.give(rig.web.order(Verb.CANCEL, None, operation=order.operation, body=body))
    last = rig.ended(order, 200)
    assert (last["outcome"], last["remains"]) == (Outcome.CANCELLED, "Nothing of the trial is left.")
    nothing_is_left(rig, order.operation)


def test_after_the_agents_death_the_next_one_clears_away_and_begins_anew(rig: Rig) -> None:
    rig.start()
    order = ordered(rig, sim_kernels.linux(), "sim=silent", seconds=5)
    until(lambda: str(order.operation) in rig.sim.ok("list", "-v"), "the trial's domain", 100)
    rig.kill()
    rig.start()
    last = rig.ended(order, 200)
    assert last["outcome"] == Outcome.DONE and last["result"]["verdict"] == "silent"
    assert "Clearing away what an earlier attempt has left" in [step["name"] for step in last["steps"]]
    assert len([line for line in rig.sim.effects("create") if line["uuid"] == str(order.operation)]) == 2
    nothing_is_left(rig, order.operation)


def test_what_is_left_of_an_ended_order_is_cleared_away_too(rig: Rig) -> None:
    """It was cancelled while no agent was there: nobody runs it again, and its domain still is there."""
    rig.start()
    order = ordered(rig, sim_kernels.linux(), "sim=silent", seconds=300)
    until(lambda: str(order.operation) in rig.sim.ok("list", "-v"), "the trial's domain", 100)
    rig.kill()
    body = {"operation": str(order.operation)}
    rig.web.give(rig.web.order(Verb.CANCEL, None, operation=order.operation, body=body))
    rig.start()
    rig.ended(order, 200)
    until(lambda: str(order.operation) not in rig.sim.ok("list", "-v"), "the end of the trial's domain", 100)


def test_what_could_not_be_cleared_away_at_its_end_is_later_by_the_same_agent(rig: Rig) -> None:
    rig.start()
    order = ordered(rig, sim_kernels.linux(), "sim=silent", seconds=300)
    until(lambda: str(order.operation) in rig.sim.ok("list", "-v"), "the trial's domain", 100)
    rig.sim.set(faults={"no_xen": True})
    body = {"operation": str(order.operation)}
    rig.web.give(rig.web.order(Verb.CANCEL, None, operation=order.operation, body=body))
    rig.ended(order, 200)
    assert (rig.config.domu_dir / str(order.operation)).is_dir()
    rig.sim.set(faults={})
    until(lambda: not (rig.config.domu_dir / str(order.operation)).exists(), "that it is cleared away", 100)
    nothing_is_left(rig, order.operation)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"seconds": 100_000}, "A trial lasts", id="for ever"),
        pytest.param({"seconds": True}, "A trial lasts", id="no number"),
        pytest.param({"trial": None}, "missing or of the wrong form", id="nothing"),
    ],
)
def test_what_is_no_trial_is_refused(rig: Rig, changes: dict[str, Any], words: str) -> None:
    rig.start()
    last = rig.ended(ordered(rig, sim_kernels.linux(), **changes), 200)
    assert last["outcome"] == Outcome.REFUSED and words in last["error"]["text"]


def test_a_file_that_cannot_be_had_fails_and_leaves_nothing(rig: Rig) -> None:
    rig.start()
    order = ordered(rig, sim_kernels.linux())
    lost = ordered(rig, sim_kernels.linux("9.9"))
    assert rig.ended(order, 200)["outcome"] == Outcome.DONE
    del lost
    operation = uuid4()
    entry = BootEntry("Trial", BlobRef("0" * 64, 5), None, "", "k 1")
    trial = make(
        operation,
        kind=DomainType.PV,
        guest_os=GuestOS.OTHER,
        loader=rig.blobs.add(placeholder("pv64")),
        entry=entry,
        memory_mib=64,
        seconds=20,
    )
    order = rig.web.give(rig.web.order(Verb.TRIAL, None, operation=operation, body=trial.as_body()))
    last = rig.ended(order, 200)
    assert last["outcome"] == Outcome.FAILED and last["error"]["code"] == "blob_unknown"
