"""What may stand beside a kernel: ramdisks by their magic, archives of modules by what tar would write."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests import kernels
from vps.xen.inspect import archive, limits
from vps.xen.inspect.archive import ArchiveRefused, list_archive
from vps.xen.inspect.parts import Part, PartReport, inspect_part
from vps.xen.inspect.streams import Compression

CPIO = b"070701" + b"0" * 104 + b"init\0" + bytes(900)
EXT2 = bytes(1080) + b"\x53\xef" + bytes(4000)


def ramdisk(data: bytes) -> PartReport:
    return inspect_part(Part.RAMDISK, data)


def modules(data: bytes) -> PartReport:
    return inspect_part(Part.MODULES, data)


def tar(*members: tuple[str, bytes | str | None] | tarfile.TarInfo, form: int = tarfile.GNU_FORMAT) -> bytes:
    """(name, content), (name, None) for a folder, (name, "-> target") for a link; or a TarInfo as it is."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as file:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                file.addfile(member)
                continue
            name, content = member
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content.removeprefix("-> ")
            else:
                info.size = len(content)
            file.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


GOOD = (
    ("lib/modules", None),
    ("lib/modules/6.1.0-test", None),
    ("lib/modules/6.1.0-test/kernel/net/dummy.ko", b"\x7fELF" * 300),
    ("lib/modules/6.1.0-test/modules.dep", b"kernel/net/dummy.ko:\n"),
    ("lib/modules/6.1.0-test/build", "-> /usr/src/linux-headers-6.1.0-test"),
    ("lib/modules/6.1.0-test/kernel/alias.ko", "-> net/dummy.ko"),
)


@pytest.mark.parametrize(
    ("data", "method", "holds"),
    [
        pytest.param(CPIO, "none", "cpio", id="cpio"),
        pytest.param(gzip.compress(CPIO), "gzip", "cpio", id="gzip"),
        pytest.param(lzma.compress(CPIO), "xz", "cpio", id="xz"),
        pytest.param(lzma.compress(CPIO, lzma.FORMAT_ALONE), "lzma", "cpio", id="lzma"),
        pytest.param(zstandard.compress(CPIO), "zstd", "cpio", id="zstd"),
        pytest.param(bz2.compress(CPIO), "bzip2", "cpio", id="bzip2"),
        pytest.param(kernels.compress(CPIO, "lz4"), "lz4", "cpio", id="lz4"),
        pytest.param(kernels.compress(CPIO, "lzo"), "lzo", "cpio", id="lzo"),
        pytest.param(EXT2, "none", "ext2", id="ext2"),
        pytest.param(gzip.compress(EXT2), "gzip", "ext2", id="ext2 in gzip"),
        pytest.param(gzip.compress(bytes(5 << 20)), "gzip", "unknown", id="something in gzip"),
    ],
)
def test_a_ramdisk(data: bytes, method: str, holds: str) -> None:
    report = ramdisk(data)
    assert (report.verdict, report.compression, report.holds) == ("ok", method, holds)
    assert (report.size, bool(report.warnings)) == (len(data), holds == "unknown")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"#!/bin/sh\n" * 300, "This is no ramdisk", id="text"),
        pytest.param(kernels.netbsd(), "is a kernel, not a ramdisk", id="ELF"),
        pytest.param(gzip.compress(kernels.netbsd()), "compressed kernel, not a ramdisk", id="netbsd.gz"),
        pytest.param(kernels.linux_bzimage(), "is a kernel, not a ramdisk", id="bzImage"),
        pytest.param(tar(*GOOD), "modules goes in as modules", id="tar"),
        pytest.param(gzip.compress(tar(*GOOD)), "modules goes in as modules", id="tar.gz"),
        pytest.param(gzip.compress(CPIO)[:40], "gzip data is cut short", id="cut short"),
        pytest.param(gzip.compress(CPIO)[:10] + b"\x07" * 60, "gzip data is damaged", id="damaged"),
        pytest.param(b"\x04\x22\x4d\x18" + bytes(60), "lz4 -l", id="lz4's newer frame"),
    ],
)
def test_no_ramdisk(data: bytes, words: str) -> None:
    report = ramdisk(data)
    assert report.verdict == "refused"
    assert report.reason is not None and words in report.reason
    assert report.reason.endswith(".")


@pytest.mark.parametrize(
    "pack",
    [bytes, gzip.compress, lzma.compress, zstandard.compress],
    ids=["tar", "tar.gz", "tar.xz", "tar.zst"],
)
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_archive_of_modules(pack: Callable[[bytes], bytes], form: int) -> None:
    long = "lib/modules/6.1.0-test/" + "deep/" * 20 + "x" * 60 + ".ko"
    report = modules(pack(tar(*GOOD, (long, b"y" * 700), form=form)))
    assert (report.verdict, report.reason) == ("ok", None)
    assert (report.files, report.unpacked_size) == (3, 1200 + 21 + 700)
    assert (report.releases, report.own_lib) == (["6.1.0-test"], False)


def test_names_as_tar_of_a_folder_makes_them() -> None:
    report = modules(tar(("./", None), ("./lib/", None), ("./lib/modules/7/a.ko", b"x")))
    assert (report.verdict, report.own_lib, report.releases) == ("ok", True, ["7"])
    assert modules(tar(("usr/lib/modules/7/a.ko", b"x"))).releases == ["7"]
    assert modules(tar(("stand/amd64/10.1/modules/zfs/zfs.kmod", b"x"))).releases == ["10.1"]


