"""The boot matrix through the product: disks that their owners look after, with a menu of their own.

The lab's disks (lab/disks.py) are laid over a server's disk as an installation would have left them; each guest
says the name of the disk that it was booted from.
"""

from __future__ import annotations

import pytest

from lab.disks import KINDS
from tests.lab.xen_site import SLOW, Server

# What Debian's installer leaves; it goes through the most of the loader's menu.
IN_CI = "ext4-gpt-boot"

pytestmark = [pytest.mark.lab, pytest.mark.matrix, pytest.mark.timeout(2400)]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.lab_ci if name == IN_CI else ()) for name in KINDS]
)
def test_a_menu_on_the_servers_own_disk_boots(server: Server, name: str) -> None:
    server.choose(method="own_disk")
    server.put_disk(name)
    with server.started() as console:
        console.wait(rf"berth-guest: up, name={name} ", SLOW)
        console.ask("echo $((6*7))-$(uname -s)", r"\n42-Linux\b", SLOW)


def test_a_kernel_on_the_servers_own_disk_starts_as_pvh(server: Server) -> None:
    """By its owner's word; the loader for PVH takes a bzImage."""
    server.choose(method="own_disk", own_kind="pvh")
    server.put_disk("ext2-bzimage")
    with server.started() as console:
        text = console.wait(r"berth-guest: up, name=ext2-bzimage ", SLOW)
        assert "Hypervisor detected: Xen HVM" in text
        console.ask("echo $((6*7))-$(uname -s)", r"\n42-Linux\b", SLOW)
