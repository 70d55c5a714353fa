"""`berth-agent`: its commands, and a line for each thing that a dom0 lacks."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from agent_rig import Rig, write_toml

from vps.agent import check
from vps.agent.check import Verdict, items
from vps.agent.config import Config
from vps.agent.main import main


def verdicts(config: Config) -> dict[str, tuple[Verdict, str]]:
    return {item.name: (item.verdict, item.text) for item in items(config)}


def test_a_good_dom0(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(rig.toml)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ok"] * len(lines)
    assert any("Xen 4.17" in line for line in lines)
    assert any("answers and knows this dom0" in line for line in lines)


def test_what_is_missing_is_said_and_counted(
    rig: Rig, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    broken = replace(
        rig.config,
        xl=("/no/such/xl",),
        config_dir=tmp_path / "no such folder",
        xl_log_dir=tmp_path / "none",
        redis="redis://127.0.0.1:1/0",
        web="http://127.0.0.1:1",
    )
    found = verdicts(broken)
    for name in ("xl", "config_dir", "xl_log_dir", "redis", "web"):
        assert found[name][0] is Verdict.MISSING, name
    assert "Install Xen's tools" in found["xl"][1]
    assert "characters" in found["config_dir"][1]
    assert main(["check", "--config", str(write_toml(broken))]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "5 of what this dom0 needs is missing."


def test_wrong_secret_and_wrong_clock(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = verdicts(replace(rig.config, secret="wrong"))
    assert wrong["redis"][0] is Verdict.MISSING
    assert "enrol the dom0 again" in wrong["web"][1]
    monkeypatch.setattr(check, "_SKEW", -1.0)
    assert verdicts(rig.config)["clock"][0] is Verdict.WARNING


@pytest.mark.parametrize(
    ("faults", "words"),
    [({"no_xen": True}, "without Xen"), ({"rubbish": True}, "xl info tells no version")],
    ids=["no xen", "rubbish"],
)
def test_an_xl_that_does_not_answer_well(rig: Rig, faults: dict[str, object], words: str) -> None:
    rig.sim.set(faults=faults)
    verdict, text = verdicts(rig.config)["xl"]
    assert verdict is Verdict.MISSING
    assert words in text


def test_a_folder_that_cannot_be_written(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    found = verdicts(replace(rig.config, disk_dir=file / "disks"))
    assert found["disk_dir"][0] is Verdict.MISSING


def test_missing_tools(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool, path: None)
    assert verdicts(rig.config)["e2fsprogs"] == (
        Verdict.MISSING,
        "mke2fs, e2fsck, debugfs cannot be found; install e2fsprogs.",
    )


def test_version_and_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.strip()
    assert main(["run", "--config", str(tmp_path / "none")]) == 2
    assert "is not there" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["dance"])
    assert ended.value.code == 2
