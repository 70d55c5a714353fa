"""The boot disk's content: which files, under which names, and the menu in both of GRUB's languages.

menu.lst is the language of GRUB 0.97 (`info grub-legacy`), which pv-grub reads and which GRUB 2 reads by
`legacy_configfile`; grub.cfg is GRUB 2's. Entries have no `root` line: the loader has set root to the boot disk
(where a line may change that, files are named with their disk), and hdN would shift when a disk is added
(LAB-FACTS, "The boot disk, tried whole").

One line that GRUB cannot parse takes its own entry and all later ones away, therefore every text is checked
here once more, and refused, never repaired.
"""

from __future__ import annotations

from dataclasses import dataclass

from vps.xen.description import BlobRef, Boot, BootEntry, BootMethod, OwnMenu
from vps.xen.devices import BOOT_DISK_VDEV
from vps.xen.names import NameRefused, check_arguments, check_title
from vps.xen.refused import RenderRefused

__all__ = [
    "MENU_CFG",
    "MENU_LST",
    "BootFile",
    "RenderRefused",
    "grub_cfg",
    "layout",
    "menu_lst",
    "modules_path",
]

MENU_LST = "/grub/menu.lst"
MENU_CFG = "/grub/grub.cfg"
FOLDER = "/k"
MODULES_FOLDER = "/m"

_NAME_DIGITS = 12  # hexadecimal; short enough to be typed at GRUB's prompt
_MODULES_DIGITS = 16


@dataclass(frozen=True)
class BootFile:
    """A file of the boot disk. `path` is absolute in the image, of ASCII letters, digits and slashes."""

    path: str
    blob: BlobRef


def layout(boot: Boot) -> tuple[BootFile, ...]:
    """The files that the boot disk must hold, each once; () when there is no boot disk.

    Kernels and ramdisks, which the loader reads, and archives of modules, which the guest does. Names are the
    first digits of the content's sum, so that a changed order of entries changes no file, and as many as tell
    all kernels and ramdisks apart.
    """
    if boot.method is BootMethod.DIRECT:
        return ()
    blobs: dict[str, BlobRef] = {}
    for entry in boot.entries:
        blobs[entry.kernel.sha256] = entry.kernel
        if entry.ramdisk:
            blobs[entry.ramdisk.sha256] = entry.ramdisk
    digits = _NAME_DIGITS
    while len({sha256[:digits] for sha256 in blobs}) < len(blobs):
        digits += 1
    modules = {entry.modules.sha256: entry.modules for entry in boot.entries if entry.modules}
    return (
        *(BootFile(f"{FOLDER}/{sha256[:digits]}", blob) for sha256, blob in blobs.items()),
        *(BootFile(modules_path(blob), blob) for blob in modules.values()),
    )


def modules_path(blob: BlobRef) -> str:
    """Where an archive of modules lies on the boot disk: the same on each, for pages tell people to type it."""
    return f"{MODULES_FOLDER}/{blob.sha256[:_MODULES_DIGITS]}"


def menu_lst(boot: Boot, fallback: int | None = None) -> str:
    """The menu as menu.lst. `fallback` is the entry to take when the default one fails.

    Raises RenderRefused.
    """
    _check(boot, fallback)
    lines = [f"# Berth, menu {boot.serial}. Berth writes this file anew; what is changed here is lost."]
    if boot.method is BootMethod.OWN_DISK:
        others = " ".join(str(number) for number in range(1, len(_OWN_MENUS)))
        lines += ["default 0", f"timeout {boot.timeout}", f"fallback {others}"]
        for title, commands in _OWN_MENUS:
            lines += ["", f"title {title}", *commands]
    else:
        lines += [f"default {boot.default_line}", f"timeout {boot.timeout}"]
        later = [str(fallback)] if fallback is not None else []
        if boot.own_menu and boot.own_menu.default:
            later = [*(str(len(boot.lines) + number) for number in range(len(_OWN_MENUS) - 1)), *later]
        if later:
            lines.append(f"fallback {' '.join(later)}")
    paths = _paths(boot)
    for line in boot.lines:
        lines += ["", f"title {line.title}"]
        if isinstance(line, OwnMenu):
            lines += _OWN_MENUS[0][1]
            continue
        lines.append(f"kernel {_kernel(line, paths)}")
        if line.ramdisk:
            lines.append(f"initrd {paths[line.ramdisk.sha256]}")
    if boot.own_menu:
        # Behind all others, so that a line has one number in both files.
        for title, commands in _OWN_MENUS[1:]:
            lines += ["", f"title {title}", *commands]
    return "\n".join(lines) + "\n"


def grub_cfg(boot: Boot, fallback: int | None = None) -> str:
    """The same menu as grub.cfg. Raises RenderRefused."""
    _check(boot, fallback)
    own_disk = boot.method is BootMethod.OWN_DISK
    lines = [
        f"# Berth, menu {boot.serial}. Berth writes this file anew; what is changed here is lost.",
        f"set default={0 if own_disk else boot.default_line}",
        f"set timeout={boot.timeout}",
    ]
    if fallback is not None:
        lines.append(f"set fallback={fallback}")
    if own_disk:
        lines += ["", *_own_cfg("Own menu on the first disk")]
    paths = _paths(boot)
    for line in boot.lines:
        if isinstance(line, OwnMenu):
            lines += ["", *_own_cfg(line.title)]
            continue
        lines += ["", f"menuentry '{line.title}' {{", f"    linux {_kernel(line, paths)}"]
        if line.ramdisk:
            lines.append(f"    initrd {paths[line.ramdisk.sha256]}")
        lines.append("}")
    return "\n".join(lines) + "\n"


