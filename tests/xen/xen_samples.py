"""One domU of each kind, to be changed with dataclasses.replace."""

from __future__ import annotations

from uuid import UUID

from vps.xen.description import (
    BlobRef,
    Boot,
    BootEntry,
    BootMethod,
    Description,
    DiskSpec,
    DomainType,
    GuestOS,
    NicSpec,
    OwnMenu,
)

DOMU = UUID("0192f0c0-0000-7000-8000-000000000001")
DOM0 = UUID("0192f0c0-0000-7000-8000-0000000000d0")
OTHER_DOM0 = UUID("0192f0c0-0000-7000-8000-0000000000d1")

LOADER = BlobRef("10" * 32, 930_000)
NETBSD = BlobRef("ab" * 32, 4_000_000)
NETBSD_OLD = BlobRef("cd" * 32, 3_900_000)
VMLINUZ = BlobRef("12" * 32, 14_000_000)
INITRD = BlobRef("34" * 32, 30_000_000)
MODULES = BlobRef("56" * 32, 60_000_000)

DISK0 = DiskSpec(UUID("0192f0c0-0000-7000-8000-00000000000a"), 0, 4096)
DISK1 = DiskSpec(UUID("0192f0c0-0000-7000-8000-00000000000b"), 1, 1024)
CD = DiskSpec(UUID("0192f0c0-0000-7000-8000-00000000000c"), 2, 650, read_only=True)
NIC = NicSpec("00:16:3e:12:34:56", "bridge0")

NETBSD_BOOT = Boot(
    BootMethod.PVGRUB,
    7,
    (
        BootEntry("NetBSD 10 with npf", NETBSD, None, "root=xbd0a", "npf 3"),
        BootEntry("NetBSD 9, the last good one", NETBSD_OLD, None, "root=xbd0a -s", "npf 2"),
    ),
    0,
    5,
    LOADER,
)
LINUX_BOOT = Boot(
    BootMethod.PVGRUB,
    2,
    (BootEntry("Debian 12", VMLINUZ, INITRD, "root=/dev/xvda1 ro console=hvc0", "debian 1"),),
    0,
    0,
    LOADER,
)
DIRECT_BOOT = Boot(BootMethod.DIRECT, 4, LINUX_BOOT.entries)
OWN_DISK_BOOT = Boot(BootMethod.OWN_DISK, 1, loader=LOADER)
HANDING_OVER = Boot(BootMethod.PVGRUB, 9, NETBSD_BOOT.entries, 1, 5, LOADER, OwnMenu("What I look after", 1))
HANDED_OVER = Boot(
    BootMethod.PVGRUB, 9, LINUX_BOOT.entries, 0, 5, LOADER, OwnMenu("What I look after", 0, True)
)

NETBSD_DOMU = Description(
    DOMU, "foo", DomainType.PV, GuestOS.NETBSD, 256, 1, (DISK0, DISK1), (NIC,), NETBSD_BOOT
)
LINUX_DOMU = Description(
    DOMU, "web1", DomainType.PV, GuestOS.LINUX, 1024, 2, (DISK0, DISK1, CD), (NIC,), LINUX_BOOT
)
