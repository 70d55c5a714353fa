from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xen_samples import (
    CD,
    DIRECT_BOOT,
    DISK0,
    DISK1,
    LINUX_DOMU,
    NETBSD_BOOT,
    NETBSD_DOMU,
    NIC,
    OWN_DISK_BOOT,
)

from vps.xen.description import Description, DomainType, GuestOS
from vps.xen.xlcfg import (
    MAX_PATH,
    ConfigUnreadable,
    Dialect,
    DomainFiles,
    HostQuirks,
    RenderRefused,
    config_diff,
    parse,
    render,
)

Golden = Callable[[str, str], None]

FILES = DomainFiles(
    "/var/lib/berth/blobs/" + "10" * 32,
    None,
    ((DISK0, "/var/lib/berth/disks/foo-0.img"), (DISK1, "/var/lib/berth/disks/foo-1.img")),
    "/var/lib/berth/domus/foo/boot.img",
)
LINUX_FILES = replace(FILES, disks=(*FILES.disks, (CD, "/n0/iso/debian-12.1.0+nonfree.iso")))
DIRECT_DOMU = replace(LINUX_DOMU, boot=DIRECT_BOOT)
DIRECT_FILES = replace(
    LINUX_FILES,
    kernel="/var/lib/berth/domus/web1/vmlinuz-web1",
    ramdisk="/var/lib/berth/domus/web1/initrd-web1",
    boot_disk=None,
)
BARE_DOMU = replace(NETBSD_DOMU, disks=(), nics=(), boot=OWN_DISK_BOOT)
BARE_FILES = replace(FILES, disks=(), boot_disk=None)
NATIVE = HostQuirks(tsc_native=True)

CASES: dict[str, tuple[Description, DomainFiles, Dialect, HostQuirks | None]] = {
    "netbsd-xl": (NETBSD_DOMU, FILES, Dialect.XL, None),
    "netbsd-xm": (NETBSD_DOMU, FILES, Dialect.XM, None),
    "linux-xl": (LINUX_DOMU, LINUX_FILES, Dialect.XL, None),
    "linux-xm": (LINUX_DOMU, LINUX_FILES, Dialect.XM, None),
    "direct-xl": (DIRECT_DOMU, DIRECT_FILES, Dialect.XL, None),
    "direct-xm": (DIRECT_DOMU, DIRECT_FILES, Dialect.XM, None),
    "direct-pvh-xl": (replace(DIRECT_DOMU, type=DomainType.PVH), DIRECT_FILES, Dialect.XL, None),
    "pvh-nested-xl": (replace(LINUX_DOMU, type=DomainType.PVH), LINUX_FILES, Dialect.XL, NATIVE),
    "bare-xl": (BARE_DOMU, BARE_FILES, Dialect.XL, None),
}


@pytest.mark.parametrize("case", CASES)
def test_configuration_is_as_it_was_read(case: str, golden: Golden) -> None:
    golden(f"xlcfg/{case}.cfg", render(*CASES[case]))


@pytest.mark.parametrize("case", CASES)
def test_configuration_says_what_was_described(case: str) -> None:
    description, files, *_ = CASES[case]
    settings = parse(render(*CASES[case]))
    assert settings["name"] == description.name
    assert settings["uuid"] == str(description.id)
    assert settings["memory"] == description.memory_mib
    assert settings["vcpus"] == description.vcpus
    assert settings["kernel"] == files.kernel
    assert settings.get("ramdisk") == files.ramdisk
    assert settings["vif"] == [f"mac={nic.mac},bridge={nic.bridge}" for nic in description.nics]
    assert len(settings["disk"]) == len(files.disks) + (files.boot_disk is not None)  # type: ignore[arg-type]
    endings = {key: value for key, value in settings.items() if key.startswith("on_")}
    assert {"on_poweroff", "on_reboot", "on_crash"} <= set(endings)
    assert set(endings.values()) == {"destroy"}


@pytest.mark.parametrize("case", [case for case in CASES if case.endswith("-xm")])
def test_xm_can_read_it_as_python(case: str) -> None:
    """xm runs the file as Python (xen 4.4: tools/python/xen/xm/opts.py)."""
    text = render(*CASES[case])
    settings: dict[str, Any] = {}
    exec(compile(text, case, "exec"), settings)
    del settings["__builtins__"]
    assert settings == parse(text)


def test_guests_arguments_are_not_given_to_the_loader() -> None:
    assert "extra" not in parse(render(NETBSD_DOMU, FILES))
    assert parse(render(DIRECT_DOMU, DIRECT_FILES))["extra"] == "root=/dev/xvda1 ro console=hvc0"


