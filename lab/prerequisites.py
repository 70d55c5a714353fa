"""What the machine must have, in sentences that name the thing and the cure."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lab import cache
from lab.commands import PATH, output, run
from lab.errors import LabError

# Package of the host by the program that stands for it.
HOST_PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "mcopy": "mtools",
    "mkfs.fat": "dosfstools",
    "makefs": "makefs",
    "mkfs.xfs": "xfsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "modprobe": "kmod",
    "grub-mkimage": "grub-common",
    "ssh": "openssh-client",
    "sfdisk": "fdisk",
    "dpkg": "dpkg",
}
# Building as root needs neither.
ROOTLESS_PACKAGES = {"fakeroot": "fakeroot", "newuidmap": "uidmap"}
MEMORY_MIB = 4096
DISK_MIB = 5120


def is_root() -> bool:
    return os.geteuid() == 0


def missing_packages() -> list[str]:
    """Debian packages that are to be installed, sorted."""
    wanted = HOST_PACKAGES if is_root() else HOST_PACKAGES | ROOTLESS_PACKAGES
    return sorted({package for program, package in wanted.items() if _which(program) is None})


def install_line(packages: list[str]) -> str:
    return f"apt-get update && apt-get install --no-install-recommends -y {' '.join(packages)}"


def check_build() -> None:
    """Raises LabError with every reason why nothing can be built here."""
    _raise([*_debian(), *_packages(), *_disk()])


def check_start() -> None:
    """Raises LabError with every reason why Xen cannot be started here now."""
    _raise([*_debian(), *_packages(), *_memory()])


def install_packages() -> str:
    """Install what is missing. Returns a sentence; not being root is a LabError with the line to type."""
    _raise(_debian())
    names = missing_packages()
    if not names and _have_lists():
        return "Everything the lab needs is installed."
    if not is_root():
        line = install_line(names) if names else "apt-get update"
        raise LabError(f"This needs root, once. Run as root:\n  {line}")
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-q"], timeout=300, env=env)
    if names:
        run(["apt-get", "install", "--no-install-recommends", "-y", "-q", *names], timeout=900, env=env)
    return f"Installed: {', '.join(names) or 'nothing, but the package lists are fresh'}."


def _raise(problems: list[str]) -> None:
    if problems:
        raise LabError("\n".join(problems))


def _which(program: str) -> str | None:
    return shutil.which(program, path=PATH)


def _debian() -> list[str]:
    if not Path("/etc/debian_version").exists() or shutil.which("apt-get") is None:
        return ["The lab is built from Debian's packages and needs a Debian machine with apt; this is none."]
    if os.uname().machine != "x86_64":
        return [
            f"The lab needs an x86-64 machine, for its packages come from the host's own sources; "
            f"this one is {os.uname().machine}."
        ]
    return []


def _packages() -> list[str]:
    names = missing_packages()
    if names:
        return [
            f"Missing packages: {', '.join(names)}. Run as root: python -m lab install-packages "
            f"(or: {install_line(names)})"
        ]
    if not _have_lists():
        return ["apt has no package lists yet. Run as root: apt-get update"]
    return []


def _have_lists() -> bool:
    done = output(["apt-get", "indextargets", "--format", "$(ORIGIN)", "Created-By: Packages"])
    return "Debian" in done.split()


def _memory() -> list[str]:
    free = memory_free_mib()
    if free < MEMORY_MIB:
        return [
            f"{free} MiB of memory are free; Xen under QEMU needs {MEMORY_MIB} MiB. "
            "End something large and try again."
        ]
    return []


def memory_free_mib() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    raise LabError("/proc/meminfo has no MemAvailable line.")


def _disk() -> list[str]:
    place = cache.folder()
    free = shutil.disk_usage(place).free // (1 << 20)
    if free < DISK_MIB:
        return [
            f"{free} MiB are free where {place} is; the lab needs {DISK_MIB} MiB. "
            "Free some, or set BERTH_LAB_CACHE to a folder on a larger disk."
        ]
    return []
