"""`manage.py collector`: the reports of all dom0s into rows, and the sweep; one process, two threads."""

from __future__ import annotations

import logging
import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from vps.collector import collect, sweep_forever

log = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Apply the reports of the dom0s and sweep, until SIGTERM."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--sweep-every", type=float, default=2.0, help="seconds between two sweeps")

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        sweeper = threading.Thread(
            target=sweep_forever, args=(stop, options["sweep_every"]), name="sweep", daemon=True
        )
        sweeper.start()
        collect(stop)
        sweeper.join(timeout=3)
