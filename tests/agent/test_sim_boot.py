from __future__ import annotations

import gzip
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sim_kernels
from sim_dom0 import SimDom0, until

from tests import kernels
from vps.agent.sim import menulst
from vps.xen.description import BlobRef, Boot, BootEntry, BootMethod, OwnMenu
from vps.xen.menu import menu_lst

MENU = """\
# Berth, menu 1.
default 0
timeout 0

title First
kernel /k/one console=hvc0 root=/dev/xvda1
initrd /k/rd
"""


@pytest.fixture
def dom0(tmp_path: Path) -> Iterator[SimDom0]:
    dom0 = SimDom0.make(tmp_path)
    yield dom0
    dom0.end()


def boot(dom0: SimDom0, menu: str, files: dict[str, bytes], kind: str = "pv64", **more: object) -> None:
    """A domain web1 with the placeholder loader, a boot disk of these files and a disk of its own."""
    boot_disk = dom0.ext2("boot.img", {"/grub/menu.lst": menu.encode(), **files})
    kernel = dom0.loader(kind)
    config = dom0.config("web1", kernel, {"xvda": dom0.disk(), "xvdz": boot_disk}, **more)
    dom0.ok("create", str(config))


def test_the_menu_of_the_boot_disk_boots_linux(dom0: SimDom0) -> None:
    kernel = gzip.compress(sim_kernels.linux("6.1.0-56-amd64"))
    boot(dom0, MENU, {"/k/one": kernel, "/k/rd": b"r" * 4321})
    console = dom0.console("web1")
    console.expect(r"Booting `First'")
    (line,) = until(lambda: dom0.effects("boot"), "booted")
    console.expect(f"Linux version 6.1.0-56-amd64 .* sha256 {line['kernel'][:12]}\r\n")
    console.expect(r"Command line: console=hvc0 root=/dev/xvda1\r\n")
    console.expect(r"RAMDISK: 4321 bytes.*blkfront: xvda: .*blkfront: xvdz: read-only,")
    console.expect(rf"boot 1, kernel {line['kernel'][:12]}\r\n\r\n/ # ")
    console.type("cat /proc/cmdline\r")
    console.expect(r"console=hvc0 root=/dev/xvda1\r\n/ # ")
    assert line["arguments"] == "console=hvc0 root=/dev/xvda1"
    assert console.leave() == 0


def test_netbsd_through_the_loader(dom0: SimDom0) -> None:
    menu = "timeout 0\ntitle N\nkernel /k/n root=xbd0a\n"
    boot(
        dom0,
        menu,
        {"/k/n": sim_kernels.netbsd("10.1", "XEN3_DOMU_BERTH")},
        vif=["mac=aa:00:00:00:00:01,bridge=b"],
    )
    console = dom0.console("web1")
    console.expect(rb"Copyright \(c\) 1996.*NetBSD 10\.1 \(XEN3_DOMU_BERTH\) #0: .*\n\r")
    console.expect(
        r"xbd0 at xenbus0 .*\(xvda\).*xbd1 at xenbus0 .*\(xvdz\).*xennet0: MAC address aa:00:00:00:00:01"
    )
    console.expect(r"root on xbd0a dumps on xbd0b\n\r")
    console.expect(r"login: ")
    console.type("root\r")
    console.expect(r"# ")
    console.type("uname -a\r")
    console.expect(r"NetBSD web1 10\.1 XEN3_DOMU_BERTH [0-9a-f]{12} amd64\n\r# ")


def test_no_boot_disk(dom0: SimDom0) -> None:
    dom0.ok("create", str(dom0.config("web1", dom0.loader(), {"xvda": dom0.disk()})))
    console = dom0.console("web1")
    console.expect(
        r"Berth loader: there is no boot disk \(xvdz\).*\(xen/xvda\).*Press Enter for GRUB's own prompt\."
    )
    console.type("\r")
    console.expect(r"grub> ")
    console.type("ls\r")
    console.expect(r"\(xen/xvda\)\r\ngrub> ")
    console.type("frob\r")
    console.expect(r"error: can't find command `frob'\.\r\ngrub> ")
    assert dom0.effects("boot") == []
    assert dom0.flags("web1") == "r-----"  # GRUB polls (recorded)
    assert dom0.xl("shutdown", "web1").stderr.endswith("shutdown failed (rc=-9)\n")


def test_the_boot_disk_is_found_by_its_name_only(dom0: SimDom0) -> None:
    image = dom0.ext2("boot.img", {"/grub/menu.lst": MENU.encode()})
    dom0.ok("create", str(dom0.config("web1", dom0.loader(), {"268441856": image})))
    dom0.console("web1").expect(r"Berth loader: there is no boot disk \(xvdz\).*\(xen/268441856\)")


