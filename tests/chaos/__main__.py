"""`make chaos [SEED=7] [OPERATIONS=500]`: the ten seeds or one, a line for each; the data of a failure are kept."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.storm import DOM0S, ENVIRONMENT, Storm, fast_dom0s
from tests.product import product
from vps.quickstart import leftovers

SEEDS = range(1, 11)


def run(
    seed: int, operations: int, data: Path, seconds: float, strike_every: int = 7, servers: int = 3
) -> tuple[str, list[str]]:
    """One storm in a product of its own; gives what was done, and what is wrong."""
    fast_dom0s(data)
    started = time.monotonic()
    with product(data, dom0s=DOM0S, env=ENVIRONMENT) as running:
        storm = Storm(running, seed, operations, strike_every)
        began = time.monotonic()
        storm.prepare(servers)
        prepared = time.monotonic()
        storm.blow(seconds)
        blown = time.monotonic()
        found = storm.settle()
        settled = time.monotonic()
        found += storm.verdict()
        if not found:
            found += storm.purge_all()
        line = storm.said_in_a_line()
        times = zip(
            ("to start", "to prepare", "of storm", "until quiet", "to check and purge"),
            (
                began - started,
                prepared - began,
                blown - prepared,
                settled - blown,
                time.monotonic() - settled,
            ),
            strict=True,
        )
        line += "; " + ", ".join(f"{seconds:.0f} s {what}" for what, seconds in times)
    if left := leftovers.find(str(data)):
        found.append(f"processes are left: {left}")
    return line, found


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, action="append", help="default: the ten")
    parser.add_argument("--operations", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=900, help="the longest that one storm may blow")
    parser.add_argument("--folder", type=Path, help="where the data go; default: a new one")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="berth-chaos-"))
    failed = 0
    for seed in given.seed or SEEDS:
        data = folder / f"seed-{seed}"
        line, found = run(seed, given.operations, data, given.seconds)
        print(f"seed {seed}: {'FAILED' if found else 'all is well'}; {line}", flush=True)
        for text in found:
            print(f"  {text}", flush=True)
        if found:
            failed += 1
            print(f"  The data are kept in {data}", flush=True)
        else:
            shutil.rmtree(data)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
