"""pvgrub as a guest: reads /grub/menu.lst of the disk xvdz, shows the menu, loads a kernel, falls back.

What it says and when is what Debian's GRUB 2.06 said on Xen 4.17 (LAB-FACTS, "The boot disk, tried whole").
"""

from __future__ import annotations

import time
from typing import Any

from vps.agent.sim import menulst, meters
from vps.agent.sim.disks import disk_number
from vps.agent.sim.menulst import Device, Entry, Menu
from vps.agent.sim.process import Domain
from vps.agent.sim.wire import Ended, Event, Line, Wait, Work

VERSION = "2.06-13+deb12u2"
_CLEAR = "\x1b[H\x1b[J\x1b[1;1H"
_WIDTH = 76
_UP, _DOWN = (b"\x1b[A", b"\x10", b"p", b"k"), (b"\x1b[B", b"\x0e", b"n", b"j")
_ENTER = (b"\r", b"\n", b"\x1b[C")


class _Failed(Exception):
    """An entry could not be booted; the errors are on the screen already."""


class Loader:
    """The loader's state: its kind (pv64, pv32, pvh), its root device and what it has loaded."""

    def __init__(self, domain: Domain, kind: str) -> None:
        self.domain, self.kind = domain, kind
        self.root = Device("xvdz", None, None)
        disks = sorted(domain.record["disks"], key=lambda disk: disk_number(disk["device"]) or 0)
        self.disks = [disk for disk in disks if disk["target"]]

    def say(self, text: str) -> None:
        self.domain.write(text.encode())

    def disk(self, device: Device) -> dict[str, Any] | None:
        """The disk of a device. By name only as the configuration wrote it: (xen/xvdz) is not 0xca…"""
        if device.place is not None:
            return self.disks[device.place] if device.place < len(self.disks) else None
        return next((disk for disk in self.disks if disk["device"] == device.vdev), None)

    def read(self, what: str, spec: str) -> Line:
        """Read a file in a child: `what` is read_text, read_kernel, read_ramdisk; {} when there is none."""
        device, path = menulst.split_path(spec)
        where = self.root if device is None else device
        disk = self.disk(where)
        if disk is None:
            return {}
        event: Event = yield Work(_in_image, (what, disk["target"], where.partition, path))
        if size := event.result.get("bytes"):
            meters.count_read(self.domain.machine, self.domain.domid, disk["device"], size)
        return event.result

    def find(self, path: str) -> Line:
        """A menu's text, or None."""
        found = yield from self.read("read_text", path)
        return found.get("text")

    def run(self) -> Line:
        """From the first character to a kernel; ends only with the domain, or by returning (facts, arguments)."""
        self.say("\x1b[30m\x1b[47mWelcome to GRUB!\r\n\r\n\r\x1b[37m\x1b[40m")
        if self.disk(self.root) is None:
            # What Berth's own loader says (packaging/loaders/grub.cfg).
            self.say("Berth loader: there is no boot disk (xvdz), or it cannot be read. Disks found:\r\n\r")
            self.say(" ".join(["(memdisk)", *(f"(xen/{disk['device']})" for disk in self.disks)]) + " \r\n\r")
            return (yield from self.sentence_then_prompt())
        for path in ("/grub/menu.lst", "/boot/grub/menu.lst"):
            text = yield from self.find(path)
            if text is not None:
                return (yield from self.menu(menulst.parse(text)))
        self.say("Berth loader: the boot disk (xvdz) has no menu: neither menu.lst nor grub.cfg in /grub or ")
        self.say("/boot/grub.\r\n\r")
        return (yield from self.sentence_then_prompt())

    def sentence_then_prompt(self) -> Line:
        """The prompt clears the screen, so the sentence has to be read first."""
        self.say("Press Enter for GRUB's own prompt.\r\n\r")
        yield from read_line(self.domain)
        return (yield from self.prompt())

    def menu(self, menu: Menu) -> Line:
        for complaint in menu.complaints:
            self.say(f"error: {complaint}\r\n")
        if not menu.entries:
            return (yield from self.prompt())
        chosen = menu.default if menu.default < len(menu.entries) else 0
        timeout: int | None = menu.timeout
        while True:
            if timeout != 0:
                picked = yield from self.choose(menu, chosen, timeout)
                if picked is None:
                    return (yield from self.prompt())
                chosen = picked
            result = yield from self.boot(menu, chosen)
            if result is not None:
                return result
            timeout = None

    def choose(self, menu: Menu, chosen: int, timeout: int | None) -> Line:
        """Let somebody choose; None when they want the prompt."""
        end = None if timeout is None else time.monotonic() + timeout
        self.draw(menu, chosen, timeout)
        shown = timeout
        while True:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return chosen
            event: Event = yield Wait(None if left is None else left - int(left) or 1.0)
            key = event.keys
            if key:
                end = None  # any key stops the clock
                if key[:1] in _ENTER or key in _ENTER:
                    return chosen
                if key in (b"c", b"C"):
                    return None
                step = -1 if key in _UP else 1 if key in _DOWN else 0
                if b"\r" in key:  # keys that came together
                    step, key = key.count(b"\x1b[B") - key.count(b"\x1b[A"), b"\r"
                chosen = max(0, min(len(menu.entries) - 1, chosen + step))
                if key == b"\r":
                    return chosen
                self.draw(menu, chosen, None)
            elif end is not None and shown is not None:
                shown = max(0, round(end - time.monotonic()))
                self.say(f"\x1b[{_HELP + 3};1H{_countdown(shown)}")

    def draw(self, menu: Menu, chosen: int, timeout: int | None) -> None:
        head = f"GNU GRUB  version {VERSION}"
        lines = [_CLEAR, "\r\n", head.center(80).rstrip(), "\r\n\r\n", " +" + "-" * _WIDTH + "+\r\n"]
        for row in range(12):
            title = menu.entries[row].title if row < len(menu.entries) else ""
            mark = "*" if row == chosen else " "
            cell = f"{mark}{title[: _WIDTH - 1]:<{_WIDTH - 1}}"
            lines.append(f" |\x1b[7m{cell}\x1b[m|\r\n" if row == chosen else f" |{cell}|\r\n")
        lines.append(" +" + "-" * _WIDTH + "+\r\n\r\n")
        lines.append("      Use the ^ and v keys to select which entry is highlighted.\r\n")
        lines.append("      Press enter to boot the selected OS, `e' to edit the commands\r\n")
        lines.append("      before booting or `c' for a command-line.\r\n")
        if timeout is not None:
            lines.append(_countdown(timeout))
        self.say("".join(lines))

    def boot(self, menu: Menu, chosen: int) -> Line:
        """Try an entry and then the ones to fall back to; None when all failed and a key was pressed."""
        for turn, number in enumerate([chosen, *menu.fallback]):
            if number >= len(menu.entries):
                continue
            entry = menu.entries[number]
            if turn:
                self.say(f"\r\n  Falling back to `{entry.title}'\r\n\r\n")
                yield Wait(self.domain.machine.time("loader_fallback"), keys=False)
            self.say(f"{_CLEAR}  Booting `{entry.title}'\r\n\r\n")
            try:
                return (yield from self.entry(entry))
            except _Failed:
                yield from self.key(self.domain.machine.time("loader_key"))
        self.say("\r\n  Failed to boot both default and fallback entries.\r\n")
        yield from self.key(None)
        return None

    def key(self, seconds: float | None) -> Line:
        self.say("\r\nPress any key to continue...")
        yield Wait(seconds)
        self.say("\r\n")

    def entry(self, entry: Entry) -> Line:
        """Run an entry's commands; returns (facts, arguments). Raises _Failed."""
        loaded: tuple[dict[str, Any], str] | None = None
        for name, rest in entry.commands:
            if name == "root":
                self.root = menulst.device(rest) or self.root
            elif name == "kernel":
                path, _, arguments = rest.partition(" ")
                facts = yield from self.kernel(path)
                loaded = None if facts is None else (facts, arguments.strip())
            elif name in ("initrd", "module", "modulenounzip"):
                path = rest.split(" ")[0]
                if loaded is None:
                    self.say("error: you need to load the kernel first.\r\n")
                    continue
                found = yield from self.read("read_ramdisk", path)
                if "size" not in found:
                    self.say(f"error: file `{path}' not found.\r\n")
                    raise _Failed
                loaded[0]["ramdisk_size"] = found["size"]
            elif name == "configfile":
                text = yield from self.find(rest)
                if text is None:
                    self.say(f"error: file `{menulst.split_path(rest)[1]}' not found.\r\n")
                    raise _Failed
                device, _ = menulst.split_path(rest)
                self.root = device or self.root
                return (yield from self.menu(menulst.parse(text)))
        if loaded is None:
            self.say("error: you need to load the kernel first.\r\n")
            raise _Failed
        return loaded

    def kernel(self, path: str) -> Line:
        """Load a kernel; None (with GRUB's words) when GRUB 2.06 for this kind of guest would not."""
        found = yield from self.read("read_kernel", path)
        if not found or found.get("missing"):
            self.say(f"error: file `{path}' not found.\r\n")
            return None
        facts: dict[str, Any] = found["facts"]
        if self.kind == "pvh" and facts.get("format") == "ELF":
            # The ordinary i386 GRUB, which hands over to it as to a bzImage: silence (docs/lab.md).
            while True:
                yield Wait(keys=False)
        if not self.reads(facts):
            self.say(f"error: couldn't load file {path}.\r\n")
            return None
        return facts

    def reads(self, facts: dict[str, Any]) -> bool:
        """Whether this loader takes the kernel: what GRUB unpacks, of the right bitness and mode."""
        if self.kind == "pvh":
            return (
                bool(facts.get("pvh") or facts.get("kind") == "pvh") and facts["paths"]["direct_pvh"] == "ok"
            )
        if facts["role"] == "loader" and facts["paths"]["pvgrub"] == "a loader":
            return bool(self.kind == facts["kind"])
        bits = "x86_32" if self.kind == "pv32" else "x86_64"
        return bool(facts["paths"]["pvgrub"] == "ok" and facts["architecture"] == bits)

    def prompt(self) -> Line:
        """GRUB's command line: enough to look around and to boot by hand."""
        self.say(f"{_CLEAR}\x1b[2;24HGNU GRUB  version {VERSION}\r\n\r\n\r\x1b[?25h")
        self.say("   Minimal BASH-like line editing is supported. For the first word, TAB   \r\n\r")
        self.say("   lists possible command completions. Anywhere else TAB lists possible   \r\n\r")
        self.say(
            "   device or file completions.                                            \r\n\r\r\n\r\r\n\r"
        )
        commands: list[tuple[str, str]] = []
        while True:
            self.say("grub> ")
            line = yield from read_line(self.domain)
            name, _, rest = line.strip().partition(" ")
            if name == "ls" and not rest:
                names = [f"(xen/{disk['device']})" for disk in self.disks]
                self.say(" ".join(names) + "\r\n")
            elif name == "ls":
                found = yield from self.read("list_folder", rest)
                self.say(" ".join(found.get("names", [])) + " \r\n")
            elif name == "cat":
                text = yield from self.find(rest)
                error = f"error: file `{rest}' not found."
                self.say((error if text is None else text).replace("\n", "\r\n") + "\r\n")
            elif name in ("reboot", "halt"):
                raise Ended(1 if name == "reboot" else 0)
            elif name in ("root", "kernel", "linux", "module", "initrd", "configfile", "set"):
                commands.append(("kernel" if name == "linux" else name, rest))
            elif name == "boot":
                try:
                    return (yield from self.entry(Entry("", tuple(commands))))
                except _Failed:
                    commands.clear()
            elif name:
                self.say(f"error: can't find command `{name}'.\r\n")


