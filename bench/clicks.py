"""From a click to `xl`, and from many clicks to the journals of the dom0s.

    python bench/clicks.py [--quick] [--clicks 200] [--json FILE]

All of the product as `make run` starts it. First one server is started, paused, unpaused and destroyed, again and
again, at no fixed pace; a click is the POST that a page's button sends, and its end is the moment at which the agent
has started `xl` for it (a shell in front of the simulated one writes down when it was called): to look, or at once
to build. What does it comes after the look, which takes the simulated `xl` some 40 ms of Python. Then many servers
on three dom0s are started as fast as eight browsers can click, and the journals say when each order was in them;
meanwhile `xl` stands still, for its work is another machine's.
"""

from __future__ import annotations

import http.client
import random
import re
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from tests.product import Product
    from tests.story.browser import Browser

ROOT = Path(__file__).resolve().parents[1]
AIM_MEDIAN, AIM_99, AIM_RATE = 25.0, 100.0, 100.0  # ms, ms, operations a second; issue 4, point 8
BROWSERS = 8
# The verb, the word that `xl` is called with, and what the server is when all of it was heard.
CYCLE = (
    ("start", "create", "running"),
    ("pause", "pause", "paused"),
    ("unpause", "unpause", "running"),
    ("destroy", "destroy", "gone"),
)
XL = """#!/bin/bash
printf '%s %s\\n' "$EPOCHREALTIME" "$1" >> {log}
while [ -e {hold} ] && [ "$1" = create ]; do sleep 0.5; done
exec {xl} "$@"
"""


@dataclass
class Site:
    """A product that runs, somebody logged in there, and where `xl` writes down its calls."""

    product: Product
    owner: Browser
    log: Path
    hold: Path

    @property
    def database(self) -> Path:
        return self.product.data / "berth.sqlite3"

    def journals(self) -> list[Path]:
        return sorted(self.product.data.glob("dom0/*/agent/journal.sqlite3"))


@contextmanager
def site(folder: Path, dom0s: int) -> Iterator[Site]:
    """The product, with a shell in front of each dom0's `xl`."""
    from bench.measures import environment_of
    from tests.product import product
    from tests.story.browser import Browser

    with product(folder / "data", dom0s=dom0s) as running:
        environment_of(running)
        import django

        django.setup()
        log, hold = folder / "calls", folder / "hold"
        log.touch()
        for number, config in enumerate(sorted(running.data.glob("dom0/*/agent.toml"))):
            shell = folder / f"xl{number}"
            _put_before(config, shell, log, hold)
        for name in [name for name in running.running()["children"] if name.startswith("agent")]:
            running.wait_for_restart(name, running.kill(name, 15))
        with closing(Browser(running.web, running.gateway)) as owner:
            login = running.login("owner")
            owner.log_in(login.email, login.password)
            yield Site(running, owner, log, hold)


def _put_before(config: Path, shell: Path, log: Path, hold: Path) -> None:
    text = config.read_text()
    xl = re.search(r"^xl = \[(.*)\]$", text, re.MULTILINE)
    if xl is None:
        raise SystemExit(f"{config} names no xl.")
    words = " ".join(re.findall(r'"[^"]*"', xl.group(1)))
    shell.write_text(XL.format(log=log, hold=hold, xl=words))
    shell.chmod(0o700)
    config.write_text(text.replace(xl.group(0), f'xl = ["{shell}"]'))


class Clicker:
    """A browser's connection that sends a button's POST and nothing else."""

    def __init__(self, site: Site) -> None:
        place = urlsplit(site.owner.web)
        self._http = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
        cookies = site.owner.http.cookies
        self._token = cookies["csrftoken"]
        self._headers = {
            "Cookie": "; ".join(f"{cookie.name}={cookie.value}" for cookie in cookies.jar),
            "Content-Type": "application/x-www-form-urlencoded",
            "Origin": site.owner.web,
        }

    def press(self, address: str, **fields: str) -> float:
        """Click; gives the time (Unix, seconds) at which it was."""
        body = urlencode({"csrfmiddlewaretoken": self._token, **fields})
        began = time.time()
        self._http.close()  # the web closes it after two seconds without a click, just as this one would begin
        self._http.request("POST", address, body, self._headers)
        answer = self._http.getresponse()
        answer.read()
        if answer.status != 302:
            raise SystemExit(f"{address} answered {answer.status}.")
        return began


def latencies(site: Site, clicks: int) -> tuple[list[float], dict[str, list[float]]]:
    """Milliseconds from each click to the first call of `xl`, and {verb: to the call that does it}.

    The agent looks before it acts (`xl list`), but for a start. A look that it takes by itself, every 5 s, may be
    taken for the one of the click.
    """
    from tests import kernels
    from tests.story import way
    from tests.story.browser import Browser

    login, owner = site.product.login("operator"), site.owner
    with closing(Browser(owner.web, owner.gateway)) as operator:
        operator.log_in(login.email, login.password)
        way.approve(operator, way.ask(owner, "bench", "netbsd", memory=64, disk=8), "sim")
    server = way.server_of(owner, "bench")
    owner.wait_state(server, "stopped", seconds=120)
    kernel = site.product.data / "netbsd"
    kernel.write_bytes(kernels.netbsd())
    version = way.upload(owner, kernel, "netbsd").address
    way.choose(owner, server, version)
    owner.wait_state(server, "stopped", seconds=120)
    clicker, path = Clicker(site), urlsplit(server).path
    first: list[float] = []
    found: dict[str, list[float]] = {verb: [] for verb, *_ in CYCLE}
    for n in range(clicks):
        verb, called, then = CYCLE[n % len(CYCLE)]
        before = len(site.log.read_text().splitlines())
        address = f"{path}destroy/" if verb == "destroy" else f"{path}do/{verb}/"
        began = clicker.press(address, **({"name": "bench"} if verb == "destroy" else {}))
        found[verb].append((_called(site.log, before, called) - began) * 1000)
        first.append((_called(site.log, before, called, "list", after=began) - began) * 1000)
        _until(site.database, then)
        time.sleep(random.uniform(0.02, 0.12))
    return first, found


