"""A bad dom0: what its page says, what an operation says, and that nothing is half made or counts as gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

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
