"""What all measurements share: the figure with its aim, the machine, the table, the JSON."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.product import Product

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Figure:
    """One number. `aim` None: told, and nothing is demanded of it; `at_least`: more is better."""

    name: str
    measured: float
    unit: str
    aim: float | None = None
    at_least: bool = False

    @property
    def verdict(self) -> str:
        """Met, missed, or nothing where there is no aim."""
        if self.aim is None:
            return ""
        met = self.measured >= self.aim if self.at_least else self.measured <= self.aim
        return "met" if met else "MISSED"

    def row(self) -> str:
        """A line of the table."""
        aim = "" if self.aim is None else f"{'>=' if self.at_least else '<='} {self.aim:g}"
        return f"{self.name:58}{aim:>10}{self.measured:>12.6g} {self.unit:6} {self.verdict}".rstrip()


HEAD = f"{'figure':58}{'aim':>10}{'measured':>12} unit"


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """What every measurement understands."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="little of it: to see that it runs, not to measure"
    )
    parser.add_argument("--json", type=Path, help="write the figures there too")
    return parser


def load() -> float:
    """How many processes wanted a core in the last minute."""
    return round(os.getloadavg()[0], 1)


def tell(options: argparse.Namespace, before: float, figures: Sequence[Figure], **more: Any) -> int:
    """Print the figures, write them as JSON where that is wanted; `before` is the load at the beginning."""
    print(HEAD)
    for figure in figures:
        print(figure.row())
    print(f"load {before} at the beginning, {load()} at the end, {os.cpu_count()} cores", flush=True)
    if options.json:
        told = {
            "command": " ".join(["python", *sys.argv]),
            "quick": options.quick,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "load": [before, load()],
            "figures": [asdict(figure) | {"verdict": figure.verdict} for figure in figures],
            **more,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(told, indent=2) + "\n")
    return 0


def machine() -> dict[str, Any]:
    """On what it was measured. `loop_ms`: a million additions, so that one sees how much of a core one got."""
    model = platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    with Stopwatch() as watch:
        total = 0
        for n in range(1_000_000):
            total += n
    return {
        "cores": os.cpu_count(),
        "cpu": model,
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "loop_ms": round(watch.ms, 1),
        "loop_cpu_ms": round(watch.cpu_ms, 1),
    }


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that `percent` of them do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def median(values: Sequence[float]) -> float:
    return percentile(values, 50)


def family(pid: int) -> list[int]:
    """A process and all that came of it."""
    pids, found = [pid], []
    while pids:
        one = pids.pop()
        found.append(one)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                pids += [int(child) for child in (task / "children").read_text().split()]
    return found


def memory(*pids: int) -> float:
    """MiB (PSS: what is shared is counted in parts) of processes and their children."""
    total = 0
    for one in {each for pid in pids for each in family(pid)}:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return round(total / 1024, 1)


def cpu(pid: int) -> float:
    """Milliseconds of cpu that a process and its children have used."""
    total = 0
    for one in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total * 1000 / os.sysconf("SC_CLK_TCK")


def environment_of(product: Product) -> None:
    """Have this process look at the rows of a product that runs, as its web does."""
    secrets = product.data / "secrets"
    os.environ.update(
        DJANGO_SETTINGS_MODULE="vps.settings",
        BERTH_QUICKSTART="1",
        BERTH_DATA_DIR=str(product.data),
        BERTH_BASE_URL=product.web,
        BERTH_REDIS_URL=product.redis_url,
        BERTH_SECRET_KEY_FILE=str(secrets / "django"),
        BERTH_SIGNING_KEY_FILE=str(secrets / "signing.key"),
    )


class Stopwatch:
    """Milliseconds of the clock and of this process's cpu, of what is done in its block."""

    def __enter__(self) -> Stopwatch:
        self._clock, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *exc: object) -> None:
        self.ms = (time.perf_counter() - self._clock) * 1000
        self.cpu_ms = (time.process_time() - self._cpu) * 1000
