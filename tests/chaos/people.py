"""People who press buttons, each in a thread of their own, on what the web's rows say is there.

They press faster than somebody who reads: straight to the addresses of the forms, so that many clicks come second,
are stale, or meet a web that is just being started again. Only what the web took is counted as pressed.
"""

from __future__ import annotations

import random
import threading
import time
from typing import Any
from uuid import UUID

import httpx
from websockets.exceptions import WebSocketException

from tests.chaos.tally import Rows, Tally
from tests.kernels import linux_elf
from tests.product import Login, Product
from tests.story import way
from tests.story.browser import Browser, Form, NotAsExpected

QUIET = "quiet-"  # the names of servers that nobody touches
ARGUMENTS = "console=hvc0 root=/dev/xvda1 ro"
MOST = 6  # servers of one customer


class Person(threading.Thread):
    """One thread, one browser. `acts` is what this person does, with weights."""

    acts: dict[str, int] = {}

    def __init__(self, product: Product, login: Login, tally: Tally, seed: str, pace: float) -> None:
        super().__init__(name=f"{login.email} {seed}", daemon=True)
        self.product, self.tally, self.pace = product, tally, pace
        self.rows = Rows(product.data)
        self.random = random.Random(seed)
        self.stopping = threading.Event()
        self.browser = Browser(product.web, product.gateway)
        self.browser.log_in(login.email, login.password)

    def run(self) -> None:
        while not self.stopping.wait(self.random.uniform(0, 2 * self.pace)):
            act = self.random.choices(list(self.acts), list(self.acts.values()))[0]
            try:
                self.act(act)
            except httpx.HTTPError:
                self.tally.add(self.tally.cut, act)
            except NotAsExpected as error:
                # A page that was asked for: the thing may be gone, but the web must not have failed.
                if " answered 5" in str(error):
                    self.tally.error(f"{act}: {error}"[:600])
                self.tally.add(self.tally.declined, act)
            except Exception as error:
                self.tally.error(f"{act}: {type(error).__name__}: {error}")
        self.browser.close()

    def act(self, act: str) -> None:
        getattr(self, act)()

    def post(self, what: str, path: str, **data: Any) -> bool:
        """Send a form; whether it was taken. Raises httpx.HTTPError."""
        http = self.browser.http
        fields = {"csrfmiddlewaretoken": http.cookies["csrftoken"], **data}
        headers = {"Referer": self.browser.web + "/", "Origin": self.browser.web}
        answer = http.post(path, data=fields, headers=headers, follow_redirects=False)
        if answer.status_code in (302, 303):
            if "/log-in/" in answer.headers["location"]:
                self.tally.error(f"{what}: was logged out")
            self.tally.add(self.tally.pressed, what)
            return True
        if answer.status_code >= 500:
            self.tally.error(f"{what}: {path} answered {answer.status_code}")
        self.tally.add(self.tally.declined, what)
        return False

    def fill(self, what: str, form: Form, **data: str) -> bool:
        """Send a form of a page."""
        return self.post(what, form.action, **{**form.fields, **data})

    def cancel_of(self, rows: list[dict[str, Any]]) -> None:
        if rows:
            self.post("cancel", f"/operations/{_id(self.random.choice(rows)['id'])}/cancel/")

    def verb_on(self, row: dict[str, Any]) -> None:
        """What its page would offer, now and then something else."""
        likely = {"running": ("shutdown", "shutdown", "reboot", "reboot", "pause"), "paused": ("unpause",)}
        verbs = likely.get(row["observed"], ("start",))
        if self.random.random() < 0.1:
            verbs = ("start", "shutdown", "reboot", "pause", "unpause", "prepare")
        verb = self.random.choice(verbs)
        self.post(verb, f"/servers/{row['id']}/do/{verb}/")


