"""`python -m vps.xen.inspect`: exit codes, the plain file, and what it does with files made to hurt."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import kernels
from tests.kernels import linux_bzimage, linux_elf, netbsd
from vps.xen.inspect.limits import ADDRESS_SPACE, CPU_SECONDS

TREE = Path(__file__).parents[2]


def run(*arguments: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vps.xen.inspect", *map(str, arguments)]
    return subprocess.run(command, cwd=TREE, capture_output=True, text=True, timeout=100, **more)


def report_of(path: Path, code: int, *arguments: str | Path) -> dict[str, Any]:
    done = run(path, *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert isinstance(report, dict)
    return report


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        path = tmp_path / "kernel"
        path.write_bytes(data)
        return path

    return write


def test_ok_is_exit_0(file: Callable[[bytes], Path]) -> None:
    kernel = netbsd()
    report = report_of(file(kernel), 0)
    assert report["verdict"] == "ok"
    assert report["sha256"] == hashlib.sha256(kernel).hexdigest()
    wanted = "verdict reason paths format compression architecture pae pv pvh guest_type guest_os release"
    wanted += " configuration role sha256 size unpacked_size features summary path_files original_paths plain"
    assert set(wanted.split()) <= set(report)


def test_refused_is_exit_1(file: Callable[[bytes], Path]) -> None:
    assert report_of(file(netbsd(config="XEN3_DOM0")), 1)["code"] == "dom0-kernel"


def test_empty_is_refused_and_not_unreadable(file: Callable[[bytes], Path]) -> None:
    assert report_of(file(b""), 1)["reason"] == "The file is empty: upload the kernel again."


def test_what_cannot_be_read_is_exit_2_with_a_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, words in (
        (tmp_path / "nothing", "there is no such file"),
        (tmp_path, "is a directory"),
        (tmp_path / "fifo", "is not a file"),
        (tmp_path / "nothing" / "below", "there is no such file"),
        ("x" * 300, "cannot be read (File name too long)"),
    ):
        done = run(path)
        assert (done.returncode, done.stdout) == (2, ""), path
        assert words in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_no_permission_is_exit_2(file: Callable[[bytes], Path]) -> None:
    path = file(netbsd())
    path.chmod(0)
    done = run(path)
    assert done.returncode == 2 and "Permission denied" in done.stderr


@pytest.mark.parametrize(
    "arguments", [(), ("a", "b"), ("--plain",), ("a", "--plain"), ("--help",), ("",), ("--plain", "x")]
)
def test_wrong_commands_show_the_usage(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2 and done.stderr.startswith("usage:") and done.stdout == ""


def test_257_mib_is_refused_with_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as out:
        out.truncate(257 << 20)
    report = report_of(path, 1)
    assert report["reason"].startswith("The file is 257 MiB; the limit is 256 MiB")
    assert report["size"] == 257 << 20 and len(report["sha256"]) == 64


def test_256_mib_are_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as out:
        out.write(netbsd())
        out.truncate(256 << 20)
    assert report_of(path, 0)["size"] == 256 << 20


def test_plain_is_written_and_judged(file: Callable[[bytes], Path], tmp_path: Path) -> None:
    elf = linux_elf()
    out = tmp_path / "plain.gz"
    path = file(linux_bzimage("lz4", elf=elf))
    report = report_of(path, 0, "--plain", out)
    packed = out.read_bytes()
    assert gzip.decompress(packed) == elf
    assert report["plain"] == {
        "sha256": hashlib.sha256(packed).hexdigest(),
        "size": len(packed),
        "compression": "gzip",
    }
    assert report["paths"] == {"pvgrub": "ok", "direct_pv": "ok", "direct_pvh": "ok"}
    assert report["path_files"] == {"pvgrub": "plain", "direct_pv": "original", "direct_pvh": "original"}
    assert report["original_paths"]["pvgrub"] != "ok"
    # No name, no time: the same kernel is the same file tomorrow.
    assert packed[:8] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00"
    again = tmp_path / "again.gz"
    report_of(path, 0, "--plain", again)
    assert again.read_bytes() == packed
    # And it is what it says: a kernel that every path takes.
    assert set(report_of(out, 0)["original_paths"].values()) == {"ok"}


def test_without_use_no_plain_is_written(file: Callable[[bytes], Path], tmp_path: Path) -> None:
    out = tmp_path / "plain.gz"
    assert report_of(file(netbsd()), 0, "--plain", out)["plain"] is None
    assert report_of(file(b"text"), 1, "--plain", out)["plain"] is None
    assert not out.exists()


def test_a_plain_that_cannot_be_written_is_exit_2(file: Callable[[bytes], Path], tmp_path: Path) -> None:
    done = run(file(linux_bzimage("zstd")), "--plain", tmp_path / "no" / "folder")
    assert done.returncode == 2 and "cannot be written (No such file or directory)" in done.stderr


def test_a_full_disk_leaves_no_half_plain(file: Callable[[bytes], Path], tmp_path: Path) -> None:
    out = tmp_path / "plain.gz"
    done = run(
        file(linux_bzimage("zstd", elf=linux_elf(extra=os.urandom(99_000)))),
        "--plain",
        out,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert done.returncode == 2 and "cannot be written (File too large)" in done.stderr
    assert not out.exists()


def test_a_descriptor_is_a_file_too(file: Callable[[bytes], Path], tmp_path: Path) -> None:
    """So the web side calls it: both files by /dev/fd, opened by somebody else."""
    with file(linux_bzimage("zstd")).open("rb") as source, (tmp_path / "plain").open("wb") as plain:
        numbers = (source.fileno(), plain.fileno())
        done = run(f"/dev/fd/{numbers[0]}", "--plain", f"/dev/fd/{numbers[1]}", pass_fds=numbers)
        assert (
            done.returncode == 0
            and json.loads(done.stdout)["plain"]["size"] == (tmp_path / "plain").stat().st_size
        )
        done = run(
            f"/dev/fd/{numbers[0]}",
            "--plain",
            f"/dev/fd/{numbers[1]}",
            pass_fds=numbers,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
        )
        assert done.returncode == 2 and "cannot be written" in done.stderr and done.stderr.count("\n") == 1


def test_it_limits_itself() -> None:
    """Before it reads: asked of a process that stands where the command does."""
    ask = (
        "import resource as r, vps.xen.inspect.__main__ as m; m.confine(7); "
        "print([r.getrlimit(x) for x in (r.RLIMIT_CPU, r.RLIMIT_AS, r.RLIMIT_CORE, r.RLIMIT_FSIZE)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", ask], cwd=TREE, capture_output=True, text=True, timeout=60, check=True
    )
    cpu = (CPU_SECONDS, CPU_SECONDS + 2)
    assert done.stdout.strip() == str([cpu, (ADDRESS_SPACE, ADDRESS_SPACE), (0, 0), (7, 7)])


def test_it_keeps_limits_that_are_stricter(file: Callable[[bytes], Path]) -> None:
    def strict() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (96 << 20, 96 << 20))

    done = run(file(gzip.compress(bytes(120 << 20), 1)), preexec_fn=strict)
    assert done.returncode == 1 and done.stderr == ""
    assert json.loads(done.stdout)["code"] == "no-memory"


def test_time_that_ends_is_a_refusal(file: Callable[[bytes], Path]) -> None:
    ask = (
        "import sys, vps.xen.inspect.limits as l, vps.xen.inspect.__main__ as m, vps.xen.inspect.inspection as i\n"
        "l.CPU_SECONDS = 1\n"
        "def spin(view):\n"
        "    while True: pass\n"
        "i.unwrap = spin\n"
        f"sys.exit(m.main([{str(file(netbsd()))!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", ask], cwd=TREE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["code"] == "no-time"


def zeros(method: str, size: int) -> bytes:
    """`size` zeros packed, without having them in memory."""
    piece = bytes(1 << 20)
    if method in ("lzo", "lz4"):
        return _blocks_of_zeros(method, size)
    if method == "zstd":
        import zstandard

        packer: Any = zstandard.ZstdCompressor(level=1).compressobj()
    else:
        packer = {
            "gzip": lambda: zlib.compressobj(1, zlib.DEFLATED, 31),
            "bzip2": lambda: bz2.BZ2Compressor(1),
            "xz": lambda: lzma.LZMACompressor(lzma.FORMAT_XZ, preset=0),
            "lzma": lambda: lzma.LZMACompressor(lzma.FORMAT_ALONE, preset=0),
        }[method]()
    return b"".join([packer.compress(piece) for _ in range(size >> 20)]) + packer.flush()


def _blocks_of_zeros(method: str, size: int) -> bytes:
    """Formats of blocks: one block again and again."""
    block_size = (256 << 10) if method == "lzo" else (8 << 20)
    packed = kernels.compress(bytes(block_size), method)
    if method == "lz4":
        return packed[:4] + packed[4:] * (size // block_size)
    header = len(kernels.compress(b"", "lzo")) - 4
    return packed[:header] + packed[header:-4] * (size // block_size) + packed[-4:]


def a_million_sections() -> bytes:
    """More than the header can say: then the first section's size is their number (ELF, extended numbering)."""
    elf = bytearray(netbsd(ident=False))
    at = len(elf)
    elf += struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 1_000_000, 1, 0, 0, 0)
    elf += struct.pack("<IIQQQQIIQQ", 1, 7, 0, 0, 0, at, 0, 0, 4, 0) * 999_999
    struct.pack_into("<Q", elf, 40, at)
    struct.pack_into("<HHH", elf, 58, 64, 0, 0xFFFF)
    struct.pack_into("<H", elf, 56, 0)
    return bytes(elf)


