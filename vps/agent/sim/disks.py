"""Disk and vif specifications, in the forms that xl takes (xen: tools/libs/util/libxlu_disk_l.l)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vps.agent.sim.config import ConfigError

_FORMATS = ("", "raw", "qcow", "qcow2", "vhd", "empty", "qed")
_PREFIX = re.compile(r"(?:(?:file|phy|tap2?|aio|tapdisk|ioemu|raw|qcow2?|vhd|iscsi|e?nbd|drbd):)+")
_WORDS = ("cdrom", "direct-io-safe", "discard", "no-discard", "trusted", "untrusted", "grant_usage")


@dataclass(frozen=True)
class Disk:
    """A disk of a domain. `target` is a path in dom0, `device` the text of its vdev."""

    target: str
    device: str
    writable: bool
    cdrom: bool = False


@dataclass(frozen=True)
class Nic:
    """A network interface: `mac` (as written) and `bridge` may be empty, as in `vif = ['']`."""

    mac: str
    bridge: str


def parse_disk(spec: str, source: str) -> Disk:
    """Parse one string of `disk`. Raises ConfigError with xl's words."""

    def fail(why: str, near: str | None = None) -> None:
        place = f"near `{near}' " if near is not None else ""
        where = f": {place}in `{spec}'" if near is not None else f" in `{spec}'"
        raise ConfigError(f"{source}: config parsing error in disk specification: {why}{where}")

    given: dict[str, str] = {}
    rest, prefixed = spec.strip(), False
    while rest:
        if rest.startswith("target="):
            given["target"], rest = rest[7:], ""
            continue
        word, _, after = rest.partition(",")
        word = word.strip()
        name, equals, value = word.partition("=")
        if match := None if equals or "target" in given else _PREFIX.match(word):
            prefixed, word = True, word[match.end() :]
        elif not equals and "target" not in given and re.match(r"[a-z][a-z0-9]*:", word):
            fail("unknown deprecated disk prefix", word[: word.index(":") + 1])
        if equals and name == "format":
            given["format"] = _among(value, _FORMATS, "format", fail)
        elif equals and name == "access":
            given["access"] = _among(value, ("r", "ro", "w", "rw", ""), "access", fail)
        elif equals and name == "devtype":
            given["cdrom"] = "1" if _among(value, ("cdrom", "disk"), "type", fail) == "cdrom" else ""
        elif equals and name in ("vdev", "script", "backend", "backendtype", "specification"):
            given[name] = value
        elif equals:
            fail("unknown parameter", f"{name}={value[:1]}{',' if after else ''}")
        elif word in _WORDS:
            given[word] = "1"
        elif "target" not in given:
            given["target"] = word
        elif not prefixed and "format" not in given:
            given["format"] = _among(word, _FORMATS, "format", fail)
        elif "vdev" not in given:
            given["vdev"], _, kind = word.partition(":")
            given["cdrom"] = "1" if kind == "cdrom" else given.get("cdrom", "")
        elif "access" not in given:
            given["access"] = _among(word, ("r", "ro", "w", "rw", ""), "access", fail)
        else:
            fail("too many positional parameters", word)
        rest = after.lstrip()
    if not given.get("vdev"):
        fail("no vdev specified")
    cdrom = bool(given.get("cdrom"))
    if not given.get("target") and not cdrom:
        fail("no target specified (and device not removable)")
    writable = given.get("access", "w") in ("w", "rw", "") and not cdrom
    return Disk(given.get("target", ""), given["vdev"], writable, cdrom)


def _among(value: str, known: tuple[str, ...], what: str, fail: object) -> str:
    if value not in known:
        assert callable(fail)
        fail(f"unknown value for {what}", value)
    return value


def parse_nic(spec: str) -> Nic:
    """Parse one string of `vif`. Raises ConfigError with xl's words."""
    given: dict[str, str] = {}
    for part in spec.split(","):
        if not part.strip():
            continue
        name, equals, value = part.strip().partition("=")
        if not equals:
            raise ConfigError(f"Unrecognized vif parameter: {part.strip()}")
        given[name.strip()] = value.strip()
    # xl 4.17 takes whatever it cannot read as a MAC, and gives one out itself (recorded).
    return Nic(given.get("mac", "").lower(), given.get("bridge", ""))


def disk_number(device: str) -> int | None:
    """Where a vdev stands among the disks: xvda, sda, hda, d0, 0x0, 0xca00 … (None when xl knows no such)."""
    if match := re.fullmatch(r"(?:xvd|sd|hd|vd)([a-z])(\d*)", device):
        return ord(match[1]) - ord("a")
    if match := re.fullmatch(r"d(\d+)(?:p\d+)?", device):
        return int(match[1])
    if not re.fullmatch(r"0[xX][0-9a-fA-F]+|\d+", device):
        return None
    number = int(device, 0)
    if number >> 28 == 1:  # the extended numbering of Xen: 1 << 28 | disk << 8 | partition
        return number >> 8 & 0xFFFFF
    major, minor = number >> 8, number & 0xFF
    if major == 202 or major == 8:
        return minor >> 4
    if major in (3, 22):
        return (2 if major == 22 else 0) + (minor >> 6)
    return number  # NetBSD's 0x0, 0x1
