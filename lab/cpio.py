"""Initial ramdisks: a folder as a gzipped cpio archive in the form that Linux unpacks."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

from lab.commands import PATH, run
from lab.errors import LabError


def add_busybox(root: Path, init: Path, *, init_name: str = "init") -> None:
    """The folders an init needs, busybox, and `init` as /init."""
    for name in ("bin", "sbin", "etc", "proc", "sys", "dev", "root", "mnt", "tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    busybox = shutil.which("busybox", path=PATH)
    if busybox is None:
        raise LabError(
            "busybox-static is not installed: `python -m lab install-packages` says what is missing."
        )
    shutil.copy2(busybox, root / "bin" / "busybox")
    shutil.copy(init, root / init_name)
    (root / init_name).chmod(0o755)


def pack(root: Path, image: Path, *, level: int = 6) -> None:
    """Write `root` to `image`; everything in it belongs to root."""
    paths = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    listing = "\0".join([".", *paths]).encode() + b"\0"
    done = run(
        ["cpio", "--null", "--create", "--format=newc", "--owner=0:0", "--quiet", "--reproducible"],
        timeout=120,
        cwd=root,
        stdin=listing,
    )
    image.write_bytes(gzip.compress(done.stdout, level, mtime=0))
