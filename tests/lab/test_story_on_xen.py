"""The story on real Xen: from asking to deleting, with nothing left in dom0."""

from __future__ import annotations

import pytest

from lab.guests import guests
from tests.lab.xen_site import SLOW, Site

pytestmark = [pytest.mark.lab, pytest.mark.lab_ci, pytest.mark.timeout(3600)]

PROMPT = r"berth-guest:\S*# "


def test_from_asking_to_deleting(site: Site) -> None:
    ramdisk = guests().ramdisk
    first = site.version(guests().kernel, "bzimage-xz", ramdisk=ramdisk)
    second = site.version(guests().cloud, "cloud-lz4", ramdisk=ramdisk)
    server = site.ask(disk=16)
    server.choose(first, "console=hvc0 berth.name=first")
    assert server.remains() != "", "what is looked for below can be found"
    with server.started() as console:
        console.wait(rf"berth-guest: up, name=first [\s\S]*{PROMPT}", SLOW)
        answer = console.ask("echo $((6*7)); uname -r", r"\n42\n\S+-amd64\n", SLOW)
        assert "-cloud-amd64" not in answer
        server.wait("running")
        assert server.boots == 1

        # What runs goes on with what it booted; the menu holds from its next boot, here a reboot from inside.
        server.choose(second, "console=hvc0 berth.name=second")
        told = len(console.told)
        here = console.type("reboot\r")
        ended = console.wait_told("ended", SLOW, since=told)
        assert (ended["reason"], ended["next"]) == ("reboot", "rebuild")
        console.wait(rf"berth-guest: up, name=second [\s\S]*{PROMPT}", SLOW, since=here)
        console.ask("uname -r", r"\n\S+-cloud-amd64\n", SLOW)
        server.wait("running")
        assert server.boots == 2

        # A power-off from inside leaves it off.
        told = len(console.told)
        console.type("poweroff\r")
        ended = console.wait_told("ended", SLOW, since=told)
        assert (ended["reason"], ended["next"]) == ("poweroff", "stopped")
    server.wait("stopped")
    site.wait_inventories(2)
    server.wait("stopped")
    assert server.boots == 2

    server.delete()
    assert server.remains() == ""
