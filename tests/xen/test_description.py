from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xen_samples import (
    DIRECT_BOOT,
    DISK0,
    HANDED_OVER,
    HANDING_OVER,
    INITRD,
    LINUX_BOOT,
    LINUX_DOMU,
    LOADER,
    MODULES,
    NETBSD,
    NETBSD_BOOT,
    NETBSD_DOMU,
    NETBSD_OLD,
    OWN_DISK_BOOT,
    VMLINUZ,
)

from vps.xen.description import (
    MAX_DISKS,
    MAX_ENTRIES,
    MAX_NICS,
    Boot,
    BootMethod,
    Description,
    DescriptionRefused,
)


@pytest.mark.parametrize(
    "description",
    [
        NETBSD_DOMU,
        LINUX_DOMU,
        replace(LINUX_DOMU, boot=DIRECT_BOOT),
        replace(NETBSD_DOMU, boot=OWN_DISK_BOOT, disks=(), nics=()),
        replace(NETBSD_DOMU, boot=HANDING_OVER),
        replace(LINUX_DOMU, boot=HANDED_OVER),
    ],
    ids=["netbsd", "linux", "direct", "own disk", "hand-over", "hand-over by itself"],
)
def test_description_comes_through_json(description: Description) -> None:
    assert Description.of(json.loads(json.dumps(description.as_dict()))) == description


def test_disks_are_sorted_by_index() -> None:
    value = LINUX_DOMU.as_dict()
    value["disks"].reverse()
    assert Description.of(value) == LINUX_DOMU


@pytest.mark.parametrize(
    ("boot", "bootable"),
    [
        (NETBSD_BOOT, True),
        (DIRECT_BOOT, True),
        (OWN_DISK_BOOT, True),
        (replace(NETBSD_BOOT, loader=None), False),
        (replace(NETBSD_BOOT, entries=()), False),
        (replace(DIRECT_BOOT, entries=()), False),
        (replace(OWN_DISK_BOOT, loader=None), False),
    ],
    ids=["pvgrub", "direct", "own disk", "no loader", "no entry", "direct, no entry", "own disk, no loader"],
)
def test_bootable(boot: Boot, bootable: bool) -> None:
    assert boot.bootable is bootable


def test_lines_of_a_menu_and_what_boots_by_itself() -> None:
    newer, older = NETBSD_BOOT.entries
    own = HANDING_OVER.own_menu
    assert own is not None
    assert (HANDING_OVER.lines, HANDING_OVER.default_line) == ((newer, own, older), 2)
    assert HANDING_OVER.default_entry == older
    assert (HANDED_OVER.default_line, HANDED_OVER.default_entry) == (0, None)
    assert (NETBSD_BOOT.lines, NETBSD_BOOT.default_line) == (NETBSD_BOOT.entries, 0)
    assert NETBSD_BOOT.default_entry == newer and OWN_DISK_BOOT.default_entry is None
    first = replace(HANDING_OVER, own_menu=replace(own, place=2))
    assert (first.lines, first.default_line) == ((newer, older, first.own_menu), 1)


def test_a_menu_without_a_hand_over_reads_as_ever() -> None:
    assert "own_menu" not in NETBSD_BOOT.as_dict()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"place": 3}, "place is 3; it must be a number from 0 to 2"),
        ({"title": "a\ntitle b"}, "cannot carry"),
        ({"default": 1}, "default must be true or false"),
    ],
)
def test_a_hand_over_that_may_not_be_written_is_refused(change: dict[str, object], words: str) -> None:
    value = replace(NETBSD_DOMU, boot=HANDING_OVER).as_dict()
    value["boot"]["own_menu"].update(change)
    with pytest.raises(DescriptionRefused, match=words):
        Description.of(value)


WITH_MODULES = replace(LINUX_BOOT, entries=(replace(LINUX_BOOT.entries[0], modules=MODULES),))


def test_modules_come_through_and_are_left_out_where_there_are_none() -> None:
    domu = replace(LINUX_DOMU, boot=WITH_MODULES)
    assert Description.of(json.loads(json.dumps(domu.as_dict()))) == domu
    assert "modules" not in LINUX_DOMU.as_dict()["boot"]["entries"][0]
    assert WITH_MODULES.blobs() == (*LINUX_BOOT.blobs(), MODULES)
    assert replace(WITH_MODULES, method=BootMethod.DIRECT).blobs() == DIRECT_BOOT.blobs()


