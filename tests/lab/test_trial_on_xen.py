"""A trial boot on real Xen: Debian's cloud kernel through the loader, to the root that a trial has none of."""

from __future__ import annotations

import os

import pytest

from lab.guests import guests
from lab.record import wait_until
from tests.lab.xen_site import DOM0, SLOW, Server, Site

pytestmark = [pytest.mark.lab, pytest.mark.timeout(2400)]

# Read by the product when it starts: under emulation a boot takes a minute, on a busy machine several.
os.environ.setdefault("BERTH_TRIAL_SECONDS", "600")


def test_a_kernel_is_tried_to_its_missing_root(site: Site, one_server: Server) -> None:
    version = site.version(guests().cloud, "tried")
    dom0 = site.operator.get("/dom0s/").link(rf"^{DOM0}$")
    page = site.operator.submit(site.operator.get(dom0).form(action="/trials/"))
    assert "Kernels are booted on trial here." in page.text
    asked = site.owner.get(version).form(action="/try/")
    trial = site.owner.submit(asked, arguments="console=hvc0 root=/dev/xvda1").address
    assert "/trials/" in trial
    wait_until("the verdict", lambda: "It is under way." not in site.owner.get(trial).text, SLOW)
    text = site.owner.get(trial).text
    assert "It came as far as its root" in text, text
    assert "Linux version 6." in text and "VFS: Unable to mount root fs" in text
    left = "xl list | grep berth-trial; find /etc/xen /var/lib/berth | grep -e trial -e boot.img"
    assert site.ssh.shell(left, check=False, timeout=SLOW).text.strip() == ""
