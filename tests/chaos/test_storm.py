"""A short storm with everything that `make chaos` has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.__main__ import run


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_lost_and_nothing_done_twice(tmp_path: Path) -> None:
    line, found = run(7, 40, tmp_path / "storm", seconds=120, strike_every=3, servers=1)
    print(line)
    assert found == []
