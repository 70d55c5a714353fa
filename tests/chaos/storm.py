"""A storm: people press buttons while the parts of a product are killed (-9) and started again.

What must be true afterwards is read from the web's database, the agents' journals and the logs of the simulated xl.
"""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from tests.kernels import linux_elf
from tests.product import Product
from tests.story import way
from tests.story.browser import Browser, NotAsExpected

VERBS = ("start", "shutdown", "reboot", "pause", "unpause")
OPEN = ("queued", "sent", "accepted", "running")


@dataclass
class Storm:
    """Servers, hands and a seed."""

    product: Product
    seed: int
    victims: tuple[str, ...]
    pressed: Counter[str] = field(default_factory=Counter)
    killed: Counter[str] = field(default_factory=Counter)
    servers: dict[str, str] = field(default_factory=dict)  # name -> address

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.operator = Browser(self.product.web, self.product.gateway)
        self.owner = Browser(self.product.web, self.product.gateway)
        for browser, role in ((self.operator, "operator"), (self.owner, "owner")):
            login = self.product.login(role)
            browser.log_in(login.email, login.password)

    def close(self) -> None:
        self.operator.close()
        self.owner.close()

    def make_servers(self, names: list[str], dom0s: list[str]) -> None:
        """Ask for, approve and prepare servers, spread over the dom0s."""
        kernel = self.product.data / "kernel.elf"
        kernel.write_bytes(linux_elf())
        page = way.upload(self.owner, kernel, "storm")
        if page.state != "can boot":
            raise NotAsExpected(page.text[:500])
        for number, name in enumerate(names):
            request = way.ask(self.owner, name, memory=64, disk=8)
            way.approve(self.operator, request, dom0s[number % len(dom0s)])
            self.servers[name] = server = way.server_of(self.owner, name)
            self.owner.wait_state(server, "stopped")
            way.choose(self.owner, server, page.address, "console=hvc0 root=/dev/xvda1 ro")
        for server in self.servers.values():
            self.owner.wait_state(server, "stopped")

    def rage(self, operations: int, every: float = 0.3) -> None:
        """Press buttons until `operations` orders were taken, and kill something every few of them."""
        next_kill = 3
        end = time.monotonic() + 40 * operations
        while self.pressed.total() < operations:
            if time.monotonic() > end:
                raise NotAsExpected(f"only {self.pressed} in {40 * operations} s")
            self._press_something()
            if self.pressed.total() >= next_kill:
                self._kill(self.random.choice(self.victims))
                next_kill += self.random.randint(1, 4)
            time.sleep(self.random.uniform(0, 2 * every))

    def _press_something(self) -> None:
        name, server = self.random.choice(sorted(self.servers.items()))
        try:
            if self.random.random() < 0.15:
                page = way.name_again(self.owner, server, "destroy", name)
                self.pressed["destroy"] += 1
                return
            page = self.owner.get(server)
            offered = [verb for verb in VERBS if any(f.action.endswith(f"/{verb}/") for f in page.forms)]
            if not offered:
                return
            verb = self.random.choice(offered)
            self.owner.submit(page.form(action=f"/{verb}/"))
            self.pressed[verb] += 1
        except (NotAsExpected, httpx.HTTPError):
            return  # a conflict, told on the page; or the web is just being started again

    def _kill(self, name: str) -> None:
        try:
            self.product.kill(name)
        except (KeyError, ProcessLookupError, FileNotFoundError):
            return  # it is down already
        self.killed[name] += 1

    def settle(self, seconds: float = 240) -> None:
        """Wait until every operation has ended and the picture is quiet."""
        end = time.monotonic() + seconds
        quiet_since: float | None = None
        while True:
            quiet = not self.open_operations() and not self.differences()
            now = time.monotonic()
            quiet_since = (quiet_since or now) if quiet else None
            if quiet_since is not None and now - quiet_since > 3:
                return
            if now > end:
                raise NotAsExpected(f"after {seconds} s: open {self.open_operations()}; {self.differences()}")
            time.sleep(0.5)

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        """Read the web's database."""
        with closing(
            sqlite3.connect(f"file:{self.product.data}/berth.sqlite3?mode=ro", uri=True, timeout=20)
        ) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(query, values)]

    def open_operations(self) -> list[str]:
        marks = ",".join("?" * len(OPEN))
        return [
            f"{row['verb']}:{row['state']}"
            for row in self.rows(f"SELECT verb, state FROM vps_operation WHERE state IN ({marks})", *OPEN)
        ]

    def differences(self) -> list[str]:
        """Servers of which what is wanted, what the web has observed, and what xl has do not agree."""
        found = []
        running = self.running_domains()
        for row in self.rows("SELECT id, name, wanted, observed FROM vps_domu WHERE deleted_at IS NULL"):
            domains = running.get(str(UUID(row["id"])), 0)
            # A paused domain is wanted running.
            seen = "running" if row["observed"] in ("running", "paused") else "stopped"
            if row["wanted"] != seen or domains != (row["wanted"] == "running"):
                found.append(
                    f"{row['name']}: wanted {row['wanted']}, observed {row['observed']}, {domains} domains"
                )
        return found

    def effects(self) -> list[dict[str, Any]]:
        """What the simulated xl of all dom0s did, in order of time."""
        lines = []
        for log in sorted(self.product.data.glob("dom0/*/xen/effects.log")):
            lines += [json.loads(line) for line in log.read_text().splitlines()]
        return sorted(lines, key=lambda line: line["time"])

    def running_domains(self) -> Counter[str]:
        """How many domains of each uuid exist, by the effects."""
        alive: dict[tuple[str, int], str] = {}
        for line in self.effects():
            key = (line.get("uuid", ""), line.get("domid", -1))
            if line["verb"] == "create":
                alive[key] = line["uuid"]
            elif line["verb"] in ENDS:
                alive.pop(key, None)
        return Counter(alive.values())

    def twice_created(self) -> list[str]:
        """Domains that were created while one of the same uuid existed."""
        alive: dict[str, int] = {}
        found = []
        for line in self.effects():
            uuid = line.get("uuid", "")
            if line["verb"] == "create":
                if uuid in alive:
                    found.append(f"{line['name']}: {alive[uuid]} and {line['domid']}")
                alive[uuid] = line["domid"]
            elif line["verb"] in ENDS and alive.get(uuid) == line.get("domid"):
                del alive[uuid]
        return found

    def journal_boots(self) -> dict[str, int]:
        """{domU id: boots} of all agents' journals."""
        boots: dict[str, int] = {}
        for path in self.product.data.glob("dom0/*/agent/journal.sqlite3"):
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as db:
                boots |= dict(db.execute("SELECT id, boots FROM domus"))
        return boots


ENDS = ("ended", "lost", "destroy")


def leftovers(data: Path) -> list[str]:
    """Files that a broken-off step left on a dom0: drafts and half-made ones."""
    return [
        str(path.relative_to(data))
        for path in data.glob("dom0/*/**/*")
        if ".new" in path.name and path.is_file()
    ]
