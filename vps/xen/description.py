"""The description of a domU: everything that a dom0 must know of it, as an order's body carries it.

`Description.of` reads what came over the wire and believes nothing: names, arguments, sums, sizes, addresses
are checked again on the dom0, for they become paths and configuration there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID

from vps.xen.names import NameRefused, check_arguments, check_domu_name, check_title

MAX_DISKS = 16
MAX_NICS = 8
MAX_ENTRIES = 32

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_BRIDGE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,14}", re.ASCII)
_EXTENSION = re.compile(r"[a-z0-9]{0,8}")


Member = TypeVar("Member", bound=StrEnum)


class DescriptionRefused(ValueError):
    """A description that is incomplete or that holds what may not become a path or configuration."""


class DomainType(StrEnum):
    """How Xen runs the domain."""

    PV = "pv"
    PVH = "pvh"


class BootMethod(StrEnum):
    """Who parses the kernel (DESIGN.md 4)."""

    PVGRUB = "pvgrub"  # the loader, with Berth's boot disk
    OWN_DISK = "own_disk"  # the loader, with the customer's own menu on the customer's own disk
    DIRECT = "direct"  # libxenguest in dom0


class GuestOS(StrEnum):
    """What the guest is; decides device names and default arguments."""

    NETBSD = "netbsd"
    LINUX = "linux"
    SOLARIS = "solaris"
    OTHER = "other"


@dataclass(frozen=True)
class BlobRef:
    """A file by its content. `size` in bytes; the dom0 fetches it from `/agent/blobs/<sha256>`."""

    sha256: str
    size: int

    def as_dict(self) -> dict[str, Any]:
        return {"sha256": self.sha256, "size": self.size}

    @classmethod
    def of(cls, value: Any) -> BlobRef:
        sha256, size = _text(value, "sha256"), _number(value, "size", 1, 2**40)
        if not _SHA256.fullmatch(sha256):
            raise DescriptionRefused(f"{sha256[:80]!r} is not a SHA-256.")
        return cls(sha256, size)


@dataclass(frozen=True)
class DiskSpec:
    """A disk of the domU's own. `index` 0 is the boot disk of the guest (xvda, xbd0, 0x0)."""

    id: UUID
    index: int
    size_mib: int
    backend: str = "file"
    read_only: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": str(self.id),
            "index": self.index,
            "size_mib": self.size_mib,
            "backend": self.backend,
            "read_only": self.read_only,
        }

    @classmethod
    def of(cls, value: Any) -> DiskSpec:
        backend = _text(value, "backend")
        if backend != "file":
            raise DescriptionRefused(f"The disk backend {backend[:40]!r} is not known to this agent.")
        return cls(
            _uuid(value, "id"),
            _number(value, "index", 0, MAX_DISKS - 1),
            _number(value, "size_mib", 1, 64 * 1024 * 1024),
            backend,
            _truth(value, "read_only"),
        )


@dataclass(frozen=True)
class NicSpec:
    """A network interface: its MAC and the bridge of the dom0 that it hangs on."""

    mac: str
    bridge: str

    def as_dict(self) -> dict[str, Any]:
        return {"mac": self.mac, "bridge": self.bridge}

    @classmethod
    def of(cls, value: Any) -> NicSpec:
        mac, bridge = _text(value, "mac"), _text(value, "bridge")
        if not _MAC.fullmatch(mac):
            raise DescriptionRefused(f"{mac[:40]!r} is not a MAC address.")
        if not _BRIDGE.fullmatch(bridge):
            raise DescriptionRefused(f"{bridge[:40]!r} is not the name of a bridge.")
        return cls(mac, bridge)


