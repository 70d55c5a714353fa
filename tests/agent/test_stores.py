"""Disks, blobs and boot disks on real files, with a real web that breaks off."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from blob_web import BlobWeb
from conftest import plain_config

from vps.agent import bootdisk, disks
from vps.agent.blobs import BlobError, Blobs
from vps.agent.disks import DiskRefused, Disks
from vps.xen.description import BlobRef, Boot, BootEntry, BootMethod, DiskSpec
from vps.xen.messages import SigningKey

MIB = 2**20


def nothing() -> None:
    pass


class GivenUp(Exception):
    pass


def give_up() -> None:
    raise GivenUp


# -- disks


@pytest.fixture
def pool(tmp_path: Path) -> Disks:
    (tmp_path / "pool").mkdir()
    return Disks(tmp_path / "pool")


@pytest.mark.parametrize("fallocate", [True, False], ids=["fallocate", "written"])
def test_a_disk_is_zeros_that_own_their_blocks(
    pool: Disks, monkeypatch: pytest.MonkeyPatch, fallocate: bool
) -> None:
    if not fallocate:

        def cannot(*arguments: int) -> None:
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(os, "posix_fallocate", cannot)
    disk = DiskSpec(uuid4(), 0, 9)
    assert pool.missing((disk,)) == (disk,)
    pool.make(disk, nothing)
    path = pool.path(disk.id)
    assert path.stat().st_size == 9 * MIB
    assert path.stat().st_blocks * 512 >= 9 * MIB, "it is not sparse"
    assert path.read_bytes() == bytes(9 * MIB)
    assert pool.missing((disk,)) == ()
    path.write_bytes(b"data")
    with pytest.raises(DiskRefused, match="is 0 MiB on the dom0 and should be 9 MiB"):
        pool.make(disk, nothing)
    assert path.read_bytes() == b"data", "what is there is left"


def test_a_disk_that_does_not_fit(pool: Disks) -> None:
    with pytest.raises(DiskRefused, match=r"needs 1073741824 MiB and the dom0 has \d+ MiB"):
        pool.make(DiskSpec(uuid4(), 3, 2**30), nothing)
    assert list(pool.folder.iterdir()) == []


def test_a_disk_given_up(pool: Disks) -> None:
    with pytest.raises(GivenUp):
        pool.make(DiskSpec(uuid4(), 0, 4), give_up)
    assert list(pool.folder.iterdir()) == []


@pytest.mark.parametrize("punch", [True, False], ids=["punched", "overwritten"])
def test_a_disk_is_wiped(pool: Disks, monkeypatch: pytest.MonkeyPatch, punch: bool) -> None:
    disk = DiskSpec(uuid4(), 0, 6)
    pool.make(disk, nothing)
    path = pool.path(disk.id)
    path.write_bytes(b"secret" * MIB)
    # Another name for the same content shows what was done to it.
    twin = path.with_name("twin")
    os.link(path, twin)
    if not punch:
        monkeypatch.setattr(disks, "_punch", lambda descriptor, size: False)
    assert pool.wipe(disk.id, nothing) == ("punched" if punch else "overwritten")
    assert not path.exists()
    assert twin.read_bytes() == bytes(6 * MIB)
    assert pool.wipe(disk.id, nothing) == "absent"


def test_a_link_in_the_pool_is_not_followed(pool: Disks, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"data")
    disk = uuid4()
    pool.path(disk).symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        pool.wipe(disk, nothing)
    assert victim.read_bytes() == b"data"


# -- blobs


@pytest.fixture
def web(tmp_path: Path) -> Iterator[BlobWeb]:
    web = BlobWeb("x")
    yield web
    web.close()


@pytest.fixture
def blobs(tmp_path: Path, web: BlobWeb, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    config = replace(plain_config(tmp_path, "redis://127.0.0.1:1", SigningKey.generate()), web=web.url)
    web._credential = f"Bearer {config.dom0}:{config.secret}"
    monkeypatch.setattr("vps.agent.blobs._PAUSES", (0, 0, 0, 0))
    return Blobs(config)


DATA = os.urandom(700_000)


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        pytest.param([], [""], id="well"),
        pytest.param(["break"], ["", "bytes=350000-"], id="broken off and resumed"),
        pytest.param(["break", "break"], ["", "bytes=350000-", "bytes=525000-"], id="broken off twice"),
        pytest.param(["break", "norange"], ["", "bytes=350000-"], id="range not honoured"),
        pytest.param(["break", "rubbish"], ["", "bytes=350000-", ""], id="wrong rest: from the beginning"),
        pytest.param(["rubbish", "500"], ["", "", ""], id="wrong sum, then an error"),
    ],
)
def test_fetching(blobs: Blobs, web: BlobWeb, faults: list[str], ranges: list[str]) -> None:
    blob = web.add(DATA)
    web.faults = list(faults)
    assert not blobs.has(blob)
    path = blobs.ensure(blob, nothing)
    assert path.read_bytes() == DATA
    assert blobs.has(blob)
    assert [asked[1] for asked in web.asked] == ranges
    assert [path.name for path in path.parent.iterdir()] == [blob.sha256]
    blobs.ensure(blob, nothing)
    assert len(web.asked) == len(ranges), "what is there is not fetched again"


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        pytest.param(["404"], "blob_unknown", id="404"),
        pytest.param(["403"], "web_refused", id="403"),
        pytest.param(["500"] * 9, "web_unreachable", id="500"),
        pytest.param(["rubbish"] * 9, "web_unreachable", id="wrong sum for ever"),
    ],
)
def test_fetching_fails_with_a_sentence(blobs: Blobs, web: BlobWeb, faults: list[str], code: str) -> None:
    blob = web.add(DATA)
    web.faults = list(faults)
    with pytest.raises(BlobError) as failed:
        blobs.ensure(blob, nothing)
    assert failed.value.code == code
    assert web.url in failed.value.text
    assert not blobs.has(blob)


def test_a_file_of_another_size_is_refused(blobs: Blobs, web: BlobWeb) -> None:
    blob = web.add(DATA)
    for size in (len(DATA) - 1, len(DATA) + 1):
        with pytest.raises(BlobError, match="does not give a file"):
            blobs.ensure(BlobRef(blob.sha256, size), nothing)
    with pytest.raises(BlobError, match="lacks space"):
        blobs.ensure(BlobRef(blob.sha256, 2**50), nothing)


def test_the_web_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vps.agent.blobs._PAUSES", (0, 0, 0, 0))
    blobs = Blobs(plain_config(tmp_path, "redis://127.0.0.1:1", SigningKey.generate()))
    with pytest.raises(BlobError, match="ConnectError"):
        blobs.ensure(BlobRef("0" * 64, 5), nothing)
    monkeypatch.setattr("vps.agent.blobs._PAUSES", (60, 60, 60, 60))
    with pytest.raises(GivenUp):
        blobs.ensure(BlobRef("0" * 64, 5), give_up)


def test_only_what_is_needed_is_kept(blobs: Blobs, web: BlobWeb) -> None:
    kept, gone = web.add(DATA), web.add(b"gone")
    for blob in (kept, gone):
        blobs.ensure(blob, nothing)
    (blobs.path(kept).parent / f"{gone.sha256}.part").write_bytes(b"go")
    assert blobs.keep_only(lambda: {kept.sha256}) == 2
    assert blobs.has(kept)
    assert not blobs.has(gone)


def test_a_spoiled_file_is_fetched_again_when_it_is_needed(blobs: Blobs, web: BlobWeb) -> None:
    """Its size is as it was: a disk that gives other bytes than were written."""
    blob = web.add(DATA)
    path = blobs.ensure(blob, nothing)
    path.write_bytes(bytes(len(DATA)))
    assert blobs.has(blob)
    assert blobs.ensure(blob, nothing).read_bytes() == DATA


def test_a_spoiled_file_is_found(blobs: Blobs, web: BlobWeb) -> None:
    blob = web.add(DATA)
    path = blobs.ensure(blob, nothing)
    assert blobs.verify(blob)
    path.write_bytes(bytes(len(DATA)))
    assert not blobs.verify(blob)
    assert blobs.ensure(blob, nothing).read_bytes() == DATA


# -- boot disks


def debugfs(image: Path, command: str) -> bytes:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return subprocess.run(
        ["debugfs", "-R", command, str(image)], capture_output=True, check=True, env={"PATH": path}
    ).stdout


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    path = tmp_path / "kernel"
    path.write_bytes(os.urandom(5_000_001))
    return path


DOMU = UUID("0193a000-0000-7000-8000-000000000001")


def menu(entries: int = 2) -> Boot:
    made = tuple(
        BootEntry(f"Entry {number}", BlobRef(f"{number:064x}", 5), None, "root=/dev/xvda")
        for number in range(entries)
    )
    return Boot(BootMethod.PVGRUB, 4, made, 0, 5, BlobRef("c" * 64, 5))


def test_a_boot_disk_has_kernels_and_both_menus(tmp_path: Path, kernel: Path) -> None:
    image = tmp_path / "boot.img"
    boot = menu()
    sha256 = bootdisk.build(image, DOMU, boot, lambda blob: kernel)
    assert debugfs(image, "cat /k/000000000000") or True
    names = debugfs(image, "ls -p /k").decode()
    files = [
        line.split("/")[5] for line in names.splitlines() if line.split("/")[5:6] not in ([], ["."], [".."])
    ]
    assert len(files) == 2
    assert debugfs(image, f"cat /k/{files[0]}") == kernel.read_bytes()
    assert b"title Entry 1" in debugfs(image, "cat /grub/menu.lst")
    assert b"menuentry 'Entry 1'" in debugfs(image, "cat /grub/grub.cfg")
    assert image.stat().st_size < 2 * kernel.stat().st_size + MIB
    # The same menu makes the same image, byte for byte.
    again = tmp_path / "again.img"
    kernel.touch()
    assert bootdisk.build(again, DOMU, boot, lambda blob: kernel) == sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.img", "boot.img", "kernel"]


def test_a_boot_disk_has_ramdisks_and_modules(tmp_path: Path) -> None:
    files = {name: os.urandom(70_000) for name in ("kernel", "ramdisk", "modules")}
    refs = {name: BlobRef(hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()}
    for name, ref in refs.items():
        (tmp_path / ref.sha256).write_bytes(files[name])
    entry = BootEntry("Linux", refs["kernel"], refs["ramdisk"], "ro", "linux 1", refs["modules"])
    boot = Boot(BootMethod.PVGRUB, 1, (entry,), 0, 5, BlobRef("c" * 64, 5))
    image = tmp_path / "boot.img"
    bootdisk.build(image, DOMU, boot, lambda blob: tmp_path / blob.sha256)
    ramdisk, modules = f"/k/{refs['ramdisk'].sha256[:12]}", f"/m/{refs['modules'].sha256[:16]}"
    assert f"initrd {ramdisk}\n" in debugfs(image, "cat /grub/menu.lst").decode()
    assert f"initrd {ramdisk}\n" in debugfs(image, "cat /grub/grub.cfg").decode()
    assert debugfs(image, f"cat {ramdisk}") == files["ramdisk"]
    assert debugfs(image, f"cat {modules}") == files["modules"]
    assert modules.encode() not in debugfs(image, "cat /grub/menu.lst"), "modules are the guest's to take"


@pytest.mark.parametrize("entries", [0, 1, 32])
def test_sizes_fit(tmp_path: Path, kernel: Path, entries: int) -> None:
    boot = menu(entries)
    if not entries:
        boot = replace(boot, method=BootMethod.OWN_DISK)
    kernel.write_bytes(os.urandom(100_000))
    bootdisk.build(tmp_path / "boot.img", DOMU, boot, lambda blob: kernel)


def test_a_large_kernel_fits(tmp_path: Path, kernel: Path) -> None:
    with kernel.open("wb") as file:
        for _ in range(140):
            file.write(os.urandom(MIB))
    bootdisk.build(tmp_path / "boot.img", DOMU, menu(1), lambda blob: kernel)


def test_what_was_there_stays_when_it_fails(
    tmp_path: Path, kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "boot.img"
    image.write_bytes(b"the last good one")
    monkeypatch.setattr(bootdisk, "_fill", lambda *arguments: 3)
    with pytest.raises(bootdisk.BootDiskError, match="mke2fs failed with exit status"):
        bootdisk.build(image, DOMU, menu(), lambda blob: kernel)
    monkeypatch.undo()
    monkeypatch.setattr(bootdisk, "run", missing)
    with pytest.raises(bootdisk.BootDiskError, match="install e2fsprogs"):
        bootdisk.build(image, DOMU, menu(), lambda blob: kernel)
    with pytest.raises(FileNotFoundError):
        bootdisk.build(image, DOMU, menu(), lambda blob: tmp_path / "none")
    assert image.read_bytes() == b"the last good one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boot.img", "kernel"]


def missing(*arguments: object, **values: object) -> None:
    from vps.agent.run import CommandMissing

    raise CommandMissing("mke2fs cannot be run: No such file or directory")
