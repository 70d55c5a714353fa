"""A simulated dom0 in a folder, driven through its executable as the agent drives it."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from ptyprocess import PtyProcess

from vps.agent.sim import domains, verbs
from vps.agent.sim.host import Machine
from vps.agent.sim.loader import placeholder

XL = [sys.executable, "-m", "vps.agent.sim"]
FAST = {"boot": 0.05, "shutdown": 0.2, "cleanup": 0.3, "crash": 0.6, "restart": 0.4, "ack": 0.5}
FAST |= {"loader_key": 0.3, "loader_fallback": 0.2}


def until(condition: Callable[[], Any], what: str, seconds: float = 40.0) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


@dataclass
class Console:
    """`xl console` on a pty; keeps all that it has read."""

    pty: PtyProcess
    seen: bytes = b""

    def expect(self, pattern: str | bytes, seconds: float = 40.0) -> re.Match[bytes]:
        """Read until a regular expression matches; forgets what came before the match's end."""
        wanted = re.compile(pattern.encode() if isinstance(pattern, str) else pattern, re.DOTALL)
        deadline = time.monotonic() + seconds
        while not (match := wanted.search(self.seen)):
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.seen[-4000:]!r}"
            if not self._more(deadline - time.monotonic()):
                raise AssertionError(f"console ended without {pattern!r}: {self.seen[-4000:]!r}")
        self.seen = self.seen[match.end() :]
        return match

    def rest(self) -> bytes:
        """Everything up to the end of the console."""
        while self._more(40.0):
            pass
        return self.seen

    def _more(self, seconds: float) -> bool:
        ready, _, _ = select.select([self.pty.fd], [], [], max(0.0, seconds))
        assert ready, f"nothing more came after {self.seen[-4000:]!r}"
        try:
            self.seen += self.pty.read(65536)
        except EOFError:
            return False
        return True

    def look(self) -> bool:
        """Read what is there without waiting; False at the end."""
        while select.select([self.pty.fd], [], [], 0)[0]:
            try:
                self.seen += self.pty.read(65536)
            except EOFError:
                return False
        return True

    def type(self, text: str) -> None:
        self.pty.write(text.encode())

    def ask(self, text: str, pattern: str) -> re.Match[bytes]:
        """Type until it is answered: what comes before the terminal is raw is thrown away, as xenconsole does."""
        for _ in range(15):
            self.type(text)
            try:
                return self.expect(pattern, 1.0)
            except AssertionError:
                continue
        return self.expect(pattern, 1.0)

    def leave(self) -> int | None:
        self.pty.write(b"\x1d")
        self.rest()
        self.pty.wait()
        status: int | None = self.pty.exitstatus
        return status


@dataclass
class SimDom0:
    """`directory` is the state; disks, kernels and configurations lie in `files`."""

    directory: Path
    files: Path
    settings: dict[str, Any] = field(default_factory=dict)
    consoles: list[Console] = field(default_factory=list)

    @classmethod
    def make(cls, place: Path, **settings: Any) -> SimDom0:
        files = place / "files"
        files.mkdir(parents=True, exist_ok=True)
        dom0 = cls(place / "state", files)
        dom0.set(**{"times": FAST, **settings})
        return dom0

    def set(self, **settings: Any) -> None:
        """Change host.json."""
        self.settings |= settings
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "host.json").write_text(json.dumps(self.settings))

    def argv(self, *words: str) -> list[str]:
        return [*XL, "--state", str(self.directory), *words]

    def xl(self, *words: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*words),
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            errors="surrogateescape",
        )

    def ok(self, *words: str) -> str:
        done = self.xl(*words)
        assert done.returncode == 0, done
        return done.stdout

    def console(self, name: str, *words: str) -> Console:
        return self.on_pty("console", *words, name)

    def on_pty(self, *words: str) -> Console:
        console = Console(PtyProcess.spawn(self.argv(*words), echo=False))
        self.consoles.append(console)
        return console

    def end(self) -> None:
        """Leave nothing behind: no console, no domain."""
        for console in self.consoles:
            console.pty.close(force=True)
        self.set(faults={})
        verbs.xl_sim_reset(self.machine, [])

    def flags(self, name: str) -> str:
        """The six letters of xl list, or "" when there is no such domain."""
        found = [domain.flags for domain in domains.guests(self.machine) if domain.name == name]
        return found[0] if found else ""

    @property
    def machine(self) -> Machine:
        """The state, read without starting a process."""
        return Machine(str(self.directory))

    def effects(self, verb: str = "") -> list[dict[str, Any]]:
        path = self.directory / "effects.log"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if not verb or line["verb"] == verb]

    def file(self, name: str, data: bytes) -> Path:
        path = self.files / name
        path.write_bytes(data)
        return path

    def disk(self, name: str = "disk.img", size: int = 1 << 20) -> Path:
        path = self.files / name
        with path.open("wb") as file:
            file.truncate(size)
        return path

    def ext2(self, name: str, content: dict[str, bytes], size: str = "8M") -> Path:
        """An ext2 image with these files, made as the agent makes the boot disk."""
        tree = self.files / f"{name}.tree"
        for path, data in content.items():
            target = tree / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        image = self.files / name
        image.unlink(missing_ok=True)
        subprocess.run(
            ["mke2fs", "-q", "-t", "ext2", "-b", "4096", "-m", "0", "-d", str(tree), str(image), size],
            check=True,
            env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
        )
        return image

    def loader(self, kind: str = "pv64") -> Path:
        return self.file(f"loader-{kind}", placeholder(kind))

    def config(self, name: str, kernel: Path, disks: dict[str, Path] | None = None, **more: Any) -> Path:
        """A configuration as Berth writes it; `more` are settings, strings quoted."""
        settings: dict[str, Any] = {"name": name, "uuid": str(uuid4()), "type": "pv", "kernel": str(kernel)}
        settings |= {"memory": 128, "vcpus": 1, "on_poweroff": "destroy", "on_reboot": "destroy"}
        settings |= {"on_crash": "destroy", **more}
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items() if value is not None]
        specs = [
            f'"format=raw,vdev={vdev},access={"ro" if vdev == "xvdz" else "rw"},target={path}"'
            for vdev, path in (disks or {}).items()
        ]
        lines.append(f"disk = [ {', '.join(specs)} ]")
        path = self.files / f"{name}.cfg"
        path.write_text("\n".join(lines) + "\n")
        return path
