"""`make bench`: every measurement, one after the other, and at the end one table of what is aimed at.

python bench/all.py [--quick] [--folder build/bench] [NAME ...]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.measures import Figure

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("clicks", "console", "upload", "pages", "inventories", "memory", "inspection")
INSPECTION_MS = 150.0  # beyond unpacking and packing; issue 5, point 2


def figures(told: dict[str, Any]) -> list[Figure]:
    """What a measurement wrote down."""
    from bench.measures import Figure

    if "kernels" in told:
        worst = max(kernel["beyond_cpu_ms"] for kernel in told["kernels"].values())
        return [Figure("inspection beyond unpacking, the slowest kernel", worst, "ms", INSPECTION_MS)]
    return [Figure(**{name: one[name] for name in one if name != "verdict"}) for one in told["figures"]]


def main() -> int:
    from bench.measures import HEAD, machine

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="little of each, to see that it runs")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench", help="where the JSON goes")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"There is no {', '.join(sorted(unknown))}.")
    broken, rows = [], []
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.names or NAMES:
        print(f"\n== {name}", flush=True)
        told = options.folder / f"{name}.json"
        told.unlink(missing_ok=True)
        argv = [sys.executable, f"bench/{name}.py", "--json", str(told)]
        if name == "inspection":
            argv += ["--runs", "1"] if options.quick else ["--debian"]
        elif options.quick:
            argv.append("--quick")
        if subprocess.run(argv, cwd=ROOT).returncode or not told.exists():
            broken.append(name)
            continue
        value = json.loads(told.read_text())
        for figure in figures(value):
            if figure.aim is not None:
                rows.append(f"{figure.row():92} load {value['load']}")
    its = machine()
    print(f"\nAll of it, on {its['cores']} cores of {its['cpu']}, {its['memory_mib']} MiB:\n{HEAD}")
    print("\n".join(rows))
    for name in broken:
        print(f"NOT MEASURED: {name} did not go through.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
