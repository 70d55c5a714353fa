"""The measurement of the console's way goes through, so that it can be believed when it is wanted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench" / "console.py"


@pytest.mark.slow
def test_bench_runs(tmp_path: Path) -> None:
    told = tmp_path / "figures.json"
    run = subprocess.run(
        [sys.executable, BENCH, "--keys", "30", "--mb", "2", "--watchers", "1", "--json", told],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 0, run.stderr
    figures = json.loads(told.read_text())
    assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]
    assert figures["mb_per_s"] > 0