def test_default_entry_gives_the_arguments_of_a_direct_boot() -> None:
    entries = (*NETBSD_BOOT.entries, DIRECT_BOOT.entries[0])
    domu = replace(LINUX_DOMU, boot=replace(DIRECT_BOOT, entries=entries, default=1))
    assert parse(render(domu, replace(DIRECT_FILES, ramdisk=None)))["extra"] == "root=xbd0a -s"


def test_boot_disk_is_last_named_and_read_only() -> None:
    for dialect in Dialect:
        disks = parse(render(LINUX_DOMU, LINUX_FILES, dialect))["disk"]
        assert isinstance(disks, list)
        assert "xvdz" in disks[-1]
        assert "access=ro" in disks[-1] or disks[-1].endswith(",r")
        assert not any("xvdz" in disk for disk in disks[:-1])


def test_pv_needs_no_clock_of_its_own() -> None:
    assert "tsc_mode" not in parse(render(NETBSD_DOMU, FILES, Dialect.XL, NATIVE))


BAD_PATHS = {
    "empty": "",
    "relative": "disks/foo.img",
    "root": "/",
    "folder": "/disks/",
    "comma": "/disks/a,b.img",
    "equals": "/disks/a=b.img",
    "space": "/disks/a b.img",
    "newline": "/disks/a\nb.img",
    "newline behind": "/disks/a.img\n",
    "quote": '/disks/a"b.img',
    "single quote": "/disks/a'b.img",
    "backslash": "/disks/a\\b.img",
    "semicolon": "/disks/a;b.img",
    "colon": "/disks/a:b.img",
    "dollar": "/disks/$x.img",
    "up": "/disks/../../etc/shadow",
    "up at the end": "/disks/..",
    "here": "/disks/./a.img",
    "double slash": "/disks//a.img",
    "umlaut": "/disks/\u00e4.img",
    "NUL": "/disks/a\0",
    "too long": "/" + "x" * MAX_PATH,
}


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("path", BAD_PATHS.values(), ids=BAD_PATHS)
def test_path_is_refused_wherever_it_stands(path: str, dialect: Dialect) -> None:
    for files in (
        replace(FILES, kernel=path),
        replace(FILES, boot_disk=path),
        replace(FILES, disks=((DISK0, path), FILES.disks[1])),
    ):
        with pytest.raises(RenderRefused, match="must be absolute"):
            render(NETBSD_DOMU, files, dialect)
    with pytest.raises(RenderRefused, match="must be absolute"):
        render(DIRECT_DOMU, replace(DIRECT_FILES, ramdisk=path), dialect)


BAD_DESCRIPTIONS: dict[str, dict[str, Any]] = {
    "name is a path": {"name": "../foo"},
    "name breaks out": {"name": 'foo"\nmemory = 99999 #'},
    "name is reserved": {"name": "domain-0"},
    "no memory": {"memory_mib": 0},
    "memory is text": {"memory_mib": "256; vcpus = 64"},
    "no cpu": {"vcpus": 0},
    "bridge breaks out": {"nics": (replace(NIC, bridge="br0,script=/tmp/x"),)},
    "bridge with a space": {"nics": (replace(NIC, bridge="br 0"),)},
    "mac breaks out": {"nics": (replace(NIC, mac="00:16:3e:00:00:01,ip=1.2.3.4"),)},
    "disks unsorted": {"disks": (DISK1, DISK0)},
    "disk index": {"disks": (replace(DISK0, index=25), DISK1)},
    "one disk twice": {"disks": (DISK0, replace(DISK1, id=DISK0.id))},
    "default entry": {"boot": replace(NETBSD_BOOT, default=9)},
    "arguments": {
        "boot": replace(
            NETBSD_BOOT, entries=(replace(NETBSD_BOOT.entries[0], arguments='x"\nkernel = "/etc/passwd'),)
        )
    },
}


@pytest.mark.parametrize("changes", BAD_DESCRIPTIONS.values(), ids=BAD_DESCRIPTIONS)
def test_description_that_no_order_could_bring_is_refused(changes: dict[str, Any]) -> None:
    domu = replace(NETBSD_DOMU, **changes)
    with pytest.raises(RenderRefused):
        render(domu, replace(FILES, disks=tuple((disk, "/disks/x") for disk in domu.disks)))


