from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vps.xen.description import MAX_DISKS, GuestOS
from vps.xen.devices import (
    BOOT_DISK_VDEV,
    MAX_OWN_DISKS,
    DeviceName,
    DeviceRefused,
    default_arguments,
    default_root,
    device_number,
    disk_device,
    xm_vdev,
)
from vps.xen.names import check_arguments


@pytest.mark.parametrize(
    ("guest_os", "index", "expected", "xm"),
    [
        (GuestOS.NETBSD, 0, DeviceName("xvda", "xbd0"), "0x0"),
        (GuestOS.NETBSD, 1, DeviceName("xvdb", "xbd1"), "0x1"),
        (GuestOS.NETBSD, 15, DeviceName("xvdp", "xbd15"), "0xf"),
        (GuestOS.LINUX, 0, DeviceName("xvda", "xvda"), "xvda"),
        (GuestOS.LINUX, 2, DeviceName("xvdc", "xvdc"), "xvdc"),
        (GuestOS.SOLARIS, 0, DeviceName("xvda", "c0d0"), "0x0"),
        (GuestOS.OTHER, 1, DeviceName("xvdb", "xvdb"), "xvdb"),
    ],
)
def test_names_of_a_disk(guest_os: GuestOS, index: int, expected: DeviceName, xm: str) -> None:
    assert disk_device(guest_os, index) == expected
    assert xm_vdev(guest_os, index) == xm


@pytest.mark.parametrize("guest_os", GuestOS)
def test_no_own_disk_is_the_boot_disk(guest_os: GuestOS) -> None:
    assert MAX_DISKS <= MAX_OWN_DISKS
    for names in (
        [disk_device(guest_os, index).vdev for index in range(MAX_OWN_DISKS)],
        [xm_vdev(guest_os, index) for index in range(MAX_OWN_DISKS)],
    ):
        numbers = {device_number(name) for name in names}
        assert len(numbers) == MAX_OWN_DISKS
        assert device_number(BOOT_DISK_VDEV) not in numbers


@pytest.mark.parametrize("index", [-1, MAX_OWN_DISKS, 26, 1000])
@pytest.mark.parametrize("name", [disk_device, xm_vdev])
def test_index_without_a_place_is_refused(name: object, index: int) -> None:
    with pytest.raises(DeviceRefused, match=rf"no disk {index};"):
        name(GuestOS.LINUX, index)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("vdev", "number"),
    [
        ("0x0", 0),
        ("0x1", 1),
        ("0", 0),
        ("769", 0x301),
        ("hda", 0x300),  # the HOWTO: 0x300, and 0x301 for hda1
        ("hda1", 0x301),
        ("hdb", 0x340),
        ("hdc", 0x1600),
        ("sda", 0x800),
        ("sdb2", 0x812),
        ("xvda", 51712),
        ("xvda1", 51713),
        ("xvdp", 51712 + 15 * 16),
        ("xvdq", (1 << 28) | (16 << 8)),
        ("xvdz", 268441856),  # LAB-FACTS: what GRUB would call the disk if it were given as a number
        ("xvda16", (1 << 28) | 16),
        ("xvdaa", (1 << 28) | (26 << 8)),
        ("/dev/xvda", 51712),
    ],
)
def test_number_of_a_device(vdev: str, number: int) -> None:
    assert device_number(vdev) == number


@pytest.mark.parametrize(
    "vdev",
    ["", "xvd", "xvdA", "vda", "xbd0", "xvda,w", "xvda ", "hda64", "hdu", "sdq", "sda16", "0y1", "-1", "08"],
)
def test_what_is_no_device_is_refused(vdev: str) -> None:
    with pytest.raises(DeviceRefused):
        device_number(vdev)


@given(st.text(max_size=8))
def test_any_text_is_a_device_or_refused(vdev: str) -> None:
    try:
        assert device_number(vdev) >= 0
    except DeviceRefused:
        assert vdev != BOOT_DISK_VDEV


@pytest.mark.parametrize("guest_os", GuestOS)
def test_default_arguments_can_be_carried_and_name_the_first_disk(guest_os: GuestOS) -> None:
    arguments = default_arguments(guest_os)
    assert check_arguments(arguments) == arguments
    assert default_root(guest_os) in arguments
    if arguments:
        assert disk_device(guest_os, 0).guest in default_root(guest_os)
