"""libxenguest's word on kernels: oracle.c, compiled once and kept running. And grub-file's."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType

SOURCE = Path(__file__).with_name("oracle.c")
LIBRARIES = ("-lxenguest", "-lxenctrl", "-lxentoollog")


class NoOracle(Exception):
    """A sentence: what is not installed."""


@dataclass(frozen=True)
class Answer:
    """For one container type: the guest type or None, the loader that took it, the first error."""

    guest_type: str | None
    loader: str | None
    error: str

    @property
    def accepted(self) -> bool:
        return self.guest_type is not None


@cache
def binary() -> Path:
    """The compiled oracle. Raises NoOracle without a compiler or libxen-dev."""
    if not shutil.which("cc"):
        raise NoOracle("no C compiler: apt-get install gcc libc6-dev")
    if not Path("/usr/include/xenguest.h").exists():
        raise NoOracle("libxen-dev is not installed: apt-get install libxen-dev")
    name = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"berth-oracle-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    made = folder / f"oracle-{name}"
    if not made.exists():
        fresh = made.with_suffix(f".{os.getpid()}")
        command = ["cc", "-Wall", "-Wextra", "-Werror", "-O1", str(SOURCE), "-o", str(fresh), *LIBRARIES]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        fresh.rename(made)
    return made


class Oracle:
    """`with Oracle() as oracle: oracle.ask(kernel)`. Files go through memory (/dev/shm) where there is such."""

    def __init__(self) -> None:
        shared = Path("/dev/shm")
        self._folder = tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None)
        self._path = Path(self._folder.name) / "kernel"
        self._process = subprocess.Popen(
            [binary()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __enter__(self) -> Oracle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()
        self._folder.cleanup()

    def ask(self, kernel: bytes | Path) -> tuple[Answer, Answer]:
        """PV's answer and PVH's."""
        path = kernel if isinstance(kernel, Path) else self._path
        if not isinstance(kernel, Path):
            path.write_bytes(kernel)
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        answers = []
        for mode in ("pv", "pvh"):
            line = self._process.stdout.readline().rstrip("\n").split("\t")
            assert line[0] == mode, line
            answers.append(Answer(*(None if field == "-" else field for field in line[1:3]), error=line[3]))
        return answers[0], answers[1]


def grub_takes(kernel: bytes | Path, folder: Path | None = None) -> bool:
    """Whether grub-file takes it for a PV kernel of either bitness. Raises NoOracle without grub-file.

    It reads some damaged files for ever: after 10 s of cpu it has not taken it.
    """
    if not shutil.which("grub-file"):
        raise NoOracle("grub-file is not installed: apt-get install grub-common")
    path = kernel
    if not isinstance(path, Path):
        path = (folder or Path(tempfile.gettempdir())) / f"berth-grub-{os.getpid()}"
        path.write_bytes(kernel)
    try:
        return any(
            subprocess.run(
                ["prlimit", "--cpu=10", "grub-file", kind, str(path)], capture_output=True, timeout=900
            ).returncode
            == 0
            for kind in ("--is-x86_64-xen-domu", "--is-i386-xen-pae-domu")
        )
    finally:
        if path is not kernel:
            path.unlink()
