"""The folder where built things are kept: each under the digest of what it was made from, so never stale."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def folder() -> Path:
    """BERTH_LAB_CACHE, or lab-cache/ beside the source."""
    path = Path(os.environ.get("BERTH_LAB_CACHE") or ROOT / "lab-cache").resolve()
    path.mkdir(parents=True, exist_ok=True)
    return path


def digest(inputs: object) -> str:
    """16 hex digits over anything that JSON can say."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sources(*names: str) -> dict[str, str]:
    """Digests of files of this package, to be part of what a built thing was made from."""
    here = Path(__file__).parent
    return {name: file_digest(here / name) for name in names}


def kept(name: str, inputs: object, make: Callable[[Path], None]) -> Path:
    """The folder NAME-DIGEST, made by `make` unless it is there; older ones of that name are removed.

    `make` fills an empty folder, which gets its name only when it is whole.
    """
    root = folder()
    place = root / f"{name}-{digest(inputs)}"
    if place.is_dir():
        return place
    scratch = Path(tempfile.mkdtemp(prefix=f"tmp-{name}-", dir=root))
    scratch.chmod(0o755)
    try:
        make(scratch)
        (scratch / "inputs.json").write_text(json.dumps(inputs, indent=1, sort_keys=True) + "\n")
        scratch.rename(place)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    for old in root.glob(f"{name}-*"):
        if old != place and re.fullmatch(r"[0-9a-f]{16}", old.name.removeprefix(f"{name}-")):
            shutil.rmtree(old, ignore_errors=True)
    return place


@contextmanager
def lock() -> Iterator[None]:
    """One build at a time in a cache folder; a second one waits."""
    with (folder() / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
