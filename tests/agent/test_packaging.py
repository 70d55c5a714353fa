"""What packaging/ has for a dom0, and that docs/dom0.md tells the same."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vps.agent import check

ROOT = Path(__file__).resolve().parents[2]
PACKAGING = ROOT / "packaging"
DOM0_MD = (ROOT / "docs" / "dom0.md").read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = (PACKAGING / "systemd" / "berth-agent.service").read_text()
    unit = tmp_path / "berth-agent.service"
    unit.write_text(text.replace("/opt/berth/bin/berth-agent", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=60
    )
    said = [line for line in done.stderr.splitlines() if "berth-agent" in line]
    assert (done.returncode, said) == (0, [])


def test_the_unit_leaves_the_xl_processes_alone() -> None:
    text = (PACKAGING / "systemd" / "berth-agent.service").read_text()
    assert "\nKillMode=process\n" in text
    assert "xendomains.service" in text.partition("After=")[2].partition("\n")[0]


def test_the_rc_script_is_a_shell_script() -> None:
    script = PACKAGING / "netbsd" / "berth_agent"
    assert subprocess.run(["sh", "-n", script], capture_output=True, timeout=10).stderr == b""


def test_the_document_names_every_item_of_the_check() -> None:
    source = Path(check.__file__).read_text()
    names = set(re.findall(r"_(?:ok|warning|missing)\(\s*\"([\w.]+)\"", source)) - {"rc.conf"}
    names |= {"state_dir", "disk_dir", "config_dir"}
    table = DOM0_MD.partition("## What `berth-agent check` says")[2]
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", table)] == []


@pytest.mark.parametrize(
    "path", re.findall(r"packaging/[\w/.-]+|requirements/[\w.]+", DOM0_MD), ids=lambda path: str(path)
)
def test_what_the_document_names_is_there(path: str) -> None:
    assert (ROOT / path).exists()
