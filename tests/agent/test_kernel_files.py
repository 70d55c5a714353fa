"""Kernels on the dom0: by content, fetched once, a copy of its own for each server, and nothing lost when one fails."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from agent_rig import Rig, until

from vps.xen.description import BootMethod, Description
from vps.xen.messages import Verb


@pytest.fixture
def started(rig: Rig) -> Rig:
    rig.start()
    return rig


def failed_prepare(rig: Rig, domu: Description, fault: list[str]) -> dict[str, Any]:
    """A preparation with another kernel that fails, and leaves what was prepared before as it was."""
    folder = rig.config.domu_dir / str(domu.id)
    before = {path: path.read_bytes() for path in [*folder.iterdir(), rig.config.config_dir / domu.name]}
    entry = replace(domu.boot.entries[0], kernel=rig.kernel("6.9.0-new"))
    rig.blobs.faults = fault
    newer = replace(domu, boot=replace(domu.boot, serial=2, entries=(entry,)))
    failed = rig.ended(rig.order(Verb.PREPARE, newer), 60)
    assert failed["outcome"] == "failed"
    assert {path: path.read_bytes() for path in before} == before, "the last good boot disk is untouched"
    assert not [path for path in folder.iterdir() if path not in before], "nothing half made is left"
    return failed


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        pytest.param(["rubbish"] * 9, "web_unreachable", "another sum or size", id="wrong sum"),
        pytest.param(["404"], "blob_unknown", "choose another kernel", id="unknown"),
        pytest.param(
            ["break"] * 5, "web_unreachable", "does not give a file", id="broken off again and again"
        ),
    ],
)
def test_a_kernel_that_cannot_be_had(started: Rig, fault: list[str], code: str, words: str) -> None:
    rig, domu = started, started.domu()
    rig.done(Verb.PREPARE, domu)
    failed = failed_prepare(rig, domu, fault)
    assert failed["error"]["code"] == code
    assert words in failed["error"]["text"]
    rig.blobs.faults = []
    assert rig.done(Verb.START, domu)["result"]["boots"] == 1, "what was good boots on"
    until(lambda: "6.1.0-test" in rig.record(domu))


def test_two_servers_want_the_same_kernel_at_once(started: Rig) -> None:
    """It is fetched once, though it breaks off; each server has a named copy of its own."""
    rig = started
    kernel = rig.blobs.add(b"a kernel that is copied" * 20_000)
    domus = []
    for name in ("one", "two"):
        domu = rig.domu(name)
        entry = replace(domu.boot.entries[0], kernel=kernel)
        boot = replace(domu.boot, method=BootMethod.DIRECT, entries=(entry,), loader=None)
        domus.append(replace(domu, boot=boot, nics=()))
    rig.blobs.faults = ["break"]
    orders = [rig.order(Verb.PREPARE, domu) for domu in domus]
    assert [rig.ended(order)["outcome"] for order in orders] == ["done", "done"]
    asked = [wanted for path, wanted in rig.blobs.asked if path.endswith(kernel.sha256)]
    assert asked == ["", f"bytes={kernel.size // 2}-"], "once, and gone on with where it broke off"
    copies = [
        rig.config.domu_dir / str(domu.id) / f"{domu.name}-kernel-{kernel.sha256[:12]}" for domu in domus
    ]
    assert len({path.stat().st_ino for path in copies}) == 2, "copies, no links"
    copies[0].write_bytes(b"spoiled")
    assert copies[1].read_bytes() == rig.blobs.blobs[kernel.sha256]
    for domu, left in zip(domus, ([kernel.sha256], []), strict=True):
        rig.done(Verb.DELETE, domu)
        assert [path.name for path in rig.config.blob_dir.iterdir()] == left
