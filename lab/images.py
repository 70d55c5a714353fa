"""A read-only disk with everything that tests boot, so that nothing large passes through SSH: /srv/images in dom0."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lab import cache
from lab.commands import run
from lab.disks import KINDS, disk
from lab.dom0_image import Dom0
from lab.guests import guests
from lab.loaders import loaders


def images(dom0: Dom0) -> Path:
    """The disk's image, built unless it is there.

    Holds vmlinux.gz, vmlinuz, vmlinuz-cloud, rd.gz, berth-*.bin, xen (a file that is no guest), and NAME.img for each
    of disks.KINDS.
    """
    made, built = guests(), loaders()
    files = {path.name: path for path in (made.fast, made.kernel, made.cloud, made.ramdisk, dom0.xen)}
    files |= {path.name: path for path in built.place.glob("*.bin")}
    files |= {f"{name}.img": disk(name) for name in KINDS}
    inputs = {name: path.parent.name for name, path in files.items()} | {"form": 1}

    def make(place: Path) -> None:
        tree = place / "tree"
        tree.mkdir()
        for name, path in files.items():
            _link(path, tree / name)
        size = sum(path.stat().st_blocks * 512 for path in files.values()) // (1 << 20)
        target = place / "images.img"
        run(
            ["mke2fs", "-q", "-t", "ext2", "-b", "4096", "-m", "0", "-d", tree, target, f"{size + 64}M"],
            timeout=300,
        )
        shutil.rmtree(tree)

    return cache.kept("images", inputs, make) / "images.img"


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)
