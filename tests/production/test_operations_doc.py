"""docs/operations.md names what is there; the units run what the images run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import get_commands

from tests.production.docker_files import ROOT, targets

TEXT = (ROOT / "docs" / "operations.md").read_text()
SETTINGS = (ROOT / "vps" / "settings.py").read_text()
UNITS = ("web", "gateway", "worker", "collector")


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"(?:packaging|requirements|docker|tests)/[\w/.-]*\w", TEXT)))
)
def test_what_the_document_names_is_there(path: str) -> None:
    assert (ROOT / path).exists() or path.startswith("docker/secrets")


def test_every_command_is_one() -> None:
    named = set(re.findall(r"manage\.py ([a-z_0-9]+)", TEXT))
    assert len(named) > 8 and named <= set(get_commands())


@pytest.mark.parametrize("where", ["docs/operations.md", "packaging/web.env.example"])
def test_every_setting_is_one(where: str) -> None:
    for name in set(re.findall(r"\bBERTH_[A-Z0-9_]+\b", (ROOT / where).read_text())):
        assert f'"{name}"' in SETTINGS or f'"{name.removesuffix("_FILE")}"' in SETTINGS, name


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_runs_what_its_image_runs(name: str) -> None:
    unit = (ROOT / "packaging" / "systemd" / f"berth-{name}.service").read_text()
    command = re.search(r"^ExecStart=/opt/berth/venv/bin/(.*)$", unit, re.MULTILINE)
    assert command
    assert command[1].replace("127.0.0.1:", "0.0.0.0:").split() == targets()[name].cmd


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(name: str, tmp_path: Path) -> None:
    text = (ROOT / "packaging" / "systemd" / f"berth-{name}.service").read_text()
    unit = tmp_path / f"berth-{name}.service"
    unit.write_text(re.sub(r"/opt/berth/venv/bin/\w+", sys.executable, text))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=60
    )
    said = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, said) == (0, [])
