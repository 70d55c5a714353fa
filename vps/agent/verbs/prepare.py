"""Make ready all that the next start needs. Nothing of a running domain changes."""

from __future__ import annotations

from typing import Any

from vps.agent import preparation
from vps.agent.context import Job


def prepare(job: Job) -> dict[str, Any]:
    result = preparation.prepare(job).result()
    preparation.forget_blobs(job.context)
    return result