_HELP = 20


def _countdown(seconds: int) -> str:
    return f"   The highlighted entry will be executed automatically in {seconds}s. ".ljust(79)


def _in_image(what: str, image: str, partition: int | None, path: str) -> Any:
    from vps.agent.sim import images

    return getattr(images, what)(image, partition, path)


def read_line(domain: Domain) -> Line:
    """A line as it is typed, with echo and backspace."""
    line = ""
    while True:
        event: Event = yield Wait()
        for place, byte in enumerate(event.keys):
            if byte in (13, 10):
                domain.write(b"\r\n")
                domain.unread(event.keys[place + 1 :])
                return line
            if byte in (8, 127):
                if line:
                    line = line[:-1]
                    domain.write(b"\b \b")
            elif byte >= 32:
                line += chr(byte)
                domain.write(bytes([byte]))


def loader(domain: Domain, kernel: dict[str, Any]) -> Line:
    """The loader as a domain's guest; the kernel that it loads goes on in its place."""
    domain.listen(False)  # GRUB does not watch control/shutdown, and it polls for keys (recorded)
    domain.spin(True)
    facts, arguments = yield from Loader(domain, kernel["kind"]).run()
    domain.spin(False)
    if facts["role"] == "loader":
        yield from loader(domain, facts)
        return
    from vps.agent.sim.guest import boot

    yield from boot(domain, facts, arguments)
