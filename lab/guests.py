"""What the tests boot: kernels of Debian's, a small ramdisk with a shell on hvc0, and disks of every kind."""

from __future__ import annotations

import gzip
import lzma
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

from lab import cache, cpio, modules, packages
from lab.errors import LabError

MODULES = ["xen-blkfront", "xen-netfront", "crc32c_generic", "ext4", "vfat", "nls_cp437", "nls_ascii"]
READY = b"berth-guest: up"
_HERE = Path(__file__).parent / "guest"


@dataclass(frozen=True)
class Guests:
    """Files of the tests' guests.

    kernel   Debian's amd64 bzImage (payload xz)
    elf      the ELF inside it
    fast     that ELF, gzipped: what xl unpacks in a second, where the xz of `kernel` costs ten under emulation
    cloud    Debian's cloud bzImage (payload lz4)
    ramdisk  busybox with a shell on hvc0, for `kernel` and `elf`
    """

    place: Path

    @property
    def kernel(self) -> Path:
        return self.place / "vmlinuz"

    @property
    def elf(self) -> Path:
        return self.place / "vmlinux"

    @property
    def fast(self) -> Path:
        return self.place / "vmlinux.gz"

    @property
    def cloud(self) -> Path:
        return self.place / "vmlinuz-cloud"

    @property
    def ramdisk(self) -> Path:
        return self.place / "rd.gz"


def guests() -> Guests:
    """Build them unless they are there."""
    names = packages.names()
    tree = packages.unpacked(names.unpacked)
    inputs = {
        "packages": tree.name,
        "modules": MODULES,
        "files": cache.sources("guests.py", "cpio.py", *(f"guest/{p.name}" for p in sorted(_HERE.iterdir()))),
    }

    def make(place: Path) -> None:
        boot = tree / "tree" / "boot"
        made = Guests(place)
        shutil.copy2(boot / f"vmlinuz-{names.kernel}", made.kernel)
        shutil.copy2(boot / f"vmlinuz-{names.cloud_kernel}", made.cloud)
        made.elf.write_bytes(unpack_xz(made.kernel.read_bytes()))
        made.fast.write_bytes(gzip.compress(made.elf.read_bytes(), 6, mtime=0))
        _ramdisk(tree / "tree", names.kernel, made.ramdisk)

    return Guests(cache.kept("guests", inputs, make))


def unpack_xz(image: bytes) -> bytes:
    """The ELF in a bzImage whose payload is xz. Raises LabError for another file."""
    start, end = _payload(image)
    return lzma.decompress(image[start:end])


def with_xz(image: bytes, elf: bytes) -> bytes:
    """The bzImage with another ELF of the same length in it, which must not pack worse than the one that was there.

    The length stays what the code around it was linked with; the kernel's unpacker stops where the stream ends. Packed
    as the kernel's build does (scripts/xz_wrap.sh), only harder. Raises LabError.
    """
    start, end = _payload(image)
    filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 32 << 20}]
    packed = lzma.compress(elf, check=lzma.CHECK_CRC32, filters=filters)
    if len(packed) > end - start:
        raise LabError(f"The ELF packs to {len(packed)} bytes; there is room for {end - start}.")
    return image[:start] + packed.ljust(end - start, b"\0") + image[end:]


def _payload(image: bytes) -> tuple[int, int]:
    """Where the xz stream of a bzImage is (Documentation/arch/x86/boot.rst: fields 0x1f1, 0x248, 0x24c).

    The build puts four bytes with the size of the ELF behind it.
    """
    if image[0x202:0x206] != b"HdrS":
        raise LabError("This is no bzImage.")
    setup = (image[0x1F1] or 4) + 1
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = setup * 512 + offset
    if image[start : start + 6] != b"\xfd7zXZ\0":
        raise LabError("This bzImage's payload is not xz.")
    return start, start + length - 4


def _ramdisk(tree: Path, kernel: str, image: Path) -> None:
    scratch = image.with_name("ramdisk")
    cpio.add_busybox(scratch, _HERE / "rc", init_name="etc/rc")
    (scratch / "init").symlink_to("/bin/busybox")
    for name in ("bin", "sbin"):
        (scratch / "usr" / name).mkdir(parents=True)
    shutil.copy(_HERE / "inittab", scratch / "etc" / "inittab")
    shutil.copy(_HERE / "profile", scratch / "etc" / "profile")
    shutil.copy(_HERE / "crash", scratch / "sbin" / "crash")
    (scratch / "sbin" / "crash").chmod(0o755)
    modules.copy(tree, kernel, MODULES, scratch)
    cpio.pack(scratch, image, level=9)
    shutil.rmtree(scratch)
