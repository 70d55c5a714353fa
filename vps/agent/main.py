"""`berth-agent`: run, check, version."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from vps.agent.config import Config, ConfigRefused, load
from vps.agent.version import agent_version

DEFAULT_CONFIG = "/etc/berth/agent.toml"


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Gives the exit status: 0 well, 1 something is missing, 2 it cannot be run so."""
    parser = argparse.ArgumentParser(prog="berth-agent", description="The agent of a Xen dom0.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("run", "run the agent in the foreground"),
        ("check", "say what this dom0 lacks, a line for each item"),
        ("heads", "print what was kept of the web's chain of events, for manage.py verify_events"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", type=Path, default=Path(DEFAULT_CONFIG), metavar="FILE")
    commands.add_parser("version", help="print the version")
    arguments = parser.parse_args(argv)
    if arguments.command == "version":
        print(agent_version())
        return 0
    try:
        config = load(arguments.config)
    except ConfigRefused as error:
        print(f"berth-agent: {error}", file=sys.stderr)
        return 2
    if arguments.command == "check":
        from vps.agent.check import check

        return check(config)
    if arguments.command == "heads":
        return print_heads(config)
    return run(config)


def print_heads(config: Config) -> int:
    """A line for each head that is kept: its number and its seal."""
    from vps.agent.journal import Journal, JournalRefused

    try:
        journal = Journal(config.journal_path)
    except JournalRefused as error:
        print(f"berth-agent: {error}", file=sys.stderr)
        return 2
    for head in journal.heads():
        print(head.seq, head.seal)
    journal.close()
    return 0


def run(config: Config) -> int:
    """Run until SIGTERM or SIGINT."""
    from vps.agent.agent import Agent, AgentRefused
    from vps.agent.console import Consoles
    from vps.agent.journal import JournalRefused
    from vps.agent.logs import log_to_stderr

    log_to_stderr(config.log)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        agent = Agent(config, Consoles)
    except (AgentRefused, JournalRefused) as error:
        print(f"berth-agent: {error}", file=sys.stderr)
        return 2
    agent.start()
    ended.wait()
    logging.getLogger(__name__).info("ending; the domains go on")
    agent.stop()
    logging.shutdown()
    # Threads may still wait for an answer of xl or Redis; what they do is in the journal.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