def test_a_boot_disk_without_a_menu(dom0: SimDom0) -> None:
    image = dom0.ext2("boot.img", {"/k/one": b"x"})
    dom0.ok("create", str(dom0.config("web1", dom0.loader(), {"xvdz": image})))
    dom0.console("web1").expect(r"Berth loader: the boot disk \(xvdz\) has no menu")


TWO = """\
default 0
timeout 30
fallback 1

title First
kernel /k/one a=1 root=/dev/ram0
initrd /k/rd

title Second
kernel /k/two b=2 root=/dev/ram0
initrd /k/rd
"""


def test_arrows_and_enter_choose(dom0: SimDom0) -> None:
    boot(dom0, TWO, {"/k/one": sim_kernels.linux("1.1"), "/k/two": sim_kernels.linux("2.2"), "/k/rd": b"r"})
    console = dom0.console("web1")
    console.expect(r"GNU GRUB  version 2\.06")
    console.expect(r"\x1b\[7m\*First")
    console.expect(r"executed automatically in 30s\.")
    console.expect(r"executed automatically in 2\ds\.")
    console.type("\x1b[B")
    console.expect(r"\x1b\[7m\*Second")
    console.type("\r")
    console.expect(r"Booting `Second'.*Linux version 2\.2 .*Command line: b=2")


def test_the_countdown_ends_with_the_default(dom0: SimDom0) -> None:
    menu = TWO.replace("timeout 30", "timeout 1").replace("default 0", "default 1")
    boot(dom0, menu, {"/k/one": sim_kernels.linux("1.1"), "/k/two": sim_kernels.linux("2.2"), "/k/rd": b"r"})
    dom0.console("web1").expect(r"in 1s\..*Booting `Second'.*Linux version 2\.2 ")


# GRUB 2.06 reads none of these (XEN-FACTS 4): the first is not for Xen, the others of the wrong kind.
UNREADABLE = [
    pytest.param("pv64", b"text\n" * 99, id="text"),
    pytest.param("pv64", sim_kernels.linux()[:200], id="truncated"),
    pytest.param("pv64", sim_kernels.linux(wide=False), id="32 bits by the 64-bit loader"),
    pytest.param("pv64", sim_kernels.linux(pv=False, pvh=True), id="PVH only by the PV loader"),
    pytest.param(
        "pvh", kernels.linux_bzimage("gzip", elf=sim_kernels.linux()), id="PV only by the PVH loader"
    ),
]


@pytest.mark.parametrize(("kind", "kernel"), UNREADABLE)
def test_what_grub_cannot_read_falls_back_and_stays_up(dom0: SimDom0, kind: str, kernel: bytes) -> None:
    menu = TWO.replace("timeout 30", "timeout 0")
    boot(
        dom0,
        menu,
        {"/k/one": kernel, "/k/two": kernel, "/k/rd": b"r"},
        kind,
        type="pvh" if kind == "pvh" else "pv",
    )
    console = dom0.console("web1")
    console.expect(r"Booting `First'.*error: couldn't load file /k/one\.\r\n")
    console.expect(r"error: you need to load the kernel first\.\r\n")
    console.expect(r"Press any key to continue\.\.\.")
    console.expect(r"Falling back to `Second'.*error: couldn't load file /k/two\.")
    console.expect(r"Failed to boot both default and fallback entries\.")
    assert dom0.flags("web1") == "r-----"  # GRUB polls (recorded)
    assert dom0.effects("boot") == []


def test_the_32_bit_and_pvh_loaders(dom0: SimDom0) -> None:
    dom0.set(xen_caps="xen-3.0-x86_64 xen-3.0-x86_32p hvm-3.0-x86_32")
    boot(dom0, MENU, {"/k/one": sim_kernels.linux("3.2", wide=False), "/k/rd": b"r"}, "pv32")
    dom0.console("web1").expect(r"Linux version 3\.2 ")
    dom0.ok("destroy", "web1")
    kernel = sim_kernels.linux("5.5", pv=True, pvh=True)
    image = kernels.linux_bzimage("gzip", elf=kernel)
    boot(dom0, MENU, {"/k/one": image, "/k/rd": b"r"}, "pvh", type="pvh")
    dom0.console("web1").expect(r"Linux version .*Xen PVH")
    dom0.ok("destroy", "web1")
    before = len(dom0.effects("boot"))
    boot(dom0, MENU, {"/k/one": kernel, "/k/rd": b"r"}, "pvh", type="pvh")  # an ELF hangs it
    console = dom0.console("web1")
    console.expect(r"Booting `")
    time.sleep(1.0)
    assert len(dom0.effects("boot")) == before
    assert dom0.flags("web1") == "r-----"


