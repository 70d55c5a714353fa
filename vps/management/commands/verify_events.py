"""`manage.py verify_events`: whether the chain of events is whole, also by what the dom0s were told of it."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import redis
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from vps import dispatch
from vps.chain import kept_heads, verify
from vps.models import Dom0
from vps.xen.messages import Head, NoteKind


class Command(BaseCommand):
    help = (
        "Recompute the chain of events, and compare it with the heads that the dom0s keep in their journals. "
        "Exit status 1 when anything was changed, removed, slipped in or cut off."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--heads",
            action="append",
            type=Path,
            default=[],
            metavar="FILE",
            help="what `berth-agent heads` printed on a dom0; may be given several times",
        )
        parser.add_argument(
            "--wait", type=float, default=15.0, help="seconds to wait for the dom0s' answers; 0 asks none"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        heads = [head for path in options["heads"] for head in read_heads(path)]
        told, silent = self._ask(options["wait"])
        found = verify([*heads, *told])
        for note in found.notes:
            self.stdout.write(note)
        if silent:
            self.stdout.write(
                f"Not heard, so not compared: {', '.join(silent)}. Run `berth-agent heads` there, and give its "
                "output with --heads."
            )
        self.stdout.write(
            f"{found.sealed} events are sealed, {found.unsealed} wait for it; compared with "
            f"{len(heads) + len(told)} heads."
        )
        if found.faults:
            raise CommandError("\n".join(found.faults), returncode=1)
        self.stdout.write("The chain is whole.")

    def _ask(self, seconds: float) -> tuple[list[tuple[str, Head]], list[str]]:
        """Heads of inventories that came after the asking, and the names of the dom0s that sent none."""
        names = set(Dom0.objects.values_list("name", flat=True))
        if not names or seconds <= 0:
            return [], sorted(names)
        began = timezone.now()
        try:
            for dom0 in Dom0.objects.all():
                dispatch.note(dom0, NoteKind.LOOK, {})
        except redis.RedisError as error:
            self.stderr.write(f"Redis cannot be reached, so no dom0 can be asked: {error}")
            return [], sorted(names)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not Dom0.objects.exclude(heard_at__gt=began).exists():
                break
            time.sleep(0.2)
        heard = set(Dom0.objects.filter(heard_at__gt=began).values_list("name", flat=True))
        return kept_heads(began), sorted(names - heard)


def read_heads(path: Path) -> list[tuple[str, Head]]:
    """The lines of `berth-agent heads`. Raises CommandError for a file that is none."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from error
    found = []
    for number, line in enumerate(filter(None, map(str.strip, lines)), 1):
        seq, _, seal = line.partition(" ")
        head = Head.of([int(seq), seal]) if seq.isdecimal() and len(seq) < 20 else None
        if head is None:
            raise CommandError(
                f"{path}, line {number}, is not what `berth-agent heads` prints: {line[:80]!r}"
            )
        found.append((path.name, head))
    return found
