from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xen_samples import (
    DIRECT_BOOT,
    HANDED_OVER,
    HANDING_OVER,
    INITRD,
    LINUX_BOOT,
    MODULES,
    NETBSD,
    NETBSD_BOOT,
    OWN_DISK_BOOT,
    VMLINUZ,
)

from vps.xen.description import MAX_ENTRIES, BlobRef, Boot, BootEntry, BootMethod, OwnMenu
from vps.xen.menu import BootFile, RenderRefused, grub_cfg, layout, menu_lst

Golden = Callable[[str, str], None]

BOTH = replace(NETBSD_BOOT, entries=(*NETBSD_BOOT.entries, *LINUX_BOOT.entries), default=2)
OWN_AND_RESCUE = replace(OWN_DISK_BOOT, entries=LINUX_BOOT.entries)

CASES: dict[str, tuple[Boot, int | None]] = {
    "netbsd": (NETBSD_BOOT, None),
    "linux": (LINUX_BOOT, None),
    "fallback": (BOTH, 1),
    "own-disk": (OWN_DISK_BOOT, None),
    "own-disk-rescue": (OWN_AND_RESCUE, None),
    "handing-over": (HANDING_OVER, 0),
    "handing-over-by-itself": (HANDED_OVER, 1),
}


@pytest.mark.parametrize("case", CASES)
def test_menu_is_as_it_was_read(case: str, golden: Golden) -> None:
    boot, fallback = CASES[case]
    golden(f"menu/{case}.lst", menu_lst(boot, fallback))
    golden(f"menu/{case}.cfg", grub_cfg(boot, fallback))