def large_note_segment() -> bytes:
    """A PT_NOTE segment of more than 4 GiB, say the program headers."""
    elf = bytearray(netbsd(style="notes"))
    struct.pack_into("<QQ", elf, 64 + 56 + 32, 5 << 30, 5 << 30)
    return bytes(elf)


def many_sections(kind: int) -> bytes:
    """65535 section headers, all the same: each an area of the whole file, full of notes."""
    elf = bytearray(netbsd(ident=False))
    body = struct.pack("<III", 0, 0, 0) * 200_000
    at = len(elf) + len(body)
    elf += body
    elf += struct.pack("<IIQQQQIIQQ", 1, kind, 0, 0, len(elf) - len(body), len(body), 0, 0, 4, 0) * 65535
    struct.pack_into("<Q", elf, 40, at)
    struct.pack_into("<HHH", elf, 58, 64, 65535, 1)
    struct.pack_into("<H", elf, 56, 0)  # no program headers: everybody looks at the sections
    return bytes(elf)


def many_segments() -> bytes:
    elf = bytearray(netbsd())
    body = struct.pack("<III", 4, 0, 0) + b"Xen\0"
    notes_at, at = len(elf), len(elf) + len(body) * 50_000
    elf += body * 50_000
    elf += struct.pack("<IIQQQQQQ", 4, 4, notes_at, 0, 0, len(body) * 50_000, 0, 4) * 65535
    struct.pack_into("<Q", elf, 32, at)
    struct.pack_into("<HH", elf, 54, 56, 65535)
    return bytes(elf)


