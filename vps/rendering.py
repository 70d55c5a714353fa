"""What the dom0 will get for a server, as text: menu, configuration, and what changes against the last."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from django.utils.translation import gettext as _

from vps.models import Domu, Operation
from vps.models.direct_approval import not_approved, refusal_of
from vps.xen.description import Boot, BootEntry, BootMethod, Description
from vps.xen.menu import grub_cfg, menu_lst
from vps.xen.messages import Verb, canonical
from vps.xen.refused import RenderRefused
from vps.xen.xlcfg import ConfigUnreadable, DomainFiles, parse, render

# Where an agent keeps its files unless its configuration says otherwise (vps.enrolment.agent_toml).
STATE_DIR = "/var/lib/berth"
DISK_DIR = "/var/lib/berth/disks"

Lines = list[tuple[str, str]]


@dataclass(frozen=True)
class Text:
    """A file of the dom0: its text, and its lines with marks against the one before ("" when there is none)."""

    name: str
    text: str
    before: str = ""

    @property
    def lines(self) -> Lines:
        return marked(self.before, self.text) if self.before else [(" ", x) for x in self.text.splitlines()]

    @property
    def changed(self) -> bool:
        return bool(self.before) and self.before != self.text

    @property
    def difference(self) -> Lines:
        """As `diff -u` says it; [] when nothing changed or nothing was before."""
        return unified(self.before, self.text) if self.changed else []


@dataclass(frozen=True)
class NextBoot:
    """What boots next. `entry` is the default one; `as_prepared`: the dom0 has exactly this already."""

    boot: Boot
    entry: BootEntry | None
    texts: list[Text] = field(default_factory=list)
    refused: str = ""
    as_prepared: bool = False


def next_boot(domu: Domu, boot: Boot) -> NextBoot:
    """What `domu` boots next with the saved menu `boot`; two queries."""
    entry = boot.default_entry
    if not boot.bootable:
        return NextBoot(boot, None)
    prepared = _prepared(domu)
    if wanting := not_approved(domu.tenant, boot):
        return NextBoot(boot, entry, refused=refusal_of(wanting))
    there = next((p for p in prepared if p.get("menu_serial") == domu.menu_serial), None)
    last = next((p for p in prepared if p.get("menu_serial") != domu.menu_serial), None) or {}
    if there is not None:
        return NextBoot(boot, entry, _reported(domu.name, there, last), as_prepared=True)
    try:
        return NextBoot(boot, entry, render_texts(domu.description(), last, last))
    except RenderRefused as error:
        return NextBoot(boot, entry, refused=str(error))


def _reported(name: str, there: dict[str, Any], last: dict[str, Any]) -> list[Text]:
    """The files as the dom0 told that it wrote them."""
    keys = {"menu.lst": "menu_lst", name: "config", "grub.cfg": "grub_cfg"}
    texts = [Text(file, str(there.get(key) or ""), str(last.get(key) or "")) for file, key in keys.items()]
    return [text for text in texts if text.text]


def render_texts(description: Description, like: dict[str, Any], last: dict[str, Any]) -> list[Text]:
    """The files of a description. `like`: a result of `prepare` whose folders are taken; `last`: to compare.

    Raises RenderRefused.
    """
    boot, texts = description.boot, []
    if boot.method is not BootMethod.DIRECT:
        texts.append(Text("menu.lst", menu_lst(boot), str(last.get("menu_lst") or "")))
    config = render(description, _files(description, str(like.get("config") or "")))
    texts.append(Text(description.name, config, str(last.get("config") or "")))
    if boot.method is not BootMethod.DIRECT:
        texts.append(Text("grub.cfg", grub_cfg(boot), str(last.get("grub_cfg") or "")))
    return texts


def compared(old: Boot, new: Boot) -> list[Text]:
    """Two saved menus side by side: what they say, and the files that the loader reads, as written today."""
    texts = [Text(_("The menu"), _outline(new), _outline(old))]
    for name, write in (("menu.lst", menu_lst), ("grub.cfg", grub_cfg)):
        pair = [
            "" if boot.method is BootMethod.DIRECT else write(replace(boot, serial=0)) for boot in (new, old)
        ]
        if all(pair):
            texts.append(Text(name, *pair))
    return texts


def _outline(boot: Boot) -> str:
    """A saved menu in words, with the sums of all its files: what two of them can differ by."""
    lines = [f"method {boot.method.value}", f"timeout {boot.timeout} s"]
    if boot.loader:
        lines.append(f"loader {boot.loader.sha256[:16]}")
    for place, line in enumerate(boot.lines):
        lines += ["", f"{line.title}{' (default)' if place == boot.default_line else ''}"]
        if not isinstance(line, BootEntry):
            lines.append("  hands over to the menu on the server's own disk")
            continue
        lines.append(f"  kernel {line.label} {line.kernel.sha256[:16]}")
        parts = (("ramdisk", line.ramdisk), ("modules", line.modules))
        lines += [f"  {name} {blob.sha256[:16]}" for name, blob in parts if blob]
        lines.append(f"  arguments {line.arguments}".rstrip())
    return "\n".join(lines) + "\n"


def _prepared(domu: Domu) -> list[dict[str, Any]]:
    """The results of the last preparations, newest first."""
    rows = domu.operations.filter(verb=Verb.PREPARE.value, state=Operation.State.DONE).order_by("-id")
    return [result for result in rows.values_list("result", flat=True)[:20] if result.get("config")]


def _files(description: Description, config: str) -> DomainFiles:
    """The paths as vps/agent/preparation.py makes them, in the folders that `config` names."""
    boot, name = description.boot, description.name
    state, disks = _folders(config, description)
    folder = f"{state}/domus/{description.id}"
    own = tuple((disk, f"{disks}/{disk.id}.img") for disk in description.disks)
    if boot.method is BootMethod.DIRECT:
        if not boot.entries:
            raise RenderRefused(_("There is nothing to boot; choose a kernel."))
        entry = boot.entries[boot.default]
        kernel = f"{folder}/{name}-kernel-{entry.kernel.sha256[:12]}"
        ramdisk = f"{folder}/{name}-ramdisk-{entry.ramdisk.sha256[:12]}" if entry.ramdisk else None
        return DomainFiles(kernel, ramdisk, own, None)
    assert boot.loader is not None
    key = hashlib.sha256(canonical(boot.as_dict()).encode()).hexdigest()[:8]
    loader = f"{folder}/{name}-loader-{boot.loader.sha256[:12]}"
    return DomainFiles(loader, None, own, f"{folder}/{name}-boot-{boot.serial}-{key}.img")


def _folders(config: str, description: Description) -> tuple[str, str]:
    """The agent's state and disk folders, read off a configuration that it wrote."""
    try:
        values = parse(config)
    except ConfigUnreadable:
        values = {}
    state, disks = STATE_DIR, DISK_DIR
    folder = PurePosixPath(str(values.get("kernel") or "")).parent
    if folder.name == str(description.id) and folder.parent.name == "domus":
        state = str(folder.parent.parent)
    specs = values.get("disk")
    for spec in specs if isinstance(specs, list) else []:
        target = PurePosixPath(spec.rpartition("target=")[2])
        if any(target.name == f"{disk.id}.img" for disk in description.disks):
            disks = str(target.parent)
    return state, disks


def marked(before: str, after: str) -> Lines:
    """Every line of both texts, marked " " (in both), "-" (only before) or "+" (only after)."""
    old, new = before.splitlines(), after.splitlines()
    lines: Lines = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            lines += [(" ", line) for line in new[c:d]]
        else:
            lines += [("-", line) for line in old[a:b]]
            lines += [("+", line) for line in new[c:d]]
    return lines


def unified(before: str, after: str) -> Lines:
    """The difference as `diff -u` shows it, without its two first lines."""
    found = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="")
    return [(line[:1], line[1:]) if line[0] in "+- " else ("@", line.strip("@ ")) for line in list(found)[2:]]
