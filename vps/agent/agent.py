"""The running agent: its parts, put together, started in order and stopped in order."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from uuid import UUID

from vps.agent import preparation, trials, tries
from vps.agent.autostart import mark_boot
from vps.agent.blobs import Blobs
from vps.agent.clock import Clock
from vps.agent.config import Config
from vps.agent.context import Consoles, Context
from vps.agent.disks import Disks
from vps.agent.endings import Watch, attend
from vps.agent.engine import Engine
from vps.agent.intake import Intake
from vps.agent.inventory import Inventory
from vps.agent.journal import Journal
from vps.agent.line import Line, acknowledgement
from vps.agent.outbox import Outbox
from vps.agent.stream import ConsoleStream
from vps.agent.trust import Trust
from vps.agent.verification import Verification
from vps.agent.worker import Worker
from vps.agent.xl import Xl
from vps.xen.messages import Note, NoteKind

logger = logging.getLogger(__name__)

_SKEW = 500  # ms of difference that are written down

MakeConsoles = Callable[
    [Path, Sequence[str], Callable[[Mapping[str, bytes]], None], Callable[[UUID, UUID], None]], Consoles
]


class AgentRefused(Exception):
    """The agent cannot run; the text says why and what to do."""


class Agent:
    """Everything of one agent. Raises AgentRefused, JournalRefused when it cannot run here."""

    def __init__(self, config: Config, make_consoles: MakeConsoles) -> None:
        self.config = config
        for folder in config.folders():
            try:
                folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            except OSError as error:
                raise AgentRefused(f"The folder {folder} cannot be made: {error.strerror}.") from error
        self._only = _only_one(config.state_dir / "agent.lock")
        journal = Journal(config.journal_path)
        clock = Clock(int(journal.meta("skew_ms") or 0))
        outbox = Outbox(config, journal, clock)
        self._stream = ConsoleStream(config)
        consoles = make_consoles(config.console_dir, config.xl, self._stream.send, self._console_ended)
        self.context = Context(
            config=config,
            journal=journal,
            clock=clock,
            outbox=outbox,
            toolstack=Xl(config.xl, config.xl_log_dir, config.xenstore),
            disks=Disks(config.disk_dir),
            blobs=Blobs(config),
            consoles=consoles,
            changed=self._changed,
            look=self._look,
        )
        self.trust = Trust(config, journal)
        self.engine = Engine(self.context)
        self.inventory = Inventory(self.context, self.trust.kids)
        self.watch = Watch(self.context, self.engine, self.inventory.seen)
        self._verification = Verification(self.context, self.engine)
        self._worker = Worker(config, Intake(self.context, self.engine, self.trust.keys).accept)
        self._line = Line(
            config,
            clock,
            self.trust.keys,
            {
                NoteKind.ACKNOWLEDGE: self._acknowledged,
                NoteKind.LOOK: lambda note: self._changed(),
                NoteKind.WATCH: consoles.note,
                NoteKind.UNWATCH: consoles.note,
                NoteKind.KEYS: consoles.note,
                NoteKind.TRUST: self._named,
                NoteKind.HEALTHY: self._said_well,
            },
            timed=self._timed,
            restored=self._changed,
        )

    def start(self) -> None:
        """Take up what was open, then listen. A dom0 goes on with what it knows while Redis is away."""
        context = self.context
        logger.info("agent of dom0 %s, journal %s", self.config.dom0, context.journal.id)
        context.journal.forget_old_orders()
        mark_boot(context)
        preparation.clear(context)
        self.engine.start()
        for left_over in trials.left(context):
            self.engine.attend(left_over, lambda job: trials.clear(context, job.domu), "clear")
        for row in context.journal.domus():
            # Behind the orders: these know better what is wanted.
            self.engine.attend(row.id, attend, "attend")
        context.outbox.start()
        self._line.start()
        self._worker.start()
        self.watch.start()
        self.inventory.start()
        self._verification.start()
        self._changed()

    def stop(self) -> None:
        """End within some two seconds. No domain is touched; what was being done is taken up at the next start."""
        deadline = time.monotonic() + 2.0

        def left() -> float:
            return max(0.05, deadline - time.monotonic())

        self.engine.stop()
        self._verification.stop()
        self.inventory.stop()
        consoles = threading.Thread(target=self.context.consoles.close, daemon=True)
        consoles.start()
        self._worker.stop(left())
        self.watch.stop(left())
        self._line.stop(left())
        self.context.outbox.stop(left())
        consoles.join(left())
        while not self.engine.idle() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._stream.close()
        if self.engine.idle():
            self.context.journal.close()
        os.close(self._only)

    def _changed(self) -> None:
        self.inventory.ask()
        self.watch.look()

    def _look(self) -> None:
        self.watch.look()

    def _timed(self) -> None:
        """Keep the clock's distance for the next start, which may be without Redis."""
        journal, skew = self.context.journal, self.context.clock.skew_ms or 0
        if abs(skew - int(journal.meta("skew_ms") or 0)) > _SKEW:
            journal.set_meta("skew_ms", str(skew))

    def _console_ended(self, domu: UUID, run: UUID) -> None:
        self.watch.console_ended(domu, run)

    def _named(self, note: Note) -> None:
        self.trust.hear(note)
        self._changed()

    def _said_well(self, note: Note) -> None:
        """The web was told that what is tried is well."""
        tries.said_well(self.context, note.body)
        self.watch.look()

    def _acknowledged(self, note: Note) -> None:
        seq = acknowledgement(note, self.context.journal.id)
        if seq is not None:
            self.context.outbox.acknowledged(seq, missing=note.body.get("missing") is True)


def _only_one(path: Path) -> int:
    """Hold the lock that a state folder has one agent. Raises AgentRefused."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        pid = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise AgentRefused(f"Another agent (process {pid}) works in {path.parent}; end it first.") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor
