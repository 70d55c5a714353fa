"""Who a kernel is: operating system, release, configuration, what it is for, and what was built in.

NetBSD: .note.netbsd.ident (owner NetBSD, type 1, `__NetBSD_Version__`; sys/param.h), the version string
`NetBSD 10.1 (XEN3_DOMU)`, and `_CFG_` lines where the configuration is embedded (options(4), INCLUDE_CONFIG_FILE).
Xen's notes never tell the release, and are the same for dom0 and domU.
"""

from __future__ import annotations

import re

from vps.xen.inspect.elf import SHT_NOTE, Elf, Section
from vps.xen.inspect.verdicts import Role
from vps.xen.inspect.xennotes import Parameters

FEATURES = ("npf", "ipsec", "xpci", "multiprocessor")
SYMBOLS_LIMIT = 16 << 20
OPTIONS_LIMIT = 160 << 10  # bytes of a report, of which a reader takes 256 KiB
CONFIG_LIMIT = 1 << 20

# Read at the first places where their fixed beginning stands, and not tried everywhere: a hostile file costs no more.
_NETBSD_VERSION = re.compile(rb"NetBSD (\d{1,2}\.\d{1,2}[0-9A-Za-z._]{0,24}) \(([A-Za-z0-9_.+-]{1,64})\)")
_LINUX_VERSION = re.compile(rb"Linux version ([!-~]{1,64}) [ -~]{0,400}")
_HYPERVISOR = re.compile(rb"Xen version %d\.%d%s \(%s")
_CONFIG_NAME = re.compile(r'### START CONFIG FILE "([A-Za-z0-9_.+-]{1,64})"')
PLACES = 64

_DOM0_SYMBOLS = frozenset((b"xbdbackattach", b"xvifattach", b"xenevtattach", b"xenprivcmd_init"))
_FEATURE_SYMBOLS = {
    "npf": frozenset((b"npfattach", b"npf_pfil_register", b"npfctl_load")),
    "ipsec": frozenset((b"ipsec_init", b"ipsecattach", b"ipsec_attach", b"ipsec4_output")),
    "xpci": frozenset((b"xpci_xenbus_attach", b"xpci_enumerate_bus", b"xpci_cd", b"xpci_ca")),
    "multiprocessor": frozenset((b"cpu_hatch", b"mp_cpu_start", b"xen_ipi_init")),
}
_LINUX_OPTIONS = {
    "ipsec": b"CONFIG_INET_ESP",
    "xpci": b"CONFIG_XEN_PCIDEV_FRONTEND",
    "multiprocessor": b"CONFIG_SMP",
}

_SYSTEMS = {
    b"netbsd": "NetBSD",
    b"linux": "Linux",
    b"grub": "GRUB",
    b"gnu mach": "GNU Mach",
    b"freebsd": "FreeBSD",
    b"openbsd": "OpenBSD",
    b"solaris": "Solaris",
}


class Identity:
    def __init__(self, guest_os: str | None = None, release: str | None = None) -> None:
        self.guest_os = guest_os
        self.release = release
        self.configuration: str | None = None
        self.role = Role.UNKNOWN
        self.hypervisor = False
        self.features: dict[str, bool | None] = dict.fromkeys(FEATURES)
        self.options: list[str] = []


def identify(elf: Elf, said: Parameters | None, setup_banner: str = "") -> Identity:
    """From the kernel itself; `setup_banner` is what a bzImage's setup code says of it."""
    found = Identity(guest_os=_system(said.guest_os) if said else None)
    version = _ident_note(elf)
    if version is not None or found.guest_os == "NetBSD":
        found.guest_os = "NetBSD"
        _netbsd(elf, version, found)
    elif setup_banner or found.guest_os == "Linux":
        _linux(elf, found, setup_banner)
    elif found.guest_os in ("GRUB", "Mini-OS"):
        found.role = Role.LOADER
    elif found.guest_os is None:
        _nameless(elf, found, said)
    elif found.guest_os:
        found.role = Role.DOMU
    return found


