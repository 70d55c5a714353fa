"""Debian packages that are unpacked, not installed: the hypervisor, the kernels, GRUB's modules for Xen."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from lab import cache
from lab.commands import output, run
from lab.errors import LabError

_URI = re.compile(r"^'(?P<uri>[^']+)' (?P<file>\S+\.deb) (?P<size>\d+) ?(?P<sum>\S*)$")
# Runs as whoever started the lab: the sandbox user _apt cannot write into a private folder.
_APT_GET = ["apt-get", "-o", "APT::Sandbox::User=root", "-q"]


@dataclass(frozen=True)
class Names:
    """Package names of this Debian release."""

    xen: str  # "4.17"
    kernel: str  # "6.1.0-56-amd64"
    cloud_kernel: str

    @property
    def unpacked(self) -> list[str]:
        return [
            f"xen-hypervisor-{self.xen}-amd64",
            f"linux-image-{self.kernel}",
            f"linux-image-{self.cloud_kernel}",
            "grub-xen-bin",
            "grub-xen-host",
        ]


def names() -> Names:
    """What the metapackages of the host's release stand for."""
    return Names(
        xen=_depends("xen-system-amd64", r"xen-utils-(\d[\d.]*)"),
        kernel=_depends("linux-image-amd64", r"linux-image-(\d\S*-amd64)"),
        cloud_kernel=_depends("linux-image-cloud-amd64", r"linux-image-(\d\S*-cloud-amd64)"),
    )


def _apt(*argv: str) -> str:
    """Apt's answer, remembered until its package lists change: each question costs it seconds."""
    seen = {path.name: path.stat().st_mtime_ns for path in Path("/var/lib/apt/lists").glob("*_*")}
    key = cache.digest([argv, seen])
    memory = cache.folder() / "apt-answers.json"
    known: dict[str, str] = json.loads(memory.read_text()) if memory.exists() else {}
    if key not in known:
        known = {**dict(list(known.items())[-20:]), key: output(argv)}
        memory.write_text(json.dumps(known))
    return known[key]


def _depends(package: str, pattern: str) -> str:
    text = _apt("apt-cache", "depends", package)
    found = re.search(rf"Depends: {pattern}\s*$", text, re.MULTILINE)
    if not found:
        raise LabError(f"apt knows no {package} that fits. Run as root: apt-get update")
    return found[1]


def candidates(packages: list[str]) -> dict[str, str]:
    """File name, with version, and checksum of what apt would download."""
    text = _apt(*_APT_GET, "download", "--print-uris", *packages)
    found = {
        m["file"].split("_")[0]: f"{m['file']} {m['sum']}"
        for line in text.splitlines()
        if (m := _URI.match(line))
    }
    for package in packages:
        if package not in found:
            raise LabError(f"apt cannot download {package}. Run as root: apt-get update")
    return found


def unpacked(packages: list[str]) -> Path:
    """A folder `tree/` with the contents of all these packages."""

    def make(place: Path) -> None:
        debs = place / "debs"
        debs.mkdir()
        run([*_APT_GET, "download", *packages], timeout=900, cwd=debs)
        for deb in sorted(debs.glob("*.deb")):
            run(["dpkg", "-x", deb, place / "tree"], timeout=300)
            deb.unlink()

    return cache.kept("packages", candidates(packages), make)


def sources_list() -> str:
    """The host's Debian sources as sources.list lines, for dom0's tree; other vendors' are left out."""
    form = "$(SITE)\t$(RELEASE)\t$(COMPONENT)\t$(ORIGIN)"
    lines = []
    for row in _apt("apt-get", "indextargets", "--format", form, "Created-By: Packages").splitlines():
        site, release, component, origin = row.split("\t")
        if origin == "Debian":
            lines.append(f"deb {site} {release} {component}")
    if not lines:
        raise LabError("apt has no Debian package lists. Run as root: apt-get update")
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))


def release() -> str:
    """Code name of the host's Debian release."""
    for line in Path("/etc/os-release").read_text().splitlines():
        key, _, value = line.partition("=")
        if key == "VERSION_CODENAME":
            return value.strip('"')
    raise LabError("/etc/os-release has no VERSION_CODENAME.")
