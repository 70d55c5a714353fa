"""The agent and its dependencies as wheels for dom0's Python, made and fetched on the host: dom0 has no way out."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from packaging.requirements import Requirement

from lab import cache
from lab.commands import run
from lab.errors import LabError

REQUIREMENTS = cache.ROOT / "requirements" / "agent.txt"
# Debian 12's interpreter, which may be older than the host's: a marker such as
# `python_full_version < '3.11.3'` has to be read for dom0, not for here.
DOM0_PYTHON = {
    "python_version": "3.11",
    "python_full_version": "3.11.2",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "platform_machine": "x86_64",
    "platform_system": "Linux",
    "sys_platform": "linux",
    "os_name": "posix",
    "extra": "",
}
_GLIBC = 36
_SOURCES = ("pyproject.toml", "README.md")
_PACKAGES = ("vps", "accounts")


def requirement_lines(text: str) -> list[str]:
    """Lines of a hashed requirements file that hold for dom0, without their markers: `name==1 --hash=...`."""
    lines = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        line = line.partition(" #")[0].strip()
        if not line or line.startswith("#"):
            continue
        spec, *hashes = re.split(r"\s+(?=--hash)", line)
        if not hashes:
            raise LabError(f"{REQUIREMENTS.name} has a line without a hash: {spec}")
        wanted = Requirement(spec)
        if wanted.marker is None or wanted.marker.evaluate(DOM0_PYTHON):
            lines.append(" ".join([f"{wanted.name}{wanted.specifier}", *hashes]))
    return lines


def wheels() -> Path:
    """A folder with `requirements.txt` and every wheel that it names."""
    lines = requirement_lines(REQUIREMENTS.read_text())

    def make(place: Path) -> None:
        (place / "requirements.txt").write_text("".join(f"{line}\n" for line in lines))
        platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in range(_GLIBC, 4, -1)]
        run(
            [
                *[
                    sys.executable,
                    "-m",
                    "pip",
                    "download",
                    "--quiet",
                    "--disable-pip-version-check",
                    "--no-deps",
                ],
                *[
                    "--only-binary=:all:",
                    "--python-version=3.11",
                    "--implementation=cp",
                    "--abi=cp311",
                    "--abi=abi3",
                ],
                *["--abi=none", "--platform=manylinux2014_x86_64", *platforms],
                *["--require-hashes", "--requirement", place / "requirements.txt", "--dest", place],
            ],
            timeout=600,
        )

    return cache.kept("wheels", {"lines": lines}, make)


def wheel() -> Path:
    """The project's wheel, built in a copy of the source so that nothing is left in the tree."""
    files = sorted(
        path
        for package in _PACKAGES
        for path in (cache.ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    )
    named = [*(cache.ROOT / name for name in _SOURCES), *files]
    inputs = {str(path.relative_to(cache.ROOT)): cache.file_digest(path) for path in named}

    def make(place: Path) -> None:
        source = place / "source"
        for path in named:
            target = source / path.relative_to(cache.ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel"]
        run(
            [*pip, "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", place, source],
            timeout=300,
        )
        shutil.rmtree(source)

    found = list(cache.kept("wheel", inputs, make).glob("*.whl"))
    if len(found) != 1:
        raise LabError("Building the project's wheel gave no wheel.")
    return found[0]
