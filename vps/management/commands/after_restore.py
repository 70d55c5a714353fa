"""`manage.py after_restore`: run once after a backup of the database was put back, before people come in."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from vps.restoration import go_on


class Command(BaseCommand):
    help = (
        "Raise the epoch of all servers, give up what was under way in the backup, log everybody out, and have every "
        "server prepared anew by its dom0. Nothing that runs is stopped."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--yes", action="store_true", help="a backup was restored, and this is the database"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["yes"]:
            raise CommandError("Say --yes if a backup was restored: everybody is logged out by this.")
        done = go_on()
        self.stdout.write(
            f"Epoch {done.epoch}. {done.given_up} operations of the backup were given up, {done.prepared} servers are "
            "prepared anew."
        )
        for line in done.refused:
            self.stdout.write(f"Not prepared: {line}")
