"""Berth's boot disk: an ext2 of kernels and menus, made fresh in a new file, checked, and renamed into place.

No file system is mounted or edited in dom0: mke2fs fills it from a staging folder (DESIGN.md 4).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from vps.agent.files import beside, sha256_of, sync_file, sync_folder
from vps.agent.run import CommandMissing, CommandTimeout, run
from vps.xen import menu
from vps.xen.description import BlobRef, Boot

_BLOCK = 4096
_TIMEOUT = 300  # seconds for one tool on a slow dom0
# One time for everything inside, so that the same menu gives the same image as far as mke2fs lets it.
_EPOCH = "1700000000"


class BootDiskError(Exception):
    """The boot disk could not be made; `output` is what the tool said."""

    def __init__(self, text: str, output: str = "") -> None:
        super().__init__(text)
        self.text, self.output = text, output


def build(path: Path, domu: UUID, boot: Boot, blob: Callable[[BlobRef], Path]) -> str:
    """Make the boot disk at `path` and give its SHA-256. `blob` tells where a file of the store lies.

    Raises BootDiskError, RenderRefused, OSError. What was at `path` stays when it fails.
    """
    stage, new = beside(path, "stage"), beside(path)
    try:
        size = _fill(stage, boot, blob)
        _mke2fs(new, stage, size, domu)
        _check(new)
        sync_file(new)
        sha256 = sha256_of(new)
        new.rename(path)
        sync_folder(path.parent)
        return sha256
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        with contextlib.suppress(OSError):
            new.unlink()


def tools() -> tuple[str, ...]:
    """The programs that this needs."""
    return ("mke2fs", "e2fsck", "debugfs")


def _fill(stage: Path, boot: Boot, blob: Callable[[BlobRef], Path]) -> int:
    """Lay the files out in `stage`; gives the number of blocks that the file system needs."""
    blocks = 0
    entries: list[tuple[Path, Path | bytes]] = [
        (_inside(stage, menu.MENU_LST), menu.menu_lst(boot).encode()),
        (_inside(stage, menu.MENU_CFG), menu.grub_cfg(boot).encode()),
        *((_inside(stage, file.path), blob(file.blob)) for file in menu.layout(boot)),
    ]
    for place, content in entries:
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            place.write_bytes(content)
        else:
            shutil.copyfile(content, place)
        place.chmod(0o644)
        size = place.stat().st_size
        data = -(-size // _BLOCK)
        blocks += data + data // 1000 + 3  # indirect blocks: one for 1024
    for folder, _, names in os.walk(stage):
        for name in [*names, "."]:
            os.utime(Path(folder, name), (int(_EPOCH), int(_EPOCH)))
    groups = blocks // 32768 + 1
    return blocks + 64 + 8 * groups + blocks // 100


def _inside(stage: Path, path: str) -> Path:
    return stage / path.lstrip("/")


def _mke2fs(image: Path, stage: Path, blocks: int, domu: UUID) -> None:
    inodes = 32 + sum(1 for _ in stage.rglob("*"))
    _tool(
        "mke2fs", "-q", "-F", "-t", "ext2", "-b", str(_BLOCK), "-m", "0", "-N", str(inodes),
        "-L", "berth", "-U", str(domu), "-O", "^resize_inode,^dir_index",
        "-E", f"root_owner=0:0,hash_seed={domu}",
        "-d", str(stage), str(image), str(blocks),
    )  # fmt: skip
    # mke2fs takes the times of change from the staged files, which nobody can set.
    script = "".join(
        f"set_inode_field /{name.relative_to(stage)} {field} @{_EPOCH}\n"
        for name in sorted(stage.rglob("*"))
        for field in ("ctime", "atime", "mtime")
    )
    _tool("debugfs", "-w", "-f", "-", str(image), input=script.encode())


def _check(image: Path) -> None:
    _tool("e2fsck", "-f", "-n", str(image))


def _tool(*argv: str, input: bytes | None = None) -> None:
    try:
        done = run(
            argv,
            timeout=_TIMEOUT,
            input=input,
            env={"E2FSPROGS_FAKE_TIME": _EPOCH, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
        )
    except CommandMissing as error:
        raise BootDiskError(f"{error}; install e2fsprogs on the dom0.") from error
    except CommandTimeout as error:
        raise BootDiskError(f"{error}; see what keeps the dom0's disk busy.") from error
    said = (done.stdout + done.stderr).decode(errors="replace").strip()[:4096]
    if done.returncode != 0:
        raise BootDiskError(f"{argv[0]} failed with exit status {done.returncode}: {said[:300]}", said)
