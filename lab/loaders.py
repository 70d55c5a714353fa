"""The boot loaders, by the operator's own script (packaging/loaders/build) on unpacked packages."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from lab import cache, packages
from lab.commands import run
from lab.errors import LabError

_SCRIPTS = cache.ROOT / "packaging" / "loaders"


@dataclass(frozen=True)
class Loaders:
    """A folder with loaders.json and the images that it names."""

    place: Path

    def image(self, name: str) -> Path:
        """The image called berth-pv64, berth-pv32 or berth-pvh. Raises LabError."""
        for entry in json.loads((self.place / "loaders.json").read_text())["images"]:
            if entry["name"] == name:
                return self.place / str(entry["file"])
        raise LabError(f"There is no loader called {name}.")


def loaders() -> Loaders:
    """Build them unless they are there."""
    names = packages.names()
    tree = packages.unpacked(names.unpacked)
    scripts = {name: cache.file_digest(_SCRIPTS / name) for name in ("build", "grub.cfg")}

    def make(place: Path) -> None:
        modules = tree / "tree" / "usr" / "lib" / "grub"
        run([sys.executable, _SCRIPTS / "build", "--modules", modules, "--out", place], timeout=300)

    return Loaders(cache.kept("loaders", {"packages": tree.name, "scripts": scripts}, make))