def test_blobs_are_named_once() -> None:
    assert NETBSD_BOOT.blobs() == (LOADER, NETBSD, NETBSD_OLD)
    assert LINUX_BOOT.blobs() == (LOADER, VMLINUZ, INITRD)
    assert DIRECT_BOOT.blobs() == (VMLINUZ, INITRD)
    twice = replace(LINUX_BOOT, entries=LINUX_BOOT.entries * 2)
    assert twice.blobs() == LINUX_BOOT.blobs()


def _entry(**changes: Any) -> dict[str, Any]:
    return {**NETBSD_BOOT.entries[0].as_dict(), **changes}


def _disk(**changes: Any) -> dict[str, Any]:
    return {**DISK0.as_dict(), **changes}


SHA = "ab" * 32
TWO_INDEXES = [_disk(), _disk(id="0192f0c0-0000-7000-8000-0000000000ff")]
NIC = {"mac": "00:16:3e:12:34:56", "bridge": "br0"}

BAD: list[tuple[str, Any]] = [
    ("id", "foo"),
    ("id", ""),
    ("id", None),
    ("id", 12),
    ("name", "../x"),
    ("name", "-rf"),
    ("name", "domain-0"),
    ("name", "x" * 64),
    ("name", "w\u0430b"),
    ("name", None),
    ("name", 3),
    ("type", "hvm"),
    ("type", "PV"),
    ("type", None),
    ("guest_os", "windows"),
    ("guest_os", 1),
    ("memory_mib", 0),
    ("memory_mib", 3),
    ("memory_mib", -256),
    ("memory_mib", 16 * 1024 * 1024 + 1),
    ("memory_mib", 10**60),
    ("memory_mib", 256.0),
    ("memory_mib", "256"),
    ("memory_mib", True),
    ("memory_mib", None),
    ("vcpus", 0),
    ("vcpus", -1),
    ("vcpus", 513),
    ("vcpus", False),
    ("disks", None),
    ("disks", {}),
    ("disks", "xvda"),
    ("disks", [None]),
    ("disks", ["/dev/sda"]),
    ("disks", [_disk(index=i) for i in range(MAX_DISKS + 1)]),
    ("disks", TWO_INDEXES),
    ("disks", [_disk(), _disk(index=1)]),
    ("disks", [_disk(index=-1)]),
    ("disks", [_disk(index=MAX_DISKS)]),
    ("disks", [_disk(size_mib=0)]),
    ("disks", [_disk(size_mib=-1)]),
    ("disks", [_disk(size_mib=2**60)]),
    ("disks", [_disk(backend="phy")]),
    ("disks", [_disk(backend="file:/etc/passwd")]),
    ("disks", [_disk(id="../../etc/shadow")]),
    ("disks", [_disk(read_only="no")]),
    ("disks", [_disk(read_only=0)]),
    ("nics", None),
    ("nics", [NIC] * (MAX_NICS + 1)),
    ("nics", [NIC, {**NIC, "bridge": "br1"}]),
    ("nics", [{**NIC, "mac": "00:16:3E:12:34:56"}]),
    ("nics", [{**NIC, "mac": "00:16:3e:12:34"}]),
    ("nics", [{**NIC, "mac": "00:16:3e:12:34:56,script=/bin/sh"}]),
    ("nics", [{**NIC, "mac": "00:16:3e:12:34:56\n"}]),
    ("nics", [{**NIC, "bridge": ""}]),
    ("nics", [{**NIC, "bridge": "br0,script=/tmp/x"}]),
    ("nics", [{**NIC, "bridge": "br0 "}]),
    ("nics", [{**NIC, "bridge": "../br0"}]),
    ("nics", [{**NIC, "bridge": "-x"}]),
    ("nics", [{**NIC, "bridge": "b" * 16}]),
    ("nics", [{**NIC, "bridge": "br\u00e9"}]),
    ("nics", [{"mac": "00:16:3e:12:34:56"}]),
    ("autostart", "yes"),
    ("autostart", 1),
    ("crash_limit", -1),
    ("crash_limit", 1001),
    ("boot", None),
    ("boot", []),
]


