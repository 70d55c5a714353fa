"""What inspection costs: the whole call as the web makes it, against unpacking alone.

    python bench/inspection.py [--runs 5] [--json FILE] [--debian]

Each kernel is inspected by `vps.inspection.inspect_file` (a process of its own, its start included), and unpacked by
the same library in this process. What is beyond unpacking may be 150 ms (issue 5, point 2). Where a plain ELF is made
for the loader, packing that is shown on its own. Seconds are of cpu, which a busy machine does not falsify, and of the
clock; medians, each of its own column. `--debian` takes the kernels that Debian ships as well, which are fetched once.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
EXPECTED_MS = 150


class Spent(NamedTuple):
    cpu: float
    clock: float


def spent(what: Callable[[], object]) -> Spent:
    """By this process and the children that ended meanwhile."""
    before, began = _cpu(), time.monotonic()
    what()
    return Spent(_cpu() - before, time.monotonic() - began)


def _cpu() -> float:
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def middle(times: list[Spent]) -> Spent:
    return Spent(statistics.median(one.cpu for one in times), statistics.median(one.clock for one in times))


def unpacked(data: bytes) -> memoryview:
    """The kernel in a file: out of gzip, out of a bzImage; the file itself where it is neither."""
    from vps.xen.inspect.limits import UNPACKED_LIMIT
    from vps.xen.inspect.streams import method_of, unpack
    from vps.xen.inspect.verdicts import Compression

    view = memoryview(data)
    if method_of(view) is Compression.GZIP:
        return unpack(Compression.GZIP, view, UNPACKED_LIMIT).view
    if data[0x202:0x206] != b"HdrS":
        return view
    start = (data[0x1F1] + 1) * 512 + int.from_bytes(data[0x248:0x24C], "little")
    payload = view[start : start + int.from_bytes(data[0x24C:0x250], "little")]
    method = method_of(payload)
    if method is Compression.NONE:
        return payload
    size = int.from_bytes(payload[-4:], "little")
    return unpack(method, payload if method is Compression.GZIP else payload[:-4], size + 16).view


def kernels(debian: bool) -> dict[str, bytes]:
    from tests import kernels as made

    filler = os.urandom(1 << 20) * 8
    out = {
        "NetBSD, 20 kB": made.netbsd(),
        "NetBSD, 20 kB, gzip": made.compress(made.netbsd(), "gzip"),
        "text": b"no kernel\n",
    }
    elf = made.linux_elf(extra=filler)
    for method in ("gzip", "xz", "lz4", "zstd", "lzo"):
        out[f"Linux, 8 MB, {method}"] = made.linux_bzimage(method, elf=elf)
    if debian:
        from tests.debian_kernels import fetch

        for name, path in fetch(["linux-amd64", "linux-cloud", "linux-cloud-newer", "linux-686-pae"]).items():
            out[f"Debian's {name}"] = path.read_bytes()
    return out


def measure(data: bytes, folder: Path, runs: int) -> dict[str, float]:
    from vps.inspection import inspect_file
    from vps.xen.inspect.streams import gzip_pieces

    path = folder / "kernel"
    path.write_bytes(data)
    plain_made = False

    def whole() -> None:
        nonlocal plain_made
        found = inspect_file(path, folder)
        if found.plain:
            plain_made = True
            found.plain.unlink()

    whole()  # once for the caches
    view = unpacked(data)

    def packed() -> None:
        if plain_made:
            for _piece in gzip_pieces(view):
                pass

    # In turns, and the middle of the differences: a machine is not as fast now as it was a minute ago.
    turns = [(spent(whole), spent(lambda: unpacked(data)), spent(packed)) for _ in range(runs)]
    inspection, unpacking, packing = (middle([turn[n] for turn in turns]) for n in range(3))
    beyond = middle([Spent(*(w - u - p for w, u, p in zip(*turn, strict=True))) for turn in turns])
    return {
        "inspection_cpu_ms": round(inspection.cpu * 1000),
        "inspection_ms": round(inspection.clock * 1000),
        "unpacking_cpu_ms": round(unpacking.cpu * 1000),
        "packing_cpu_ms": round(packing.cpu * 1000),
        "beyond_cpu_ms": round(beyond.cpu * 1000),
        "beyond_ms": round(beyond.clock * 1000),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--debian", action="store_true")
    options = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    names = (
        "inspection_cpu_ms",
        "inspection_ms",
        "unpacking_cpu_ms",
        "packing_cpu_ms",
        "beyond_cpu_ms",
        "beyond_ms",
    )
    print(f"{'kernel':26}" + "".join(f"{name:>18}" for name in names))
    with tempfile.TemporaryDirectory(prefix="berth-bench-") as folder:
        for name, data in kernels(options.debian).items():
            row = figures[name] = measure(data, Path(folder), options.runs)
            missed = "   missed" if row["beyond_cpu_ms"] > EXPECTED_MS else ""
            print(f"{name:26}" + "".join(f"{row[each]:18}" for each in names) + missed, flush=True)
    print(f"aim: {EXPECTED_MS} ms beyond unpacking and packing; load {os.getloadavg()[0]:.1f}")
    if options.json:
        told = {
            "command": "python bench/inspection.py",
            "load": round(os.getloadavg()[0], 1),
            "kernels": figures,
        }
        options.json.write_text(json.dumps(told, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