def _system(name: bytes) -> str | None:
    """Xen's GUEST_OS as people write it; an unknown one as it is, printable characters alone."""
    low = name.lower()
    if low.startswith(b"mini-os"):
        return "Mini-OS"
    known = _SYSTEMS.get(low)
    return known or "".join(chr(byte) for byte in name if 32 <= byte < 127) or None


def _nameless(elf: Elf, found: Identity, said: Parameters | None) -> None:
    """Kernels that give no GUEST_OS: PVH-only Linux, GRUB for PVH, the hypervisor, and what is not for Xen."""
    if elf.section_named(b"mods") is not None and re.search(rb"Welcome to GRUB!", elf.view):
        found.guest_os, found.role = "GRUB", Role.LOADER
    elif is_hypervisor(elf.view):
        found.guest_os, found.hypervisor = "Xen", True
    elif _first(b"Linux version ", _LINUX_VERSION, elf.view):
        _linux(elf, found, "")
    elif _first(b"NetBSD ", _NETBSD_VERSION, elf.view):
        found.guest_os = "NetBSD"
        _netbsd(elf, None, found)
    elif said is not None and said.anything:
        found.role = Role.DOMU


def is_hypervisor(view: memoryview) -> bool:
    """Xen's own banner. NetBSD has a shorter one, for the line in which it greets Xen."""
    return _HYPERVISOR.search(view) is not None


def _first(beginning: bytes, pattern: re.Pattern[bytes], view: memoryview) -> re.Match[bytes] | None:
    """The pattern's first match at one of the first PLACES of its beginning."""
    for number, place in enumerate(re.finditer(re.escape(beginning), view)):
        match = pattern.match(view, place.start())
        if match or number == PLACES:
            return match
    return None


def _ident_note(elf: Elf) -> int | None:
    """`__NetBSD_Version__`, from any note area: the section may lie outside of the segments."""
    areas = [(segment.offset, segment.filesz) for segment in elf.segments if segment.kind == 4][:64]
    areas += [(section.offset, section.size) for section in elf.sections if section.kind == SHT_NOTE][:64]
    for start, size in areas:
        data = bytes(elf.view[start : start + min(size, 65536)]) if start < len(elf.view) else b""
        # namesz 7, descsz 4, type 1, "NetBSD" with its NUL and one byte of padding
        at = data.find(b"\x07\0\0\0\x04\0\0\0\x01\0\0\0NetBSD\0\0")
        if at >= 0 and at + 24 <= len(data):
            return int.from_bytes(data[at + 20 : at + 24], "little")
    return None


def netbsd_release(version: int) -> str:
    """`__NetBSD_Version__`, MMmmrrpp00, as a release: 799000400 is "7.99.4", 1001000000 is "10.1"."""
    major, minor, patch = version // 100_000_000, version // 1_000_000 % 100, version // 100 % 100
    return f"{major}.{minor}" + (f".{patch}" if patch else "")


def _netbsd(elf: Elf, version: int | None, found: Identity) -> None:
    release = netbsd_release(version) if version else None
    match = _first(b"NetBSD ", _NETBSD_VERSION, elf.view)
    if match:
        text = match[1].decode()
        # The string also says 10.1_STABLE or 10.0_RC1; but where it contradicts the note it is somebody else's.
        release = text if release is None or text.startswith(release) else release
        found.configuration = match[2].decode()
    found.release = release
    config = _embedded(elf)
    if config and found.configuration is None:
        name = _CONFIG_NAME.search(config[0])
        found.configuration = name[1] if name else None
    found.options = _few_enough([" ".join(line.split("#", 1)[0].split()) for line in config])
    symbols = _symbols(elf)
    found.role = _netbsd_role(found.configuration or "", config, symbols)
    found.features = {name: _built_in(name, config, symbols) for name in FEATURES}


def _netbsd_role(configuration: str, config: list[str], symbols: set[bytes] | None) -> Role:
    """In order of strength: the configuration's name, its options, the symbols."""
    name = configuration.upper()
    if "DOM0" in name:
        return Role.DOM0
    if name.startswith("INSTALL"):
        return Role.INSTALLER
    if "DOMU" in name or name.startswith("GENERIC"):
        return Role.DOMU
    if config:
        return Role.DOM0 if _option(config, "DOM0OPS") else Role.DOMU
    if symbols:
        return Role.DOM0 if symbols & _DOM0_SYMBOLS else Role.DOMU
    return Role.UNKNOWN


