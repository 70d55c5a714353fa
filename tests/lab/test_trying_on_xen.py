"""Try once on real Xen: a Linux kernel that panics for lack of a root is taken back while the web is stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.guests import guests
from lab.record import wait_until
from tests.lab.xen_site import SLOW, Server, Site

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3600)]

UP = "berth-guest: up, name=good"


@contextmanager
def stopped(site: Site, *children: str) -> Iterator[None]:
    """Hold children of the product, as if their machine were away."""
    held = [site.product.child(name) for name in children]
    for pid in held:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in held:
            os.kill(pid, signal.SIGCONT)


def times_up(server: Server) -> int:
    """How often the good kernel came up, as the dom0's records of consoles have it."""
    folder = f"/var/lib/berth/consoles/{server.id}"
    told = server.site.ssh.shell(f"grep -aoh '{UP}' {folder}/* | wc -l", check=False, timeout=SLOW)
    return int(told.text.strip() or 0)


def test_a_kernel_without_a_root_is_taken_back_while_the_web_is_stopped(site: Site, server: Server) -> None:
    good = site.version(guests().fast, "elf-with-shell", ramdisk=guests().ramdisk)
    bad = site.version(guests().fast, "elf-without-root")
    before = server.boots
    server.choose(good, "console=hvc0 berth.name=good")
    with server.started() as console:
        console.wait(UP, SLOW)
    server.wait("running")

    owner = site.owner
    form = owner.get(server.address.rstrip("/") + "/boot/").form(having="seen_serial")
    identity = bad.rstrip("/").rsplit("/", 1)[-1]
    page = owner.submit(form, version=identity, title="", arguments="console=hvc0 root=/dev/xvda1", do="try")
    owner.submit(page.form(having="seconds"), seconds="900", pattern="berth-guest: up")
    wait_until("it is being tried", lambda: owner.get(server.address).state == "being tried", SLOW)
    with stopped(site, "redis", "web", "collector", "worker"):
        wait_until("the good kernel again", lambda: times_up(server) >= 2, SLOW)
    server.wait("running")
    wait_until("the news of it", lambda: "taken back" in server.page, SLOW)
    text = server.page
    assert "Kernel panic - not syncing: VFS" in text
    assert "The server went back to elf-with-shell 1" in text
    wait_until("the boot after it is told", lambda: server.boots == before + 3, SLOW)
