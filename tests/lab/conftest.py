"""The lab's Xen for tests that need it: only where BERTH_LAB=1 says so, for a start costs a minute."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab import prerequisites
from lab.dom0_image import dom0
from lab.machine import Machine
from lab.ssh import Ssh


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("BERTH_LAB") == "1":
        return
    skip = pytest.mark.skip(reason="needs the real Xen: BERTH_LAB=1")
    for item in items:
        if item.get_closest_marker("lab"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def xen() -> Iterator[Machine]:
    """A machine of the tests' own, stopped at the end."""
    prerequisites.check_build()
    prerequisites.check_start()
    # A name for each run: two at once must not stop each other's machine.
    machine = Machine(os.environ.get("BERTH_LAB_NAME") or "tests")
    if machine.state():
        pytest.fail(
            f"The machine {machine.name} runs already. Give this run another, BERTH_LAB_NAME=tests2, "
            f"or end what a killed run left: python -m lab --name {machine.name} stop"
        )
    machine.stop()
    machine.start(dom0())
    yield machine
    machine.stop()


@pytest.fixture
def ssh(xen: Machine) -> Iterator[Ssh]:
    """dom0's root; what a test left running is destroyed."""
    ssh = xen.ssh()
    yield ssh
    ssh.shell(
        "for name in $(xl list | awk 'NR > 2 { print $1 }'); do xl destroy $name; done",
        timeout=300,
        check=False,
    )