@dataclass(frozen=True)
class BootEntry:
    """One line of the boot menu. `kernel` is the file that the boot method can read."""

    title: str
    kernel: BlobRef
    ramdisk: BlobRef | None = None
    arguments: str = ""
    label: str = ""  # "my-kernel 3": what pages and logs call the kernel version
    modules: BlobRef | None = None  # a tar archive that the guest finds on the boot disk

    def as_dict(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "kernel": self.kernel.as_dict(),
            "ramdisk": self.ramdisk.as_dict() if self.ramdisk else None,
            "arguments": self.arguments,
            "label": self.label,
            # Only where there are some, so that an entry without them reads as it always did.
            **({"modules": self.modules.as_dict()} if self.modules else {}),
        }

    @classmethod
    def of(cls, value: Any) -> BootEntry:
        ramdisk = _mapping(value).get("ramdisk")
        modules = _mapping(value).get("modules")
        return cls(
            check_title(_text(value, "title")),
            BlobRef.of(_mapping(value).get("kernel")),
            BlobRef.of(ramdisk) if ramdisk is not None else None,
            check_arguments(_text(value, "arguments")),
            _text(value, "label")[:200],
            BlobRef.of(modules) if modules is not None else None,
        )


@dataclass(frozen=True)
class OwnMenu:
    """A line of the menu that hands over to the customer's own menu, on the server's own disk.

    `place`: how many entries stand before it. `default`: it is what boots by itself, and not `Boot.default`.
    """

    title: str
    place: int
    default: bool = False
    arguments: str = field(default="", init=False)
    label: str = field(default="", init=False)

    def as_dict(self) -> dict[str, Any]:
        return {"title": self.title, "place": self.place, "default": self.default}

    @classmethod
    def of(cls, value: Any, entries: int) -> OwnMenu:
        return cls(
            check_title(_text(value, "title")), _number(value, "place", 0, entries), _truth(value, "default")
        )


@dataclass(frozen=True)
class Boot:
    """How the domU boots. `serial` counts the saved menus of this domU; `timeout` in seconds."""

    method: BootMethod
    serial: int
    entries: tuple[BootEntry, ...] = ()
    default: int = 0
    timeout: int = 5
    loader: BlobRef | None = None
    own_menu: OwnMenu | None = None  # with PVGRUB only

    def as_dict(self) -> dict[str, Any]:
        return {
            "method": self.method.value,
            "serial": self.serial,
            "entries": [entry.as_dict() for entry in self.entries],
            "default": self.default,
            "timeout": self.timeout,
            "loader": self.loader.as_dict() if self.loader else None,
            # Only where there is one: agents before 0.3 leave it out of the menu.
            **({"own_menu": self.own_menu.as_dict()} if self.own_menu else {}),
        }

    @property
    def lines(self) -> tuple[BootEntry | OwnMenu, ...]:
        """What the menu shows, in its order."""
        if self.own_menu is None:
            return self.entries
        place = self.own_menu.place
        return (*self.entries[:place], self.own_menu, *self.entries[place:])

    @property
    def default_line(self) -> int:
        """The place, among `lines`, of what boots by itself."""
        if self.own_menu is None:
            return self.default
        if self.own_menu.default:
            return self.own_menu.place
        return self.default + (self.own_menu.place <= self.default)

    @property
    def default_entry(self) -> BootEntry | None:
        """What boots by itself; None where that is the customer's own menu, or nothing."""
        if self.method is BootMethod.OWN_DISK or not self.entries:
            return None
        return None if self.own_menu and self.own_menu.default else self.entries[self.default]

    @property
    def bootable(self) -> bool:
        """Whether there is anything to boot."""
        if self.method is BootMethod.OWN_DISK:
            return self.loader is not None
        return bool(self.entries) and (self.method is BootMethod.DIRECT or self.loader is not None)

    def blobs(self) -> tuple[BlobRef, ...]:
        """Every file that the dom0 needs for it, each once. Modules lie on a boot disk, or nowhere."""
        wanted: dict[str, BlobRef] = {}
        if self.loader and self.method is not BootMethod.DIRECT:
            wanted[self.loader.sha256] = self.loader
        for entry in self.entries:
            wanted[entry.kernel.sha256] = entry.kernel
            if entry.ramdisk:
                wanted[entry.ramdisk.sha256] = entry.ramdisk
            if entry.modules and self.method is not BootMethod.DIRECT:
                wanted[entry.modules.sha256] = entry.modules
        return tuple(wanted.values())

    @classmethod
    def of(cls, value: Any) -> Boot:
        entries = tuple(BootEntry.of(item) for item in _sequence(value, "entries", MAX_ENTRIES))
        loader = _mapping(value).get("loader")
        own_menu = _mapping(value).get("own_menu")
        default = _number(value, "default", 0, MAX_ENTRIES)
        if entries and default >= len(entries):
            raise DescriptionRefused(f"The default entry is {default}, but there are {len(entries)} entries.")
        return cls(
            _member(BootMethod, value, "method"),
            _number(value, "serial", 0, 2**53),
            entries,
            default,
            _number(value, "timeout", 0, 600),
            BlobRef.of(loader) if loader is not None else None,
            OwnMenu.of(own_menu, len(entries)) if own_menu is not None else None,
        )


