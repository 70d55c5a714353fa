"""The production layout, started once for all tests of this folder that ask for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.production.layout import Layout, layout
from tests.production.people import operator_of, owner_of
from tests.story.browser import Browser


@pytest.fixture(scope="session")
def site() -> Iterator[Layout]:
    """A production installation; the first test that asks for it waits for its start."""
    with layout() as made:
        yield made


@pytest.fixture(scope="module")
def operator(site: Layout) -> Iterator[Browser]:
    with contextlib.closing(operator_of(site)) as browser:
        yield browser


@pytest.fixture(scope="module")
def owner(site: Layout) -> Iterator[Browser]:
    with contextlib.closing(owner_of(site)) as browser:
        yield browser
