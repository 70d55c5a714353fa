"""A server's life on a dom0: prepared, started, rebooted, shut down, destroyed, deleted; by orders alone."""

from __future__ import annotations

import pytest
from agent_rig import Rig, until, write_toml

from vps.agent import main
from vps.xen.messages import Head, NoteKind, Outcome, ReportKind, SigningKey, Verb


def test_prepare_start_destroy(rig: Rig) -> None:
    rig.start()
    domu = rig.domu()
    prepared = rig.done(Verb.PREPARE, domu)["result"]
    assert prepared["menu_serial"] == 1
    assert "title Linux" in prepared["menu_lst"]
    assert "menuentry 'Linux'" in prepared["grub_cfg"]
    assert (rig.config.config_dir / "web1").read_text() == prepared["config"]
    assert rig.config.disk_dir.joinpath(f"{domu.disks[0].id}.img").stat().st_size == 8 * 2**20

    started = rig.done(Verb.START, domu)["result"]
    assert started["boots"] == 1
    assert rig.running(domu)
    booted = rig.bodies(ReportKind.BOOTED, domu.id)
    assert [(body["run"], body["boots"], body["entry"], body["label"], body["why"]) for body in booted] == [
        (started["run"], 1, "Linux", "my-kernel 3", "start")
    ]
    until(lambda: "6.1.0-test" in rig.record(domu), "the guest's first words are on record")

    rig.done(Verb.DESTROY, domu)
    assert not rig.running(domu)
    ended = rig.bodies(ReportKind.ENDED, domu.id)
    assert [(body["run"], body["reason"], body["next"]) for body in ended] == [
        (started["run"], "destroy", "stopped")
    ]
    assert "6.1.0-test" in ended[0]["tail"]
    assert len(rig.effects("create", domu)) == 1

    outcomes = [report.body["outcome"] for report in rig.read() if report.kind is ReportKind.OPERATION]
    assert outcomes[0] == Outcome.ACCEPTED
    assert rig.stop() < 3
    # One id leads from a click to xl's exit.
    (create,) = [line for line in rig.log.read_text().splitlines() if "xl create" in line]
    assert "exit status 0" in create
    assert "request=request-2" in create
    assert rig.redis_server.client().execute_command("ACL", "LOG") == []


def test_heads_of_the_webs_events_are_kept_and_told(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.start()
    domu = rig.domu()
    first, second = Head(3, "a" * 64), Head(5, "b" * 64)
    rig.ended(rig.order(Verb.PREPARE, domu, head=first))
    rig.ended(rig.order(Verb.PREPARE, domu, head=second))
    until(lambda: rig.inventory()["heads"] == [[5, "b" * 64], [3, "a" * 64]])
    rig.ended(rig.order(Verb.PREPARE, domu, head=Head(5, "c" * 64)))
    until(lambda: [alarm["code"] for alarm in rig.inventory()["alarms"]] == ["chain"])
    rig.stop()
    assert main.main(["heads", "--config", str(write_toml(rig.config))]) == 0
    assert capsys.readouterr().out == f"3 {'a' * 64}\n5 {'b' * 64}\n"


def test_the_webs_key_is_rolled_while_the_agent_runs(rig: Rig) -> None:
    rig.start()
    domu, first, following = rig.domu(), rig.key, SigningKey.generate()
    rig.note(NoteKind.TRUST, {"key": "no key"})
    rig.note(NoteKind.TRUST, {"drop": first.kid})  # the last one is never dropped
    rig.note(NoteKind.TRUST, {"key": following.public_text()})
    until(lambda: rig.inventory()["agent"]["keys"] == [first.kid, following.kid])
    rig.key = rig.web.key = following
    rig.done(Verb.PREPARE, domu)
    rig.note(NoteKind.TRUST, {"drop": first.kid})
    until(lambda: rig.inventory()["agent"]["keys"] == [following.kid])
    rig.kill()
    rig.start()  # what was named and dropped outlives the agent
    rig.done(Verb.START, domu)
    rig.web.key = first
    dropped = rig.order(Verb.DESTROY, domu)
    until(lambda: any(alarm["code"] == "dropped" for alarm in rig.inventory()["alarms"]))
    assert rig.state(dropped) == "" and rig.running(domu)
    rig.note(NoteKind.TRUST, {"key": first.public_text()})  # what was dropped does not come back
    rig.web.key = following
    rig.done(Verb.DESTROY, domu)
    assert rig.inventory()["agent"]["keys"] == [following.kid]
