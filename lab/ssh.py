"""Commands in dom0, over one SSH connection that is kept open (a new one costs seconds under emulation)."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.commands import PATH, run, tail
from lab.errors import LabError
from lab.keys import ALIAS, Keys


@dataclass(frozen=True)
class Done:
    """How a command in dom0 ended."""

    exit: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")


class Ssh:
    """dom0's root at 127.0.0.1:`port`. `sockets` is a private folder with a short name."""

    def __init__(self, port: int, keys: Keys, sockets: Path) -> None:
        self._port = port
        self._keys = keys
        self._control = sockets / "ssh"

    def argv(self, *options: str) -> list[str]:
        """The ssh command up to the host, for those who start it themselves."""
        settings = {
            "Port": str(self._port),
            "User": "root",
            "IdentityFile": str(self._keys.user),
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(self._keys.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "HostKeyAlias": ALIAS,
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
            "ConnectTimeout": "60",
            "ControlMaster": "auto",
            "ControlPath": str(self._control),
            "ControlPersist": "600",
            "ServerAliveInterval": "60",
            "Compression": "no",
        }
        pairs = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        return ["ssh", "-F", "none", *pairs, *options, "127.0.0.1"]

    def run(
        self, argv: Sequence[str], *, timeout: float = 120, stdin: bytes = b"", check: bool = True
    ) -> Done:
        """Run argv in dom0, each word quoted. Raises LabError: it failed (`check`), or dom0 is silent."""
        return self.shell(shlex.join(argv), timeout=timeout, stdin=stdin, check=check)

    def shell(self, line: str, *, timeout: float = 120, stdin: bytes = b"", check: bool = True) -> Done:
        """Run a line for dom0's shell."""
        self._open()
        done = run([*self.argv(), line], timeout=timeout, stdin=stdin, check=False)
        if check and done.returncode != 0:
            raise LabError(
                f"In dom0, `{line[:200]}` ended with {done.returncode}:\n{tail(done.stderr or done.stdout)}"
            )
        return Done(done.returncode, done.stdout, done.stderr)

    def popen(self, line: str, *, tty: bool = False) -> subprocess.Popen[bytes]:
        """A command that goes on, with pipes to it; `tty` gives it a terminal in dom0."""
        self._open()
        argv = self.argv(*(["-tt"] if tty else []))
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*argv, line], stdin=pipe, stdout=pipe, stderr=pipe, env={**os.environ, "PATH": PATH}
        )

    def put(self, data: bytes, path: str, *, mode: str = "644") -> None:
        """Write a file in dom0, whole or not at all."""
        quoted = shlex.quote(path)
        folder = shlex.quote(str(Path(path).parent))
        self.shell(
            f"mkdir -p {folder} && cat >{quoted}.part && chmod {mode} {quoted}.part"
            f" && mv {quoted}.part {quoted}",
            stdin=data,
            timeout=300,
        )

    def get(self, path: str) -> bytes:
        return self.run(["cat", path], timeout=120).stdout

    def wait(self, deadline: float = 60) -> None:
        """Wait until dom0 answers."""
        end = time.monotonic() + deadline
        while True:
            try:
                self.run(["true"], timeout=max(1.0, end - time.monotonic()))
                return
            except LabError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def close(self) -> None:
        """Hang up; the next command connects anew."""
        run([*self.argv("-O", "exit")], timeout=30, check=False)

    def _open(self) -> None:
        """Start the kept connection apart from the commands, so that it holds none of their pipes."""
        if (
            self._control.exists()
            and run([*self.argv("-O", "check")], timeout=30, check=False).returncode == 0
        ):
            return
        self._control.unlink(missing_ok=True)
        done = subprocess.run(
            self.argv("-f", "-N", "-M"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=90,
            check=False,
            env={**os.environ, "PATH": PATH},
        )
        if done.returncode != 0:
            raise LabError("Dom0 does not answer to SSH.")