def _embedded(elf: Elf) -> list[str]:
    """The lines of the embedded configuration, the one that names it first; none when there is no such."""
    match = re.search(rb'_CFG_### START CONFIG FILE "', elf.view)
    if match is None:
        return []
    area = bytes(elf.view[match.start() : match.start() + CONFIG_LIMIT])
    return [line.decode("ascii", "replace") for line in re.findall(rb"_CFG_([^\0\n]{0,400})", area)]


def _option(config: list[str], name: str) -> bool:
    """Whether `options NAME` stands there, and no `no options NAME` behind it."""
    state = False
    for line in config:
        words = line.split("#", 1)[0].replace(",", " ").split()
        negated = words[:1] == ["no"]
        words = words[1:] if negated else words
        if words[:1] in (["options"], ["option"]) and name in (word.split("=")[0] for word in words[1:]):
            state = not negated
    return state


def _built_in(name: str, config: list[str], symbols: set[bytes] | None) -> bool | None:
    if config:
        match name:
            case "npf":
                return any(line.split()[:2] == ["pseudo-device", "npf"] for line in config)
            case "xpci":
                return any(re.match(r"[ \t]*xpci\S*[ \t]+at[ \t]", line) for line in config)
            case _:
                return _option(config, name.upper())
    if symbols:
        return bool(symbols & _FEATURE_SYMBOLS[name])
    return None


def _symbols(elf: Elf) -> set[bytes] | None:
    """Names that matter of the string table of the symbols; None when the kernel is stripped."""
    table = elf.symbol_table
    if table is None:
        return None
    strings: Section = elf.sections[table.link] if table.link < len(elf.sections) else table
    names = bytes(elf.content(strings, SYMBOLS_LIMIT))
    wanted = _DOM0_SYMBOLS.union(*_FEATURE_SYMBOLS.values(), (b"main",))
    found = {name for name in wanted if b"\0" + name + b"\0" in names}
    # Without `main` it is not the kernel's whole table, and absence says nothing.
    return found if b"main" in found else None


def _linux(elf: Elf, found: Identity, setup_banner: str) -> None:
    found.guest_os, found.role = "Linux", Role.DOMU
    banner = setup_banner
    if banner:
        found.release = banner.split(" ", 1)[0][:64] or None
    else:
        match = _first(b"Linux version ", _LINUX_VERSION, elf.view)
        if match:
            found.release = match[1].decode()
            banner = match[0].decode()
    if banner:
        found.features["multiprocessor"] = " SMP " in banner + " "
    config = _linux_config(elf)
    if config:
        for name, option in _LINUX_OPTIONS.items():
            found.features[name] = re.search(rb"^" + option + rb"=[ym]$", config, re.MULTILINE) is not None
        found.options = _few_enough(
            [
                line.decode("ascii", "replace")
                for line in re.findall(rb"^CONFIG_(\w+=.{1,200})$", config, re.MULTILINE)
            ]
        )


def _few_enough(lines: list[str]) -> list[str]:
    """The lines that say something and can be shown; none at all when they are too many to be told of."""
    kept = [line for line in lines if line and line.isprintable()]
    return kept if sum(len(line) + 4 for line in kept) <= OPTIONS_LIMIT else []


def _linux_config(elf: Elf) -> bytes:
    """What CONFIG_IKCONFIG keeps (kernel/configs.c of Linux): a gzip file between two marks."""
    section = elf.section_named(b".rodata")
    view = elf.content(section, len(elf.view)) if section else elf.view
    match = re.search(rb"IKCFG_ST\x1f\x8b", view)
    if match is None:
        return b""
    from vps.xen.inspect.streams import StreamError, unpack
    from vps.xen.inspect.verdicts import Compression

    start = match.start() + 8
    try:
        return bytes(unpack(Compression.GZIP, view[start : start + CONFIG_LIMIT], CONFIG_LIMIT).view)
    except StreamError:
        return b""
