"""The list of servers: 500 in one page, and a page of 50 out of 20,000 on 1,250 dom0s; on SQLite and PostgreSQL.

    python bench/pages.py [--quick] [--json FILE] [--database sqlite|postgresql]

Each page is asked for through Django's whole stack (session, rights, query, template) in this process, without a
network; medians. Of cpu as well as of the clock, for a busy machine falsifies the latter. PostgreSQL is skipped
where it is not installed.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MANY = 500
AIM_MANY, AIM_PAGE = 80.0, 60.0  # ms; issue 4, point 8


def measure(quick: bool) -> dict[str, Any]:
    """All pages on the database that is set up; {page: {"ms", "cpu_ms", "queries", "bytes"}}."""
    from bench import fleet

    with tempfile.TemporaryDirectory(prefix="berth-bench-") as folder:
        fleet.database(Path(folder))
        operator, owner = fleet.person("operator", operator=True), fleet.person("owner")
        own = fleet.tenant("Five hundred", owner)
        others = [fleet.tenant(f"Tenant {n}", fleet.person(f"person{n}")) for n in range(5 if quick else 60)]
        fleet.fleet(32, MANY, [own], prefix="own-")
        fleet.fleet(25 if quick else 1218, 400 if quick else 19_500, others)
        if "BERTH_DATABASE_URL" in os.environ:
            _analyse()
        runs = 2 if quick else 25
        found = {
            "500 servers in one page, their owner": _page(owner, "/servers/", runs, MANY),
            "500 servers in one page, all lines drawn anew": _page(owner, "/servers/", runs, MANY, anew=True),
            "500 servers in one page, an operator": _page(operator, "/servers/?q=own-", runs, MANY),
            "50 servers in one page, their owner": _page(owner, "/servers/", runs),
            "page 1 of 20,000": _page(operator, "/servers/", runs),
            "page 200 of 20,000": _page(operator, "/servers/?page=200", runs),
            "the last page of 20,000": _page(operator, "/servers/?page=400", runs),
            "a search in 20,000": _page(operator, "/servers/?q=web001", runs),
        }
    many, few = (found[f"{n} servers in one page, their owner"]["queries"] for n in (500, 50))
    if many != few:
        raise SystemExit(f"The number of queries is not constant: {many} for 500 servers, {few} for 50.")
    return found


def _page(user: Any, address: str, runs: int, rows: int = 50, *, anew: bool = False) -> dict[str, Any]:
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    import accounts.pages
    from bench.measures import Stopwatch, median
    from vps.views import lines

    browser = Client(headers={"host": "localhost"})
    browser.force_login(user)
    accounts.pages.PER_PAGE, before = rows, accounts.pages.PER_PAGE
    try:
        browser.get(address)
        watches = []
        for _ in range(runs):
            if anew:
                lines._drawn.cache_clear()
            with Stopwatch() as watch:
                answer = browser.get(address)
            watches.append(watch)
        with CaptureQueriesContext(connection) as queries:
            browser.get(address)
    finally:
        accounts.pages.PER_PAGE = before
    if answer.status_code != 200 or not 0 < answer.content.count(b'class="row-end"') <= rows:
        raise SystemExit(f"{address} answered {answer.status_code} with too few or too many servers.")
    return {
        "ms": round(median([watch.ms for watch in watches]), 1),
        "cpu_ms": round(median([watch.cpu_ms for watch in watches]), 1),
        "queries": len(queries),
        "bytes": len(answer.content),
    }


def _analyse() -> None:
    """What PostgreSQL does by itself a minute after so many rows came."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def databases(wanted: str) -> dict[str, dict[str, Any]]:
    """{database: what was measured on it}, each in a process of its own."""
    from tests import postgres

    with contextlib.ExitStack() as stack:
        places: dict[str, dict[str, str]] = {"sqlite": {}}
        if wanted != "sqlite":
            try:
                places["postgresql"] = {"BERTH_DATABASE_URL": stack.enter_context(postgres.server())}
            except FileNotFoundError as error:
                print(error, file=sys.stderr)
        return {name: _in_process(env) for name, env in places.items() if wanted in (name, "all")}


def _in_process(env: dict[str, str]) -> dict[str, Any]:
    argv = [sys.executable, __file__, "measure", *(["--quick"] if "--quick" in sys.argv else [])]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BERTH_")}
    done = subprocess.run(argv, cwd=ROOT, env=kept | env, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> int:
    from bench.measures import Figure, arguments, load, tell

    parser = arguments(__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql", "all"])
    options = parser.parse_args()
    before = load()
    found = databases(options.database or ("sqlite" if options.quick else "all"))
    figures = []
    for name, pages in found.items():
        for page, told in pages.items():
            aim = AIM_MANY if page.startswith("500") else None if "search" in page else AIM_PAGE
            figures += [
                Figure(f"{page}, {name}", told["ms"], "ms", aim),
                Figure("  of that cpu in this process", told["cpu_ms"], "ms"),
                Figure("  queries", told["queries"], ""),
            ]
    return tell(options, before, figures, pages=found)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure("--quick" in sys.argv)))
    else:
        sys.exit(main())
