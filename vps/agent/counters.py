"""What a domain's disks and networks have moved: the counters that Linux' back ends keep in sysfs.

Reading some files a minute is the cheapest there is: `xentop` would start a process that reads the same files, and
rounds what it found to KiB (xen: tools/libs/stat/xenstat_linux.c). NetBSD's back ends keep no such counters; there
a domain is told without them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

_SECTOR = 512  # bytes; what the back end counts in, whatever the disk's own sectors are
_DISK = re.compile(r"(?:vbd|qdisk)-(\d+)-\d+", re.ASCII)
_VIF = re.compile(r"vif(\d+)\.\d+", re.ASCII)  # not vif1.0-emu, which is the same network once more


@dataclass(frozen=True)
class Counters:
    """Bytes since the domain was built, as the guest sees them; None where the dom0 does not count."""

    read: int | None = None
    written: int | None = None
    received: int | None = None
    sent: int | None = None

    def as_dict(self) -> dict[str, int]:
        """The fields of a domain in an inventory; what is not counted is left out."""
        named = {
            "read_bytes": self.read,
            "written_bytes": self.written,
            "received_bytes": self.received,
            "sent_bytes": self.sent,
        }
        return {name: value for name, value in named.items() if value is not None}


def read_counters(sys: Path) -> dict[int, Counters]:
    """{domain number: counters} from the sysfs mounted at `sys`; empty where there is none."""
    disks: dict[int, list[tuple[int, int]]] = defaultdict(list)
    networks: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for path in _found(sys / "bus" / "xen-backend" / "devices"):
        if (match := _DISK.fullmatch(path.name)) and (pair := _pair(path, "rd_sect", "wr_sect")):
            disks[int(match[1])].append(pair)
    for path in _found(sys / "class" / "net"):
        # What the dom0 sends into the interface is what the guest receives.
        if (match := _VIF.fullmatch(path.name)) and (pair := _pair(path, "tx_bytes", "rx_bytes")):
            networks[int(match[1])].append(pair)
    return {domid: _counters(disks.get(domid), networks.get(domid)) for domid in {*disks, *networks}}


def _counters(disks: list[tuple[int, int]] | None, networks: list[tuple[int, int]] | None) -> Counters:
    return Counters(
        sum(pair[0] for pair in disks) * _SECTOR if disks else None,
        sum(pair[1] for pair in disks) * _SECTOR if disks else None,
        sum(pair[0] for pair in networks) if networks else None,
        sum(pair[1] for pair in networks) if networks else None,
    )


def _found(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _pair(device: Path, first: str, second: str) -> tuple[int, int] | None:
    """Two numbers of a device; None when it has gone meanwhile, or does not count."""
    try:
        values = [int((device / "statistics" / name).read_text()) for name in (first, second)]
    except (OSError, ValueError):
        return None
    return values[0], values[1]
