"""A guest: its kernel's boot log, then a small shell. Which kernel and which arguments, it says itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vps.agent.sim.host import read_json, write_json
from vps.agent.sim.process import Domain
from vps.agent.sim.wire import Drain, Ended, Event, Line, Wait


@dataclass
class Running:
    """A kernel that runs. `newline` is its line end (LAB-FACTS): NetBSD's consoles say LF CR."""

    domain: Domain
    kernel: dict[str, Any]
    arguments: str
    count: int
    started: float
    newline: str = "\r\n"

    @property
    def release(self) -> str:
        return str(self.kernel.get("release") or "unknown")

    @property
    def configuration(self) -> str:
        return str(self.kernel.get("configuration") or "")

    @property
    def digest(self) -> str:
        return str(self.kernel["sha256"])[:12]

    @property
    def age(self) -> float:
        """Seconds since the kernel began."""
        return time.time() - self.started

    def say(self, text: str) -> None:
        self.domain.write(text.replace("\n", self.newline).encode())

    def lines(self, lines: list[str]) -> Line:
        """Say lines over the time that booting takes here."""
        pause = self.domain.machine.time("boot") / max(1, len(lines))
        for line in lines:
            self.say(line + "\n")
            event: Event = yield Wait(pause, keys=False)
            if event.power:
                raise Ended(_reason(event.power))

    def argument(self, name: str) -> str | None:
        """The last value of name=value among the kernel's arguments."""
        values = [word[len(name) + 1 :] for word in self.arguments.split() if word.startswith(f"{name}=")]
        return values[-1] if values else None


def _reason(power: str) -> int:
    return 1 if power == "reboot" else 0


def boot(domain: Domain, kernel: dict[str, Any], arguments: str) -> Line:
    """Boot a kernel and be what it is until it ends; or what its argument sim= asks for: silent, panic, exit."""
    count = domain.booted(kernel, arguments)
    domain.listen(True)
    running = Running(domain, kernel, arguments, count, time.time())
    asked = running.argument("sim")
    if asked == "silent":
        domain.listen(False)
        while True:
            yield Wait(None, keys=False)
    if asked == "panic":
        yield from running.lines(["Booting kernel on Xen"])
        yield from crash(running, "Attempted to kill init! exitcode=0x00000100")
    if asked == "exit":
        yield from running.lines(["Booting kernel on Xen"])
        raise Ended(0)
    if str(kernel.get("guest_os") or "").lower() == "netbsd":
        from vps.agent.sim.netbsd import start
    else:
        from vps.agent.sim.linux import start
    yield from start(running)


class Shell:
    """The small shell; `prompt`, and what the system calls itself, are the guest's."""

    def __init__(self, running: Running, prompt: str, log: list[str], power: Callable[[int], Line]) -> None:
        self.running, self.prompt, self.log, self.power = running, prompt, log, power
        self.line = ""

    def run(self) -> Line:
        """Answer commands until `exit` (returns) or the end of the domain."""
        self.running.say(self.prompt)
        while True:
            event: Event = yield Wait()
            if event.power:
                yield from self.power(_reason(event.power))
            for position, byte in enumerate(event.keys):
                if byte in (13, 10):
                    if byte == 10 and event.keys[position - 1 : position] == b"\r":
                        continue
                    self.running.say("\n")
                    line, self.line = self.line.strip(), ""
                    if line in ("exit", "logout"):
                        return
                    if line:
                        yield from self.command(line)
                    self.running.say(self.prompt)
                elif byte in (8, 127):
                    if self.line:
                        self.line = self.line[:-1]
                        self.running.say("\b \b")
                elif byte == 3:
                    self.line = ""
                    self.running.say("^C\n" + self.prompt)
                elif byte >= 32 or byte == 9:
                    self.line += chr(byte)
                    self.running.domain.write(bytes([byte]))

    def command(self, line: str) -> Line:
        running = self.running
        name, _, rest = line.partition(" ")
        if name == "echo":
            running.say(rest.strip("\"'") + "\n")
        elif name == "uname":
            running.say(self.uname() + "\n")
        elif name == "cat" and rest == "/proc/cmdline":
            running.say(running.arguments + "\n")
        elif name == "cat":
            running.say(f"cat: can't open '{rest}': No such file or directory\n")
        elif name == "dmesg":
            running.say("\n".join(self.log) + "\n")
        elif name == "uptime":
            running.say(
                f" {time.strftime('%H:%M:%S')} up {int(running.age)} s, boot {running.count} of this server\n"
            )
        elif name == "date":
            running.say(time.strftime("%a %b %e %H:%M:%S UTC %Y", time.gmtime()) + "\n")
        elif name == "poweroff" or line in ("halt -p", "shutdown -p now"):
            yield from self.power(0)
        elif name == "reboot":
            yield from self.power(1)
        elif name == "halt":
            yield from self.halt()
        elif name == "crash":
            yield from crash(running, "crash was typed")
        elif name == "hang":
            yield from hang(running)
        elif name == "xenstore-write" and rest.startswith("data/") and " " in rest:
            key, _, value = rest.removeprefix("data/").partition(" ")
            kept = read_json("xenstore.json") or {}
            write_json("xenstore.json", {**kept, key: value})
        elif name == "yes":
            yield from self.bulk(rest)
        elif name == "help":
            running.say(
                "echo uname cat dmesg uptime date poweroff halt reboot crash hang yes xenstore-write exit\n"
            )
        elif name:
            running.say(f"{name}: not found\n")

    def uname(self) -> str:
        running = self.running
        system = "NetBSD" if "netbsd" in str(running.kernel.get("guest_os")).lower() else "Linux"
        name = running.domain.record["name"]
        return f"{system} {name} {running.release} {running.configuration} {running.digest} amd64".replace(
            "  ", " "
        )

    def bulk(self, rest: str) -> Line:
        """`yes N` prints N bytes as fast as the console takes them."""
        left = int(rest) if rest.isdigit() else 1024
        block = b"y" * 63 + b"\n"
        block *= 64
        while left > 0:
            self.running.domain.write(block[:left])
            left -= len(block)
            yield Drain()
        self.running.say("\n")

    def halt(self) -> Line:
        """Halted: waits for a key and polls, and hears no shutdown."""
        self.running.say("\nThe operating system has halted.\nPlease press any key to reboot.\n\n")
        self.running.domain.listen(False)
        self.running.domain.spin(True)
        yield Wait()
        raise Ended(1)


def hang(running: Running) -> Line:
    """Deaf to everything: only destroy helps."""
    running.say("hanging: this guest reacts to nothing from now on\n")
    running.domain.listen(False)
    running.domain.spin(True)
    while True:
        yield Wait(None, keys=False)


def crash(running: Running, why: str) -> Line:
    """Panic, and be dead soon after."""
    from vps.agent.sim.linux import panic as linux_panic
    from vps.agent.sim.netbsd import panic as netbsd_panic

    netbsd = str(running.kernel.get("guest_os") or "").lower() == "netbsd"
    for line in (netbsd_panic if netbsd else linux_panic)(running, why):
        running.say(line + "\n")
    yield Wait(0.2, keys=False)
    raise Ended(3)