A_MODULE = ("lib/modules/6/a.ko", b"x")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(
            tar(A_MODULE, ("/etc/passwd", b"root")), "/etc/passwd in the archive begins with /", id="/"
        ),
        pytest.param(tar(("/lib/modules/6/a.ko", b"x")), "begins with /", id="absolute, though modules"),
        pytest.param(tar(A_MODULE, ("lib/modules/../../etc/shadow", b"x")), "has .. in its path", id=".."),
        pytest.param(tar(A_MODULE, ("etc/cron.d/x", b"x")), "does not lie in lib/modules", id="elsewhere"),
        pytest.param(
            tar(A_MODULE, ("lib/systemd/x", b"x")), "does not lie in lib/modules", id="elsewhere in lib"
        ),
        pytest.param(
            tar(A_MODULE, ("lib/modules", b"x")), "does not lie in", id="a file in the folder's place"
        ),
        pytest.param(
            tar(A_MODULE, ("lib/modules/6/b", "-> /etc")), "link to /etc, which is no", id="link out"
        ),
        pytest.param(
            tar(A_MODULE, ("lib/modules/6/b", "-> ../../../etc")), "which is no module", id="link up"
        ),
        pytest.param(
            tar(A_MODULE, ("lib/modules", "-> /etc")), "does not lie in", id="link in the folder's place"
        ),
        pytest.param(
            tar(A_MODULE, special("lib/modules/6/h", tarfile.LNKTYPE, "etc/passwd")),
            "no module",
            id="hard link out",
        ),
        pytest.param(
            tar(A_MODULE, special("lib/modules/6/h", tarfile.LNKTYPE, "../x")), "has .. in", id="hard link up"
        ),
        pytest.param(tar(A_MODULE, special("lib/modules/6/d", tarfile.CHRTYPE)), "is a device", id="device"),
        pytest.param(tar(A_MODULE, special("lib/modules/6/f", tarfile.FIFOTYPE)), "is a pipe", id="pipe"),
        pytest.param(tar(("lib/modules/6/a\x1b[2J.ko", b"x")), "cannot be shown", id="escapes in a name"),
        pytest.param(tar(("lib/modules/6", None)), "no file in lib/modules/RELEASE", id="no file"),
        pytest.param(tar(("lib/modules/a.ko", b"x")), "no file in lib/modules/RELEASE", id="no release"),
        pytest.param(tar(), "is empty", id="no members"),
        pytest.param(bytes(10240), "is empty", id="zeros"),
        pytest.param(b"hello\n" * 400, "no tar archive", id="text"),
        pytest.param(tar(A_MODULE)[:700], "cut short", id="cut short"),
        pytest.param(gzip.compress(tar(A_MODULE))[:-9], "cut short", id="gzip cut short"),
        pytest.param(gzip.compress(tar(A_MODULE)) * 2, "is damaged", id="something behind the gzip"),
        pytest.param(bz2.compress(tar(A_MODULE)), "packed by bzip2", id="bzip2"),
        pytest.param(kernels.netbsd(), "no tar archive", id="a kernel"),
    ],
)
def test_no_archive_of_modules(data: bytes, words: str) -> None:
    report = modules(data)
    assert report.verdict == "refused"
    assert report.reason is not None and words in report.reason
    assert report.reason.endswith(".")


def test_too_many_and_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    many = tar(*((f"lib/modules/6/{i}.ko", b"") for i in range(4)))
    monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    with pytest.raises(ArchiveRefused, match="more than 3 members"):
        list_archive(Compression.NONE, memoryview(many), limits.MODULES_UNPACKED_LIMIT)
    for pack, method in (
        (bytes, Compression.NONE),
        (gzip.compress, Compression.GZIP),
        (lzma.compress, Compression.XZ),
    ):
        with pytest.raises(ArchiveRefused, match="unpacks to more than"):
            list_archive(method, memoryview(pack(tar(("lib/modules/6/a.ko", bytes(1 << 20))))), 1 << 19)


def test_a_bomb_ends_in_time_and_in_a_sentence(tmp_path: Path) -> None:
    """1.2 GB of zeros in one module; the process is the real one, with its limits."""
    info = tarfile.TarInfo("lib/modules/6/a.ko")
    info.size = 1200 << 20
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    with (tmp_path / "bomb.tar.zst").open("wb") as file:
        file.write(packer.compress(info.tobuf()))
        zeros = bytes(8 << 20)
        for _ in range(150):
            file.write(packer.compress(zeros))
        file.write(packer.flush())
    done = subprocess.run(
        [sys.executable, "-m", "vps.xen.inspect", "--part", "modules", str(tmp_path / "bomb.tar.zst")],
        capture_output=True,
        timeout=100,
    )
    report = json.loads(done.stdout)
    assert (done.returncode, report["verdict"]) == (1, "refused")
    assert "unpacks to more than 1024 MiB" in report["reason"]


@pytest.mark.parametrize(
    ("content", "part", "code"), [(CPIO, "ramdisk", 0), (b"no", "ramdisk", 1), (b"", "modules", 1)]
)
def test_the_command(tmp_path: Path, content: bytes, part: str, code: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-m", "vps.xen.inspect", "--part", part, str(path)], capture_output=True, timeout=60
    )
    assert done.returncode == code, done.stderr
    assert json.loads(done.stdout)["verdict"] == ("ok" if code == 0 else "refused")


@given(st.data())
def test_any_bytes_make_a_report(data: st.DataObject) -> None:
    base = bytearray(data.draw(st.sampled_from([tar(*GOOD), gzip.compress(tar(*GOOD)), CPIO, EXT2])))
    for at, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(base) - 1), st.integers(0, 255)), max_size=6)
    ):
        base[at] = byte
    for part in Part:
        report = inspect_part(part, bytes(base[: data.draw(st.integers(0, len(base)))]))
        assert report.verdict in ("ok", "refused")
        assert report.ok == (report.reason is None)