@pytest.mark.parametrize(("key", "value"), BAD, ids=[f"{k}={v!r:.60}" for k, v in BAD])
def test_bad_value_is_refused(key: str, value: Any) -> None:
    with pytest.raises(DescriptionRefused) as caught:
        Description.of({**NETBSD_DOMU.as_dict(), key: value})
    assert len(str(caught.value)) < 400


BAD_BOOT: list[tuple[str, Any]] = [
    ("method", "pygrub"),
    ("method", None),
    ("serial", -1),
    ("serial", 2**60),
    ("serial", "7"),
    ("entries", None),
    ("entries", [None]),
    ("entries", [_entry()] * (MAX_ENTRIES + 1)),
    ("entries", [_entry(title="")]),
    ("entries", [_entry(title="a\nkernel /k/x")]),
    ("entries", [_entry(title="it's")]),
    ("entries", [_entry(title=None)]),
    ("entries", [_entry(arguments="root=xbd0a\ntitle x")]),
    ("entries", [_entry(arguments="a;b")]),
    ("entries", [_entry(arguments="x" * 1025)]),
    ("entries", [_entry(arguments=None)]),
    ("entries", [_entry(kernel=None)]),
    ("entries", [_entry(kernel={"sha256": "../" * 21 + "x", "size": 1})]),
    ("entries", [_entry(kernel={"sha256": SHA.upper(), "size": 1})]),
    ("entries", [_entry(kernel={"sha256": SHA + "\n", "size": 1})]),
    ("entries", [_entry(kernel={"sha256": SHA[:-1], "size": 1})]),
    ("entries", [_entry(kernel={"sha256": SHA, "size": 0})]),
    ("entries", [_entry(kernel={"sha256": SHA, "size": -5})]),
    ("entries", [_entry(kernel={"sha256": SHA})]),
    ("entries", [_entry(kernel="/netbsd")]),
    ("entries", [_entry(ramdisk="/initrd")]),
    ("entries", [_entry(ramdisk={})]),
    ("entries", [_entry(modules="/m")]),
    ("entries", [_entry(modules={"sha256": "../x", "size": 5})]),
    ("entries", [_entry(label=None)]),
    ("default", 2),
    ("default", -1),
    ("default", "0"),
    ("default", "saved"),
    ("timeout", -1),
    ("timeout", 601),
    ("timeout", 1.5),
    ("loader", "pvgrub"),
    ("loader", {"sha256": "", "size": 1}),
]


@pytest.mark.parametrize(("key", "value"), BAD_BOOT, ids=[f"{k}={v!r:.60}" for k, v in BAD_BOOT])
def test_bad_boot_is_refused(key: str, value: Any) -> None:
    description = NETBSD_DOMU.as_dict()
    description["boot"][key] = value
    with pytest.raises(DescriptionRefused):
        Description.of(description)


@pytest.mark.parametrize("key", sorted(NETBSD_DOMU.as_dict()))
def test_missing_key_is_refused(key: str) -> None:
    value = NETBSD_DOMU.as_dict()
    del value[key]
    with pytest.raises(DescriptionRefused):
        Description.of(value)


@pytest.mark.parametrize("value", [None, [], "x", 1, True], ids=repr)
def test_what_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(DescriptionRefused):
        Description.of(value)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += _places(inner, (*path, key))
    return found


RUBBISH = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=80), st.just([]), st.just({})
)


@given(st.sampled_from(_places(LINUX_DOMU.as_dict())), RUBBISH)
def test_anything_anywhere_is_read_or_refused(path: tuple[Any, ...], rubbish: Any) -> None:
    value = copy.deepcopy(LINUX_DOMU.as_dict())
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = rubbish
    try:
        description = Description.of(value)
    except DescriptionRefused:
        return
    assert Description.of(description.as_dict()) == description


def test_every_method_has_its_word_on_the_wire() -> None:
    assert {method.value for method in BootMethod} == {"pvgrub", "own_disk", "direct"}
