"""What the product adds to `xl`: create to prompt beside the same by hand, and the agent's memory. Prints figures."""

from __future__ import annotations

import json
import re
import shlex
import time
from uuid import uuid4

import pytest

from lab import dom0_agent
from lab.record import Console, wait_gone
from tests.lab.xen_site import SLOW, Server, Site

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3600)]

UP = r"berth-guest: up, name=ext2 "
ROUNDS = 3


def test_create_to_prompt_beside_xl_by_hand(
    site: Site, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.choose(method="own_disk")
    server.put_disk("ext2")
    for number in range(ROUNDS):
        hand = by_hand(site, server)
        product, shares = by_product(site, server)
        with capsys.disabled():
            print(f"\nround {number + 1}: by hand {hand:.1f} s, product {product:.1f} s: {shares}")


def by_hand(site: Site, server: Server) -> float:
    """Seconds from `xl create` typed in dom0 to the guest's line: the product's configuration under another name."""
    changed = f's/{server.name}"/byhand"/; /^uuid/s/{server.id}/{uuid4()}/'
    site.ssh.shell(f"sed -e {shlex.quote(changed)} /etc/xen/{server.name} >/root/byhand")
    began = time.monotonic()
    site.ssh.run(["xl", "create", "-p", "/root/byhand"], timeout=SLOW)
    console = Console(site.ssh, "byhand")
    try:
        site.ssh.run(["xl", "unpause", "byhand"], timeout=SLOW)
        console.wait(b"berth-guest: up, name=ext2 ", SLOW)
        return time.monotonic() - began
    finally:
        site.ssh.run(["xl", "destroy", "byhand"], timeout=SLOW, check=False)
        wait_gone(site.ssh, "byhand")
        console.close()


def by_product(site: Site, server: Server) -> tuple[float, str]:
    """Seconds from the click to the guest's line on the customer's console, and where they went."""
    began = time.monotonic()
    with server.started() as console:
        console.wait(UP, SLOW)
    took = time.monotonic() - began
    server.wait("running")
    operation = json.loads(site.manage(_OPERATION.format(domu=server.id)))
    log = site.ssh.get(dom0_agent.LOG).decode(errors="replace")
    xl = [
        (found[1], float(found[2]))
        for line in log.splitlines()
        if f"operation={operation['id']}" in line
        and (found := re.search(r"xl (create|unpause) .*after ([\d.]+) s", line))
    ]
    rest = operation["seconds"] - sum(seconds for _, seconds in xl)
    said = ", ".join(f"xl {command} {seconds:.1f}" for command, seconds in xl)
    server.destroy()
    return (
        took,
        f"operation {operation['seconds']:.1f} ({said}, the rest {rest:.1f}), guest {took - operation['seconds']:.1f}",
    )


_OPERATION = (
    "import json; from vps.models import Operation;"
    "o = Operation.objects.filter(domu_id='{domu}', verb='start').order_by('-created_at').first();"
    "print(json.dumps({{'id': str(o.pk), 'seconds': o.seconds, 'steps': o.steps}}))"
)


def test_the_agents_memory(site: Site, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    idle = dom0_agent.memory(site.ssh)
    server.choose(method="own_disk")
    server.put_disk("ext2")
    with server.started() as console:
        console.wait(UP, SLOW)
        watched = dom0_agent.memory(site.ssh)
    with capsys.disabled():
        for what, used in (("idle", idle), ("one server, its console watched", watched)):
            pss, rss = used.pss / 1024, used.rss / 1024
            print(f"\nagent, {what}: {used.processes} process(es), {pss:.1f} MiB PSS, {rss:.1f} RSS")
    assert idle.pss < 80 * 1024
