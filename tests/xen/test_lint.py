"""What is said about a boot before it is saved."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vps.xen.description import BlobRef, Boot, BootEntry, BootMethod, DomainType, GuestOS, OwnMenu
from vps.xen.lint import Finding, Guest, Host, lint

KERNEL, RAMDISK = BlobRef("a" * 64, 1), BlobRef("b" * 64, 1)
DEBIAN = Host("host1", ("xen-3.0-x86_64", "hvm-3.0-x86_64"), ("pv", "hvm"))
LINUX = Guest(GuestOS.LINUX, DomainType.PV, (0, 2), 256)
NETBSD = Guest(GuestOS.NETBSD, DomainType.PV, (0, 2), 256)


def said(arguments: str, guest: Guest, *, ramdisk: bool = False) -> list[str]:
    entry = BootEntry("One", KERNEL, RAMDISK if ramdisk else None, arguments)
    found = lint(Boot(BootMethod.PVGRUB, 1, (entry,), loader=KERNEL), guest, DEBIAN, ("x86_64",))
    assert all(finding.entry == 0 and not finding.refused for finding in found)
    return [finding.text for finding in found]


@pytest.mark.parametrize(
    ("arguments", "ramdisk"),
    [
        ("console=hvc0 root=/dev/xvda1", False),
        ("console=hvc0 root=xvdc", False),
        ("console=tty0 console=hvc0,115200 root=/dev/mapper/vg-root", True),
        ("console=hvc0", True),
        ("console=hvc0 root=UUID=0a1b", True),
        ("console=hvc0 root=PARTUUID=0a1b-01", False),
        ("console=hvc0 root=/dev/xvda1 -- single", False),
    ],
)
def test_nothing_is_said_of_what_is_right_on_linux(arguments: str, ramdisk: bool) -> None:
    assert said(arguments, LINUX, ramdisk=ramdisk) == []


@pytest.mark.parametrize("arguments", ["", "root=xbd0a", "bootdev=xbd1a -v", "root=md0a", "-s"])
def test_nothing_is_said_of_what_is_right_on_netbsd(arguments: str) -> None:
    assert said(arguments, NETBSD) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("root=/dev/xvda1", "no console=hvc0"),
        ("console=ttyS0 root=/dev/xvda1", "console=ttyS0 is not Xen's console"),
        ("console=hvc0", "neither root= nor a ramdisk"),
        ("console=hvc0 root=/dev/xvdb1", "no such disk; it has xvda, xvdc"),
        ("console=hvc0 root=/dev/sda1", "write root=/dev/xvda1"),
        ("console=hvc0 root=xbd0a", "a name of NetBSD's"),
        ("console=hvc0 root=/dev/xvdz", "Berth's boot disk"),
        ("console=hvc0 root=/dev/vda1", "names no disk that Xen gives"),
        ("console=hvc0 root=UUID=0a1b", "needs a ramdisk"),
        ("console=hvc0 root=/dev/xvda1 initrd=/rd.gz", "give the kernel version a ramdisk"),
        ("console=hvc0 root=/dev/xvda1 --class", "an option of GRUB's own"),
        ("kernel console=hvc0 root=/dev/xvda1", "a command of the menu"),
    ],
)
def test_sentences_for_linux(arguments: str, sentence: str) -> None:
    (text,) = said(arguments, LINUX)
    assert sentence in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("root=/dev/xvda1", "the first one is xbd0a"),
        ("root=xbd2a", "no such disk; it has xbd0, xbd1"),
        ("root=xbd0", "names a whole disk"),
    ],
)
def test_sentences_for_netbsd(arguments: str, sentence: str) -> None:
    (text,) = said(arguments, NETBSD)
    assert sentence in text


def of(boot: Boot, guest: Guest, host: Host, *architectures: str) -> list[Finding]:
    return lint(boot, guest, host, architectures)


MENU = Boot(BootMethod.PVGRUB, 1, (BootEntry("One", KERNEL), BootEntry("Two", KERNEL)), loader=KERNEL)
PVH = Guest(GuestOS.NETBSD, DomainType.PVH, (0,), 256)


def test_what_the_dom0_cannot_run_is_refused() -> None:
    (narrow,) = of(MENU, NETBSD, DEBIAN, "x86_64", "x86_32")
    assert (narrow.entry, narrow.refused) == (1, True) and "no 32-bit PV guests" in narrow.text
    old = Host("old", ("xen-3.0-x86_32p",), ("pv",))
    assert [finding.refused for finding in of(MENU, NETBSD, old, "x86_64", "x86_32")] == [True]
    (pvh,) = of(MENU, PVH, old, "x86_64", "x86_64")
    assert pvh.refused and "cannot run PVH" in pvh.text
    assert of(MENU, PVH, DEBIAN, "x86_64", "x86_64") == []
    assert of(MENU, NETBSD, Host("unheard"), "x86_32", "x86_64") == []


@pytest.mark.parametrize(
    ("caps", "virt_caps", "runs"),
    [
        (("xen-3.0-x86_64", "hvm-3.0-x86_32"), ("pv", "hvm"), True),
        (("xen-3.0-x86_64", "xen-3.0-x86_32p"), (), False),
        (("xen-3.0-x86_64", "hvm-3.0-x86_32"), ("pv",), False),
        ((), (), True),
    ],
    ids=["both", "no word of hvm in xen_caps", "no hvm in virt_caps", "never heard"],
)
def test_who_can_run_pvh(caps: tuple[str, ...], virt_caps: tuple[str, ...], runs: bool) -> None:
    host = Host.told("host1", {"caps": list(caps), "virt_caps": list(virt_caps)})
    assert host.runs_pvh is runs
    assert [finding.refused for finding in of(MENU, PVH, host, "x86_64")] == [] if runs else [True]


def test_a_loader_for_the_servers_own_disk_is_held_against_the_dom0() -> None:
    own = Boot(BootMethod.OWN_DISK, 1, loader=KERNEL)
    old = Host("old", ("xen-3.0-x86_64",), ("pv",))
    (pvh,) = of(own, PVH, old, "x86_64")
    assert pvh.refused and "take a loader for PV" in pvh.text
    (narrow,) = of(own, NETBSD, old, "x86_32")
    assert narrow.refused and narrow.entry is None and "no 32-bit PV guests" in narrow.text
    assert of(own, NETBSD, old, "x86_64") == []


HAND_OVER = replace(MENU, own_menu=OwnMenu("Mine", 0))


def test_findings_name_lines_of_the_menu_also_behind_a_hand_over() -> None:
    found = of(HAND_OVER, NETBSD, DEBIAN, "x86_64", "x86_32")
    assert [(finding.entry, finding.refused) for finding in found] == [(2, True), (0, False)]
    assert "32-bit kernels only, also on the server's own disk" in found[1].text
    linux = lint(HAND_OVER, LINUX, DEBIAN)
    assert {finding.entry for finding in linux} == {1, 2}


def test_what_a_hand_over_needs() -> None:
    (diskless,) = of(HAND_OVER, replace(NETBSD, disks=()), DEBIAN)
    assert (diskless.entry, diskless.refused) == (0, True)
    assert "no menu on it to hand over to" in diskless.text
    (pvh,) = of(HAND_OVER, PVH, DEBIAN, "x86_64", "x86_64")
    assert "PVH kernels only" in pvh.text and not pvh.refused
    (direct,) = of(replace(HAND_OVER, method=BootMethod.DIRECT, loader=None), NETBSD, DEBIAN)
    assert direct.refused and "no menu that could hand over" in direct.text
    assert of(HAND_OVER, NETBSD, DEBIAN, "x86_64", "x86_64") == []


@pytest.mark.parametrize(("purpose", "words"), [("install", "an installer"), ("rescue", "a rescue system")])
def test_an_installer_or_rescue_system_is_no_default_for_long(purpose: str, words: str) -> None:
    (found,) = lint(MENU, NETBSD, DEBIAN, (), (purpose, ""))
    assert words in found.text and (found.entry, found.refused) == (0, False)
    assert lint(MENU, NETBSD, DEBIAN, (), ("", purpose)) == []
    assert lint(replace(MENU, own_menu=OwnMenu("Mine", 2, True)), NETBSD, DEBIAN, (), (purpose, "")) == []


def test_what_concerns_the_whole() -> None:
    alike = Boot(BootMethod.PVGRUB, 1, (MENU.entries[0], MENU.entries[0]), timeout=0, loader=KERNEL)
    texts = [finding.text for finding in of(alike, Guest(GuestOS.NETBSD, DomainType.PV, (0,), 8), DEBIAN)]
    assert [
        word for word in ("little", "called One", "waits 0 seconds") if any(word in text for text in texts)
    ] == [
        "little",
        "called One",
        "waits 0 seconds",
    ]
    own = Boot(BootMethod.OWN_DISK, 1, loader=KERNEL)
    (none,) = of(own, Guest(GuestOS.LINUX, DomainType.PV, (), 256), DEBIAN)
    assert none.refused
