"""The loaders on real Xen: the boot disk, a customer's own disk, and what they say when there is nothing to boot."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.disks import KINDS
from lab.record import IMAGES, PLACE, Console, wait_gone
from lab.ssh import Ssh
from vps.xen import menu
from vps.xen.description import BlobRef, Boot, BootMethod

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

ENTRY = "title berth\nkernel /k/kernel console=hvc0 berth.name=berth\ninitrd /k/rd\n"
SLOW = 400.0  # seconds; a boot takes 20 on a quiet machine
LOADER = Boot(BootMethod.OWN_DISK, 1, timeout=1, loader=BlobRef("0" * 64, 1))


def boot_disk(ssh: Ssh, files: dict[str, str], *, kernels: bool = True, kernel: str = "vmlinux.gz") -> str:
    """Make a boot disk in dom0, as the agent does, unless this one is there; returns its path."""
    made = hashlib.sha256(repr((files, kernels, kernel)).encode()).hexdigest()[:12]
    image, stage = f"{PLACE}/boot-{made}.img", f"{PLACE}/stage"
    lines = [f"[ -e {image} ] && exit", f"rm -rf {stage}; mkdir -p {stage}/k"]
    if kernels:
        lines.append(f"cp {IMAGES}/{kernel} {stage}/k/kernel; cp {IMAGES}/rd.gz {stage}/k/rd")
    for path, text in files.items():
        lines.append(f"mkdir -p {Path(stage + path).parent}; printf %s {shlex.quote(text)} >{stage}{path}")
    size = "32M" if kernels else "1M"
    lines.append(f"mke2fs -q -t ext2 -b 4096 -m 0 -d {stage} {image} {size}")
    ssh.shell("\n".join(lines), timeout=300)
    return image


@pytest.fixture(autouse=True)
def consoles() -> Iterator[list[Console]]:
    """Those that a test opened; closed at its end."""
    opened.clear()
    yield opened
    for console in opened:
        console.close()


opened: list[Console] = []


def start(ssh: Ssh, disks: dict[str, str], *, kind: str = "pv", loader: str = "berth-pv64") -> Console:
    """Create the domain `guest` with these disks by device, paused, and its console from the first byte."""
    listed = ", ".join(
        f"'format=raw,vdev={device},access=ro,target={path}'" for device, path in disks.items()
    )
    lines = [
        'name = "guest"',
        f'type = "{kind}"',
        f'kernel = "{IMAGES}/{loader}.bin"',
        "memory = 192",
        f"disk = [ {listed} ]",
        *(f'on_{what} = "destroy"' for what in ("poweroff", "reboot", "crash", "watchdog")),
        *(['tsc_mode = "native"'] if kind == "pvh" else []),
    ]
    ssh.put("\n".join([*lines, ""]).encode(), "/etc/xen/guest")
    ssh.run(["xl", "create", "-p", "/etc/xen/guest"], timeout=300)
    console = Console(ssh, "guest")
    opened.append(console)
    ssh.run(["xl", "unpause", "guest"])
    return console


def own(name: str) -> str:
    """A customer's disk, as it lies in dom0: what boots from it needs no more than to read it."""
    return f"{IMAGES}/{name}.img"


@pytest.mark.parametrize(
    "others", [(), ("ext2",), ("ext2", "fat")], ids=["one disk", "two, with a rival menu", "three"]
)
def test_the_boot_disk_is_found_among(ssh: Ssh, others: tuple[str, ...]) -> None:
    disks = {f"xvd{'ab'[number]}": own(name) for number, name in enumerate(others)}
    disks["xvdz"] = boot_disk(ssh, {"/grub/menu.lst": f"timeout 1\n{ENTRY}"})
    console = start(ssh, disks)
    console.wait(b"berth-guest: up, name=berth ", SLOW)
    named = re.search(rb"disks=(\S*)", console.read())
    assert named and set(named[1].decode().strip(",").split(",")) == set(disks)
    console.type("\npoweroff\n")
    wait_gone(ssh, "guest")


@pytest.mark.parametrize("path", ["/boot/grub/menu.lst", "/grub/grub.cfg", "/boot/grub/grub.cfg"])
def test_the_menu_is_read_from(ssh: Ssh, path: str) -> None:
    native = (
        "menuentry berth {\n linux /k/kernel console=hvc0 berth.name=berth\n initrd /k/rd\n}\nset timeout=1\n"
    )
    text = native if path.endswith("cfg") else f"timeout 1\n{ENTRY}"
    console = start(ssh, {"xvdz": boot_disk(ssh, {path: text})})
    console.wait(b"berth-guest: up, name=berth ", SLOW)


def test_an_entry_that_fails_falls_back(ssh: Ssh) -> None:
    text = f"default 0\ntimeout 1\nfallback 1\ntitle broken\nkernel /k/nothing\n{ENTRY}"
    console = start(ssh, {"xvdz": boot_disk(ssh, {"/grub/menu.lst": text})})
    console.wait(b"berth-guest: up, name=berth ", SLOW)
    assert b"/k/nothing" in console.read()


def test_without_a_boot_disk_it_says_so(ssh: Ssh) -> None:
    console = start(ssh, {"xvda": own("ext2")})
    console.wait(b"Berth loader: there is no boot disk (xvdz)", SLOW)
    console.wait(b"Press Enter", SLOW)


def test_a_boot_disk_without_a_menu_says_so(ssh: Ssh) -> None:
    console = start(ssh, {"xvdz": boot_disk(ssh, {"/README": "x"}, kernels=False)})
    console.wait(b"Berth loader: the boot disk (xvdz) has no menu", SLOW)


def test_pvh(ssh: Ssh) -> None:
    # GRUB for PVH is the ordinary i386 one: it takes a bzImage, and hangs on an ELF.
    disk = boot_disk(ssh, {"/grub/menu.lst": f"timeout 1\n{ENTRY}"}, kernel="vmlinuz")
    console = start(ssh, {"xvdz": disk}, kind="pvh", loader="berth-pvh")
    console.wait(b"berth-guest: up, name=berth ", SLOW)


@pytest.mark.parametrize("name", KINDS)
def test_a_customers_own_disk_boots(ssh: Ssh, name: str) -> None:
    """By the menus that the product writes for them, both of which are there: the loader takes grub.cfg."""
    files = {menu.MENU_CFG: menu.grub_cfg(LOADER), menu.MENU_LST: menu.menu_lst(LOADER)}
    console = start(ssh, {"xvda": own(name), "xvdz": boot_disk(ssh, files, kernels=False)})
    console.wait(f"berth-guest: up, name={name} ".encode(), SLOW)
