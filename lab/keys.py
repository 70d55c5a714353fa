"""The lab's own SSH keys: one that dom0 shows, one that opens it. They are good for nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab import cache
from lab.commands import run

ALIAS = "berth-lab"


@dataclass(frozen=True)
class Keys:
    """Files: private user key, private host key, and the known_hosts that goes with it."""

    user: Path
    host: Path
    known_hosts: Path

    @property
    def public(self) -> str:
        return self.user.with_suffix(".pub").read_text()


def keys() -> Keys:
    """Make the keys once for each cache folder."""

    def make(place: Path) -> None:
        for name in ("user", "host"):
            run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"{ALIAS}-{name}", "-f", place / name],
                timeout=30,
            )
        public = (place / "host.pub").read_text()
        (place / "known_hosts").write_text(f"{ALIAS} {public}")

    place = cache.kept("keys", {"form": 1}, make)
    return Keys(place / "user", place / "host", place / "known_hosts")
