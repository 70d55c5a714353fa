"""The product on real Xen: web, queue, agent, xl, console over WebSocket. Each case reads the guest's own words."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from lab import join
from lab.machine import Machine
from lab.ssh import Ssh
from tests import debian_kernels
from tests.product import product
from tests.story import way
from tests.story.browser import Browser

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

# TCG on two cores is slow and noisy: LAB-FACTS has 120 s as the least to wait for anything.
SLOW = 300.0
NO_ROOT = r"VFS: Unable to mount root fs"


@dataclass
class Site:
    """A product with the lab's dom0, an operator and an owner."""

    ssh: Ssh
    operator: Browser
    owner: Browser


@pytest.fixture(scope="module")
def site(xen: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with product(tmp_path_factory.mktemp("lab-product") / "data") as running:
        seconds = join.join(join.Product.of(running.data), xen.ssh(), "lab")
        print(f"the dom0 joined in {seconds:.1f} s")
        with (
            closing(Browser(running.web, running.gateway)) as operator,
            closing(Browser(running.web, running.gateway)) as owner,
        ):
            for browser, role in ((operator, "operator"), (owner, "owner")):
                login = running.login(role)
                browser.log_in(login.email, login.password)
            yield Site(xen.ssh(), operator, owner)


@pytest.fixture
def server(site: Site) -> Iterator[str]:
    """A server on the lab's dom0; deleted at the end, and then nothing of it remains there."""
    name = f"lab-{secrets.token_hex(3)}"
    request = way.ask(site.owner, name, memory=128, disk=8)
    way.approve(site.operator, request, "lab")
    address = way.server_of(site.owner, name)
    site.owner.wait_state(address, "stopped", seconds=SLOW)
    yield address
    way.name_again(site.owner, address, "delete", name)
    site.owner.wait_state(address, "deleted", seconds=SLOW)
    assert remains(site.ssh, name) == ""


def remains(ssh: Ssh, name: str) -> str:
    """Domains, loop devices, interfaces and files of a server that are left in dom0."""
    lines = (
        f"xl list | grep -w {name}; losetup -a | grep -v deleted; ls /sys/class/net | grep '^vif';"
        f"ls /etc/xen | grep -w {name}; ls /var/lib/berth/disks /var/lib/berth/domus | grep -v :"
    )
    return ssh.shell(lines, check=False, timeout=120).text.strip()


def boot(site: Site, server: str, version: str, arguments: str, method: str = "pvgrub") -> str:
    """Boot a kernel; gives what it said until it missed its root."""
    way.choose(site.owner, server, version, arguments, method)
    site.owner.wait_state(server, "stopped", seconds=SLOW)
    way.press(site.owner, server, "start")
    with site.owner.console(server) as console:
        text = console.wait(NO_ROOT, SLOW)
    site.owner.wait_state(server, "running", seconds=SLOW)
    return text


@pytest.mark.parametrize(
    "kernel",
    [
        pytest.param("linux-cloud", id="cloud kernel, lz4, which GRUB cannot read: its plain ELF"),
        pytest.param("linux-amd64", id="bzImage, xz"),
    ],
)
def test_an_upload_boots_through_the_loader(site: Site, server: str, kernel: str) -> None:
    path = debian_kernels.fetch([kernel])[kernel]
    page = way.upload(site.owner, path, kernel, seconds=SLOW)
    assert page.state == "can boot"
    text = boot(site, server, page.address, "console=hvc0 berth.word=through-the-loader")
    release = path.name.removeprefix("vmlinuz-")
    assert f"Linux version {release}" in text
    assert "Command line: console=hvc0 berth.word=through-the-loader" in text.replace(
        "Kernel command", "Command"
    )


def test_a_catalogue_kernel_boots_directly_and_its_panic_is_told(site: Site, server: str) -> None:
    path = debian_kernels.fetch(["linux-cloud"])["linux-cloud"]
    version = site.operator.upload(path, "rescue", tenant="catalogue")
    site.operator.wait_state(version, "can boot", seconds=SLOW)
    text = boot(site, server, version, "console=hvc0 panic=1 berth.word=directly", "direct")
    assert "berth.word=directly" in text
    # panic=1 reboots: the agent builds the domain anew, and again, with a brake.
    page = site.owner.wait_state(server, "running", "rebooting", "starting", seconds=SLOW)
    assert "Boots" in page.text
    name = page.text.split()[0]
    way.name_again(site.owner, server, "destroy", name)
    site.owner.wait_state(server, "stopped", seconds=SLOW)
