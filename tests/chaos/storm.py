"""A storm: people press buttons while every part is killed and started again, and messages are meddled with.

`Storm.blow` is the storm itself, `Storm.settle` waits until all is quiet, `Storm.verdict` gives what is not as it
should be. The choices of each person, of the havoc and of the meddlers come from the seed; which thread is first
does not.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.chaos import findings
from tests.chaos.havoc import Havoc
from tests.chaos.meddler import Meddler, Notes, Orders, Reports
from tests.chaos.people import QUIET, Customer, Operator, Person, Watcher, prepare_tenant
from tests.chaos.tally import Rows, Tally
from tests.kernels import linux_elf
from tests.product import Login, Product
from tests.story import way
from tests.story.browser import Browser, NotAsExpected

DOM0S = 3
# Seconds. The machine's own times are what is made shorter, not the product's patience with them.
TIMES = {"boot": 0.2, "shutdown": 0.2, "cleanup": 0.2, "crash": 0.5, "ack": 5.0}
ENVIRONMENT = {"BERTH_RESEND_AFTER": "3", "BERTH_ASK_AFTER": "8"}
PASSWORD = "a storm is coming, 12 knots"
SECOND = "second@localhost"

_SECOND_TENANT = f"""
from accounts.models import Membership, Tenant, User
from accounts.models.quota import grant
from vps.models import Dom0
user = User.objects.create_user({SECOND!r}, {PASSWORD!r}, name="Second")
Tenant.found("Second", user)
for tenant in Tenant.objects.all():
    grant(tenant, {{"servers": 5, "vcpus": 8}}, "for the storm")