@dataclass(frozen=True)
class Description:
    """A domU as its dom0 must build it. `memory_mib` in MiB. `id` is the Xen uuid."""

    id: UUID
    name: str
    type: DomainType
    guest_os: GuestOS
    memory_mib: int
    vcpus: int
    disks: tuple[DiskSpec, ...]
    nics: tuple[NicSpec, ...]
    boot: Boot
    autostart: bool = True
    crash_limit: int = 5

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": str(self.id),
            "name": self.name,
            "type": self.type.value,
            "guest_os": self.guest_os.value,
            "memory_mib": self.memory_mib,
            "vcpus": self.vcpus,
            "disks": [disk.as_dict() for disk in self.disks],
            "nics": [nic.as_dict() for nic in self.nics],
            "boot": self.boot.as_dict(),
            "autostart": self.autostart,
            "crash_limit": self.crash_limit,
        }

    @classmethod
    def of(cls, value: Any) -> Description:
        """Read a description from an order's body. Raises DescriptionRefused."""
        try:
            disks = tuple(DiskSpec.of(item) for item in _sequence(value, "disks", MAX_DISKS))
            if len({disk.index for disk in disks}) != len(disks):
                raise DescriptionRefused("Two disks have the same index.")
            if len({disk.id for disk in disks}) != len(disks):
                raise DescriptionRefused("Two disks have the same id, so they would be one file.")
            nics = tuple(NicSpec.of(item) for item in _sequence(value, "nics", MAX_NICS))
            if len({nic.mac for nic in nics}) != len(nics):
                raise DescriptionRefused("Two network interfaces have the same MAC address.")
            return cls(
                _uuid(value, "id"),
                check_domu_name(_text(value, "name")),
                _member(DomainType, value, "type"),
                _member(GuestOS, value, "guest_os"),
                _number(value, "memory_mib", 4, 16 * 1024 * 1024),
                _number(value, "vcpus", 1, 512),
                tuple(sorted(disks, key=lambda disk: disk.index)),
                nics,
                Boot.of(_mapping(value).get("boot")),
                _truth(value, "autostart"),
                _number(value, "crash_limit", 0, 1000),
            )
        except NameRefused as error:
            raise DescriptionRefused(str(error)) from error


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DescriptionRefused("A part of the description is missing or of the wrong form.")
    return value


def _text(value: Any, key: str) -> str:
    text = _mapping(value).get(key)
    if not isinstance(text, str):
        raise DescriptionRefused(f"The description has no text {key!r}.")
    return text


def _number(value: Any, key: str, least: int, most: int) -> int:
    number = _mapping(value).get(key)
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
        raise DescriptionRefused(f"{key} is {str(number)[:40]}; it must be a number from {least} to {most}.")
    return number


def _truth(value: Any, key: str) -> bool:
    truth = _mapping(value).get(key)
    if not isinstance(truth, bool):
        raise DescriptionRefused(f"{key} must be true or false.")
    return truth


def _uuid(value: Any, key: str) -> UUID:
    text = _text(value, key)
    try:
        return UUID(text)
    except ValueError as error:
        raise DescriptionRefused(f"{key} is {text[:60]!r}, which is not a UUID.") from error


def _sequence(value: Any, key: str, most: int) -> Sequence[Any]:
    items = _mapping(value).get(key)
    if not isinstance(items, list) or len(items) > most:
        raise DescriptionRefused(f"{key} must be a list of at most {most}.")
    return items


def _member(kind: type[Member], value: Any, key: str) -> Member:
    text = _text(value, key)
    try:
        return kind(text)
    except ValueError as error:
        known = ", ".join(kind)
        raise DescriptionRefused(f"{key} is {text[:40]!r}; this agent knows {known}.") from error
