"""Kernels that Debian ships, fetched by apt as an ordinary user and kept.

    fetch(["linux-cloud", "xen"]) -> {"linux-cloud": Path(...), "xen": Path(...)}

They are kept in $BERTH_KERNEL_CACHE, else in var/kernels of the tree, so that the network is asked once. Kernels of
i386 come through lists of apt's own kept beside them: the machine itself needs no foreign architecture, and nobody
needs root.

    python -m tests.debian_kernels [NAME ...]     fetch and print where they are
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TREE = Path(__file__).parents[1]


class CannotFetch(Exception):
    """A sentence: which kernel, and why."""


@dataclass(frozen=True)
class Source:
    """`package`: a name, or a pattern of which the newest is taken; `file`: a pattern of the path in the package."""

    package: str
    file: str
    architecture: str = "amd64"


SOURCES = {
    "linux-amd64": Source("linux-image-amd64", r"./boot/vmlinuz-.*"),
    "linux-cloud": Source("linux-image-cloud-amd64", r"./boot/vmlinuz-.*"),
    "linux-cloud-newer": Source(r"linux-image-6\.1[0-9]\.[0-9]+.*-cloud-amd64", r"./boot/vmlinuz-.*"),
    "linux-686-pae": Source("linux-image-686-pae", r"./boot/vmlinuz-.*", "i386"),
    "linux-686": Source("linux-image-686", r"./boot/vmlinuz-.*", "i386"),
    "grub-x86_64": Source("grub-xen-host", r"./usr/lib/grub-xen/grub-x86_64-xen\.bin"),
    "grub-i386": Source("grub-xen-host", r"./usr/lib/grub-xen/grub-i386-xen\.bin"),
    "grub-pvh": Source("grub-xen-host", r"./usr/lib/grub-xen/grub-i386-xen_pvh\.bin"),
    "gnumach-xen": Source("gnumach-image-1.8-xen-486", r"./boot/gnumach-.*\.gz"),
    "gnumach-xen-i386": Source("gnumach-image-1.8-xen-486", r"./boot/gnumach-.*\.gz", "i386"),
    "gnumach": Source("gnumach-image-1.8-486", r"./boot/gnumach-.*\.gz"),
    "xen": Source(r"xen-hypervisor-4\.[0-9]+-amd64", r"./boot/xen-.*\.gz"),
    "xen-efi": Source(r"xen-hypervisor-4\.[0-9]+-amd64", r"./boot/xen-.*\.efi"),
}


def cache() -> Path:
    return Path(os.environ.get("BERTH_KERNEL_CACHE") or TREE / "var" / "kernels")


def fetch(names: Iterable[str]) -> dict[str, Path]:
    """Paths of these kernels (keys of SOURCES). Raises CannotFetch."""
    return {name: _kept(name) or _fetched(name) for name in names}


def _kept(name: str) -> Path | None:
    folder = cache() / name
    return (
        next((path for path in sorted(folder.glob("*")) if path.is_file()), None) if folder.is_dir() else None
    )


def _fetched(name: str) -> Path:
    source = SOURCES[name]
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache(), prefix=".fetch-") as scratch:
        apt = _Apt(source.architecture)
        deb = apt.download(apt.package(source.package, name), Path(scratch), name)
        kernel = _unpacked(deb, source.file, name)
        folder = cache() / name
        folder.mkdir(exist_ok=True)
        return kernel.rename(folder / kernel.name)


class _Apt:
    """apt's commands, for this machine's architecture or, with lists of our own, for another."""

    def __init__(self, architecture: str) -> None:
        self._options: list[str] = []
        if architecture != _run("dpkg", "--print-architecture").strip():
            own = cache() / f".apt-{architecture}"
            for folder in ("lists/partial", "cache/archives/partial"):
                (own / folder).mkdir(parents=True, exist_ok=True)
            (own / "status").touch()
            for option in (
                f"APT::Architecture={architecture}",
                f"APT::Architectures::={architecture}",
                f"Dir::State={own}",
                f"Dir::State::status={own / 'status'}",
                f"Dir::Cache={own / 'cache'}",
                "Acquire::Languages=none",
            ):
                self._options += ["-o", option]
            if not list((own / "lists").glob("*_Packages*")):
                self._update(own)

    def _update(self, own: Path) -> None:
        try:
            self.run("apt-get", "update", "-qq")
        except CannotFetch:
            # One of several archives may be without this architecture, or in the middle of an update.
            if not list((own / "lists").glob("*_Packages*")):
                raise

    def run(self, command: str, *arguments: str, folder: Path | None = None) -> str:
        return _run(command, *self._options, *arguments, folder=folder)

    def package(self, wanted: str, name: str) -> str:
        """The package of that name; the newest that matches; what a meta package stands for."""
        if "\\" in wanted:
            known = self.run("apt-cache", "pkgnames").split()
            found = [package for package in known if re.fullmatch(wanted, package)]
            if not found:
                raise CannotFetch(f"{name}: apt knows no package {wanted} (apt-get update may help)")
            return max(found, key=_version)
        shown = self.run("apt-cache", "show", "--no-all-versions", wanted)
        if wanted.startswith("linux-image-"):
            match = re.search(r"^Depends:.*?(linux-image-[0-9][^ ,]*)", shown, re.MULTILINE)
            if match:
                return match[1]
        return wanted

    def download(self, package: str, folder: Path, name: str) -> Path:
        self.run("apt-get", "download", "-qq", package, folder=folder)
        debs = list(folder.glob("*.deb"))
        if not debs:
            raise CannotFetch(f"{name}: apt-get download {package} brought nothing")
        return debs[0]


def _version(package: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", package)]


def _unpacked(deb: Path, pattern: str, name: str) -> Path:
    """The one wanted file of a package. The rest, with hundreds of megabytes of modules, stays packed."""
    tar = deb.with_suffix(".tar")
    with tar.open("wb") as out:
        subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], check=True, stdout=out, timeout=300)
    members = _run("tar", "-tf", str(tar)).splitlines()
    found = [member for member in members if re.fullmatch(pattern, member)]
    if not found:
        raise CannotFetch(f"{name}: {deb.name} has no file {pattern}")
    _run("tar", "-xf", str(tar), "-C", str(deb.parent), found[0])
    return deb.parent / found[0]


def _run(*command: str, folder: Path | None = None) -> str:
    if not shutil.which(command[0]):
        raise CannotFetch(f"there is no {command[0]} here: Debian's kernels are fetched on Debian")
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired:
        raise CannotFetch(f"{command[0]} took more than 10 minutes") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word why"])[-1]
        raise CannotFetch(f"{' '.join(command[:1] + command[-2:])}: {last}")
    return done.stdout


def main(names: list[str]) -> int:
    for name in names or list(SOURCES):
        try:
            print(f"{name}\t{fetch([name])[name]}")
        except (CannotFetch, KeyError) as error:
            print(f"{name}\t{error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