mate = User.objects.create_user("mate@localhost", {PASSWORD!r}, name="Mate")
Membership.objects.create(tenant=Tenant.objects.get(name="Example"), user=mate, role="admin")
"""


def fast_dom0s(data: Path) -> None:
    """Have the simulated dom0s of a product that is to be made in `data` boot and end guests quickly."""
    for number in range(1, DOM0S + 1):
        folder = data / "dom0" / ("sim" if number == 1 else f"sim{number}") / "xen"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "host.json").write_text(json.dumps({"times": TIMES}))


@dataclass
class Storm:
    """A product, a seed, and how many operations people are to press."""

    product: Product
    seed: int
    operations: int
    strike_every: int = 7  # operations, on average
    tally: Tally = field(default_factory=Tally)
    people: list[Person] = field(default_factory=list)
    meddlers: list[Meddler] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)  # quiet server -> what was typed on its console

    def __post_init__(self) -> None:
        self.data = self.product.data
        self.rows = Rows(self.data)

    def prepare(self, servers: int = 3) -> None:
        """Two tenants with kernels and servers, and on each dom0 one that nobody will touch."""
        (self.data / "kernel.elf").write_bytes(linux_elf())
        done = self.product.manage("shell", "-c", _SECOND_TENANT)
        assert done.returncode == 0, done.stderr
        operator, owner = self.product.login("operator"), self.product.login("owner")
        second, mate = Login("owner", SECOND, PASSWORD), Login("admin", "mate@localhost", PASSWORD)
        dom0s = [row["name"] for row in self.rows("SELECT name FROM vps_dom0 ORDER BY name")]
        assert len(dom0s) == DOM0S, dom0s
        browser = self._log_in(operator)
        quiet = [(f"{QUIET}{dom0}", dom0) for dom0 in dom0s]
        first = [(f"first-{n}", dom0s[n % DOM0S]) for n in range(servers)]
        others = [(f"second-{n}", dom0s[n % DOM0S]) for n in range(servers)]
        one = prepare_tenant(self.product, browser, owner, quiet + first)
        two = prepare_tenant(self.product, browser, second, others)
        browser.close()
        self._wake(owner, [name for name, _ in quiet])
        pace = 0.35

        def customer(login: Login, of: tuple[str, str], who: str) -> Customer:
            seed = f"{self.seed}-{who}"
            return Customer(self.product, login, self.tally, seed, pace, tenant=of[0], version=of[1])

        self.people = [
            customer(owner, one, "owner"),
            customer(mate, one, "mate"),
            customer(second, two, "second"),
            customer(second, two, "second-again"),
            Operator(self.product, operator, self.tally, f"{self.seed}-operator", pace),
            Watcher(self.product, owner, self.tally, f"{self.seed}-watcher", 2.0),
        ]
        ids = [_dashed(row["id"]) for row in self.rows("SELECT id FROM vps_dom0 ORDER BY name")]
        url = self.product.redis_url
        self.reports = Reports(url, ids, self.tally, f"{self.seed}-reports")
        self.meddlers = [self.reports]
        for n, identity in enumerate(ids):
            others_ids = [identity, *ids[:n], *ids[n + 1 :]]
            self.meddlers.append(Orders(url, others_ids, self.tally, f"{self.seed}-orders-{n}"))
            self.meddlers.append(Notes(url, [identity], self.tally, f"{self.seed}-notes-{n}"))

    def _log_in(self, login: Login) -> Browser:
        browser = Browser(self.product.web, self.product.gateway)
        browser.log_in(login.email, login.password)
        return browser

    def _wake(self, login: Login, names: list[str]) -> None:
        """Start the quiet servers, and say something on their consoles that must be there after all."""
        browser = self._log_in(login)
        for name in names:
            server = way.server_of(browser, name)
            browser.wait_state(server, "stopped")
            way.press(browser, server, "start")
        for name in names:
            server = way.server_of(browser, name)
            browser.wait_state(server, "running")
            with browser.console(server) as console:
                console.wait("# $")
                word = f"before-the-storm-{self.seed}-{name}"
                console.ask(f"echo {word}", f"\n{word}\n")
            self.said[name] = word
        browser.close()

    def blow(self, seconds: float) -> None:
        """Press until so many operations were taken, for at most `seconds`."""
        havoc = Havoc(self.product, self.tally, self.reports, f"{self.seed}-havoc", self.strike_every)
        threads = [*self.meddlers, havoc, *self.people]
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        while self.tally.pressed.total() < self.operations and time.monotonic() < end:
            time.sleep(0.2)
        for thread in (*self.people, havoc, *self.meddlers):
            thread.stopping.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), thread.name

    def settle(self, seconds: float = 150) -> list[str]:
        """Wait until all has ended and the picture is quiet; gives what is not so after all that time."""
        end = time.monotonic() + seconds
        quiet_since: float | None = None
        while True:
            left = findings.unsettled(self.data)
            now = time.monotonic()
            quiet_since = (quiet_since or now) if not left else None
            if quiet_since is not None and now - quiet_since > 3:
                return []
            if now > end:
                return [f"not settled after {seconds:.0f} s: {what}" for what in left]
            time.sleep(0.5)

    def verdict(self) -> list[str]:
        """Everything that is not as it should be, after a storm that has settled."""
        data = self.data
        found = list(self.tally.errors)
        if self.tally.pressed.total() < self.operations:
            found.append(f"only {self.tally.pressed.total()} operations were taken")
        for check in (
            findings.of_operations,
            findings.of_boots,
            findings.of_unknown,
            findings.half_made,
            findings.of_logs,
        ):
            found += check(data)
        found += findings.of_commands(self.product) + findings.of_queues(self.product)
        return found + self._consoles()

    def _consoles(self) -> list[str]:
        """The quiet servers ran all the time, their records are whole, and their consoles answer."""
        found = []
        browser = self._log_in(self.product.login("owner"))
        for name, word in self.said.items():
            server = way.server_of(browser, name)
            try:
                with browser.console(server) as console:
                    console.wait(f"\n{word}\n", 20)
                    console.ask("echo after-the-storm", "\nafter-the-storm\n", 20)
                if console.text.count("Berth simulated guest: boot 1 of this server") != 1:
                    found.append(f"{name}: the record of its console does not begin with its boot")
            except NotAsExpected as error:
                found.append(f"{name}: {error}")
        browser.close()
        for row in self.rows(f"SELECT name, boots FROM vps_domu WHERE name LIKE '{QUIET}%' AND boots != 1"):
            found.append(f"{row['name']} was booted {row['boots']} times; nobody asked for it")
        return found

    def purge_all(self, seconds: float = 120) -> list[str]:
        """Delete and wipe every server; gives what is left of them."""
        operator = self._log_in(self.product.login("operator"))
        browsers = {
            "Example": self._log_in(self.product.login("owner")),
            "Second": self._log_in(Login("owner", SECOND, PASSWORD)),
        }
        query = (
            "SELECT d.id, d.name, d.deleted_at, t.name AS tenant FROM vps_domu d"
            " JOIN accounts_tenant t ON t.id = d.tenant_id WHERE d.purged_at IS NULL"
        )
        end = time.monotonic() + seconds
        while left := self.rows(query):
            busy = {row["domu_id"] for row in self.rows.open_operations()}
            for row in left:
                if row["id"] not in busy:
                    server = f"/servers/{_dashed(row['id'])}/"
                    verb = "purge" if row["deleted_at"] else "delete"
                    try:
                        way.name_again(browsers[row["tenant"]], server, verb, row["name"])
                    except NotAsExpected:
                        if row in self.rows(query):
                            raise  # it did not change between the look and the click
            if time.monotonic() > end:
                return [f"not purged after {seconds:.0f} s: {row['name']}" for row in left]
            time.sleep(0.3)
        for browser in (operator, *browsers.values()):
            browser.close()
        return self.settle(60) + findings.left_of_nothing(self.data) + findings.of_commands(self.product)

    def said_in_a_line(self) -> str:
        """What was done, for the person who runs it."""
        tally = self.tally

        def of(counter: Any) -> str:
            return ", ".join(f"{name} {n}" for name, n in sorted(counter.items()))

        return (
            f"pressed {tally.pressed.total()} ({of(tally.pressed)}); declined {tally.declined.total()}, cut off"
            f" {tally.cut.total()}; struck {tally.struck.total()} ({of(tally.struck)}); meddled {tally.meddled.total()}"
            f" ({of(tally.meddled)}); creations found out by looking: {of(findings.looked_up(self.data))}"
        )


def _dashed(identity: str) -> str:
    return str(UUID(identity))
