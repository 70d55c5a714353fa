"""The counters of sysfs: as Linux has them, gone meanwhile, rubbish; and those of the simulated dom0."""

from __future__ import annotations

from pathlib import Path

import sim_kernels
from agent_rig import Rig, until

from vps.agent.counters import Counters, read_counters
from vps.xen.messages import ReportKind, Verb


def device(sys: Path, kind: str, name: str, **values: object) -> None:
    base = sys / ("bus/xen-backend/devices" if kind == "disk" else "class/net") / name / "statistics"
    base.mkdir(parents=True)
    for key, value in values.items():
        (base / key).write_text(f"{value}\n")


def test_disks_and_networks_of_a_domain_are_summed_up(tmp_path: Path) -> None:
    device(tmp_path, "disk", "vbd-5-51712", rd_sect=10, wr_sect=1)
    device(tmp_path, "disk", "qdisk-5-51728", rd_sect=2, wr_sect=0)
    device(tmp_path, "net", "vif5.0", rx_bytes=100, tx_bytes=7)
    device(tmp_path, "net", "vif5.0-emu", rx_bytes=100, tx_bytes=7)
    device(tmp_path, "net", "vif12.0", rx_bytes=1, tx_bytes=2)
    device(tmp_path, "net", "eth0", rx_bytes=9, tx_bytes=9)
    # What goes out of the dom0's end is what comes in at the guest's.
    assert read_counters(tmp_path) == {
        5: Counters(read=12 * 512, written=512, received=7, sent=100),
        12: Counters(received=2, sent=1),
    }
    assert read_counters(tmp_path)[12].as_dict() == {"received_bytes": 2, "sent_bytes": 1}


def test_what_is_not_there_or_not_a_number_is_left_out(tmp_path: Path) -> None:
    assert read_counters(tmp_path / "nowhere") == {}
    device(tmp_path, "disk", "vbd-1-51712", rd_sect="x", wr_sect=1)
    device(tmp_path, "disk", "vbd-2-51712", rd_sect=1)
    device(tmp_path, "disk", "vif-2-0", rd_sect=1, wr_sect=1)
    assert read_counters(tmp_path) == {}


def test_the_simulated_dom0_counts_what_its_loader_reads(rig: Rig) -> None:
    rig.start()
    domu = rig.domu()
    rig.done(Verb.START, domu)
    booted = until(lambda: rig.effects("boot", domu), "the kernel runs")
    domid = booted[0]["domid"]
    sys = rig.config.sysfs
    counted = read_counters(sys)[domid]
    assert counted.read and counted.read > len(sim_kernels.linux("6.1.0-test"))
    assert (counted.written, counted.received, counted.sent) == (0, 0, 0)

    def told() -> list[dict[str, object]]:
        last = rig.bodies(ReportKind.INVENTORY)[-1]
        return [row for row in last["domains"] if row["domid"] == domid and "read_bytes" in row]

    until(told, "an inventory with counters")
    assert rig.bodies(ReportKind.INVENTORY)[-1]["kernel"] == "6.1.0-sim"
    rig.done(Verb.DESTROY, domu)
    until(lambda: domid not in read_counters(sys), "the counters are gone with the domain")
