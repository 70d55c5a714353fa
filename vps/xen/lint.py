"""What is likely to be wrong with a boot before it is saved, as sentences. Pure; the facts are XEN's and the guests'.

Refusals are what cannot boot there; warnings what most likely was not meant. Nothing is mended here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vps.xen.description import Boot, BootEntry, BootMethod, DomainType, GuestOS
from vps.xen.devices import BOOT_DISK_VDEV

# Of Linux; NetBSD finds its console by itself (xencons).
_CONSOLES = ("hvc0", "ttyS0", "tty0", "xvc0")
_XBD = re.compile(r"(?:/dev/)?xbd(\d+)([a-p])?")
_XVD = re.compile(r"(?:/dev/)?(xvd|sd|hd)([a-z])(\d*)")
_ELSEWHERE = (
    "UUID=",
    "PARTUUID=",
    "LABEL=",
    "PARTLABEL=",
    "/dev/mapper/",
    "/dev/disk/",
    "/dev/ram",
    "/dev/nfs",
)
_LEAST_MIB = {GuestOS.NETBSD: 32, GuestOS.LINUX: 64, GuestOS.SOLARIS: 256, GuestOS.OTHER: 4}


@dataclass(frozen=True)
class Finding:
    """One sentence. `entry` is the line of the menu, None for the whole; `refused`: it cannot boot."""

    text: str
    entry: int | None = None
    refused: bool = False


@dataclass(frozen=True)
class Host:
    """What a dom0 said of itself: `caps` as `xl info` has xen_caps, `virt_caps` likewise. Empty: not known."""

    name: str
    caps: tuple[str, ...] = ()
    virt_caps: tuple[str, ...] = ()

    @classmethod
    def told(cls, name: str, xen: Mapping[str, Any] | None) -> Host:
        """By the `xen` of its inventory."""
        xen = xen or {}
        return cls(name, tuple(xen.get("caps", ())), tuple(xen.get("virt_caps", ())))

    @property
    def runs_pvh(self) -> bool:
        """Whether it can run PVH guests, as far as is known: Xen's word for them is hvm, as for HVM ones."""
        if self.virt_caps and "hvm" not in self.virt_caps:
            return False
        return not self.caps or any(cap.startswith("hvm-3.0-x86_") for cap in self.caps)


@dataclass(frozen=True)
class Guest:
    """What the server has. `disks` are the indices of its own disks, 0 is the first; memory in MiB."""

    os: GuestOS
    type: DomainType
    disks: Sequence[int]
    memory_mib: int


def lint(
    boot: Boot, guest: Guest, host: Host, architectures: Sequence[str] = (), purposes: Sequence[str] = ()
) -> list[Finding]:
    """What there is to say, by lines of the menu.

    `architectures` are those of the entries' kernels, in their order, "" if not known; `purposes` what they are for:
    "install", "rescue", "" for anything else.
    """
    found = list(_of_host(boot, guest, host, architectures))
    if guest.memory_mib < _LEAST_MIB[guest.os]:
        found.append(
            Finding(
                f"{guest.memory_mib} MiB is little for {guest.os.value}; it may not get as far as its console."
            )
        )
    if boot.method is not BootMethod.OWN_DISK:
        for number, entry in enumerate(boot.entries):
            found += _of_entry(_line(boot, number), entry, guest)
        titles = [line.title for line in boot.lines]
        for title in dict.fromkeys(title for title in titles if titles.count(title) > 1):
            found.append(
                Finding(f"Two entries are called {title}; on the console one cannot tell them apart.")
            )
    found += _of_purpose(boot, purposes)
    found += _of_own_menu(boot, guest, architectures)
    if boot.method is BootMethod.PVGRUB and boot.timeout == 0 and len(boot.lines) > 1:
        found.append(
            Finding("The menu waits 0 seconds, so that the other entries cannot be chosen on the console.")
        )
    if boot.method is BootMethod.OWN_DISK and not guest.disks:
        found.append(Finding("The server has no disk, so that there is no menu on it.", refused=True))
    return found


def _line(boot: Boot, number: int) -> int:
    """The line of the menu on which an entry stands."""
    return number + (boot.own_menu is not None and boot.own_menu.place <= number)


def _of_purpose(boot: Boot, purposes: Sequence[str]) -> Iterable[Finding]:
    """An installer or a rescue system that boots by itself, each time."""
    entry = boot.default_entry
    purpose = purposes[boot.default] if entry and boot.default < len(purposes) else ""
    if purpose == "install":
        yield Finding(
            "This is an installer, and the default: it comes again with each start until another entry is the default.",
            boot.default_line,
        )
    if purpose == "rescue":
        yield Finding(
            "This is a rescue system, and the default: each start comes to it. To boot it once, leave the default and "
            "choose it for the next boot only.",
            boot.default_line,
        )


def _of_own_menu(boot: Boot, guest: Guest, architectures: Sequence[str]) -> Iterable[Finding]:
    """The line that hands over: what it needs, and what its loader can start there."""
    own = boot.own_menu
    if own is None:
        return
    if boot.method is not BootMethod.PVGRUB:
        yield Finding("A direct boot has no menu that could hand over; take this line out.", own.place, True)
        return
    if not guest.disks:
        yield Finding(
            "The server has no disk, so that there is no menu on it to hand over to.", own.place, True
        )
    if guest.type is DomainType.PVH:
        yield Finding(
            "The other entries need the loader for PVH; it starts PVH kernels only, also on the server's own disk.",
            own.place,
        )
    elif "x86_32" in architectures:
        yield Finding(
            "The other entries need the 32-bit loader; it starts 32-bit kernels only, also on the server's own disk.",
            own.place,
        )


