"""What the product takes of memory, as `make run` starts it and after it was used.

    python bench/memory.py [--quick] [--json FILE]

PSS: what processes share is counted in parts, so that the sum is what the machine has less. Redis and the supervisor
are told, and not counted to the web side.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.product import Product

ROOT = Path(__file__).resolve().parents[1]
AIM_WEB, AIM_AGENT = 400.0, 80.0  # MiB, MB; issue 4, point 8
WEB_SIDE = ("web", "gateway", "worker", "collector")  # the collector is the sweeper too
PAGES = ("/servers/", "/kernels/", "/people/", "/operations/", "/events/", "/ask/", "/me/")
OPERATORS = ("/today/", "/dom0s/", "/requests/", "/stuck/", "/tenants/", "/persons/")


def use(product: Product, rounds: int) -> None:
    """What a morning does: pages, a server, a kernel, a start, a console."""
    from tests import kernels
    from tests.story import way
    from tests.story.browser import Browser

    with (
        closing(Browser(product.web, product.gateway)) as owner,
        closing(Browser(product.web, product.gateway)) as operator,
    ):
        for browser, role in ((owner, "owner"), (operator, "operator")):
            login = product.login(role)
            browser.log_in(login.email, login.password)
        way.approve(operator, way.ask(owner, "bench", "netbsd", memory=64, disk=8))
        server = way.server_of(owner, "bench")
        owner.wait_state(server, "stopped", seconds=120)
        kernel = product.data / "netbsd"
        kernel.write_bytes(kernels.netbsd())
        way.choose(owner, server, way.upload(owner, kernel, "netbsd").address)
        owner.wait_state(server, "stopped", seconds=120)
        way.press(owner, server, "start")
        owner.wait_state(server, "running", seconds=120)
        with owner.console(server) as console:
            console.wait_told("replayed", 30)
            for _ in range(rounds):
                for browser, pages in ((owner, PAGES), (operator, OPERATORS)):
                    for page in (*pages, server):
                        browser.get(page)


def main() -> int:
    from bench.measures import Figure, arguments, load, memory, tell
    from tests.product import product

    options = arguments(__doc__).parse_args()
    before = load()
    with tempfile.TemporaryDirectory(prefix="berth-bench-") as folder, product(Path(folder)) as running:
        children = running.running()["children"]
        time.sleep(1 if options.quick else 10)
        fresh = {name: memory(pid) for name, pid in children.items()}
        use(running, 1 if options.quick else 20)
        used = {name: memory(pid) for name, pid in children.items()}
        supervisor = memory(running.process.pid) - sum(used.values())
    figures = [
        Figure(
            "all of the web side, after use", round(sum(used[name] for name in WEB_SIDE), 1), "MiB", AIM_WEB
        ),
        *(Figure(f"  {name}, after use", used[name], "MiB") for name in WEB_SIDE),
        Figure("  all of it, fresh", round(sum(fresh[name] for name in WEB_SIDE), 1), "MiB"),
        Figure("an agent, after use", round(used["agent"] * 1.048576, 1), "MB", AIM_AGENT),
        Figure("  fresh", round(fresh["agent"] * 1.048576, 1), "MB"),
        Figure("  Redis, after use", used["redis"], "MiB"),
        Figure("  the supervisor, and the simulated domains", round(supervisor, 1), "MiB"),
    ]
    return tell(options, before, figures)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
