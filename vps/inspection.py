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
# -I keeps the environment and the working folder out, -S what site-packages would run at the start; the paths are
# given by name. Everything that inspection can need is imported before vps.jail closes the door behind it.
CODE = """
import sys
sys.path[:] = sys.argv.pop(1).split(":")
import bz2, hashlib, json, lzma, mmap, zlib
import lz4.block, lzallright, zstandard
import vps.xen.inspect.inspection, vps.xen.inspect.__main__ as command
if "--part" in sys.argv:
    import vps.xen.inspect.parts
from vps.jail import enter
sys.exit(command.main(sys.argv[1:], enter))
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
    return Inspected(report, plain)


def inspect_part(path: Path, part: str) -> dict[str, Any]:
    """The report on a ramdisk or an archive of modules (`part`) at `path`. Raises InspectionFailed."""
    with path.open("rb") as file:
        return _run(file.fileno(), None, part)


def _run(source: int, plain: int | None, part: str = "") -> dict[str, Any]:
    file = f"/dev/fd/{source}"
    wall = WALL_SECONDS_MODULES if part == "modules" else WALL_SECONDS
    argv = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        CODE,
        ":".join([str(BASE), *filter(None, sys.path)]),
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
