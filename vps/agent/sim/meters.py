"""What the simulated dom0's back ends have counted, as files where Linux has them: DIR/sys, in the form of /sys.

Disks: what the loader really read out of them. Networks: nothing ever passes, and so they say 0.
"""

# pathlib would cost every domain memory and milliseconds.
# ruff: noqa: PTH103, PTH105, PTH118, PTH123, PTH208
from __future__ import annotations

import contextlib
import os
import shutil
from typing import Any

from vps.agent.sim.disks import disk_number
from vps.agent.sim.host import Machine

_SECTOR = 512


def make(machine: Machine, record: dict[str, Any]) -> None:
    """Begin at 0 for every disk and network of a domain."""
    for disk in record["disks"]:
        folder = _disk(machine, record["domid"], disk["device"])
        _write(folder, rd_sect=0, wr_sect=0)
    for index in range(len(record["nics"])):
        _write(machine.path("sys", "class", "net", f"vif{record['domid']}.{index}"), rx_bytes=0, tx_bytes=0)


def remove(machine: Machine, domid: int) -> None:
    """The domain is gone, and with it its back ends."""
    for folder, beginning in (("bus/xen-backend/devices", f"vbd-{domid}-"), ("class/net", f"vif{domid}.")):
        path = machine.path("sys", folder)
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(path):
                if name.startswith(beginning):
                    shutil.rmtree(os.path.join(path, name), ignore_errors=True)


def count_read(machine: Machine, domid: int, device: str, size: int) -> None:
    """`size` bytes were read from a disk."""
    folder = _disk(machine, domid, device)
    with contextlib.suppress(OSError, ValueError):
        with open(os.path.join(folder, "statistics", "rd_sect")) as file:
            before = int(file.read())
        _write(folder, rd_sect=before + -(-size // _SECTOR))


def _disk(machine: Machine, domid: int, device: str) -> str:
    return machine.path("sys", "bus", "xen-backend", "devices", f"vbd-{domid}-{disk_number(device)}")


def _write(folder: str, **values: int) -> None:
    os.makedirs(os.path.join(folder, "statistics"), exist_ok=True)
    for name, value in values.items():
        path = os.path.join(folder, "statistics", name)
        with open(f"{path}.new", "w") as file:
            file.write(f"{value}\n")
        os.replace(f"{path}.new", path)
