"""Full sums of what lies ready, once after the agent began (DESIGN.md 4); starting compares sizes and times only."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from vps.agent.context import Context, Job
from vps.agent.engine import Engine
from vps.agent.files import sha256_of, stamp
from vps.agent.journal import DomuRow
from vps.agent.preparation import Prepared

logger = logging.getLogger(__name__)

_AFTER = 15.0  # seconds; what is to be started comes first


class Verification:
    """One thread that reads everything once, one file after the other."""

    def __init__(self, context: Context, engine: Engine) -> None:
        self._context, self._engine = context, engine
        self._stopping = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._work, name="verification", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def _work(self) -> None:
        if self._stopping.wait(_AFTER):
            return
        try:
            self.verify()
        except Exception:
            logger.exception("the files could not be verified")

    def verify(self) -> None:
        """Remove files of the store that are spoiled, and have spoiled preparations made anew. Raises OSError."""
        context = self._context
        for row in context.journal.domus():
            for blob in row.description.boot.blobs():
                if self._stopping.is_set():
                    return
                if context.blobs.has(blob) and not context.blobs.verify(blob):
                    logger.warning(
                        "the file %s of the store was spoiled, and is fetched again", blob.sha256[:12]
                    )
            if spoiled(row):
                self._engine.attend(row.id, drop, "verification")


def spoiled(row: DomuRow) -> str:
    """The file of a preparation whose content is not what was written, though size and time are; "" for none."""
    prepared = Prepared.of(row.prepared)
    if prepared is None:
        return ""
    for path, kept in prepared.files.items():
        try:
            if stamp(Path(path)) != kept:
                continue  # the next start sees that by itself
            sha256 = sha256_of(Path(path))
        except OSError:
            continue
        # A copy carries the beginning of its sum in its name.
        if (
            sha256 != prepared.boot_disk_sha256
            if path == prepared.boot_disk
            else not path.endswith(sha256[:12])
        ):
            return path
    return ""


def drop(job: Job) -> None:
    """Have a spoiled preparation made anew at the next start."""
    context = job.context
    row = context.row(job.domu)
    path = spoiled(row)
    if path:
        job.log.warning("%s was spoiled; it is made anew at the next start", path)
        context.alarms[f"spoiled:{row.id}"] = (
            f"A boot file of {row.description.name} was spoiled: {path}. See the disk."
        )
        context.journal.set_domu(row.id, prepared=None)
