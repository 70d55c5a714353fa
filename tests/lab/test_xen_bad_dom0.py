"""A bad dom0: what its page says, what an operation says, and that nothing is half made or counts as gone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.guests import guests
from lab.record import config, wait_until
from tests.lab.xen_site import DOM0, SLOW, Server, Site
from tests.story import way

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3600)]


def told(site: Site, words: str) -> None:
    """Wait until the dom0's page and the operator's first page say it."""
    for address in (f"/dom0s/{way.dom0_id(site.operator, DOM0)}/", "/today/"):
        wait_until(words, lambda a=address: words in site.operator.get(a).text, SLOW)


@contextmanager
def made_bad(site: Site, bad: str, good: str) -> Iterator[None]:
    site.ssh.shell(bad, timeout=SLOW)
    try:
        yield
    finally:
        site.ssh.shell(good, timeout=SLOW)


def fails(server: Server, words: str) -> None:
    """Start fails with these of the dom0's own words, and no domain is there."""
    server.press("start")
    server.wait("stopped", "failed")
    wait_until(words, lambda: words in server.page, SLOW)
    listed = server.site.ssh.run(["xl", "list"], timeout=SLOW).text
    assert server.name not in listed


@pytest.fixture
def own(server: Server) -> Server:
    server.choose(method="own_disk")
    return server


def test_its_bridge_is_missing(site: Site, own: Server) -> None:
    with made_bad(
        site, "ip link set xenbr0 down; ip link set xenbr0 name away0", "ip link set away0 name xenbr0"
    ):
        told(site, "The bridge xenbr0 of its servers is not there")
        fails(own, "Could not find bridge device xenbr0")
    site.ssh.run(["ip", "link", "set", "xenbr0", "up"])


def test_its_memory_is_used_up(site: Site, own: Server) -> None:
    """By a domain that is not Berth's, which is left alone."""
    free = int(site.ssh.run(["xl", "info", "free_memory"], timeout=SLOW).text)
    site.ssh.put(config("stranger", memory=str(free - 40), disk="", vif="").encode(), "/etc/xen/stranger")
    with made_bad(site, "xl create -p /etc/xen/stranger", "xl destroy stranger; rm /etc/xen/stranger"):
        told(site, "MiB of memory are free, and the servers that are stopped need")
        fails(own, "too little free memory")
        assert "stranger" in site.ssh.run(["xl", "list"], timeout=SLOW).text


def test_its_clock_is_wrong(site: Site, own: Server) -> None:
    with made_bad(site, "date -s '1 hour ago'", "date -s '1 hour'"):
        told(site, "clock is -3")
        own.put_disk("ext2")
        with own.started() as console:
            console.wait(r"berth-guest: up, name=ext2 ", SLOW)
        own.wait("running")


def test_its_disk_is_full(site: Site, one_server: Server) -> None:
    """With no room even for the journal an order waits; with little, or as soon as it is written down, it fails.

    Nothing is left half made.
    """
    one_server.destroy()
    one_server.choose(method="own_disk")
    one_server.put_disk("ext2")
    version = site.version(guests().fast, "no-room", ramdisk=guests().ramdisk)
    filler = "/var/lib/berth/of-somebody-else"
    # By halves, for a file larger than the room is not begun; also what only root may use.
    fill = (
        f"n=8388608; : >{filler}; while [ $n -ge 4 ]; do"
        f" fallocate -o $(stat -c %s {filler}) -l ${{n}}K {filler} 2>/dev/null || n=$((n / 2)); done"
    )
    before = files(site)
    with made_bad(site, fill, f"rm {filler}"):
        told(site, "MiB left")
        way.choose(site.owner, one_server.address, version, "console=hvc0")
        site.wait_inventories(2)
        assert files(site) == before | {filler}
        # 8 MiB: enough for what the agent writes down, too little for a boot disk.
        site.ssh.run(["truncate", "-s", "-8M", filler], timeout=SLOW)
        wait_until(
            "its words", lambda: re.search(r"lacks space for a file of \d+ [KM]iB", one_server.page), SLOW
        )
        assert files(site) == before | {filler}
    one_server.choose(method="own_disk")
    with one_server.started() as console:
        console.wait(r"berth-guest: up, name=ext2 ", SLOW)
    one_server.destroy()


def files(site: Site) -> set[str]:
    """What lies in dom0's folders for domUs, but the agent's own journal and the consoles' records."""
    kept = site.ssh.shell("find /etc/xen /var/lib/berth -type f", timeout=SLOW).text.split()
    return {name for name in kept if "journal" not in name and "/consoles/" not in name}


# What takes the place of xl, and what the dom0 says then. `list` and `info` are what the agent asks of itself.
BAD_XL = [
    pytest.param(
        "echo 'Name and rubbish'", "xl list -v did not begin with its headline", id="prints rubbish"
    ),
    pytest.param("exec sleep 300", "did not end in time", id="hangs"),
]


@contextmanager
def xl_replaced(site: Site, line: str) -> Iterator[None]:
    script = f"#!/bin/sh\n{line}\n"
    site.ssh.put(script.encode(), "/root/bad-xl", mode="755")
    xl = site.ssh.shell('readlink -f "$(command -v xl)"').text.strip()
    with made_bad(site, f"mount --bind /root/bad-xl {xl}", f"umount {xl}"):
        yield


def goes_on(site: Site, server: Server, boots: int) -> None:
    """The dom0 is well again, and the server that ran through it all was never told to be gone."""
    site.wait_inventories(2)
    page = server.wait("running")
    assert server.boots == boots, page
    events = site.manage(
        "from vps.models import Event;"
        f"print(*Event.objects.filter(domu_id='{server.id}').values_list('kind', flat=True)[:3])"
    )
    assert "ended" not in events.split()[0], events


@pytest.fixture
def running(own: Server) -> Server:
    own.put_disk("ext2")
    with own.started() as console:
        console.wait(r"berth-guest: up, name=ext2 ", SLOW)
    own.wait("running")
    return own


@pytest.mark.parametrize(("line", "words"), BAD_XL)
def test_its_xl(site: Site, running: Server, line: str, words: str) -> None:
    boots = running.boots
    with xl_replaced(site, line):
        told(site, words)
        assert site.owner.get(running.address).state != "stopped"
        running.press("reboot")
        wait_until("it has failed", lambda: "Reboot: failed" in running.page, SLOW)
    goes_on(site, running, boots)


def test_its_kernel_runs_without_xen(site: Site, running: Server) -> None:
    """As xl sees it: none of the doors to the hypervisor is there, neither the new ones nor xenfs's old one."""
    boots = running.boots
    doors, away = "/dev/xen/privcmd /dev/xen/hypercall", "/dev/xen/away"
    with made_bad(
        site,
        f"mkdir {away} && mv {doors} {away} && umount -l /proc/xen",
        f"mount -t xenfs xenfs /proc/xen && mv {away}/* /dev/xen && rmdir {away}",
    ):
        told(site, "runs without Xen")
        assert site.owner.get(running.address).state != "stopped"
        running.press("reboot")
        wait_until("it has failed", lambda: "Reboot: failed" in running.page, SLOW)
        assert "runs without Xen" in running.page
    goes_on(site, running, boots)
