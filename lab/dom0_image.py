"""Dom0: a Debian tree of packages, the lab's own files over it, and a disk image of both."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from lab import cache, cpio, modules, packages
from lab.commands import run
from lab.keys import Keys, keys
from lab.prerequisites import is_root
from lab.wheels import wheel, wheels

DISK_GIB = 6
MODULES = [
    *["xen-evtchn", "xen-gntdev", "xen-gntalloc", "xen-privcmd", "xenfs", "xen-blkback", "xen-netback"],
    *["loop", "bridge", "virtio_pci", "virtio_blk", "virtio_net", "ext4", "dm-mod", "nbd", "tun"],
]
_INITRD_MODULES = ["virtio_pci", "virtio_blk", "ext4", "crc32c_generic"]
_FILES = {  # place in dom0: (file of this package, mode)
    "sbin/lab-init": ("lab-init", 0o755),
    "usr/local/sbin/lab-reboot": ("lab-reboot", 0o755),
    "usr/local/sbin/lab-agent": ("lab-agent", 0o755),
    "etc/ssh/sshd_config": ("sshd_config", 0o644),
}
_HERE = Path(__file__).parent / "dom0"
_INPUTS = ["initramfs-init", *(name for name, _ in _FILES.values())]
_ASSEMBLE = """
set -e
mkdir tree
tar -C tree --numeric-owner --exclude='./dev/*' -xf "$1"
tar -C tree --numeric-owner -xf overlay.tar
if [ "$(id -u)" = 0 ] && [ -z "$FAKEROOTKEY" ]; then
    mknod -m 666 tree/dev/null c 1 3
    cp "$3" tree/root/
    chroot tree /opt/berth/bin/pip --quiet --disable-pip-version-check --no-cache-dir install --no-index --no-deps \
        "/root/${3##*/}"
fi
mke2fs -q -t ext4 -L lab-dom0 -d tree dom0.img "$2"
rm -rf tree overlay.tar
"""


@dataclass(frozen=True)
class Dom0:
    """Files that QEMU starts from, and the digest of everything they were made from."""

    xen: Path
    kernel: Path
    initrd: Path
    disk: Path
    digest: str


def package_list(names: packages.Names) -> list[str]:
    return [
        *[f"xen-utils-{names.xen}", "xenstore-utils", "bridge-utils", "iproute2", "python3", "python3-venv"],
        *[
            "kmod",
            "udev",
            "procps",
            "e2fsprogs",
            "dosfstools",
            "openssh-server",
            "ca-certificates",
            "netcat-openbsd",
        ],
    ]


_RECIPE = [
    *["mmdebstrap", "--quiet", "--variant=minbase", "--aptopt=Acquire::Languages none"],
    *["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"],
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    '--customize-hook=mkdir -p "$1/opt/wheels"',
    "--customize-hook=sync-in WHEELS /opt/wheels",
    '--customize-hook=chroot "$1" python3 -m venv /opt/berth',
    '--customize-hook=chroot "$1" /opt/berth/bin/pip --disable-pip-version-check --quiet install --no-index '
    "--find-links /opt/wheels --require-hashes --requirement /opt/wheels/requirements.txt",
    '--customize-hook=rm -rf "$1/opt/wheels"',
]


def base() -> Path:
    """root.tar: the packages of dom0 and the agent's dependencies in /opt/berth (not the agent itself)."""
    listed = package_list(packages.names())
    sources = packages.sources_list()
    local = wheels()
    inputs = {
        "packages": packages.candidates(listed),
        "sources": sources,
        "wheels": local.name,
        "recipe": _RECIPE,
    }

    def make(place: Path) -> None:
        (place / "sources.list").write_text(sources)
        recipe = [word.replace("WHEELS", str(local)) for word in _RECIPE]
        ends = [packages.release(), place / "root.tar", place / "sources.list"]
        run([*recipe, f"--include={','.join(listed)}", *ends], timeout=1200)

    return cache.kept("base", inputs, make) / "root.tar"


def dom0() -> Dom0:
    """Everything that QEMU needs to start Xen, built unless it is there."""
    names = packages.names()
    tree = packages.unpacked(names.unpacked)
    root = base()
    own = keys()
    built = wheel()
    inputs = {
        "wheel": built.parent.name,
        "base": root.parent.name,
        "packages": tree.name,
        "keys": own.public,
        "files": cache.sources(
            "dom0_image.py", "cpio.py", "modules.py", *(f"dom0/{name}" for name in _INPUTS)
        ),
    }

    def make(place: Path) -> None:
        _overlay(tree / "tree", names, own, place)
        fake = [] if is_root() else ["fakeroot", "--"]
        run([*fake, "sh", "-c", _ASSEMBLE, "sh", root, f"{DISK_GIB}G", built], timeout=600, cwd=place)
        _initrd(tree / "tree", names, place)
        shutil.copy2(tree / "tree" / "boot" / f"vmlinuz-{names.kernel}", place / "vmlinuz")
        with gzip.open(tree / "tree" / "boot" / f"xen-{names.xen}-amd64.gz") as packed:
            (place / "xen").write_bytes(packed.read())

    place = cache.kept("dom0", inputs, make)
    return Dom0(
        place / "xen", place / "vmlinuz", place / "initrd.img", place / "dom0.img", cache.digest(inputs)
    )


def _overlay(tree: Path, names: packages.Names, own: Keys, place: Path) -> None:
    scratch = place / "modules"
    modules.copy(tree, names.kernel, MODULES, scratch)
    with tarfile.open(place / "overlay.tar", "w") as tar:
        for target, (name, mode) in _FILES.items():
            _add(tar, target, (_HERE / name).read_bytes(), mode)
        _add(tar, "etc/ssh/lab_host_key", own.host.read_bytes(), 0o600)
        _add(tar, "etc/ssh/lab_authorized_keys", own.public.encode(), 0o644)
        _add(tar, "etc/hosts", b"127.0.0.1 localhost lab\n10.0.2.2 host\n", 0o644)
        _add(tar, "etc/hostname", b"lab\n", 0o644)
        for path in sorted((scratch / "lib" / "modules").rglob("*")):
            if path.is_file():
                # Debian's /lib is a link to /usr/lib: a member below lib/ would replace it.
                _add(tar, f"usr/{path.relative_to(scratch)}", path.read_bytes(), 0o644)
    shutil.rmtree(scratch)


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    tar.addfile(member, io.BytesIO(data))


def _initrd(tree: Path, names: packages.Names, place: Path) -> None:
    scratch = place / "initrd"
    cpio.add_busybox(scratch, _HERE / "initramfs-init")
    modules.copy(tree, names.kernel, _INITRD_MODULES, scratch)
    cpio.pack(scratch, place / "initrd.img")
    shutil.rmtree(scratch)
