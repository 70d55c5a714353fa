"""Reads files out of disk images by debugfs (ext2, whole or in an MBR partition), as the loader in a guest would.

Runs in a short-lived child of the domain's process, which alone loads this and what it imports.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Any

from vps.agent.run import CommandMissing, CommandTimeout, run
from vps.agent.sim.kernels import judge

_TIMEOUT = 60.0
_SAFE = re.compile(r"/[^\"\n\x00]*")


def read_text(image: str, partition: int | None, path: str) -> dict[str, Any]:
    """A menu's text: {"text": …}, or {"missing": true}."""
    data = _read(image, partition, path)
    return (
        {"missing": True} if data is None else {"text": data.decode("utf-8", "replace"), "bytes": len(data)}
    )


def read_kernel(image: str, partition: int | None, path: str) -> dict[str, Any]:
    """A kernel's facts by its bytes: {"facts": …}, or {"missing": true}."""
    data = _read(image, partition, path)
    return {"missing": True} if data is None else {"facts": judge(data), "bytes": len(data)}


def read_ramdisk(image: str, partition: int | None, path: str) -> dict[str, Any]:
    """A ramdisk's size: {"size": …}, or {"missing": true}."""
    data = _read(image, partition, path)
    return {"missing": True} if data is None else {"size": len(data), "bytes": len(data)}


def list_folder(image: str, partition: int | None, path: str) -> dict[str, Any]:
    """The names in a folder: {"names": […]}; none when there is no such folder."""
    output = _debugfs(image, partition, f'ls -p "{path}"') or b""
    names = [
        line.split("/")[5] for line in output.decode("utf-8", "replace").splitlines() if line.count("/") >= 7
    ]
    return {"names": [name for name in names if name not in ("", ".", "..")]}


def _read(image: str, partition: int | None, path: str) -> bytes | None:
    if not _SAFE.fullmatch(path):
        return None
    found = _debugfs(image, partition, f'stat "{path}"')
    if found is None or b"Type: regular" not in found:
        return None
    return _debugfs(image, partition, f'cat "{path}"')


def _debugfs(image: str, partition: int | None, request: str) -> bytes | None:
    where = str(Path(image).resolve())
    if partition is not None:
        offset = _partition_offset(where, partition)
        if offset is None:
            return None
        where += f"?offset={offset}"
    path = {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    try:
        done = run(["/usr/bin/env", "debugfs", "-R", request, where], timeout=_TIMEOUT, env=path)
    except (CommandMissing, CommandTimeout):
        return None
    # debugfs says what went wrong on stderr, under its version, and exits with 0.
    trouble = [line for line in done.stderr.splitlines() if not line.startswith(b"debugfs ")]
    return None if done.returncode or trouble else done.stdout


def _partition_offset(image: str, partition: int) -> int | None:
    """Where an MBR partition (0 to 3) begins, in bytes."""
    with Path(image).open("rb") as file:
        table = file.read(512)
    if len(table) < 512 or table[510:] != b"\x55\xaa" or not 0 <= partition < 4:
        return None
    start, sectors = struct.unpack_from("<II", table, 446 + 16 * partition + 8)
    return start * 512 if sectors else None