def _of_host(boot: Boot, guest: Guest, host: Host, architectures: Sequence[str]) -> Iterable[Finding]:
    if not host.caps:
        return
    wide = any(cap.startswith("xen-3.0-x86_64") for cap in host.caps)
    narrow = any(cap.startswith("xen-3.0-x86_32p") for cap in host.caps)
    if guest.type is DomainType.PVH and not host.runs_pvh:
        what = "loader for PV" if boot.method is BootMethod.OWN_DISK else "PV kernel"
        yield Finding(
            f"{host.name} cannot run PVH guests, for its Xen has no use of hardware virtualisation; take a {what}.",
            refused=True,
        )
    for place, architecture in enumerate(architectures):
        if guest.type is not DomainType.PV:
            break
        where = None if boot.method is BootMethod.OWN_DISK else _line(boot, place)
        if architecture == "x86_32" and not narrow:
            yield Finding(
                f"{host.name}'s Xen runs no 32-bit PV guests; take a 64-bit kernel.",
                where,
                refused=True,
            )
        if architecture == "x86_64" and not wide:
            yield Finding(f"{host.name}'s Xen runs no 64-bit PV guests.", where, refused=True)


def _of_entry(place: int, entry: BootEntry, guest: Guest) -> list[Finding]:
    words = entry.arguments.split()
    sentences: list[str] = []
    if guest.os is GuestOS.LINUX:
        sentences = [*_linux_console(words), *_linux_root(words, entry, guest)]
    elif guest.os is GuestOS.NETBSD:
        sentences = _netbsd_root(words, guest)
    sentences += _dropped(words)
    return [Finding(text, place) for text in sentences]


def _values(words: Sequence[str], name: str) -> list[str]:
    return [word[len(name) + 1 :] for word in words if word.startswith(f"{name}=")]


def _linux_console(words: Sequence[str]) -> list[str]:
    consoles = _values(words, "console")
    if not consoles:
        return ["There is no console=hvc0, so that Linux may write nothing on the console here."]
    if not any(console.startswith("hvc0") for console in consoles):
        shown = consoles[-1] if consoles[-1].partition(",")[0] in _CONSOLES else "that"
        return [
            f"console={consoles[-1]} is not Xen's console; with console=hvc0 {shown} is seen here as well."
        ]
    return []


def _linux_root(words: Sequence[str], entry: BootEntry, guest: Guest) -> list[str]:
    roots = _values(words, "root")
    if not roots:
        if entry.ramdisk is None:
            return ["There is neither root= nor a ramdisk, so that Linux will panic for lack of a root."]
        return []
    root = roots[-1]
    if root.startswith(_ELSEWHERE):
        needs = root.partition("=")[0] in ("UUID", "LABEL")
        if needs and entry.ramdisk is None:
            return [
                f"root={root} needs a ramdisk that looks for it; without one take root=/dev/xvda1 or PARTUUID=."
            ]
        return []
    found = _XVD.fullmatch(root)
    if _XBD.fullmatch(root):
        return [f"root={root} is a name of NetBSD's; on Linux the first disk is /dev/xvda."]
    if found is None:
        return [f"root={root} names no disk that Xen gives; the first one is /dev/xvda."]
    if found[1] != "xvd":
        return [
            f"root={root}: on Xen the disks are called xvda, xvdb and so on; write root=/dev/xvd{found[2]}{found[3]}."
        ]
    if f"xvd{found[2]}" == BOOT_DISK_VDEV:
        return [f"root={root} is Berth's boot disk, which holds kernels only."]
    if ord(found[2]) - ord("a") not in guest.disks:
        return [f"root={root}: the server has no such disk; it has {_disks(guest)}."]
    return []


def _netbsd_root(words: Sequence[str], guest: Guest) -> list[str]:
    roots = [*_values(words, "root"), *_values(words, "bootdev")]
    if not roots:
        return []  # the first disk is taken
    root = roots[-1]
    if root.startswith(("md0", "xennet", "dk", "wedge:", "cd0")):
        return []
    found = _XBD.fullmatch(root)
    if found is None:
        return [f"root={root} names no disk of NetBSD's on Xen; the first one is xbd0a."]
    if int(found[1]) >= len(guest.disks):
        return [f"root={root}: the server has no such disk; it has {_disks(guest)}."]
    if found[2] is None:
        return [f"root={root} names a whole disk; a partition has a letter, as in xbd{found[1]}a."]
    return []


def _disks(guest: Guest) -> str:
    """The server's disks as its system calls them."""
    if not guest.disks:
        return "none"
    if guest.os is GuestOS.NETBSD:
        return ", ".join(f"xbd{number}" for number in range(len(guest.disks)))
    return ", ".join(f"xvd{chr(ord('a') + index)}" for index in sorted(guest.disks))


def _dropped(words: Sequence[str]) -> list[str]:
    """What GRUB takes for itself, or what stands there by mistake."""
    found = []
    for word in words:
        if word in ("kernel", "initrd", "root", "module", "title", "linux"):
            found.append(f"“{word}” is a command of the menu, not an argument of the kernel; leave it out.")
        elif word.startswith("--"):
            if word != "--":
                found.append(f"{word} may be taken for an option of GRUB's own, which drops it.")
        elif word.startswith("initrd="):
            found.append("initrd= is not read here; give the kernel version a ramdisk instead.")
    return found
