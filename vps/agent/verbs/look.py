"""Read Xen's own words on the dom0: the hypervisor's message ring, and the logs that its tools write."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from vps.agent.context import Job, VerbFailed
from vps.agent.toolstack import ToolstackError
from vps.xen.names import NameRefused, check_log_name

LIMIT = 64 * 1024  # bytes of a text that are told: its end
_LISTED = 50  # logs that are named, newest first


def look(job: Job) -> dict[str, Any]:
    """`body`: {"what": "dmesg"} or {"what": "log", "name": a file's name in the log folder}."""
    assert job.order is not None
    what, name = job.order.body.get("what"), job.order.body.get("name")
    folder = job.context.config.xl_log_dir
    if what == "dmesg":
        job.step("Reading xl dmesg")
        try:
            text = job.context.toolstack.dmesg()
        except ToolstackError as error:
            raise VerbFailed(error.code, error.text, error.output) from error
        return {"what": what, "name": "", **_end_of(text, len(text)), "files": logs(folder)}
    if what == "log":
        job.step("Reading a log")
        try:
            text, size = _read(folder, check_log_name(name))
        except NameRefused as error:
            raise VerbFailed("name", str(error)) from error
        return {"what": what, "name": name, **_end_of(text, size), "files": logs(folder)}
    raise VerbFailed("form", "The order asks to look at neither dmesg nor a log.")


def logs(folder: Path) -> list[dict[str, Any]]:
    """The logs in a folder, newest first: name, size in bytes, when it was written last (seconds)."""
    found: list[dict[str, Any]] = []
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return []
    for entry in entries:
        try:
            check_log_name(entry.name)
            facts = entry.stat(follow_symlinks=False)
        except (NameRefused, OSError):
            continue
        if stat.S_ISREG(facts.st_mode):
            found.append({"name": entry.name, "size": facts.st_size, "at": int(facts.st_mtime)})
    return sorted(found, key=lambda log: (-log["at"], log["name"]))[:_LISTED]


def _read(folder: Path, name: str) -> tuple[bytes, int]:
    """The end of a log, and its size. Raises VerbFailed."""
    try:
        # Not through a link, and not for ever where somebody put a pipe.
        handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise VerbFailed("no_log", f"{folder} has no log {name} any more; look at the list again.") from error
    except OSError as error:
        raise VerbFailed("no_log", f"{name} cannot be read: {error.strerror}.") from error
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise VerbFailed("no_log", f"{name} is no file.")
        return os.pread(handle, LIMIT, max(0, facts.st_size - LIMIT)), facts.st_size
    finally:
        os.close(handle)


def _end_of(text: bytes, size: int) -> dict[str, Any]:
    """The end of a text, from a whole line on where it was cut."""
    shown = text[-LIMIT:]
    if size > len(shown):
        shown = shown.partition(b"\n")[2]
    words = shown.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    return {"text": words, "size": size, "cut": size > len(shown)}
