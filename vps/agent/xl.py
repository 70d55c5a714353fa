"""The toolstack `xl`, or what stands in for it: argv in, parsed text out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

from vps.agent.run import CommandMissing, CommandTimeout, Completed, run
from vps.agent.toolstack import ToolstackError
from vps.xen.endings import Ending
from vps.xen.xlparse import (
    DomainRow,
    HostInfo,
    ParseError,
    parse_info,
    parse_list,
    parse_shutdown_log,
    xl_error,
)

logger = logging.getLogger(__name__)

# Seconds for each command. Under emulation a `create` with several disks takes up to 45 s; a deaf guest holds
# `shutdown` for 60 s (LAB-FACTS).
TIMEOUTS = {
    "info": 20,
    "list": 20,
    "dmesg": 20,
    "create": 240,
    "destroy": 90,
    "shutdown": 90,
    "reboot": 90,
    "pause": 30,
    "unpause": 30,
}

_SILENT = frozenset({"info", "list"})  # asked every few seconds

_LOG_TAIL = 64 * 1024  # bytes of a domain's log that are read


class Xl:
    """`argv` is how xl is called, `log_dir` where it writes xl-NAME.log, `xenstore` how a key is read."""

    def __init__(
        self, argv: Sequence[str], log_dir: Path, xenstore: Sequence[str] = ("xenstore-read",)
    ) -> None:
        self._argv, self._xenstore = tuple(argv), tuple(xenstore)
        self._log_dir = log_dir

    def info(self) -> HostInfo:
        text = self._run("info").stdout.decode(errors="replace")
        try:
            return parse_info(text)
        except ParseError as error:
            raise ToolstackError("rubbish", str(error), text[:4096]) from error

    def domains(self) -> tuple[DomainRow, ...]:
        text = self._run("list", "-v").stdout.decode(errors="replace")
        try:
            return parse_list(text)
        except ParseError as error:
            raise ToolstackError("rubbish", str(error), text[:4096]) from error

    def dmesg(self) -> bytes:
        return self._run("dmesg").stdout

    def create(self, config: Path, started: Callable[[int], None]) -> None:
        self._run("create", "-p", str(config), started=started)

    def unpause(self, domid: int) -> None:
        self._run("unpause", str(domid))

    def pause(self, domid: int) -> None:
        self._run("pause", str(domid))

    def shutdown(self, domid: int, abort: Event, seconds: float | None = None) -> None:
        # Not -w: it returns before the domain is gone (LAB-FACTS), so that one has to look in any case.
        self._run("shutdown", str(domid), abort=abort, seconds=seconds)

    def reboot(self, domid: int, abort: Event) -> None:
        self._run("reboot", str(domid), abort=abort)

    def destroy(self, domid: int) -> None:
        self._run("destroy", str(domid))

    def xenstore(self, domid: int, key: str) -> str | None:
        try:
            done = run((*self._xenstore, f"/local/domain/{domid}/data/{key}"), timeout=10)
        except (CommandTimeout, CommandMissing) as error:
            raise ToolstackError("xenstore", f"The xenstore cannot be read: {error}.") from error
        return done.stdout.decode(errors="replace").removesuffix("\n") if done.returncode == 0 else None

    def ending(self, name: str, domid: int) -> Ending | None:
        try:
            with (self._log_dir / f"xl-{name}.log").open("rb") as log:
                log.seek(0, 2)
                log.seek(max(0, log.tell() - _LOG_TAIL))
                return parse_shutdown_log(log.read().decode(errors="replace"), domid)
        except OSError:
            return None

    def _run(
        self,
        command: str,
        *arguments: str,
        abort: Event | None = None,
        started: Callable[[int], None] | None = None,
        seconds: float | None = None,
    ) -> Completed:
        argv = (*self._argv, command, *arguments)
        try:
            done = run(
                argv,
                timeout=seconds or TIMEOUTS[command],
                abort=abort,
                started=started,
                outlives=started is not None,
            )
        except CommandTimeout as error:
            failure = xl_error(command, "", "", None)
            raise ToolstackError("timeout", failure.text, str(error)) from error
        except CommandMissing as error:
            raise ToolstackError(
                "missing", f"{error}. Install Xen's tools, or mend `xl` in the configuration."
            ) from error
        if command not in _SILENT or done.returncode != 0:
            logger.info(
                "xl %s: exit status %s after %.2f s",
                " ".join(argv[len(self._argv) :]),
                done.returncode,
                done.seconds,
            )
        if done.returncode != 0:
            failure = xl_error(
                command,
                done.stdout.decode(errors="replace"),
                done.stderr.decode(errors="replace"),
                done.returncode,
            )
            raise ToolstackError(failure.code, failure.text, failure.words)
        return done
