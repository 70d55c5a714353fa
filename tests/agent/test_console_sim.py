"""Consoles before the simulated xl: the order of create, attach and unpause, the lock, the end of a domain."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import sim_kernels
from sim_dom0 import SimDom0, until

from vps.agent.console import Consoles
from vps.xen.messages import Note, NoteKind


@pytest.fixture
def dom0(tmp_path: Path) -> Iterator[SimDom0]:
    dom0 = SimDom0.make(tmp_path)
    yield dom0
    dom0.end()


@pytest.fixture
def endings() -> list[tuple[UUID, UUID]]:
    return []


@pytest.fixture
def consoles(dom0: SimDom0, tmp_path: Path, endings: list[tuple[UUID, UUID]]) -> Iterator[Consoles]:
    made = Consoles(
        tmp_path / "c", dom0.argv(), lambda entry: None, lambda domu, run: endings.append((domu, run))
    )
    yield made
    made.close()


def create_paused(dom0: SimDom0) -> int:
    kernel = dom0.file("linux", sim_kernels.linux("6.1.0-56-amd64"))
    config = dom0.config("web1", kernel, {"xvda": dom0.disk()}, extra="console=hvc0 root=/dev/xvda1")
    dom0.ok("create", "-p", str(config))
    return int(dom0.ok("domid", "web1"))


def test_from_the_first_byte_to_the_last(
    dom0: SimDom0, consoles: Consoles, endings: list[tuple[UUID, UUID]]
) -> None:
    domu, run = uuid4(), uuid4()
    domid = create_paused(dom0)
    consoles.attach(domu, "web1", run, domid)
    assert consoles.tail(domu) == ""
    dom0.ok("unpause", "web1")
    until(lambda: "/ # " in consoles.tail(domu, 65536), "a shell")
    assert "Linux version 6.1.0-56-amd64" in consoles.tail(domu, 65536).splitlines()[0]
    consoles.note(Note(uuid4(), NoteKind.WATCH, 0, {"domu": str(domu), "watch": "w", "seconds": 30}))
    typed = base64.b64encode(b"poweroff\r").decode()
    consoles.note(Note(uuid4(), NoteKind.KEYS, 0, {"domu": str(domu), "watch": "w", "n": 1, "data": typed}))
    until(lambda: (domu, run) in endings, "the end of the console")
    consoles.ended(domu, run, {"reason": "poweroff"})
    assert "poweroff" in consoles.tail(domu)


def test_console_that_somebody_else_holds_is_taken_when_they_leave(dom0: SimDom0, consoles: Consoles) -> None:
    domu = uuid4()
    domid = create_paused(dom0)
    other = dom0.console("web1")
    dom0.ok("unpause", "web1")
    other.expect("/ # ")
    consoles.attach(domu, "web1", uuid4(), domid)
    assert other.leave() == 0
    record = consoles._last(domu)
    assert record is not None
    pty = until(lambda: (it := consoles._consoles[domu].pty) and it.open.is_set() and it, "attached")
    assert pty.process.poll() is None
    pty.write(b"uname -a\r")
    until(lambda: "Linux" in consoles.tail(domu), "an answer")
