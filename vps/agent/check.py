"""`berth-agent check`: what this dom0 has and lacks, a line for each item."""

from __future__ import annotations

from vps.agent.config import Config


def check(config: Config) -> int:
    raise NotImplementedError
