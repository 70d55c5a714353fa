"""A product whose second dom0 is the lab's, and what people do with servers there."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab import join
from lab.machine import Machine
from lab.record import wait_until
from lab.ssh import Ssh
from tests.product import Product, product
from tests.story import way
from tests.story.browser import Browser

DOM0 = "lab"
# Emulation on two cores is slow and noisy, and all that is waited for here comes in the end or never.
SLOW = 600.0


@dataclass
class Site:
    """A product with the lab's dom0, an operator and an owner."""

    product: Product
    xen: Machine
    operator: Browser
    owner: Browser
    joined: float  # seconds from enrolling to the first inventory
    _versions: dict[str, str] = field(default_factory=dict)

    @property
    def ssh(self) -> Ssh:
        return self.xen.ssh()

    def version(
        self, path: Path, kernel: str, *, catalogue: bool = False, ramdisk: Path | None = None
    ) -> str:
        """The address of a kernel's version; uploaded once, by the owner or into the operator's catalogue."""
        key = f"{kernel} {catalogue}"
        if key not in self._versions:
            who, tenant = (self.operator, "catalogue") if catalogue else (self.owner, None)
            address = who.upload(path, kernel, tenant=tenant)
            page = who.wait_state(address, "can boot", "cannot boot", seconds=SLOW)
            assert page.state == "can boot", page.text
            if ramdisk:
                assert who.upload(ramdisk, kernel, onto=address) == address
                looked = lambda: "is being looked at" not in who.get(address).text  # noqa: E731
                wait_until("the ramdisk's verdict", looked, SLOW)
                page = who.get(address)
                assert f"{ramdisk.name}" in page.text and "was refused" not in page.text, page.text
            self._versions[key] = address
        return self._versions[key]

    def manage(self, code: str) -> str:
        """Run a line of Python beside the product; gives what it printed."""
        return join.Product.of(self.product.data).manage("shell", "-v", "0", "-c", code)

    def wait_inventories(self, number: int) -> None:
        """Wait until the dom0 was heard so many times more."""
        product = join.Product.of(self.product.data)
        for _ in range(number):
            now = time.time()
            wait_until("an inventory", lambda since=now: product.heard(since) >= product.dom0s(), SLOW)

    def ask(self, *, memory: int = 160, disk: int = 8) -> Server:
        """A server that was asked for, approved and made."""
        name = f"lab-{secrets.token_hex(3)}"
        request = way.ask(self.owner, name, memory=memory, disk=disk)
        way.approve(self.operator, request, DOM0)
        server = Server(self, name, way.server_of(self.owner, name))
        server.wait("stopped")
        return server


@dataclass
class Server:
    """A server by its page's address."""

    site: Site
    name: str
    address: str

    @property
    def id(self) -> str:
        return self.address.rstrip("/").rsplit("/", 1)[-1]

    @property
    def page(self) -> str:
        """The text of its page."""
        return self.site.owner.get(self.address).text

    @property
    def boots(self) -> int:
        """The number of boots that its page tells."""
        found = re.search(r"\bBoots (\d+)\b", self.page)
        assert found, self.page
        return int(found[1])

    def wait(self, *words: str) -> str:
        """Wait until its page has one of these states and nothing is under way; gives the page's text."""
        return self.site.owner.wait_state(self.address, *words, seconds=SLOW).text

    def choose(
        self, version: str = "", arguments: str = "", method: str = "pvgrub", own_kind: str = "pv64"
    ) -> None:
        """Save a boot menu; the dom0 prepares it, whether the server runs or not."""
        state = self.site.owner.get(self.address).state
        way.choose(self.site.owner, self.address, version, arguments, method, own_kind=own_kind)
        self.wait(state)

    def press(self, verb: str) -> None:
        way.press(self.site.owner, self.address, verb)

    def start(self, *words: str) -> str:
        """Press Start, and wait for one of these states, by default that it runs; gives the page's text.

        libxl ends a script that takes more than 40 s, which happens to a slow dom0 with everything in order. One then
        presses Start again.
        """
        words = words or ("running", "crashed", "rebooting", "not running, but should")
        for _ in range(3):
            self.press("start")
            page = self.site.owner.wait_state(self.address, "stopped", *words, seconds=SLOW)
            if page.state != "stopped":
                return page.text
            said = self.words_of_last_start()
            if "because of timeout" not in said:
                break
        assert "stopped" in words, f"It did not start: {said or page.text}"
        return page.text

    def words_of_last_start(self) -> str:
        """What the dom0 said of the last start, when it failed."""
        return self.site.manage(
            "from vps.models import Operation;"
            f"o = Operation.objects.filter(domu_id='{self.id}', verb='start').latest('created_at');"
            "print(o.error.get('output', ''))"
        )

    @contextmanager
    def started(self) -> Iterator[Any]:
        """Start it, and sit down at the console once there is a domain: before, it shows the run before."""
        self.start()
        with self.site.owner.console(self.address) as console:
            yield console

    def destroy(self) -> None:
        """By force, also from among restarts."""
        if self.site.owner.get(self.address).state != "stopped":
            way.name_again(self.site.owner, self.address, "destroy", self.name)
            self.wait("stopped")

    def delete(self) -> None:
        """Delete it, and have its disks wiped at once."""
        way.delete_and_purge(self.site.owner, self.address, self.name, seconds=SLOW)

    def put_disk(self, image: str) -> None:
        """Lay one of the lab's disks (lab/disks.py) over the stopped server's own, as if it had been installed there.

        The file keeps its size and its blocks; a boot menu must have been saved before.
        """
        text = self.site.ssh.get(f"/etc/xen/{self.name}").decode()
        found = re.search(r"vdev=xvda,access=\w+,target=([^\"',]+)", text)
        assert found, text
        copied = f"dd if=/srv/images/{image}.img of={found[1]} bs=1M conv=notrunc,fsync status=none"
        self.site.ssh.shell(copied, timeout=SLOW)

    def remains(self) -> str:
        """What is left of it in dom0, while no other server runs: its domain, loop devices, interfaces, files."""
        disks = self.site.manage(
            "from vps.models import Disk;"
            f"print(*Disk.objects.filter(domu_id='{self.id}').values_list('pk', flat=True))"
        )
        names = [self.name, self.id, *disks.split()]
        lines = (
            f"xl list | grep -w {self.name}",
            "losetup -a | grep /var/lib/berth",
            "ls /sys/class/net | grep '^vif'",
            f"find /etc/xen /var/lib/berth | grep -e {' -e '.join(names)}",
        )
        return self.site.ssh.shell("; ".join(lines), check=False, timeout=SLOW).text.strip()


@contextmanager
def site(xen: Machine, folder: Path) -> Iterator[Site]:
    """Start a product with its data in `folder`, and bring it the lab's dom0."""
    with product(folder) as running:
        seconds = join.join(join.Product.of(running.data), xen.ssh(), DOM0)
        with (
            closing(Browser(running.web, running.gateway)) as operator,
            closing(Browser(running.web, running.gateway)) as owner,
        ):
            for browser, role in ((operator, "operator"), (owner, "owner")):
                login = running.login(role)
                browser.log_in(login.email, login.password)
            yield Site(running, xen, operator, owner, seconds)
