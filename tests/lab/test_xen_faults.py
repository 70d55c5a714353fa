"""Faults on real Xen, through the product. Afterwards the picture is true, and nothing was done twice.

The guest boots its own disk and has a shell. How often a domain was built is counted in what xl's monitors wrote.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.machine import Machine
from lab.record import wait_until
from tests.lab.xen_site import SLOW, Server, Site
from tests.story.browser import Console

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3600)]

UP = r"berth-guest: up, name=ext2 [\s\S]*berth-guest:\S*# "


@pytest.fixture
def own(server: Server) -> Server:
    """A server whose disk has a system with a shell, stopped."""
    server.choose(method="own_disk")
    server.put_disk("ext2")
    # `built` counts in xl's logs, of which it keeps eleven: fewer than this server has starts in a whole run.
    server.site.ssh.shell(f"rm -f /var/log/xen/xl-{server.name}.log*")
    return server


@pytest.fixture
def running(own: Server) -> Server:
    """The same, at its shell."""
    with own.started() as console:
        console.wait(UP, SLOW)
    own.wait("running")
    return own


def built(server: Server) -> int:
    """How many domains of the server's name xl has built."""
    logs = f"cat /var/log/xen/xl-{server.name}.log* | grep -c 'Waiting for domain {server.name} '"
    return int(server.site.ssh.shell(logs, check=False, timeout=SLOW).text)


def domains(server: Server) -> int:
    rows = f"xl list -v | grep -c {server.id}"
    return int(server.site.ssh.shell(rows, check=False, timeout=SLOW).text)


def kill_agent(site: Site) -> None:
    """kill -9; what keeps it running starts another after two seconds."""
    site.ssh.shell("kill -9 $(cat /run/berth-agent.pid)")


@contextmanager
def at_the_console(server: Server) -> Iterator[Console]:
    with server.site.owner.console(server.address) as console:
        yield console


def once_more(server: Server, boots: int, before: int) -> None:
    """The server runs, after one boot more than `boots` and one domain more than `before`."""
    server.wait("running")
    wait_until("the boot is told", lambda: server.boots == boots + 1, SLOW)
    server.site.wait_inventories(2)
    server.wait("running")
    assert (server.boots, built(server), domains(server)) == (boots + 1, before + 1, 1)


@pytest.mark.lab_ci
def test_the_agent_is_killed_while_it_creates(site: Site, own: Server) -> None:
    boots, before = own.boots, built(own)
    own.press("start")
    at_work = f"pgrep -f 'xl create .*{own.name}'"
    wait_until("xl creates", lambda: site.ssh.shell(at_work, check=False).exit == 0, SLOW)
    kill_agent(site)
    with at_the_console(own) as console:
        console.wait(UP, SLOW)
    once_more(own, boots, before)


@pytest.mark.lab_ci
def test_the_agent_is_killed_while_the_guest_reboots(site: Site, running: Server) -> None:
    boots, before = running.boots, built(running)
    with at_the_console(running) as console:
        console.type("reboot\r")
        console.wait("Restarting system", SLOW)
        kill_agent(site)
    with at_the_console(running) as console:
        console.wait(UP, SLOW)
    once_more(running, boots, before)


def test_the_agent_is_killed_while_somebody_is_at_the_console(site: Site, running: Server) -> None:
    boots, before = running.boots, built(running)
    with at_the_console(running) as console:
        console.ask("word=kept; echo here-$word", r"\nhere-kept\b", SLOW)
        kill_agent(site)
    with at_the_console(running) as console:
        answered = time.monotonic() + SLOW
        while True:  # what is typed before the new agent has the console is lost, as the page says
            try:
                console.ask("echo still-$word", r"\nstill-kept\b", 10)
                break
            except AssertionError:
                assert time.monotonic() < answered
    assert (running.boots, built(running), domains(running)) == (boots, before, 1)


@contextmanager
def frozen(site: Site, child: str) -> Iterator[None]:
    """A part of the product that answers nothing, and goes on afterwards."""
    pid = site.product.child(child)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("child", [pytest.param("redis", id="Redis"), pytest.param("web", id="the web")])
def test_a_guest_reboots_while_there_is_no(site: Site, running: Server, child: str) -> None:
    """For a minute and more; the dom0 goes on, and tells it afterwards."""
    boots, before = running.boots, built(running)
    with frozen(site, child):
        began = time.monotonic()
        site.ssh.run(["xl", "reboot", running.name], timeout=SLOW)
        wait_until("the domain is built anew", lambda: built(running) == before + 1, SLOW)
        time.sleep(max(0.0, 60 - (time.monotonic() - began)))
    once_more(running, boots, before)


def test_dom0_reboots_under_its_servers(site: Site, xen: Machine, running: Server) -> None:
    """What should run comes back, once; what was stopped stays so."""
    stopped = site.ask()
    boots, before = running.boots, built(running)
    site.ssh.run(["sync"])
    xen.reset()
    site.ssh.close()
    with at_the_console(running) as console:
        console.wait(UP, SLOW)
    once_more(running, boots, before)
    stopped.wait("stopped")
    assert (stopped.boots, domains(stopped)) == (0, 0)
    stopped.delete()
