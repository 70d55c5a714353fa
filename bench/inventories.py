"""Inventories of 20,000 servers on 1,250 dom0s, applied as the collector applies them: from Redis into rows.

    python bench/inventories.py [--quick] [--json FILE]

Four rounds, in each of which every dom0 says once what runs on it: the first of a minute (of which a sample is kept),
one in which all is as before, one in which every server changed, and one more as before. Redis, database (SQLite)
and collector are the product's own; the dom0s are only their reports.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

ROOT = Path(__file__).resolve().parents[1]
AIM_S = 15.0  # issue 4, point 8
ROUNDS = {
    "the first of a minute, with a sample": ("running", 60_000),
    "all as before": ("running", 10_000),
    "every server changed": ("paused", 10_000),
    "all as before, once more": ("paused", 10_000),
}


def measure(folder: Path, dom0s: int, domus: int) -> dict[str, Any]:
    """{round: Stopwatch}."""
    from bench import fleet
    from bench.measures import Stopwatch
    from bench.processes import redis

    with redis(folder) as server:
        os.environ["BERTH_REDIS_URL"] = server.url
        fleet.database(folder / "data")
        tenants = [fleet.tenant(f"Tenant {n}", fleet.person(f"person{n}")) for n in range(60)]
        hosts = fleet.fleet(dom0s, domus, tenants)
        from vps.collector import round_of_reports
        from vps.models import Domu
        from vps.redis import admit, now_ms

        for host in hosts:
            admit(host)
        journals = {host.pk: uuid4() for host in hosts}
        found, at = {}, now_ms()
        for name, (state, later) in ROUNDS.items():
            at += later
            _say(journals, state, at)
            with Stopwatch() as watch:
                left = dom0s
                while left > 0:
                    left -= round_of_reports(10)
            found[name] = watch
            seen = Domu.objects.filter(observed=state, observed_ms=at).count()
            if left or seen != domus:
                raise SystemExit(f"{seen} of {domus} servers were seen {state}; {left} reports are left.")
    return found


def _say(journals: dict[UUID, UUID], state: str, at: int) -> None:
    """Put an inventory of each dom0 into its stream, as its agent does."""
    from bench import fleet
    from vps.models import Domu
    from vps.redis import client
    from vps.xen.messages import Channels, Report, ReportKind

    on: dict[UUID, list[Any]] = {pk: [] for pk in journals}
    for row in Domu.objects.all():
        on[row.dom0_id].append(row)
    for pk, rows in on.items():
        report = Report(pk, journals[pk], 0, ReportKind.INVENTORY, at, fleet.inventory(rows, state))
        client().xadd(Channels(pk).out, {"r": report.as_text()})


def main() -> int:
    from bench.measures import Figure, arguments, load, tell

    options = arguments(__doc__).parse_args()
    dom0s, domus = (10, 160) if options.quick else (1250, 20_000)
    before = load()
    with tempfile.TemporaryDirectory(prefix="berth-bench-") as folder:
        found = measure(Path(folder), dom0s, domus)
    figures = []
    for name, watch in found.items():
        figures += [
            Figure(f"inventories of {domus:,} servers, {name}", round(watch.ms / 1000, 2), "s", AIM_S),
            Figure("  of that cpu of the collector", round(watch.cpu_ms / 1000, 2), "s"),
        ]
    return tell(options, before, figures, dom0s=dom0s, domus=domus)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