def _called(log: Path, before: int, *words: str, after: float = 0.0) -> float:
    """When `xl` was called with one of these words, after the first `before` calls and after that time."""
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        for line in log.read_text().splitlines()[before:]:
            at, _, what = line.partition(" ")
            if what in words and float(at) >= after:
                return float(at)
        time.sleep(0.005)
    raise SystemExit(f"xl {words[0]} was not called within 30 s.")


def _until(database: Path, state: str) -> None:
    """Wait until the server is seen so and nothing is under way, so that the next click is taken."""
    from vps.models.operation import OPEN

    give_up = time.monotonic() + 60
    states = ", ".join(f"'{each}'" for each in OPEN)
    still = (
        f"SELECT count(*) FROM vps_domu WHERE name = 'bench' AND observed = '{state}' AND phase IN ('', 'idle')"
        f" AND NOT EXISTS (SELECT 1 FROM vps_operation WHERE domu_id = vps_domu.id AND state IN ({states}))"
    )
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as rows:
        while not rows.execute(still).fetchone()[0]:
            if time.monotonic() > give_up:
                raise SystemExit(f"The server was not {state} within 60 s.")
            time.sleep(0.02)


def burst(site: Site, clicks: int) -> tuple[float, list[float]]:
    """Operations a second from the first click to the last order in a journal; milliseconds of each."""
    servers = _servers(site, clicks)
    began: dict[str, float] = {}
    lock = threading.Lock()

    def click() -> None:
        clicker = Clicker(site)
        while True:
            with lock:
                if not servers:
                    return
                server = servers.pop()
            began[server] = clicker.press(f"/servers/{server}/do/start/")

    site.hold.touch()
    threads = [threading.Thread(target=click) for _ in range(BROWSERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(began) != clicks:
        raise SystemExit(f"{len(began)} of {clicks} clicks were taken.")
    received = _received(site.journals(), set(began))
    times = [(received[server] - at) * 1000 for server, at in began.items()]
    return clicks / (max(received.values()) - min(began.values())), times


def _received(journals: list[Path], servers: set[str]) -> dict[str, float]:
    """{server: when its order was in a journal (Redis TIME; this machine's clock)}."""
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up:
        found = {}
        for journal in journals:
            with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as rows:
                for domu, at in rows.execute("SELECT domu, received FROM orders WHERE verb = 'start'"):
                    found[domu] = at / 1000
        if servers <= set(found):
            return {server: found[server] for server in servers}
        time.sleep(0.2)
    raise SystemExit("Some orders were not in a journal after 120 s.")


def _servers(site: Site, count: int) -> list[str]:
    """Servers of the owner's, over all dom0s: rows only, which boot by the loader from their own disks."""
    from accounts.models import Tenant
    from bench import fleet
    from vps.models import Dom0, Domu, Loader
    from vps.models.boot import BootMenu
    from vps.xen.description import Boot, BootMethod

    loader = Loader.objects.filter(kind="pv64", current=True).first() or Loader.objects.first()
    if loader is None:
        raise SystemExit("The product has no loader.")
    hosts = list(Dom0.objects.all())
    owner = Tenant.objects.get(memberships__user__email=site.product.login("owner").email)
    boot = Boot(method=BootMethod.OWN_DISK, serial=1, loader=loader.blob.ref()).as_dict()
    rows = [
        Domu(
            tenant=owner, dom0=hosts[n % len(hosts)], name=f"many{n:04}", guest_os="netbsd", memory_mib=16, vcpus=1,
            made=True, menu_serial=1, boot_method=BootMethod.OWN_DISK.value,
        )
        for n in range(count)
    ]  # fmt: skip
    Domu.objects.bulk_create(rows, fleet.BATCH)
    BootMenu.objects.bulk_create((BootMenu(domu=row, serial=1, boot=boot) for row in rows), fleet.BATCH)
    return [str(row.pk) for row in rows]


def main() -> int:
    from bench.measures import Figure, arguments, load, median, percentile, tell

    parser = arguments(__doc__)
    parser.add_argument("--clicks", type=int, default=200)
    options = parser.parse_args()
    dom0s = 3
    if options.quick:
        options.clicks, dom0s = 8, 1
    before = load()
    with tempfile.TemporaryDirectory(prefix="berth-bench-") as folder, site(Path(folder), dom0s) as running:
        times, by_verb = latencies(running, options.clicks)
        rate, journal = burst(running, options.clicks)
    figures = [
        Figure("click to xl started, median", round(median(times), 1), "ms", AIM_MEDIAN),
        Figure("click to xl started, 99th percentile", round(percentile(times, 99), 1), "ms", AIM_99),
        *(
            Figure(f"  to what does it: {verb}, median", round(median(found), 1), "ms")
            for verb, found in by_verb.items()
        ),
        Figure("click to journal, many at once", round(rate, 1), "/s", AIM_RATE, at_least=True),
        Figure("  of each click, median", round(median(journal), 1), "ms"),
        Figure("  of each click, 99th percentile", round(percentile(journal, 99), 1), "ms"),
    ]
    more: dict[str, Any] = {"clicks": options.clicks, "browsers": BROWSERS}
    return tell(options, before, figures, **more)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
