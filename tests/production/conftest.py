"""The production layout, started once for all tests of this folder that ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.production.layout import Layout, layout


@pytest.fixture(scope="session")
def site() -> Iterator[Layout]:
    """A production installation; the first test that asks for it waits for its start."""
    with layout() as made:
        yield made
