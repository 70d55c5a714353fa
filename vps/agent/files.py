"""Writing that survives a crash: everything is written beside its place, synced, and renamed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from pathlib import Path

_PIECE = 1024 * 1024
_HALF_MADE = re.compile(r"\..+\.[0-9a-f]{8}\.(new|stage)")


def beside(path: Path, kind: str = "new") -> Path:
    """Where what shall be `path` is made first; "stage" is a folder of what goes into it."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{kind}")


def clear_half_made(folder: Path) -> None:
    """Remove what somebody who was killed had been making in a folder. Raises OSError."""
    for path in folder.iterdir():
        if _HALF_MADE.fullmatch(path.name):
            remove_tree(path) if path.is_dir() else remove(path)


def write_durably(path: Path, data: bytes, mode: int = 0o640) -> None:
    """Replace `path` by a file with this content, whole or not at all. Raises OSError."""
    new = beside(path)
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    sync_folder(path.parent)


def copy_durably(source: Path, path: Path, mode: int = 0o640) -> None:
    """Make `path` a copy of `source` that shares nothing with it, whole or not at all. Raises OSError."""
    new = beside(path)
    try:
        shutil.copyfile(source, new)
        new.chmod(mode)
        sync_file(new)
        new.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Have the content of a file on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Have the names of a folder on the disk. Raises OSError."""
    sync_file(path)


def remove(path: Path) -> None:
    """Remove a file; one that is not there is none to complain about. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def remove_tree(folder: Path) -> None:
    """Remove a folder with all in it; one that is not there is none to complain about. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def stamp(path: Path) -> list[int] | None:
    """Size and time of change (ns) of a file, to tell later whether it is still the same; None: not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def free_bytes(folder: Path) -> int:
    """What an unprivileged program could still write there, in bytes. Raises OSError."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def total_bytes(folder: Path) -> int:
    """The size of the file system, in bytes. Raises OSError."""
    status = os.statvfs(folder)
    return status.f_blocks * status.f_frsize
