"""The boot matrix through the product (web, queue, agent, xl, console over WebSocket): kernels from Berth's hands.

Each case reads the guest's own words. The table of docs/boot-matrix.md comes from here and from test_own_disks.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.guests import guests, with_xz
from lab.record import wait_until
from tests import debian_kernels, kernels
from tests.lab import tiny_kernel
from tests.lab.xen_site import DOM0, SLOW, Server, Site
from tests.story import way

pytestmark = [pytest.mark.lab, pytest.mark.matrix, pytest.mark.timeout(2400)]

# Without a ramdisk a kernel of Debian's has no root, and says so; before it there is its command line.
NO_ROOT = r"berth\.name={name}\b[\s\S]*VFS: Unable to mount root fs"


def debian(name: str) -> Path:
    return debian_kernels.fetch([name])[name]


def boot(server: Server, version: str, name: str, method: str = "pvgrub") -> str:
    """Boot a kernel with the lab's ramdisk; gives what the guest said until it was up under its name."""
    server.choose(version, f"console=hvc0 berth.name={name}", method)
    with server.started() as console:
        text: str = console.wait(rf"berth-guest: up, name={name} ", SLOW)
    server.wait("running")
    return text


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        # GRUB cannot read lz4 and zstd: the boot disk has the plain ELF.
        pytest.param("cloud-lz4", lambda: guests().cloud, marks=pytest.mark.lab_ci, id="cloud-lz4"),
        pytest.param("cloud-zstd", lambda: debian("linux-cloud-newer"), id="cloud-zstd"),
        pytest.param("bzimage-xz", lambda: guests().kernel, id="bzimage-xz"),
        pytest.param("plain-elf", lambda: guests().elf, id="plain-elf"),
    ],
)
def test_an_upload_boots_through_the_loader(
    site: Site, server: Server, name: str, kernel: Callable[[], Path]
) -> None:
    path = kernel()
    text = boot(server, site.version(path, name, ramdisk=guests().ramdisk), name)
    assert "Linux version 6." in text
    assert ("-cloud-amd64 " in text) == name.startswith("cloud")


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        pytest.param(
            "direct-bzimage", lambda: guests().kernel, marks=pytest.mark.lab_ci, id="direct-bzimage"
        ),
        pytest.param("direct-elf", lambda: guests().elf, id="direct-elf"),
    ],
)
def test_a_kernel_of_the_catalogue_boots_directly(
    site: Site, server: Server, name: str, kernel: Callable[[], Path]
) -> None:
    version = site.version(kernel(), name, catalogue=True, ramdisk=guests().ramdisk)
    text = boot(server, version, name, "direct")
    assert "Linux version 6." in text
    assert f"{server.name}-kernel-" in site.ssh.get(f"/etc/xen/{server.name}").decode()


@pytest.mark.lab_ci
def test_a_kernel_that_panics_is_told_and_built_anew(site: Site, server: Server) -> None:
    """Without a root; panic=1 would be a reboot, Linux's own way on Xen is a crash."""
    version = site.version(guests().cloud, "rescue", catalogue=True)
    server.choose(version, "console=hvc0 berth.name=panics", "direct")
    before = server.boots
    with server.started() as console:
        text = console.wait(NO_ROOT.format(name="panics"), SLOW)
        assert "Kernel panic - not syncing" in text or console.wait("Kernel panic - not syncing", SLOW)
        ended = console.wait_told("ended", SLOW)
        assert (ended["reason"], ended["next"]) == ("crash", "restart"), ended
        wait_until("a second boot", lambda: server.boots >= before + 2, SLOW, pause=1)


def pvh_only(elf: bytes) -> bytes:
    """Debian's amd64 kernel without the note of its PV entry, so that it can start as PVH only.

    Debian's i386 kernel is so by itself; under QEMU's emulated SVM it comes no further than its first CPUID
    (docs/lab.md).
    """
    entry, other = (struct.pack("<III4s", 4, 8, note, b"Xen\0") for note in (1, 99))
    assert elf.count(entry) == 1
    return elf.replace(entry, other)


def test_a_pvh_kernel_boots_directly(site: Site, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "vmlinux-pvh"
    path.write_bytes(pvh_only(guests().elf.read_bytes()))
    version = site.version(path, "pvh-only", catalogue=True, ramdisk=guests().ramdisk)
    text = boot(server, version, "pvh", "direct")
    assert "Hypervisor detected: Xen HVM" in text


def test_a_pvh_kernel_boots_through_the_loader(site: Site, server: Server, tmp_path: Path) -> None:
    """Nobody says here that it is PVH: inspection sees it, and the menu takes the loader for it."""
    path = tmp_path / "vmlinuz-pvh"
    path.write_bytes(with_xz(guests().kernel.read_bytes(), pvh_only(guests().elf.read_bytes())))
    text = boot(server, site.version(path, "pvh-bzimage", ramdisk=guests().ramdisk), "pvh-loader")
    assert "Hypervisor detected: Xen HVM" in text
    settings = site.ssh.get(f"/etc/xen/{server.name}").decode()
    assert 'type = "pvh"' in settings and f"{server.name}-kernel-" not in settings, settings


@pytest.mark.lab_ci
@pytest.mark.parametrize("method", ["pvgrub", "direct"])
def test_a_kernel_that_exits_at_once_leaves_the_server_stopped(
    site: Site, server: Server, tmp_path: Path, method: str
) -> None:
    path = tmp_path / "exits"
    path.write_bytes(tiny_kernel.poweroff())
    server.choose(site.version(path, "exits", catalogue=method == "direct"), "", method)
    before = server.boots
    page = server.start("stopped")
    assert server.boots == before + 1
    assert "powered off" in page, page


@pytest.mark.lab_ci
def test_a_kernel_of_the_wrong_bitness_is_refused_by_what_the_dom0_told(
    site: Site, server: Server, tmp_path: Path
) -> None:
    """Debian's Xen runs no 32-bit PV. What its toolstack says of such a kernel is in the contract suite."""
    path = tmp_path / "netbsd-i386"
    path.write_bytes(kernels.netbsd("i386", config="XEN3PAE_DOMU"))
    version = site.version(path, "wrong-bitness")
    serial = f"from vps.models import Domu; print(Domu.objects.get(pk='{server.id}').menu_serial)"
    before = site.manage(serial)
    page = way.choose(site.owner, server.address, version, expect=409)
    assert f"{DOM0}'s Xen runs no 32-bit PV guests; take a 64-bit kernel." in page.text
    assert site.manage(serial) == before, "nothing was saved"
