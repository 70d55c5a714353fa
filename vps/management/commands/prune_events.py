"""`manage.py prune_events`: forget old events, and keep the chain of the others."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import UTC, date, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from vps.chain import prune_events


class Command(BaseCommand):
    help = "Remove events of days before DATE (UTC). What was the last of them stays known, and the chain goes on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("before", metavar="DATE", help="the first day to keep, such as 2026-01-01")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            day = date.fromisoformat(options["before"])
        except ValueError as error:
            raise CommandError(f"{options['before']!r} is not a day such as 2026-01-01.") from error
        before = datetime(day.year, day.month, day.day, tzinfo=UTC)
        if before > timezone.now():
            raise CommandError(f"{day} has not come yet; nothing was removed.")
        self.stdout.write(f"{prune_events(before)} events were removed.")
