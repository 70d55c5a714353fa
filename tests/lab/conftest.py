"""The lab's Xen for tests that need it: only where BERTH_LAB=1 says so, for a start costs a minute."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from lab import prerequisites
from lab.dom0_image import dom0
from lab.machine import Machine
from lab.ssh import Ssh
from tests.lab.xen_site import Server, Site
from tests.lab.xen_site import site as started_site

STAGES: dict[str, float] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("BERTH_LAB") == "1":
        return
    skip = pytest.mark.skip(reason="needs the real Xen: BERTH_LAB=1")
    for item in items:
        if item.get_closest_marker("lab"):
            item.add_marker(skip)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What the stages took, and the boot matrix as docs/boot-matrix.md has it."""
    for stage, seconds in STAGES.items():
        terminalreporter.line(f"{seconds:8.1f} s {stage}")
    rows = [
        f"| {report.nodeid.partition('::')[2]} | {word} | {report.duration:.0f} |"
        for word, reports in terminalreporter.stats.items()
        for report in reports
        if word in ("passed", "failed") and report.when == "call" and "matrix" in report.keywords
    ]
    if rows:
        terminalreporter.section("boot matrix")
        for line in ("| case | result | seconds |", "|---|---|---|", *sorted(rows)):
            terminalreporter.line(line)


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
    state = machine.start(dom0())
    STAGES["Xen " + ("from its snapshot" if state.from_snapshot else "booted")] = state.seconds
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


@pytest.fixture(scope="session")
def site(xen: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One product with this dom0 for all tests that need one."""
    with started_site(xen, tmp_path_factory.mktemp("lab-product") / "data") as started:
        STAGES["the dom0 enrolled until it was heard"] = started.joined
        yield started


@pytest.fixture(scope="session")
def one_server(site: Site) -> Iterator[Server]:
    """A server with room for the largest of the lab's disks; at the end nothing of it remains in dom0."""
    server = site.ask(disk=336)
    yield server
    server.delete()
    assert server.remains() == ""


@pytest.fixture
def server(one_server: Server) -> Iterator[Server]:
    """The same server for one test after the other, stopped at the beginning of each."""
    yield one_server
    one_server.destroy()
