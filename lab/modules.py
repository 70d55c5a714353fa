"""Kernel modules with what they depend on, out of an unpacked kernel package."""

from __future__ import annotations

import shutil
from pathlib import Path

from lab.commands import output, run
from lab.errors import LabError


def copy(tree: Path, kernel: str, names: list[str], root: Path) -> None:
    """Copy the modules `names` of `kernel` from `tree` to `root`/lib/modules, and index them there."""
    source = tree / "lib" / "modules" / kernel
    if not source.is_dir():
        raise LabError(f"The kernel package has no lib/modules/{kernel}.")
    if not (source / "modules.dep").exists():
        run(["depmod", "-b", tree, kernel], timeout=120)
    target = root / "lib" / "modules" / kernel
    target.mkdir(parents=True)
    for path in _files(tree, kernel, names):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        if (source / name).exists():
            shutil.copy2(source / name, target / name)
    run(["depmod", "-b", root, kernel], timeout=60)


def _files(tree: Path, kernel: str, names: list[str]) -> list[Path]:
    text = output(["modprobe", "-d", tree, "-S", kernel, "--show-depends", "--all", *names])
    found = [Path(line.split()[1]) for line in text.splitlines() if line.startswith("insmod ")]
    return list(dict.fromkeys(found))