class Customer(Person):
    """Somebody of a tenant, who asks for servers and uses them."""

    acts = {
        "verb": 56,
        "destroy": 6,
        "try_once": 7,
        "menu": 7,
        "resize": 7,
        "delete": 4,
        "undelete": 4,
        "purge": 2,
        "ask": 5,
        "withdraw": 1,
        "upload": 1,
        "cancel": 4,
    }

    def __init__(self, *args: Any, tenant: str, version: str, **named: Any) -> None:
        super().__init__(*args, **named)
        self.tenant, self.version, self._asked = tenant, version, 0

    def servers(self, where: str = "deleted_at IS NULL") -> list[dict[str, Any]]:
        found = self.rows(
            "SELECT id, name, observed, menu_serial, memory_mib, made FROM vps_domu"
            f" WHERE tenant_id = ? AND name NOT LIKE '{QUIET}%' AND purged_at IS NULL AND {where}",
            UUID(self.tenant).hex,
        )
        return [{**row, "id": _id(row["id"])} for row in found]

    def one(self, where: str = "deleted_at IS NULL") -> dict[str, Any] | None:
        """A server of theirs; mostly one with which nothing is being done."""
        rows = self.servers(where)
        busy = {_id(row["domu_id"]) for row in self.rows.open_operations() if row["domu_id"]}
        idle = [row for row in rows if row["id"] not in busy]
        if idle and self.random.random() < 0.9:
            rows = idle
        return self.random.choice(rows) if rows else None

    def verb(self) -> None:
        if row := self.one():
            if row["menu_serial"]:
                self.verb_on(row)
            else:
                self.save_menu(row)

    def destroy(self) -> None:
        if row := self.one():
            self.post("destroy", f"/servers/{row['id']}/destroy/", name=row["name"])

    def try_once(self) -> None:
        row = self.one()
        if row is None or not row["menu_serial"]:
            return
        # The simulated Linux says the second and never the first: some are well, some are taken back.
        sign = self.random.choice(["Run * as init process", "Run * as init process", "login:"])
        more = {name: "on" for name in ("keep", "once") if self.random.random() < 0.25}
        path = f"/servers/{row['id']}/try/{row['menu_serial']}/"
        self.post("try", path, seconds="10", usual=sign, **more)

    def menu(self) -> None:
        if row := self.one():
            self.save_menu(row)

    def save_menu(self, row: dict[str, Any]) -> None:
        form = self.browser.get(f"/servers/{row['id']}/boot/").form(having="seen_serial")
        self.fill(
            "menu",
            form,
            method="pvgrub",
            version=self.version,
            title="",
            arguments=f"{ARGUMENTS} storm={self.random.randint(1, 9)}",
            do="save",
        )

    def resize(self) -> None:
        if row := self.one():
            size = {"memory_mib": str(self.random.choice((32, 48, 64, 96))), "vcpus": "1"}
            self.post("resize", f"/servers/{row['id']}/resize/", why="storm", **size)

    def delete(self) -> None:
        if row := self.one():
            self.post("delete", f"/servers/{row['id']}/delete/", name=row["name"])

    def undelete(self) -> None:
        if row := self.one("deleted_at IS NOT NULL"):
            self.post("undelete", f"/servers/{row['id']}/undelete/")

    def purge(self) -> None:
        if row := self.one("deleted_at IS NOT NULL"):
            self.post("purge", f"/servers/{row['id']}/purge/", name=row["name"])

    def ask(self) -> None:
        if len(self.servers()) >= MOST:
            return
        self._asked += 1
        form = self.browser.get("/ask/").form(having="guest_os")
        self.fill(
            "ask",
            form,
            name=f"s{self.random.randrange(16**8):08x}",
            guest_os="linux",
            offer="own",
            memory_mib="48",
            vcpus="1",
            disk_mib="8",
            why="storm",
        )

    def upload(self) -> None:
        """A kernel that nobody has uploaded yet: the worker has to look at it."""
        number = self.random.randrange(16**8)
        path = self.product.data / f"kernel-{number:08x}.elf"
        path.write_bytes(linux_elf(release=f"6.1.{number % 1000}-storm"))
        try:
            self.browser.upload(path, f"k{number:08x}", tenant=self.tenant)
        finally:
            path.unlink()
        self.tally.add(self.tally.pressed, "upload")

    def withdraw(self) -> None:
        rows = self.rows(
            "SELECT id FROM vps_request WHERE state = 'waiting' AND tenant_id = ?", UUID(self.tenant).hex
        )
        if rows:
            self.post("withdraw", f"/requests/{_id(self.random.choice(rows)['id'])}/withdraw/")

    def cancel(self) -> None:
        mine = {UUID(row["id"]).hex for row in self.servers()}
        self.cancel_of([row for row in self.rows.open_operations() if row["domu_id"] in mine])


