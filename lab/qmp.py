"""QEMU's control socket: one JSON line each way."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab.errors import LabError


class Qmp:
    """A connection to the socket at `path`. Timeouts are in seconds."""

    def __init__(self, path: Path, *, timeout: float = 120) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
            self._lines = self._socket.makefile("rb")
            self._read()
            self.command("qmp_capabilities")
        except OSError as error:
            self._socket.close()
            raise LabError(f"QEMU's control socket does not answer: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()

    def command(self, name: str, **arguments: object) -> Any:
        """The command's answer. Raises LabError with QEMU's own words."""
        message = {"execute": name, **({"arguments": arguments} if arguments else {})}
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
            while True:
                answer = self._read()
                if "error" in answer:
                    raise LabError(f"QEMU refuses {name}: {answer['error'].get('desc', '?')}")
                if "return" in answer:
                    return answer["return"]
        except OSError as error:
            raise LabError(f"QEMU did not answer {name}: {error}") from error

    def monitor(self, line: str) -> str:
        """A command of the human monitor, which has some things that QMP lacks."""
        return str(self.command("human-monitor-command", **{"command-line": line}))

    def ssh_port(self) -> int:
        """The port of 127.0.0.1 that QEMU itself chose for dom0's port 22."""
        found = re.search(
            r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+22\b", self.monitor("info usernet")
        )
        if not found:
            raise LabError("QEMU forwards no port to dom0's SSH.")
        return int(found[1])

    def quit(self) -> None:
        """End QEMU; that it hangs up instead of answering is as good."""
        try:
            self.command("quit")
        except (LabError, OSError):
            return

    def _read(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise LabError("QEMU ended.")
        return dict(json.loads(line))
