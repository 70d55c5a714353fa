"""The domain configuration file, for xl and for xm; and reading such a file.

Format: xen: docs/man/xl.cfg.5.pod.in, xl-disk-configuration.5.pod.in, xl-network-configuration.5.pod.in;
for xm the HOWTO, "Creating specific unprivileged domains". Inside a disk or vif spec nothing is quoted,
therefore commas, `=` and spaces are refused there (XEN-FACTS 5). Rendering refuses, it never repairs.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from vps.xen.description import (
    BootMethod,
    Description,
    DescriptionRefused,
    DiskSpec,
    DomainType,
)
from vps.xen.devices import BOOT_DISK_VDEV, DeviceRefused, disk_device, xm_vdev
from vps.xen.refused import RenderRefused
from vps.xen.version import Dialect

__all__ = [
    "ConfigUnreadable",
    "Dialect",
    "DomainFiles",
    "HostQuirks",
    "RenderRefused",
    "config_diff",
    "parse",
    "render",
]

MAX_PATH = 1024

# What a path may consist of: nothing that xl, xm, a disk spec or Xen's shell scripts give a meaning to.
_PATH = re.compile(r"(/[A-Za-z0-9._+@-]+)+", re.ASCII)


@dataclass(frozen=True)
class DomainFiles:
    """Where the parts of a domU lie on its dom0; all paths are absolute.

    `kernel` is the loader, or with direct boot the domU's own named copy of its kernel. `disks` are the
    domU's own disks with their files, `boot_disk` is Berth's (None with direct boot).
    """

    kernel: str
    ramdisk: str | None
    disks: tuple[tuple[DiskSpec, str], ...]
    boot_disk: str | None


@dataclass(frozen=True)
class HostQuirks:
    """What a dom0 needs beyond the rule. `tsc_native`: PVH under nested emulation (LAB-FACTS)."""

    tsc_native: bool = False


def render(
    description: Description,
    files: DomainFiles,
    dialect: Dialect = Dialect.XL,
    quirks: HostQuirks | None = None,
) -> str:
    """The text of the configuration file. Raises RenderRefused.

    All endings are `destroy`: what happens then is the agent's, for xl's own restarts have no brake.
    """
    _check(description, files, dialect)
    lines = [
        f"# Berth, domU {description.id}, menu {description.boot.serial}. "
        "Berth writes this file anew; what is changed here is lost.",
        _setting("name", description.name),
        _setting("uuid", str(description.id)),
    ]
    if dialect is Dialect.XL:
        lines.append(_setting("type", description.type.value))
    lines.append(_setting("kernel", _path(files.kernel, "kernel")))
    if files.ramdisk is not None:
        lines.append(_setting("ramdisk", _path(files.ramdisk, "ramdisk")))
    arguments = _arguments(description)
    if arguments:
        # Both tools know `extra`; xl's newer `cmdline` says the same.
        lines.append(_setting("extra", arguments))
    lines += [f"memory = {description.memory_mib}", f"vcpus = {description.vcpus}"]
    if quirks and quirks.tsc_native and description.type is DomainType.PVH:
        lines.append(_setting("tsc_mode", "native"))
    lines += _list("disk", _disks(description, files, dialect))
    lines += _list("vif", [f"mac={nic.mac},bridge={nic.bridge}" for nic in description.nics])
    endings = ["on_poweroff", "on_reboot", "on_crash"]
    if dialect is Dialect.XL:
        endings += ["on_watchdog", "on_soft_reset"]
    lines += [_setting(ending, "destroy") for ending in endings]
    return "\n".join(lines) + "\n"


def config_diff(old: str, new: str) -> str:
    """What changed from `old` to `new`, as a unified diff; "" when nothing did."""
    return "".join(
        line if line.endswith("\n") else line + "\n"
        for line in difflib.unified_diff(
            old.splitlines(keepends=True), new.splitlines(keepends=True), "before", "after"
        )
    )


def _check(description: Description, files: DomainFiles, dialect: Dialect) -> None:
    """See that what was not read from an order is as good as if it had been."""
    try:
        if Description.of(description.as_dict()) != description:
            raise RenderRefused(
                "The description is not in its proper form (spaces at an end, or disks unsorted)."
            )
    except DescriptionRefused as error:
        raise RenderRefused(str(error)) from error
    if tuple(spec for spec, _ in files.disks) != description.disks:
        raise RenderRefused("The disks' files are not those of the description.")
    direct = description.boot.method is BootMethod.DIRECT
    if direct and not description.boot.entries:
        raise RenderRefused("There is nothing to boot; choose a kernel.")
    if not direct and files.ramdisk is not None:
        raise RenderRefused("A loader takes no ramdisk; the ramdisk belongs on the boot disk.")
    if direct and files.boot_disk is not None:
        raise RenderRefused("A direct boot has no boot disk.")
    if description.boot.method is BootMethod.PVGRUB and files.boot_disk is None:
        raise RenderRefused("The boot disk is missing; without it the loader finds no menu.")
    if dialect is Dialect.XM and description.type is not DomainType.PV:
        raise RenderRefused(
            f"xm cannot run a {description.type.value.upper()} domain; it needs Xen 4.10 and xl."
        )


def _arguments(description: Description) -> str:
    """The kernel's arguments with direct boot. To a loader nothing is said: it would take it for its own."""
    boot = description.boot
    return boot.entries[boot.default].arguments if boot.method is BootMethod.DIRECT else ""