# Where a customer's own menu.lst is looked for, in this order. In menu.lst nothing can be tested, so each
# place is an entry and the list of fallbacks leads through them: 12 s for each that is not there (tried).
# `configfile` in menu.lst reads menu.lst syntax; `legacy_configfile` would be dropped. hd0 is
# xvda, the lowest device; root is set for entries of the customer's that have no root line of their own.
_OWN_MENUS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Own menu: first disk, /boot/grub/menu.lst",
        ("root (hd0)", "configfile (xen/xvda)/boot/grub/menu.lst"),
    ),
    ("Own menu: first disk, /grub/menu.lst", ("root (hd0)", "configfile (xen/xvda)/grub/menu.lst")),
    ("Own menu: first partition, /boot/grub/menu.lst", ("root (hd0,0)", "configfile /boot/grub/menu.lst")),
    ("Own menu: first partition, /grub/menu.lst", ("root (hd0,0)", "configfile /grub/menu.lst")),
)

_OWN_PLACES = (
    "xen/xvda",
    *(f"xen/xvda,gpt{number}" for number in range(1, 5)),
    *(f"xen/xvda,msdos{number}" for number in range(1, 5)),
    "xen/xvda,netbsd1",
    "xen/xvda,msdos1,netbsd1",
)

# In grub.cfg each place can be tested. root must be set first: without it the absolute paths of the
# customer's menu resolve on the boot disk (tried). The last lines reach what has no partition number, such
# as LVM.
_OWN_CFG = (
    f"    for place in {' '.join(_OWN_PLACES)}; do",
    "        for folder in /boot/grub /grub /boot/grub2 /grub2; do",
    '            if [ -f "($place)$folder/grub.cfg" ]; then',
    '                set root="$place"',
    '                configfile "$folder/grub.cfg"',
    "            fi",
    '            if [ -f "($place)$folder/menu.lst" ]; then',
    '                set root="$place"',
    '                legacy_configfile "$folder/menu.lst"',
    "            fi",
    "        done",
    "    done",
    "    if search --no-floppy --file --set=root /boot/grub/grub.cfg; then",
    "        configfile /boot/grub/grub.cfg",
    "    fi",
    "    if search --no-floppy --file --set=root /boot/grub/menu.lst; then",
    "        legacy_configfile /boot/grub/menu.lst",
    "    fi",
    "    echo 'No menu was found on the disks of this server.'",
    "    sleep 10",
)


def _own_cfg(title: str) -> list[str]:
    return [f"menuentry '{title}' {{", *_OWN_CFG, "}"]


def _check(boot: Boot, fallback: int | None) -> None:
    if boot.method is BootMethod.DIRECT:
        raise RenderRefused("A direct boot has no menu; its kernel is named in the domain's configuration.")
    if boot.method is BootMethod.PVGRUB and not 0 <= boot.default < len(boot.entries):
        raise RenderRefused(
            f"The default entry is {boot.default}, but the menu has {len(boot.entries)} entries; "
            "add a boot entry and make it the default."
        )
    if fallback is not None and (
        boot.method is BootMethod.OWN_DISK
        or not 0 <= fallback < len(boot.lines)
        or fallback == boot.default_line
    ):
        raise RenderRefused(f"Entry {fallback} cannot be the one to fall back to in this menu.")
    if not 0 <= boot.timeout <= 600:
        raise RenderRefused(f"The menu's timeout is {boot.timeout} s; it must be from 0 to 600 s.")
    if boot.own_menu and boot.method is not BootMethod.PVGRUB:
        raise RenderRefused("Only a menu of Berth's own hands over to the one on the server's disk.")
    if boot.own_menu:
        _check_entry(boot.own_menu)
    for entry in boot.entries:
        _check_entry(entry)


def _check_entry(entry: BootEntry | OwnMenu) -> None:
    try:
        title, arguments = check_title(entry.title), check_arguments(entry.arguments)
    except NameRefused as error:
        raise RenderRefused(str(error)) from error
    if title != entry.title or arguments != entry.arguments:
        raise RenderRefused(f"The entry {title!a} has spaces at an end of its title or arguments.")


def _paths(boot: Boot) -> dict[str, str]:
    """What a line calls each file. With its disk where the customer's own menu may have been looked for before: root
    is theirs then.
    """
    handed_over = boot.own_menu is not None or boot.method is BootMethod.OWN_DISK
    disk = f"(xen/{BOOT_DISK_VDEV})" if handed_over else ""
    files = [file for file in layout(boot) if file.path.startswith(f"{FOLDER}/")]
    return {file.blob.sha256: f"{disk}{file.path}" for file in files}


def _kernel(entry: BootEntry, paths: dict[str, str]) -> str:
    return f"{paths[entry.kernel.sha256]} {entry.arguments}".rstrip()