def test_fallback_boots_the_good_entry(dom0: SimDom0) -> None:
    menu = TWO.replace("timeout 30", "timeout 0")
    boot(dom0, menu, {"/k/one": b"x", "/k/two": sim_kernels.linux("2.2"), "/k/rd": b"r"})
    console = dom0.console("web1")
    console.expect(r"Falling back to `Second'.*Linux version 2\.2 ")
    (line,) = until(lambda: dom0.effects("boot"), "booted")
    assert line["arguments"] == "b=2 root=/dev/ram0"


def test_handing_over_to_the_customers_menu(dom0: SimDom0) -> None:
    """As Berth's own-disk menu does it: places are tried one after the other."""
    menu = (
        "default 0\ntimeout 0\nfallback 1 2\n\ntitle A\nconfigfile (xen/xvda)/boot/grub/menu.lst\n"
        "\ntitle B\nconfigfile (xen/xvda)/grub/menu.lst\n\ntitle C\nroot (hd0,0)\nconfigfile /grub/menu.lst\n"
    )
    own = dom0.ext2(
        "own.img",
        {
            "/grub/menu.lst": b"timeout 0\ntitle Own\nroot (hd0)\nkernel /own root=/dev/xvda1\n",
            "/own": sim_kernels.linux("4.4"),
        },
    )
    boot_disk = dom0.ext2("boot.img", {"/grub/menu.lst": menu.encode()})
    dom0.ok("create", str(dom0.config("web1", dom0.loader(), {"xvda": own, "xvdz": boot_disk})))
    console = dom0.console("web1")
    console.expect(r"error: file `/boot/grub/menu\.lst' not found\..*Press any key")
    console.expect(r"Booting `Own'.*Linux version 4\.4 ")


def test_berths_menu_hands_over_and_takes_the_next_line_when_nothing_is_there(dom0: SimDom0) -> None:
    """The rendered menu itself: the hand-over boots by itself, finds no menu, and the kernel of the boot disk does."""
    kernel = BlobRef("ab" * 32, 1)
    boot = Boot(
        BootMethod.PVGRUB, 1, (BootEntry("Rescue", kernel),), 0, 0, kernel, OwnMenu("Mine", 0, default=True)
    )
    own = dom0.ext2("own.img", {"/nothing": b"x"})
    boot_disk = dom0.ext2(
        "boot.img",
        {"/grub/menu.lst": menu_lst(boot, 1).encode(), "/k/abababababab": sim_kernels.linux("4.4")},
    )
    dom0.ok("create", str(dom0.config("web1", dom0.loader(), {"xvda": own, "xvdz": boot_disk})))
    console = dom0.console("web1")
    console.expect(r"Booting `Mine'.*error: file `/boot/grub/menu\.lst' not found\.")
    console.expect(r"Falling back to `Rescue'.*Linux version 4\.4 ")


def test_a_menu_in_a_partition(dom0: SimDom0) -> None:
    part = dom0.ext2(
        "part.img", {"/grub/menu.lst": b"timeout 0\ntitle P\nkernel /p x\n", "/p": sim_kernels.netbsd()}
    )
    table = bytearray(1 << 20)
    sectors = part.stat().st_size // 512
    table[446:462] = struct.pack("<B3sB3sII", 0x80, b"", 0x83, b"", 2048, sectors)
    table[510:512] = b"\x55\xaa"
    own = dom0.file("whole.img", bytes(table) + part.read_bytes())
    menu = "timeout 0\ntitle A\nroot (hd0,0)\nconfigfile /grub/menu.lst\n"
    boot_disk = dom0.ext2("boot.img", {"/grub/menu.lst": menu.encode()})
    dom0.ok("create", str(dom0.config("web1", dom0.loader(), {"xvda": own, "xvdz": boot_disk})))
    dom0.console("web1").expect(r"Booting `P'.*NetBSD 10\.1 ")


def test_an_entry_that_is_not_there(dom0: SimDom0) -> None:
    boot(dom0, MENU, {"/k/rd": b"r"})
    dom0.console("web1").expect(r"error: file `/k/one' not found\..*you need to load the kernel first")


def test_booting_by_hand_at_grubs_prompt(dom0: SimDom0) -> None:
    boot(dom0, TWO, {"/k/one": sim_kernels.linux("1.1"), "/k/two": b"x", "/k/rd": b"r"})
    console = dom0.console("web1")
    console.expect(r"in \d+s\.")
    console.type("c")
    console.expect(r"grub> ")
    console.type("ls /k\r")
    assert set(console.expect(r"\r\n([^\r]*)\r\ngrub> ")[1].split()) == {b"one", b"two", b"rd"}
    console.type("cat /grub/menu.lst\r")
    console.expect(r"title Second")
    console.type("kernel /k/one root=/dev/ram0\rinitrd /k/rd\rboot\r")
    console.expect(r"Linux version 1\.1 ")


