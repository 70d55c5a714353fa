"""A worker on its own that journals every order: the process that test_transport.py kills."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from vps.agent.config import load
from vps.agent.journal import Journal
from vps.agent.worker import Worker
from vps.xen.messages import Outcome, TrustedKeys


def main() -> None:
    config = load(Path(sys.argv[1]))
    keys = TrustedKeys(config.trusted_keys)
    journal = Journal(config.journal_path)

    def accept(envelope: str) -> None:
        journal.accept(keys.order(envelope, config.dom0), Outcome.ACCEPTED, 0)

    Worker(config, accept).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