@pytest.mark.parametrize(
    ("domu", "files", "dialect", "sentence"),
    [
        pytest.param(NETBSD_DOMU, replace(FILES, disks=()), Dialect.XL, "not those", id="no files"),
        pytest.param(
            NETBSD_DOMU, replace(FILES, disks=FILES.disks[::-1]), Dialect.XL, "not those", id="files turned"
        ),
        pytest.param(NETBSD_DOMU, LINUX_FILES, Dialect.XL, "not those", id="one file too many"),
        pytest.param(
            NETBSD_DOMU, replace(FILES, boot_disk=None), Dialect.XL, "boot disk is missing", id="no boot disk"
        ),
        pytest.param(
            NETBSD_DOMU,
            replace(FILES, ramdisk="/r"),
            Dialect.XL,
            "takes no ramdisk",
            id="loader with ramdisk",
        ),
        pytest.param(
            DIRECT_DOMU,
            replace(DIRECT_FILES, boot_disk="/b"),
            Dialect.XL,
            "has no boot disk",
            id="direct with a boot disk",
        ),
        pytest.param(
            replace(DIRECT_DOMU, boot=replace(DIRECT_BOOT, entries=())),
            DIRECT_FILES,
            Dialect.XL,
            "choose a kernel",
            id="nothing to boot",
        ),
        pytest.param(
            replace(NETBSD_DOMU, type=DomainType.PVH),
            FILES,
            Dialect.XM,
            "xm cannot run a PVH",
            id="PVH by xm",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(
    domu: Description, files: DomainFiles, dialect: Dialect, sentence: str
) -> None:
    with pytest.raises(RenderRefused, match=sentence):
        render(domu, files, dialect)


@given(st.text(max_size=30), st.sampled_from(Dialect))
def test_no_text_in_a_path_says_more_than_the_path(text: str, dialect: Dialect) -> None:
    path = "/disks/" + text
    try:
        rendered = render(NETBSD_DOMU, replace(FILES, boot_disk=path), dialect)
    except RenderRefused:
        return
    plain = render(NETBSD_DOMU, replace(FILES, boot_disk="/disks/plain"), dialect)
    assert rendered == plain.replace("/disks/plain", path)
    assert set(parse(rendered)) == set(parse(plain))


@pytest.mark.parametrize("guest_os", GuestOS)
def test_every_guest_can_be_rendered_for_both(guest_os: GuestOS) -> None:
    domu = replace(NETBSD_DOMU, guest_os=guest_os)
    xl, xm = (parse(render(domu, FILES, dialect))["disk"] for dialect in Dialect)
    assert xl == parse(render(NETBSD_DOMU, FILES))["disk"]
    assert isinstance(xm, list)
    assert len(xm) == 3


def test_difference_shows_the_changed_lines() -> None:
    old = render(NETBSD_DOMU, FILES)
    new = render(replace(NETBSD_DOMU, memory_mib=512), FILES)
    diff = config_diff(old, new)
    assert diff.startswith("--- before\n+++ after\n")
    assert "-memory = 256\n" in diff
    assert "+memory = 512\n" in diff
    assert config_diff(old, old) == ""
    assert config_diff("", "a") == "--- before\n+++ after\n@@ -0,0 +1 @@\n+a\n"


HANDWRITTEN = """\
# a comment; with = signs
name = 'foo' ; memory=256
vcpus = 0x2
extra = "say \\"hi\\" \\\\ \\t."
disk = [ 'file:/n0/xen/foo-wd0,0x0,w',
         "phy:/dev/wd0e,0x1,r",   # the CD
       ]
vif = [ '' ]
pci = []
numbers = [ 1, -2 ]
name = "bar"
"""


def test_handwritten_configuration_is_read() -> None:
    assert parse(HANDWRITTEN) == {
        "name": "bar",
        "memory": 256,
        "vcpus": 2,
        "extra": 'say "hi" \\ \t.',
        "disk": ["file:/n0/xen/foo-wd0,0x0,w", "phy:/dev/wd0e,0x1,r"],
        "vif": [""],
        "pci": [],
        "numbers": ["1", "-2"],
    }
    assert parse("") == {}
    assert parse("name = 'x'") == {"name": "x"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name", 1),
        ("name =", 1),
        ("= 1", 1),
        ("\n\nname = foo", 3),
        ('name = "foo', 1),
        ("name = 'foo\nbar'", 1),
        ("a = 1 2", 1),
        ("a = 1\nb = [ 1 2 ]", 2),
        ("a = [ , ]", 1),
        ("a = [ 1", 1),
        ("a = [ 1\n", 2),
        ("a = [[1]]", 1),
        ("a ! 1", 1),
        ("a = \x00", 1),
        ("a += 1", 1),
        ("\u00e4 = 1", 1),
    ],
    ids=ascii,
)
def test_configuration_that_cannot_be_read_names_its_line(text: str, line: int) -> None:
    with pytest.raises(ConfigUnreadable, match=rf"^Line {line} "):
        parse(text)


@given(st.text("ab=[],'\"\\;#\n 10x", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        settings = parse(text)
    except ConfigUnreadable:
        return
    assert all(key.isidentifier() for key in settings)