def test_direct_boot(dom0: SimDom0) -> None:
    kernel = dom0.file("vmlinuz", sim_kernels.linux("6.6.6"))
    dom0.file("initrd", b"i" * 77)
    config = dom0.config("web1", kernel, extra="quiet", root="/dev/ram0", ramdisk=str(dom0.files / "initrd"))
    dom0.ok("create", str(config))
    console = dom0.console("web1")
    text = console.expect(r"^.*/ # ")[0]
    assert b"GRUB" not in text
    assert re.search(
        rb"Linux version 6\.6\.6 .*Command line: root=/dev/ram0 quiet\r\n.*77 bytes", text, re.DOTALL
    )


@pytest.mark.parametrize("root", ["root=/dev/nonexistent", "root=/dev/xvdb1", ""])
def test_linux_panics_without_a_root(dom0: SimDom0, root: str) -> None:
    dom0.set(times=dict(dom0.settings["times"], crash=3.0))  # time for a console to come
    dom0.ok(
        "create",
        str(dom0.config("web1", dom0.file("k", sim_kernels.linux()), {"xvda": dom0.disk()}, extra=root)),
    )
    console = dom0.console("web1")
    console.expect(r"Kernel panic - not syncing: VFS: Unable to mount root fs")
    until(lambda: dom0.flags("web1") == "", "gone")
    assert [line["reason"] for line in dom0.effects("ended")] == [3]


def test_netbsd_asks_for_its_root_and_polls(dom0: SimDom0) -> None:
    kernel = dom0.file("netbsd", sim_kernels.netbsd())
    dom0.ok("create", str(dom0.config("web1", kernel, {"xvda": dom0.disk()}, extra="root=xbd7a")))
    console = dom0.console("web1")
    console.expect(r"root device \(default xbd0a\): ")
    assert dom0.flags("web1") == "r-----"
    deaf = dom0.xl("shutdown", "web1")
    assert deaf.returncode == 1
    assert "guest didn't acknowledge control request: -9\nshutdown failed (rc=-9)\n" in deaf.stderr
    console.type("xbd0a\r")
    console.expect(r"root on xbd0a.*login: ")
    assert dom0.flags("web1") == "-b----"


def test_single_user_and_the_installer(dom0: SimDom0) -> None:
    kernel = dom0.file("netbsd", sim_kernels.netbsd("9.3", "INSTALL_XEN3_DOMU"))
    dom0.ok("create", str(dom0.config("web1", kernel, extra="-s")))
    console = dom0.console("web1")
    console.expect(r"NetBSD 9\.3 \(INSTALL_XEN3_DOMU\).*Enter pathname of shell or RETURN for /bin/sh: ")
    console.type("\r")
    console.expect("# ")


def test_a_dom0_kernel_hangs_in_its_debugger(dom0: SimDom0) -> None:
    """Xen does not refuse it (XEN-FACTS 2): only inspection does."""
    kernel = dom0.file("netbsd", sim_kernels.netbsd("10.1", "XEN3_DOM0"))
    dom0.ok("create", str(dom0.config("web1", kernel)))
    dom0.console("web1").expect(r"ipmi_probe.*db\{0\}> ")
    until(lambda: dom0.flags("web1") == "r-----", "it polls")


def test_menus_as_grub_reads_them() -> None:
    menu = menulst.parse(
        "default=1\ntimeout=3\nfallback 0\n#x\n\ntitle  A b\n kernel /a x=1\nfrob\ntitle B\nkernel /b\n"
    )
    assert (menu.default, menu.timeout, menu.fallback) == (1, 3, (0,))
    assert [entry.title for entry in menu.entries] == ["A b", "B"]
    assert menu.entries[0].commands[0] == ("kernel", "/a x=1")


def test_a_line_that_grub_cannot_parse_takes_the_later_entries_too() -> None:
    menu = menulst.parse("title A\nkernel /a\ntitle B\nroot (hd0,a)\nkernel /b\ntitle C\nkernel /c\n")
    assert [entry.title for entry in menu.entries] == ["A"]
    assert menu.complaints == ("unrecognized number.",)


def test_default_saved() -> None:
    menu = menulst.parse("default saved\ntitle A\nkernel /a\n")
    assert menu.default == 0
    assert menu.complaints == ("file `/boot/grub/grubenv' not found.",)
