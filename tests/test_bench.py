"""The measurements go through, so that they can be believed when they are wanted. How fast anything is, is no test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMES = {
    "console": ["a key's echo, median", "console output"],
    "upload": ["upload against write, hash, fsync in a loop"],
    "pages": ["500 servers in one page, their owner, sqlite", "page 1 of 20,000, sqlite"],
    "inventories": ["inventories of 160 servers, all as before"],
    "clicks": ["click to xl started, median", "click to journal, many at once"],
    "memory": ["all of the web side, after use", "an agent, after use"],
}


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", NAMES)
def test_a_measurement_goes_through(tmp_path: Path, name: str) -> None:
    told = tmp_path / "figures.json"
    run = subprocess.run(
        [sys.executable, f"bench/{name}.py", "--quick", "--json", told],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=390,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    value = json.loads(told.read_text())
    figures = {figure["name"]: figure for figure in value["figures"]}
    assert value["quick"] and value["machine"]["cores"]
    for wanted in NAMES[name]:
        assert figures[wanted]["measured"] > 0
        assert figures[wanted]["verdict"] in ("met", "MISSED")


def test_a_figure_is_met_or_missed() -> None:
    sys.path.insert(0, str(ROOT))
    try:
        from bench.measures import Figure, median, percentile
    finally:
        sys.path.remove(str(ROOT))
    assert Figure("echo", 3.0, "ms", 3.0).verdict == "met"
    assert Figure("echo", 3.1, "ms", 3.0).verdict == "MISSED"
    assert Figure("output", 19.9, "MB/s", 20.0, at_least=True).verdict == "MISSED"
    assert Figure("told only", 5.0, "ms").verdict == ""
    assert "<= 3" in Figure("echo", 3.1, "ms", 3.0).row() and "MISSED" in Figure("echo", 3.1, "ms", 3.0).row()
    assert (median([3, 1, 2]), percentile(range(1, 101), 99), percentile([7], 99)) == (2, 99, 7)
