"""Runs `python -m vps.xen.inspect` on an uploaded file: a process of its own, with limits, without privileges.

The file is hostile. It is never parsed in this process, and what comes back is read as data: at most 256 KiB of
JSON. One of the four places that start processes (docs/design.md).
"""

from __future__ import annotations

import json
import os
import subprocess  # noqa: TID251  this is one of the places that may
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BASE = Path(__file__).resolve().parent.parent
WALL_SECONDS = 40  # of the clock; the process limits itself to 10 s of cpu
WALL_SECONDS_MODULES = 120  # for an archive of modules: 40 s of cpu
MAX_REPORT = 256 * 1024  # bytes
# -I keeps the environment and the working folder out of sys.path; our own code is put back in by name.
CODE = """
import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module("vps.xen.inspect", run_name="__main__")
"""
# Where this process is root, as in a lab, the other gives its rights up itself, after it has loaded what it needs:
# the interpreter may lie where only root can read. PR_SET_DUMPABLE (4) keeps /dev/fd its own after setuid.
CODE_AS_ROOT = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import bz2, ctypes, gzip, hashlib, importlib, json, linecache, lzma, mmap, os, pathlib, pkgutil, traceback, zlib
import lz4.block, lz4.frame, lzallright, zstandard
import vps.xen.inspect as package
for module in pkgutil.iter_modules(package.__path__):
    importlib.import_module(f"{package.__name__}.{module.name}")
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
sys.exit(importlib.import_module("vps.xen.inspect.__main__").main(sys.argv[1:]))
"""


class InspectionFailed(Exception):
    """Inspection gave no report: that is our fault or the machine's, not the kernel's."""


@dataclass(frozen=True)
class Inspected:
    """The report, and the plain ELF's file where one was made (the caller removes it)."""

    report: dict[str, Any]
    plain: Path | None


def inspect_file(path: Path, folder: Path) -> Inspected:
    """Inspect the file at `path`; a plain ELF is made in `folder`. Raises InspectionFailed."""
    descriptor, name = tempfile.mkstemp(prefix="plain-", dir=folder)
    plain = Path(name)
    os.fchmod(descriptor, 0o666)  # the other process opens it by descriptor; the folder is closed to it
    try:
        with path.open("rb") as file:
            report = _run(file.fileno(), descriptor)
    except BaseException:
        plain.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    if not report.get("plain") or plain.stat().st_size != report["plain"].get("size"):
        plain.unlink(missing_ok=True)
        if report.get("plain"):
            raise InspectionFailed("The plain kernel does not have the size that the report tells.")
        return Inspected(report, None)
    plain.chmod(0o600)
    return Inspected(report, plain)


def inspect_part(path: Path, part: str) -> dict[str, Any]:
    """The report on a ramdisk or an archive of modules (`part`) at `path`. Raises InspectionFailed."""
    with path.open("rb") as file:
        return _run(file.fileno(), None, part)


def _run(source: int, plain: int | None, part: str = "") -> dict[str, Any]:
    as_root = os.geteuid() == 0
    if as_root:
        os.fchmod(source, 0o644)  # to be opened again by descriptor; its folder is closed to others
    file = f"/dev/fd/{source}"
    wall = WALL_SECONDS_MODULES if part == "modules" else WALL_SECONDS
    argv = [
        sys.executable,
        "-I",
        "-B",
        "-c",
        CODE_AS_ROOT if as_root else CODE,
        str(BASE),
        *(["--part", part, file] if plain is None else [file, "--plain", f"/dev/fd/{plain}"]),
    ]
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter and module, no shell
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=(source,) if plain is None else (source, plain),
            timeout=wall,
            cwd="/",
            env={"LC_ALL": "C.UTF-8", "PATH": os.defpath},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InspectionFailed(f"Inspection took longer than {wall} s.") from error
    except OSError as error:
        raise InspectionFailed(f"Inspection could not be started: {error}") from error
    if done.returncode not in (0, 1) or len(done.stdout) > MAX_REPORT:
        words = done.stderr.decode("utf-8", "replace").strip()[-500:]
        raise InspectionFailed(f"Inspection ended with {done.returncode}: {words}")
    try:
        report = json.loads(done.stdout)
    except ValueError as error:
        words = done.stderr.decode("utf-8", "replace").strip()[-500:]
        raise InspectionFailed(f"Inspection printed no report: {words}") from error
    if not isinstance(report, dict) or report.get("verdict") not in ("ok", "refused"):
        raise InspectionFailed("Inspection gave a report without a verdict.")
    return report
