"""The lab's own parts, as far as they need no Xen."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from lab import cache, cpio, dom0_agent, machine, prerequisites
from lab.__main__ import main as lab_command
from lab.disks import disklabel, physical_volume
from lab.dom0_image import Dom0
from lab.errors import LabError
from lab.guests import unpack_xz
from lab.machine import Machine
from lab.wheels import requirement_lines

BUILD = cache.ROOT / "packaging" / "loaders" / "build"
RECORDED = Path(__file__).parent / "recorded"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BERTH_LAB_CACHE", str(tmp_path))
    return tmp_path


def test_markers_are_read_for_dom0_and_not_for_this_machine() -> None:
    text = """# made by a tool
a==1 \\
    --hash=sha256:00 \\
    --hash=sha256:11
    # via b
old==2 ; python_full_version < '3.11.3' \\
    --hash=sha256:22
win==3 ; sys_platform == 'win32' \\
    --hash=sha256:33
"""
    assert requirement_lines(text) == [
        "a==1 --hash=sha256:00 --hash=sha256:11",
        "old==2 --hash=sha256:22",
    ]


def test_a_requirement_without_a_hash_is_refused() -> None:
    with pytest.raises(LabError, match="without a hash: a==1"):
        requirement_lines("a==1\n")


def test_kept_is_made_once_and_again_when_inputs_change(folder: Path) -> None:
    made: list[str] = []

    def make(place: Path) -> None:
        made.append(place.name)
        (place / "x").write_text("x")

    other = cache.kept("thing-more", {"a": 1}, make)
    first = cache.kept("thing", {"a": 1}, make)
    assert cache.kept("thing", {"a": 1}, make) == first
    second = cache.kept("thing", {"a": 2}, make)
    assert len(made) == 3
    assert not first.exists()
    assert (second / "x").exists()
    assert other.exists(), "a longer name is another thing"


def test_what_failed_leaves_nothing(folder: Path) -> None:
    def make(place: Path) -> None:
        (place / "half").write_text("x")
        raise LabError("no")

    with pytest.raises(LabError):
        cache.kept("thing", 1, make)
    assert list(folder.iterdir()) == []


def test_too_little_memory_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "_debian", list)
    monkeypatch.setattr(prerequisites, "_packages", list)
    monkeypatch.setattr(prerequisites, "memory_free_mib", lambda: 100)
    with pytest.raises(LabError, match=r"100 MiB of memory are free; Xen under QEMU needs 4096 MiB"):
        prerequisites.check_start()


def test_too_little_disk_names_the_folder_and_the_cure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "_debian", list)
    monkeypatch.setattr(prerequisites, "_packages", list)
    monkeypatch.setattr(prerequisites, "DISK_MIB", 1 << 50)
    with pytest.raises(LabError, match=rf"{folder}.*BERTH_LAB_CACHE"):
        prerequisites.check_build()


def test_missing_packages_are_named_with_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "_debian", list)
    monkeypatch.setattr(prerequisites, "HOST_PACKAGES", {"no-such-program": "some-package"})
    monkeypatch.setattr(prerequisites, "is_root", lambda: True)
    with pytest.raises(
        LabError, match=r"some-package.*apt-get install --no-install-recommends -y some-package"
    ):
        prerequisites.check_build()


def test_installing_without_root_prints_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "_debian", list)
    monkeypatch.setattr(prerequisites, "missing_packages", lambda: ["makefs"])
    monkeypatch.setattr(prerequisites, "is_root", lambda: False)
    with pytest.raises(LabError, match=r"Run as root:\n  apt-get update && apt-get install .* makefs"):
        prerequisites.install_packages()


def test_nothing_runs_in_an_empty_cache(folder: Path) -> None:
    assert Machine().state() is None
    with pytest.raises(LabError, match=r"not running\. Start it: python -m lab start"):
        Machine().ssh()
    Machine().stop()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="no JSON"),
        pytest.param('{"pid": 1}', id="incomplete"),
        pytest.param(
            json.dumps(
                {
                    "pid": 1,
                    "started": 1,
                    "sockets": "/nowhere",
                    "ssh_port": 1,
                    "seconds": 1,
                    "from_snapshot": False,
                }
            ),
            id="another process has the pid",
        ),
    ],
)
def test_a_stale_state_file_is_no_machine(folder: Path, text: str) -> None:
    place = folder / "run" / "lab"
    place.mkdir(parents=True)
    (place / "state.json").write_text(text)
    assert Machine().state() is None
    Machine().stop()
    assert not (place / "state.json").exists()


def test_nothing_of_qemu_listens_beyond_loopback(folder: Path) -> None:
    image = Dom0(folder, folder, folder, folder, "digest")
    words = machine.qemu_arguments(
        image, folder / "images", folder / "disk", folder / "console", folder / "qmp"
    )
    forwards = [word for word in words if "hostfwd" in word]
    assert forwards == ["user,id=net0,ipv6=off,hostfwd=tcp:127.0.0.1:0-:22"]
    assert not [word for word in words if word in ("-vnc", "-spice", "-gdb", "-s", "-monitor")]


def test_the_agents_addresses_are_those_that_dom0_can_reach() -> None:
    text = 'web = "http://localhost:8000"\nredis = "redis://127.0.0.1:6390/0"\nname = "127.0.0.1"\n'
    assert dom0_agent.configured(text) == (
        'web = "http://10.0.2.2:8000"\nredis = "redis://10.0.2.2:6390/0"\nname = "127.0.0.1"\ntsc_native = true\n'
    )
    assert dom0_agent.configured(dom0_agent.configured(text)) == dom0_agent.configured(text)


def test_the_agents_addresses_elsewhere_are_kept() -> None:
    text = 'web = "https://localhost.example.org"\ntsc_native = false\n'
    assert dom0_agent.configured(text) == text


def test_xen_is_not_started_beside_no_product(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lab_command(["start", "--beside", str(folder / "berth")]) == 1
    assert f"No product runs with its data in {folder / 'berth'}: start one" in capsys.readouterr().err


def test_installing_without_root_gives_the_line_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prerequisites, "_debian", list)
    monkeypatch.setattr(prerequisites, "HOST_PACKAGES", {"no-such-program": "some-package"})
    monkeypatch.setattr(prerequisites, "ROOTLESS_PACKAGES", {})
    monkeypatch.setattr(prerequisites, "is_root", lambda: False)
    assert lab_command(["install-packages"]) == 1
    said = capsys.readouterr().err
    assert "This needs root, once." in said
    assert "apt-get install --no-install-recommends -y some-package" in said


@pytest.mark.parametrize("image", [b"", b"\0" * 1024], ids=["empty", "zeros"])
def test_what_is_no_bzimage_is_refused(image: bytes) -> None:
    with pytest.raises(LabError, match="no bzImage"):
        unpack_xz(image)


@pytest.mark.skipif(shutil.which("grub-fstest") is None, reason="grub-common is not installed")
@pytest.mark.parametrize("kind", ["disklabel", "lvm"])
def test_grub_reads_the_tables_that_are_written_here(tmp_path: Path, kind: str) -> None:
    """A file on a disklabel's partition a, and on an LVM volume, as GRUB's own code finds it."""
    tree, part, image = tmp_path / "tree", tmp_path / "part", tmp_path / "disk"
    tree.mkdir()
    (tree / "hello").write_text("from inside\n")
    mke2fs = shutil.which("mke2fs") or "/usr/sbin/mke2fs"
    subprocess.run([mke2fs, "-q", "-t", "ext2", "-b", "4096", "-d", tree, part, "4M"], check=True)
    data = part.read_bytes()
    if kind == "lvm":
        image.write_bytes(physical_volume(1, 9 << 20) + data + bytes(4 << 20))
        path = "(lvm/berth-root)/hello"
    else:
        start, skip, size = 2048, 64, len(data) // 512
        total = start + skip + size
        mbr = bytearray(512)
        mbr[446:462] = struct.pack("<B3sB3sII", 0x80, b"", 0xA9, b"", start, skip + size)
        mbr[510:] = b"\x55\xaa"
        disk = bytearray(total * 512)
        disk[:512] = mbr
        label = disklabel(start, skip, size, total)
        disk[(start + 1) * 512 : (start + 1) * 512 + len(label)] = label
        disk[(start + skip) * 512 :] = data
        image.write_bytes(disk)
        path = "(loop0,netbsd1)/hello"
    done = subprocess.run(["grub-fstest", image, "cat", path], capture_output=True, text=True, check=False)
    assert done.stdout == "from inside\n", done.stderr


def test_the_loaders_script_says_what_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, BUILD, "--modules", tmp_path, "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "has no GRUB modules for x86_64-xen, i386-xen, i386-xen_pvh: install grub-xen-bin" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_recordings_are_whole() -> None:
    index = json.loads((RECORDED / "index.json").read_text())
    assert index["xen"] == "4.17"
    named = set()
    for case in index["cases"]:
        for key in ("stdout", "stderr"):
            if case[key]:
                assert (RECORDED / case[key]).is_file(), case
                named.add(case[key])
        assert isinstance(case["exit"], int)
    assert named == {path.name for path in RECORDED.glob("xl-*")}


def test_recorded_creates_that_fail_say_why() -> None:
    index = json.loads((RECORDED / "index.json").read_text())
    failed = [case for case in index["cases"] if case["argv"][:2] == ["xl", "create"] and case["exit"] != 0]
    assert len(failed) >= 10
    for case in failed:
        assert case["stderr"], case["file"]


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_a_ramdisk_of_the_same_files_has_the_same_bytes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "x").write_text("x")
    cpio.pack(root, tmp_path / "a")
    cpio.pack(root, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert b"bin/x" in gzip.decompress((tmp_path / "a").read_bytes())
