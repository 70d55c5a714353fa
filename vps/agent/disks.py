"""The domUs' own disks: files in the pool, preallocated with zeros (HOWTO, H12), wiped before they are removed."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from vps.agent.files import free_bytes, remove, sync_folder
from vps.xen.description import DiskSpec

MIB = 1024 * 1024
_PIECE = 4 * MIB
_SPARE = 64 * MIB  # bytes that stay free in the pool

# fallocate(2): FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
_PUNCH = 0x01 | 0x02

Check = Callable[[], None]  # raises when the work is to be given up


class DiskRefused(Exception):
    """A disk cannot be made; the text says why."""


class Disks:
    """The pool of file disks in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, disk: UUID) -> Path:
        return self.folder / f"{disk}.img"

    def missing(self, disks: tuple[DiskSpec, ...]) -> tuple[DiskSpec, ...]:
        return tuple(disk for disk in disks if not self.path(disk.id).exists())

    def make(self, disk: DiskSpec, check: Check) -> None:
        """Make a disk of zeros, whole or not at all; one that is there is left as it is.

        Raises DiskRefused, OSError, and what `check` raises.
        """
        path, size = self.path(disk.id), disk.size_mib * MIB
        if path.exists():
            there = path.stat().st_size
            if there != size:
                raise DiskRefused(
                    f"Disk {disk.index} is {there // MIB} MiB on the dom0 and should be {disk.size_mib} MiB; "
                    "disks are not resized."
                )
            return
        new = path.with_suffix(".new")
        remove(new)
        free = free_bytes(self.folder)
        if free < size + _SPARE:
            raise DiskRefused(
                f"Disk {disk.index} needs {disk.size_mib} MiB and the dom0 has {max(0, free - _SPARE) // MIB} MiB "
                f"free in {self.folder}; free space there or choose a smaller disk."
            )
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                _fill(descriptor, size, check)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            new.rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                remove(new)
            raise
        sync_folder(self.folder)

    def wipe(self, disk: UUID, check: Check) -> str:
        """Wipe a disk and remove it. Says how it was wiped: "punched", "overwritten" or "absent".

        Where the file system can, the whole file is punched into a hole, which gives its blocks back; a file
        system hands blocks out as zeros only. Else it is overwritten. Raises OSError, and what `check` raises.
        """
        path = self.path(disk)
        remove(path.with_suffix(".new"))
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            return "absent"
        try:
            size = os.fstat(descriptor).st_size
            how = "punched" if _punch(descriptor, size) else "overwritten"
            if how == "overwritten":
                _write_zeros(descriptor, size, check)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        remove(path)
        sync_folder(self.folder)
        return how


def _fill(descriptor: int, size: int, check: Check) -> None:
    """Have `size` bytes of zeros that own their blocks: by the file system, else by writing them."""
    try:
        for start in range(0, size, 1024 * MIB):
            check()
            os.posix_fallocate(descriptor, start, min(1024 * MIB, size - start))
    except (OSError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        _write_zeros(descriptor, size, check)


def _write_zeros(descriptor: int, size: int, check: Check) -> None:
    zeros = bytes(_PIECE)
    os.lseek(descriptor, 0, os.SEEK_SET)
    left = size
    while left > 0:
        check()
        left -= os.write(descriptor, zeros[: min(_PIECE, left)])


def _punch(descriptor: int, size: int) -> bool:
    if not sys.platform.startswith("linux") or size == 0:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "fallocate64"):
        return False
    done = libc.fallocate64(descriptor, _PUNCH, ctypes.c_int64(0), ctypes.c_int64(size))
    return bool(done == 0)