@pytest.mark.parametrize("case", CASES)
def test_grub_can_read_the_script(case: str, tmp_path: Path) -> None:
    check = shutil.which("grub-script-check")
    if check is None:
        pytest.skip("grub-script-check is not installed (Debian: grub-common)")
    path = tmp_path / "grub.cfg"
    path.write_text(grub_cfg(*CASES[case]))
    done = subprocess.run([check, str(path)], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_grub_script_check_does_find_what_is_wrong(tmp_path: Path) -> None:
    check = shutil.which("grub-script-check")
    if check is None:
        pytest.skip("grub-script-check is not installed (Debian: grub-common)")
    path = tmp_path / "grub.cfg"
    path.write_text(grub_cfg(NETBSD_BOOT).replace("}", "", 1))
    assert subprocess.run([check, str(path)], capture_output=True, timeout=30).returncode != 0


def test_each_file_is_on_the_disk_once() -> None:
    boot = replace(LINUX_BOOT, entries=LINUX_BOOT.entries * 3)
    assert layout(boot) == (BootFile("/k/121212121212", VMLINUZ), BootFile("/k/343434343434", INITRD))


def test_modules_lie_beside_and_in_no_menu() -> None:
    boot = replace(LINUX_BOOT, entries=(replace(LINUX_BOOT.entries[0], modules=MODULES),) * 2)
    assert layout(boot) == (*layout(LINUX_BOOT), BootFile("/m/5656565656565656", MODULES))
    assert (menu_lst(boot), grub_cfg(boot)) == (
        menu_lst(replace(LINUX_BOOT, entries=LINUX_BOOT.entries * 2)),
        grub_cfg(replace(LINUX_BOOT, entries=LINUX_BOOT.entries * 2)),
    )
    assert layout(replace(boot, method=BootMethod.DIRECT)) == ()


def test_loader_is_not_on_the_boot_disk() -> None:
    assert LINUX_BOOT.loader is not None
    assert LINUX_BOOT.loader not in [file.blob for file in layout(LINUX_BOOT)]


def test_other_order_of_entries_changes_no_file() -> None:
    turned = replace(NETBSD_BOOT, entries=NETBSD_BOOT.entries[::-1])
    assert set(layout(turned)) == set(layout(NETBSD_BOOT))


def test_names_that_begin_alike_become_longer() -> None:
    one, two = BlobRef("a" * 20 + "0" * 44, 1), BlobRef("a" * 20 + "1" * 44, 1)
    boot = replace(NETBSD_BOOT, entries=(BootEntry("one", one), BootEntry("two", two)))
    assert [file.path for file in layout(boot)] == ["/k/" + "a" * 20 + "0", "/k/" + "a" * 20 + "1"]
    assert f"kernel /k/{'a' * 20}1\n" in menu_lst(boot)


SUMS = st.integers(0, 15).map(lambda n: f"{n:x}".rjust(64, "a")) | st.integers(0, 2**256 - 1).map(
    lambda n: f"{n:064x}"
)


@given(st.lists(SUMS, min_size=1, max_size=12))
def test_layout_has_one_short_name_for_each_content(sums: list[str]) -> None:
    entries = tuple(BootEntry(f"entry {i}", BlobRef(sha256, 1)) for i, sha256 in enumerate(sums))
    files = layout(replace(NETBSD_BOOT, entries=entries))
    assert {file.blob.sha256 for file in files} == set(sums)
    assert len({file.path for file in files}) == len(files) == len(set(sums))
    assert all(re.fullmatch(r"/k/[0-9a-f]{12,64}", file.path) for file in files)


def test_direct_boot_has_neither_files_nor_menu() -> None:
    assert layout(DIRECT_BOOT) == ()
    for write in (menu_lst, grub_cfg):
        with pytest.raises(RenderRefused, match="direct boot has no menu"):
            write(DIRECT_BOOT)


@pytest.mark.parametrize("boot", [HANDING_OVER, HANDED_OVER], ids=["beside", "by itself"])
def test_a_line_has_one_number_in_both_files(boot: Boot) -> None:
    lst, cfg = menu_lst(boot), grub_cfg(boot)
    titles = [line.title for line in boot.lines]
    assert re.findall(r"^menuentry '(.*)' \{$", cfg, re.M) == titles
    assert re.findall(r"^title (.*)$", lst, re.M)[: len(titles)] == titles
    assert f"default {boot.default_line}\n" in lst and f"set default={boot.default_line}\n" in cfg


def test_files_are_named_with_their_disk_where_root_may_be_elsewhere() -> None:
    for text in (menu_lst(HANDING_OVER), grub_cfg(HANDING_OVER)):
        assert text.count("(xen/xvdz)/k/") == 2 and " /k/" not in text
    assert "xvdz" not in menu_lst(NETBSD_BOOT) + grub_cfg(NETBSD_BOOT)


@pytest.mark.parametrize("write", [menu_lst, grub_cfg])
def test_a_hand_over_that_cannot_be_written_is_refused(write: Callable[[Boot], str]) -> None:
    with pytest.raises(RenderRefused, match="which the boot menu cannot carry"):
        write(replace(HANDING_OVER, own_menu=OwnMenu("it's mine", 0)))
    with pytest.raises(RenderRefused, match="Only a menu of Berth's own hands over"):
        write(replace(HANDING_OVER, method=BootMethod.OWN_DISK))


BAD_TEXTS = [
    "root=xbd0a\ntitle evil",
    "a\rb",
    "a;b",
    "a'b",
    'a"b',
    "a\\b",
    "a{b",
    "a}b",
    "$a",
    "a\0b",
    "\u00e9",
    " a",
    "a ",
    "a" * 1025,
]


@pytest.mark.parametrize("write", [menu_lst, grub_cfg])
@pytest.mark.parametrize("text", BAD_TEXTS, ids=ascii)
def test_text_that_the_menu_cannot_carry_is_refused(write: Callable[[Boot], str], text: str) -> None:
    for entry in (BootEntry(text, NETBSD), BootEntry("a", NETBSD, None, text)):
        with pytest.raises(RenderRefused):
            write(replace(NETBSD_BOOT, entries=(entry,)))


@pytest.mark.parametrize("write", [menu_lst, grub_cfg])
@pytest.mark.parametrize(
    ("boot", "fallback"),
    [
        (replace(NETBSD_BOOT, entries=()), None),
        (replace(NETBSD_BOOT, default=2), None),
        (replace(NETBSD_BOOT, default=-1), None),
        (replace(NETBSD_BOOT, timeout=-1), None),
        (replace(NETBSD_BOOT, timeout=601), None),
        (NETBSD_BOOT, 0),
        (NETBSD_BOOT, 2),
        (NETBSD_BOOT, -1),
        (OWN_AND_RESCUE, 0),
    ],
    ids=[
        "no entry",
        "default behind the end",
        "default negative",
        "timeout negative",
        "timeout too long",
        "fallback is the default",
        "fallback behind the end",
        "fallback negative",
        "own disk has its own fallbacks",
    ],
)
def test_menu_that_makes_no_sense_is_refused(
    write: Callable[[Boot, int | None], str], boot: Boot, fallback: int | None
) -> None:
    with pytest.raises(RenderRefused):
        write(boot, fallback)


TITLES = st.text("abXY09 ._-/+,:@", min_size=1, max_size=12).map(str.strip).filter(bool)
ARGUMENTS = st.text("abXY09 ._-/=:,+@%", max_size=12).map(str.strip)
ENTRIES = st.builds(
    BootEntry, TITLES, st.sampled_from([NETBSD, VMLINUZ]), st.none() | st.just(INITRD), ARGUMENTS
)
BOOTS = st.builds(
    lambda entries, default, timeout: Boot(
        BootMethod.PVGRUB, 1, tuple(entries), default % len(entries), timeout
    ),
    st.lists(ENTRIES, min_size=1, max_size=MAX_ENTRIES),
    st.integers(0, 99),
    st.integers(0, 600),
)


@given(BOOTS)
def test_menu_lst_has_one_entry_for_each_and_no_root_line(boot: Boot) -> None:
    lines = menu_lst(boot).split("\n")
    assert [line[6:] for line in lines if line.startswith("title ")] == [e.title for e in boot.entries]
    assert sum(line.startswith("kernel ") for line in lines) == len(boot.entries)
    assert sum(line.startswith("initrd ") for line in lines) == sum(
        e.ramdisk is not None for e in boot.entries
    )
    words = {line.split(" ")[0] for line in lines if line}
    assert words <= {"#", "default", "timeout", "title", "kernel", "initrd"}
    assert lines[-1] == ""


@given(BOOTS)
def test_grub_cfg_says_the_same(boot: Boot) -> None:
    text = grub_cfg(boot)
    assert re.findall(r"^menuentry '(.*)' \{$", text, re.MULTILINE) == [e.title for e in boot.entries]
    kernels = re.findall(r"^    linux (.*)$", text, re.MULTILINE)
    assert kernels == re.findall(r"^kernel (.*)$", menu_lst(boot), re.MULTILINE)
    assert text.count("\n}\n") == len(boot.entries)
