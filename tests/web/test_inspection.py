"""The process that inspects: what it cannot do any more once it reads, and what comes of it when it has no wall."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests import kernels
from vps import inspection, jail
from vps.inspection import InspectionFailed, inspect_file

TREE = Path(__file__).parents[2]

# Each is tried behind the wall; what it may not do ends in PermissionError, or in what stands behind it.
TRIES = """
import ctypes, encodings.idna, json, mmap, os, resource, socket, sys
sys.path.insert(0, sys.argv[1])
from vps import jail
if sys.argv[2] == "namespaces":
    jail.MACHINES.clear()
libc = ctypes.CDLL(None, use_errno=True)
port = int(sys.argv[3])

def connect():
    with socket.socket() as made:
        made.settimeout(5)
        made.connect(("127.0.0.1", port))

def look_into_parent():
    # ptrace (PTRACE_ATTACH)
    if libc.ptrace(16, os.getppid(), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")

tries = {
    "read": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "write": lambda: os.open(sys.argv[4], os.O_WRONLY | os.O_CREAT),
    "list": lambda: os.listdir("/"),
    "remove": lambda: os.unlink(sys.argv[4]),
    "socket": lambda: socket.socket(),
    "unix": lambda: socket.socket(socket.AF_UNIX),
    "connect": connect,
    "fork": os.fork,
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "signal": lambda: os.kill(os.getppid(), 0),
    "limits": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1)),
    "ptrace": look_into_parent,
    "compute": lambda: sum(mmap.mmap(-1, 1 << 20)[:10]),
}
if sys.argv[2] == "namespaces":
    del tries["exec"]  # which may be done there
wall = jail.enter()
found = {"wall": wall}
for name, one in tries.items():
    try:
        one()
        found[name] = "done"
    except OSError as error:
        found[name] = os.strerror(error.errno) if error.errno else str(error)
print(json.dumps(found), flush=True)
sys.stdin.read()
"""


def tried(wall: str, scratch: Path) -> tuple[dict[str, str], dict[str, str]]:
    """What became of the tries, and the process's own /proc/PID/status."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-c",
                TRIES,
                str(TREE),
                wall,
                str(server.getsockname()[1]),
                str(scratch / "x"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin and process.stdout
        line = process.stdout.readline()
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.communicate(timeout=60)
    return json.loads(line), dict(row.split(":\t", 1) for row in status.splitlines() if ":\t" in row)


@pytest.mark.skipif(platform.machine() not in jail.MACHINES, reason="no call numbers of this machine")
def test_behind_the_filter_nothing_can_be_opened_reached_or_started(tmp_path: Path) -> None:
    found, status = tried("seccomp", tmp_path)
    assert found.pop("wall") == "seccomp"
    assert found.pop("compute") == "done"
    assert set(found.values()) == {"Operation not permitted"}, found
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    if os.geteuid() == 0:
        assert status["Uid"].split() == status["Gid"].split() == [str(jail.NOBODY)] * 4
        assert status["Groups"].strip() == ""
    assert list(tmp_path.iterdir()) == []


def test_without_the_filter_there_is_no_network_and_no_new_process(tmp_path: Path) -> None:
    found, status = tried("namespaces", tmp_path)
    if not found:
        pytest.skip("namespaces of one's own are forbidden here")
    assert found["wall"] == "namespaces"
    assert found["connect"] == "Network is unreachable"
    assert found["fork"] == "Resource temporarily unavailable"
    assert found["signal"] == found["limits"] == found["ptrace"] == "Operation not permitted"
    assert status["NoNewPrivs"] == "1"


def test_every_kind_of_kernel_is_inspected_behind_the_wall(tmp_path: Path) -> None:
    """Each method's code runs there: whatever it imports or calls late would be refused."""
    elf = kernels.linux_elf()
    for method in ("none", *kernels.COMPRESSIONS):
        path = tmp_path / method
        path.write_bytes(kernels.linux_bzimage(method, elf=elf))
        found = inspect_file(path, tmp_path)
        assert found.report["verdict"] == "ok", (method, found.report)
        if found.plain:
            assert found.plain.stat().st_mode & 0o777 == 0o600
            assert found.plain.stat().st_size == found.report["plain"]["size"]
        path.write_bytes(kernels.compress(kernels.netbsd(), method)[:-9])
        assert inspect_file(path, tmp_path).report["code"] != "no-memory", method


def test_a_machine_without_walls_inspects_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blind = inspection.CODE.replace(
        "from vps.jail import enter",
        "import vps.jail as jail; jail.MACHINES.clear(); jail.CLONE_NEWUSER = 0x80; enter = jail.enter",
    )
    assert blind != inspection.CODE  # 0x80 is no flag that unshare takes: it fails as where it is forbidden
    monkeypatch.setattr(inspection, "CODE", blind)
    path = tmp_path / "kernel"
    path.write_bytes(kernels.netbsd())
    with pytest.raises(InspectionFailed, match="inspection has no wall here"):
        inspect_file(path, tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_the_filter_names_each_call_once() -> None:
    for machine in jail.MACHINES.values():
        assert len(set(machine.calls.values())) == len(machine.calls)
        assert len(jail.program(machine)) % 8 == 0
        assert machine.fcntl not in machine.calls.values()
    x86, arm = jail.MACHINES["x86_64"].calls, jail.MACHINES["aarch64"].calls
    assert x86.keys() == arm.keys()
