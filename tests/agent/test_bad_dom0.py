"""A dom0 with a wrong clock, a full disk, no bridge, no memory: it says so in words, and nothing is left half made.

An xl that hangs or prints rubbish, and a dom0 without Xen, are in test_faults.py.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sim_kernels
from agent_rig import Rig, until

from vps.xen.messages import ReportKind, Verb


def alarms(rig: Rig) -> dict[str, str]:
    return {alarm["code"]: alarm["text"] for alarm in rig.inventory()["alarms"]}


@pytest.mark.parametrize("off", [pytest.param(-3600.0, id="slow"), pytest.param(86400.0, id="fast")])
def test_a_wrong_clock_is_told_and_does_no_harm(rig: Rig, off: float) -> None:
    rig.start(clock=off)
    domu = rig.domu()
    began = time.time()
    assert rig.done(Verb.START, domu)["result"]["boots"] == 1
    text = until(lambda: alarms(rig).get("skew"), "the skew is told")
    assert f"clock is {off:.0f} s off" in text and "run NTP" in text
    assert abs(rig.inventory()["skew_ms"] - off * 1000) < 2000
    booted = next(report for report in rig.read() if report.kind is ReportKind.BOOTED)
    assert began - 2 <= booted.at / 1000 <= time.time() + 2, "reports carry the web's time"
    # Set right under a running agent: what it waits for by its own clock is not lost.
    rig.kill()
    rig.start()
    rig.done(Verb.REBOOT, domu)
    until(lambda: "skew" not in alarms(rig), "and no longer told")
    assert len(rig.effects("create", domu)) == 2


@pytest.fixture
def small_disk() -> Iterator[Any]:
    """Mounts a file system of so many KiB over a folder."""
    mounted: list[Path] = []

    def mount(folder: Path, kib: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)], capture_output=True
        )
        if done.returncode != 0:
            pytest.skip("mounting a small file system needs root")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_pool(rig: Rig, small_disk: Any) -> None:
    small_disk(rig.config.disk_dir, 80 * 1024)
    (rig.config.disk_dir / "of-somebody-else").write_bytes(bytes(12 << 20))
    rig.start()
    domu = rig.domu()
    failed = rig.ended(rig.order(Verb.START, domu))
    assert (failed["outcome"], failed["error"]["code"]) == ("failed", "disk")
    assert "needs 8 MiB and the dom0 has 4 MiB free" in failed["error"]["text"]
    assert [path.name for path in rig.config.disk_dir.iterdir()] == ["of-somebody-else"]
    assert not rig.effects("create", domu)
    assert "has 68 MiB left" in until(lambda: alarms(rig).get("disk"), "the full pool is told")
    (rig.config.disk_dir / "of-somebody-else").unlink()
    rig.done(Verb.START, domu)


def test_a_full_disk_under_the_boot_disks(rig: Rig, small_disk: Any) -> None:
    small_disk(rig.config.domu_dir, 16)
    rig.start()
    domu = rig.domu()
    failed = rig.ended(rig.order(Verb.START, domu))
    assert failed["outcome"] == "failed"
    assert failed["error"]["code"] in ("no_space", "boot_disk")
    assert "No space left on device" in failed["error"]["output"]
    assert not [path for path in rig.config.domu_dir.rglob("*") if path.suffix in (".img", ".new", ".stage")]
    assert not list(rig.config.config_dir.iterdir())
    assert not rig.effects("create", domu)
    subprocess.run(["mount", "-o", "remount,size=64m", str(rig.config.domu_dir)], check=True)
    rig.done(Verb.START, domu)


def test_a_bridge_that_is_not_there(rig: Rig) -> None:
    rig.sim.set(bridges=["other0"])
    rig.start()
    domu = rig.domu()
    failed = rig.ended(rig.order(Verb.START, domu))
    assert (failed["outcome"], failed["error"]["code"]) == ("failed", "bridge_missing")
    assert "Could not find bridge device xenbr0" in failed["error"]["text"]
    assert "vif-bridge online" in failed["error"]["output"]
    assert not rig.running(domu)
    rig.sim.set(bridges=["xenbr0"])
    assert rig.done(Verb.START, domu)["result"]["boots"] == 1


def test_memory_that_others_took(rig: Rig) -> None:
    rig.start()
    domu = rig.domu(memory_mib=512)
    rig.done(Verb.PREPARE, domu)
    assert "memory" not in alarms(rig)
    free = int(rig.sim.ok("info", "free_memory"))
    kernel = rig.sim.file("vmlinuz", sim_kernels.linux())
    foreign = rig.sim.config("stranger", kernel, memory=free - 100, extra="root=/dev/ram0")
    rig.sim.ok("create", str(foreign))
    text = until(lambda: alarms(rig).get("memory"), "the lack is told")
    assert "the servers that are stopped need 512 MiB" in text
    failed = rig.ended(rig.order(Verb.START, domu))
    assert (failed["outcome"], failed["error"]["code"]) == ("failed", "memory")
    assert "can't allocate low memory for domain" in failed["error"]["output"]
    assert not rig.running(domu)
    assert rig.sim.flags("stranger"), "what is not Berth's is left alone"
    rig.sim.ok("destroy", "stranger")
    rig.done(Verb.START, domu)
    until(lambda: "memory" not in alarms(rig), "enough again")
