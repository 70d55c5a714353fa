"""What a disk is called: in xl.cfg, in an xm configuration, and inside the guest.

On xl every guest gets `xvda`, `xvdb` ...: NetBSD takes its xbdN in device order, so that xvda is xbd0
(tried, LAB-FACTS). xm wants numbers for NetBSD guests (`0x0`, `0x1`; the HOWTO, "Disks"). The numbers
behind the names are those of xen: docs/man/xen-vbd-interface.7.pandoc and tools/libs/light/libxl_device.c
(libxl__device_disk_dev_number).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vps.xen.description import GuestOS

# Berth's boot disk. Reserved: the loader looks for `(xen/xvdz)` and believes what it finds there.
BOOT_DISK_VDEV = "xvdz"
MAX_OWN_DISKS = 25  # xvda to xvdy

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_NAME = re.compile(r"(?:/dev/)?(xvd|hd|sd)([a-z]{1,2})([1-9][0-9]{0,2})?", re.ASCII)
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,8}|0|[1-9][0-9]{0,9}", re.ASCII)

# Linux's IDE majors for hda/hdb, hdc/hdd ... (Documentation/admin-guide/devices.txt).
_IDE_MAJORS = (3, 22, 33, 34, 56, 57, 88, 89, 90, 91)


class DeviceRefused(ValueError):
    """A disk index or device name that has no place."""


@dataclass(frozen=True)
class DeviceName:
    """`vdev` as the domain configuration says it, `guest` as the guest's own messages do."""

    vdev: str
    guest: str


def disk_device(guest_os: GuestOS, index: int) -> DeviceName:
    """The names of a domU's own disk number `index` (0 is its first). Raises DeviceRefused."""
    vdev = "xvd" + _letter(index)
    if guest_os is GuestOS.NETBSD:
        return DeviceName(vdev, f"xbd{index}")
    if guest_os is GuestOS.SOLARIS:
        return DeviceName(vdev, f"c0d{index}")
    return DeviceName(vdev, vdev)


def xm_vdev(guest_os: GuestOS, index: int) -> str:
    """The device of an own disk in an xm configuration. Raises DeviceRefused.

    A number for NetBSD and Solaris (the HOWTO: `0x0`, `0x1`). For Linux xm takes the HOWTO's `0x300` as
    well as a name; the name is used, for then the guest's name is the same under xm and xl.
    """
    letter = _letter(index)
    if guest_os in (GuestOS.NETBSD, GuestOS.SOLARIS):
        return hex(index)
    return "xvd" + letter


def device_number(vdev: str) -> int:
    """The number under which Xen keeps a device: `hda1` is 0x301, `xvda` 0xca00. Raises DeviceRefused.

    Two disks of a domain that have the same number are the same device, whatever they are called.
    """
    if _NUMBER.fullmatch(vdev):
        return int(vdev, 0)
    match = _NAME.fullmatch(vdev)
    if match is None:
        raise DeviceRefused(f"{vdev[:40]!a} is not the name of a disk; use xvda, xvdb and so on.")
    kind, letters, part = match[1], match[2], int(match[3] or 0)
    disk = 0
    for letter in letters:
        disk = disk * 26 + _LETTERS.index(letter) + 1
    disk -= 1
    if kind == "xvd":
        return (202 << 8) | (disk << 4) | part if disk < 16 and part < 16 else (1 << 28) | (disk << 8) | part
    if kind == "hd" and disk < 2 * len(_IDE_MAJORS) and part < 64:
        return (_IDE_MAJORS[disk // 2] << 8) | ((disk % 2) << 6) | part
    if kind == "sd" and disk < 16 and part < 16:
        return (8 << 8) | (disk << 4) | part
    raise DeviceRefused(f"{vdev[:40]!a} is beyond what Xen can number; use xvda, xvdb and so on.")


def default_root(guest_os: GuestOS) -> str:
    """The kernel argument that names the root file system on the first disk; "" where there is none."""
    return {GuestOS.NETBSD: "root=xbd0a", GuestOS.LINUX: "root=/dev/xvda1"}.get(guest_os, "")


def default_arguments(guest_os: GuestOS) -> str:
    """The kernel arguments that a new boot entry begins with (the HOWTO's Linux lines, as of today)."""
    return {GuestOS.NETBSD: "root=xbd0a", GuestOS.LINUX: "root=/dev/xvda1 ro console=hvc0"}.get(guest_os, "")


def installer_arguments(guest_os: GuestOS) -> str:
    """The kernel arguments of an installer: NetBSD's has its root in itself, Linux's asks on the console."""
    return "console=hvc0" if guest_os is GuestOS.LINUX else ""


def _letter(index: int) -> str:
    if not 0 <= index < MAX_OWN_DISKS:
        raise DeviceRefused(f"There is no disk {index}; a server has the disks 0 to {MAX_OWN_DISKS - 1}.")
    return _LETTERS[index]