def large_note() -> bytes:
    """A note of 4 GiB, says its header."""
    elf = bytearray(netbsd())
    at = elf.index(b"Xen\0") - 12
    struct.pack_into("<I", elf, at + 4, 0xFFFFFFFF)
    return bytes(elf)


def long_string() -> bytes:
    return netbsd(release="6.1.5").replace(b"GUEST_OS=NetBSD", b"G" * 15).replace(b"\0", b",")


def full_of(text: bytes, size: int = 60 << 20) -> bytes:
    return linux_elf(xen=False, extra=text * (size // len(text)))


HOSTILE = {
    "gzip, 300 MiB": lambda: zeros("gzip", 300 << 20),
    "gzip that lies about its size": lambda: zeros("gzip", 300 << 20)[:-4] + struct.pack("<I", 5000),
    "gzip of 255 MiB": lambda: zeros("gzip", 255 << 20),
    "xz": lambda: zeros("xz", 300 << 20),
    "xz in gzip": lambda: gzip.compress(zeros("xz", 300 << 20)),
    "payload gzip": lambda: kernels.bzimage_of(zeros("gzip", 300 << 20)),
    "payload xz, says 200 MiB": lambda: kernels.bzimage_of(
        zeros("xz", 300 << 20) + struct.pack("<I", 200 << 20)
    ),
    "payload xz, says 4 GiB": lambda: kernels.bzimage_of(zeros("xz", 8 << 20) + b"\xff\xff\xff\xff"),
    "payload lzma, says 100 bytes": lambda: kernels.bzimage_of(
        zeros("lzma", 300 << 20) + struct.pack("<I", 100)
    ),
    "payload zstd, says 255 MiB": lambda: kernels.bzimage_of(
        zeros("zstd", 999 << 20) + struct.pack("<I", 255 << 20)
    ),
    "payload zstd, says 100 bytes": lambda: kernels.bzimage_of(
        zeros("zstd", 999 << 20) + struct.pack("<I", 100)
    ),
    "payload bzip2": lambda: kernels.bzimage_of(zeros("bzip2", 40 << 20) * 9 + struct.pack("<I", 256 << 20)),
    "payload lzo, says 255 MiB": lambda: kernels.bzimage_of(
        zeros("lzo", 300 << 20) + struct.pack("<I", 255 << 20)
    ),
    "payload lz4, says 255 MiB": lambda: kernels.bzimage_of(
        zeros("lz4", 320 << 20) + struct.pack("<I", 255 << 20)
    ),
    "lzo": lambda: zeros("lzo", 300 << 20),
    "lzo in gzip": lambda: gzip.compress(zeros("lzo", 300 << 20)),
    "bzip2": lambda: zeros("bzip2", 300 << 20),
    "lzma": lambda: zeros("lzma", 300 << 20),
    "lz4": lambda: zeros("lz4", 320 << 20),
    "zstd": lambda: zeros("zstd", 300 << 20),
    "payload lz4, a block of 255 MiB": lambda: kernels.bzimage_of(
        struct.pack("<II", 0x184C2102, 9) + bytes(9) + struct.pack("<I", 255 << 20)
    ),
    "65535 sections of notes": lambda: many_sections(7),
    "65535 sections": lambda: many_sections(1),
    "65535 segments of notes": many_segments,
    "a million sections": a_million_sections,
    "a note of 4 GiB": large_note,
    "a segment of notes of 5 GiB": large_note_segment,
    "a string without end": long_string,
    "full of NetBSD's name": lambda: full_of(b"NetBSD 10.1aaaaaaaaaaaaaaaaaaaaaaa"),
    "full of Linux's name": lambda: full_of(b"Linux version " + b"a" * 70),
    "full of configuration": lambda: netbsd(config="MINE", version_string=False).replace(
        b"\x90" * 8192, (b'_CFG_### START CONFIG FILE "' * 300)[:8192]
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_end_in_a_report(name: str, file: Callable[[bytes], Path]) -> None:
    """A refusal or a verdict, no traceback, no signal; within 10 s and 512 MB, and not because these were at an end."""
    code, out, error, used = measured(file(HOSTILE[name]()))
    assert code in (0, 1) and error == "", (code, error)
    report = json.loads(out)
    assert report["code"] not in ("no-time", "no-memory"), report["reason"]
    assert used.ru_utime + used.ru_stime < CPU_SECONDS
    assert used.ru_maxrss * 1024 <= ADDRESS_SPACE


def measured(path: Path) -> tuple[int, str, str, resource.struct_rusage]:
    """Exit code, output, complaints, and what the command alone has used."""
    with (path.parent / "out").open("w+") as out, (path.parent / "error").open("w+") as error:
        command = [sys.executable, "-m", "vps.xen.inspect", str(path)]
        process = subprocess.Popen(command, cwd=TREE, stdout=out, stderr=error)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        error.seek(0)
        return process.returncode, out.read(), error.read(), used


def test_a_bomb_names_the_limit(file: Callable[[bytes], Path]) -> None:
    report = report_of(file(zeros("gzip", 300 << 20)), 1)
    assert report["code"] == "unpacks-too-large"
    assert "more than 256 MiB, which is the limit" in report["reason"]