def _disks(description: Description, files: DomainFiles, dialect: Dialect) -> list[str]:
    specs = []
    for disk, path in files.disks:
        try:
            vdev = (
                xm_vdev(description.guest_os, disk.index)
                if dialect is Dialect.XM
                else disk_device(description.guest_os, disk.index).vdev
            )
        except DeviceRefused as error:
            raise RenderRefused(str(error)) from error
        specs.append(_disk(vdev, _path(path, f"disk {disk.index}"), disk.read_only, dialect))
    if files.boot_disk is not None:
        # The name, never its number: GRUB calls the disk by this text (LAB-FACTS).
        specs.append(_disk(BOOT_DISK_VDEV, _path(files.boot_disk, "boot disk"), True, dialect))
    return specs


def _disk(vdev: str, path: str, read_only: bool, dialect: Dialect) -> str:
    if dialect is Dialect.XM:
        return f"file:{path},{vdev},{'r' if read_only else 'w'}"
    return f"format=raw,vdev={vdev},access={'ro' if read_only else 'rw'},target={path}"


def _path(path: str, what: str) -> str:
    if len(path) > MAX_PATH or not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise RenderRefused(
            f"The path of the {what} is {path[:120]!a}; it must be absolute, "
            "of letters, digits and . _ + @ - only."
        )
    return path


def _setting(key: str, text: str) -> str:
    # Every text was checked against a list of characters that need no escape; this is the last look.
    if not text.isascii() or not text.isprintable() or set(text) & set("\"'\\$`"):
        raise RenderRefused(f"{key} is {text[:120]!a}, which the configuration file cannot carry.")
    return f'{key} = "{text}"'


def _list(key: str, items: list[str]) -> list[str]:
    if not items:
        return [f"{key} = []"]
    return [f"{key} = [", *(f'    "{item}",' for item in items), "]"]


# Reading. Enough of xl's language for our own files and for what people write by hand: settings separated by
# newline or semicolon, numbers, quoted strings, lists over several lines, comments (xen:
# tools/libs/util/libxlu_cfg_l.l and libxlu_cfg_y.y).

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+|\#[^\n]*|\\\n)
      | (?P<end>\n|;)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<number>0[xX][0-9A-Fa-f]+|-?[0-9]+)
      | (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<mark>\+=|[=\[\],])""",
    re.VERBOSE | re.ASCII,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b"}

Value = int | str | list[str]


class ConfigUnreadable(ValueError):
    """A configuration file that is not of xl's language; names the line."""


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    line: int


def parse(text: str) -> dict[str, Value]:
    """The settings of a configuration file; a later one takes the place of an earlier one, as in xl.

    Raises ConfigUnreadable.
    """
    tokens = _tokens(text)
    settings: dict[str, Value] = {}
    place = 0
    while tokens[place].kind != "stop":
        if tokens[place].kind == "end":
            place += 1
            continue
        name, sign = tokens[place], tokens[place + 1]
        if name.kind != "name" or sign.text != "=":
            raise _unreadable(name)
        value, place = _value(tokens, place + 2)
        if tokens[place].kind not in ("end", "stop"):
            raise _unreadable(tokens[place])
        settings[name.text] = value
    return settings


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    place, line = 0, 1
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise _unreadable(_Token("", text[place : place + 1], line))
        if match.lastgroup != "space":
            tokens.append(_Token(str(match.lastgroup), match[0], line))
        line += match[0].count("\n")
        place = match.end()
    # Two, so that a look at the one after the last needs no check.
    return [*tokens, _Token("stop", "", line), _Token("stop", "", line)]


def _value(tokens: list[_Token], place: int) -> tuple[Value, int]:
    token = tokens[place]
    if token.kind == "number":
        return int(token.text, 0) if token.text[:2].lower() == "0x" else int(token.text), place + 1
    if token.kind == "text":
        return _plain(token), place + 1
    if token.text != "[":
        raise _unreadable(token)
    items: list[str] = []
    place += 1
    while True:
        place = _skip_lines(tokens, place)
        if tokens[place].text == "]":
            return items, place + 1
        if tokens[place].kind not in ("text", "number"):
            raise _unreadable(tokens[place])
        items.append(_plain(tokens[place]) if tokens[place].kind == "text" else tokens[place].text)
        place = _skip_lines(tokens, place + 1)
        if tokens[place].text == ",":
            place += 1
        elif tokens[place].text != "]":
            raise _unreadable(tokens[place])


def _skip_lines(tokens: list[_Token], place: int) -> int:
    while tokens[place].text == "\n":
        place += 1
    return place


def _plain(token: _Token) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), token.text[1:-1], flags=re.DOTALL)


def _unreadable(token: _Token) -> ConfigUnreadable:
    what = ascii(token.text[:40]) if token.text else "the end of the file"
    return ConfigUnreadable(f"Line {token.line} of the configuration cannot be read at {what}.")