class Operator(Person):
    """Decides requests, and lays a hand on any server."""

    acts = {"decide": 40, "verb": 40, "cancel": 8, "give_up": 4, "ask_again": 8}

    def decide(self) -> None:
        rows = self.rows("SELECT id FROM vps_request WHERE state = 'waiting'")
        if not rows:
            return
        address = f"/requests/{_id(self.random.choice(rows)['id'])}/"
        if self.random.random() < 0.15:
            self.post("refuse", address + "refuse/", words="not in this weather")
            return
        form = self.browser.get(address).form(action="/approve/")
        dom0s = [value for value, _ in form.choices.get("dom0", [])]
        self.fill("approve", form, **({"dom0": self.random.choice(dom0s)} if dom0s else {}))

    def verb(self) -> None:
        rows = self.rows(
            "SELECT id, name, observed FROM vps_domu WHERE deleted_at IS NULL AND menu_serial > 0"
            f" AND name NOT LIKE '{QUIET}%'"
        )
        if rows:
            row = self.random.choice(rows)
            self.verb_on({**row, "id": _id(row["id"])})

    def cancel(self) -> None:
        self.cancel_of(self.rows.open_operations())

    def _of_stuck(self, what: str, do: str) -> None:
        rows = self.rows.open_operations()
        if rows:
            self.post(what, f"/stuck/operations/{_id(self.random.choice(rows)['id'])}/{do}/", words="storm")

    def give_up(self) -> None:
        self._of_stuck("give up", "give-up")

    def ask_again(self) -> None:
        self._of_stuck("ask again", "retry")


class Watcher(Person):
    """Sits down at consoles and types; a console that is cut off is opened again later."""

    acts = {"watch": 1}

    def watch(self) -> None:
        rows = self.rows("SELECT id FROM vps_domu WHERE observed = 'running'")
        if not rows:
            return
        address = f"{self.browser.web}/servers/{_id(self.random.choice(rows)['id'])}/"
        try:
            with self.browser.console(address) as console:
                console.type("echo storm\r")
                end = time.monotonic() + self.random.uniform(1, 6)
                while time.monotonic() < end and not self.stopping.is_set():
                    console.receive(0.5)
        except (NotAsExpected, OSError, WebSocketException):
            self.tally.add(self.tally.cut, "console")
            return
        self.tally.add(self.tally.meddled, "consoles watched")


def _id(value: str) -> str:
    return str(UUID(value))


def prepare_tenant(
    product: Product, operator: Browser, login: Login, names: list[tuple[str, str]]
) -> tuple[str, str]:
    """Upload a kernel and have servers `(name, dom0)` made; gives the ids of the tenant and of the version."""
    browser = Browser(product.web, product.gateway)
    browser.log_in(login.email, login.password)
    try:
        page = way.upload(browser, product.data / "kernel.elf", "storm")
        if page.state != "can boot":
            raise NotAsExpected(page.text[:500])
        for name, dom0 in names:
            way.approve(operator, way.ask(browser, name, memory=48, disk=8), dom0)
        for name, _ in names:
            server = way.server_of(browser, name)
            browser.wait_state(server, "stopped")
            way.choose(browser, server, page.address, ARGUMENTS)
        tenant = browser.get("/ask/").form(having="guest_os").fields["tenant"]
    finally:
        browser.close()
    return tenant, page.address.rstrip("/").rsplit("/", 1)[-1]
