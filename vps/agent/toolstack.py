"""What the agent asks of a toolstack: few verbs, and errors that are sentences. `xl.py` is the one there is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Protocol

from vps.xen.endings import Ending
from vps.xen.xlparse import DomainRow, HostInfo


class ToolstackError(Exception):
    """A verb failed. `code` for programs, `text` a sentence with the cure, `output` the tool's own words."""

    def __init__(self, code: str, text: str, output: str = "") -> None:
        super().__init__(text)
        self.code, self.text, self.output = code, text, output


class Toolstack(Protocol):
    """Every verb may raise ToolstackError; `code` is one of vps.xen.xlparse's, "timeout", "missing", "rubbish".

    Domains are named by their number: the name of a domain is not its own while another one ends.
    """

    def info(self) -> HostInfo:
        """What the host is and has."""

    def domains(self) -> tuple[DomainRow, ...]:
        """All domains, Domain-0 too."""

    def dmesg(self) -> bytes:
        """The hypervisor's message ring, as it is."""

    def create(self, config: Path, started: Callable[[int], None]) -> None:
        """Build a domain, paused. `started` gets the tool's process id."""

    def unpause(self, domid: int) -> None: ...

    def pause(self, domid: int) -> None: ...

    def shutdown(self, domid: int, abort: Event, seconds: float | None = None) -> None:
        """Ask the guest to power off, and wait `seconds` at most for its answer. Returns before it is gone.

        Raises CommandAborted.
        """

    def reboot(self, domid: int, abort: Event) -> None:
        """Ask the guest to reboot, which ends this domain. Raises CommandAborted."""

    def destroy(self, domid: int) -> None: ...

    def xenstore(self, domid: int, key: str) -> str | None:
        """What the guest wrote below its data path; None when there is no such key."""

    def ending(self, name: str, domid: int) -> Ending | None:
        """How a domain that is gone ended, as far as the tool wrote it down."""
