"""`manage.py roll_signing_key`: a new signing key for the web, without stopping anything."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from vps.models import Dom0, Event
from vps.signing import (
    RollRefused,
    begin_roll,
    finish_roll,
    other_key,
    retire_old,
    signing_key,
    trusted_by,
)


class Command(BaseCommand):
    help = (
        "begin: make the next key and have the dom0s trust it; status: who does; finish: sign with it; retire: have "
        "the dom0s trust the old one no more. Where several machines run the web, copy the files between the steps."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("step", choices=["begin", "status", "finish", "retire"])
        parser.add_argument(
            "--without", action="append", default=[], metavar="NAME", help="a dom0 not to wait for"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        without = frozenset(options["without"])
        if unknown := without - set(Dom0.objects.values_list("name", flat=True)):
            raise CommandError(f"There is no dom0 named {', '.join(sorted(unknown))}.")
        try:
            self._step(options["step"], without)
        except RollRefused as error:
            raise CommandError(str(error)) from error

    def _step(self, step: str, without: frozenset[str]) -> None:
        if step == "begin":
            self._told("begun", begin_roll().kid)
        elif step == "finish":
            self._told("finished", finish_roll(without).kid)
        elif step == "retire":
            self._told("retired", retire_old(without))
        self._status()

    def _told(self, what: str, kid: str) -> None:
        with transaction.atomic():
            Event.record(f"signing.{what}", f"Rolling the signing key: {what}, key {kid}")

    def _status(self) -> None:
        keys = {"signs": signing_key(), "next": other_key("next"), "old": other_key("old")}
        for name, key in keys.items():
            if key:
                self.stdout.write(f"{name:6} {key.kid}")
        for dom0 in Dom0.objects.all():
            names = [name for name, key in keys.items() if key and key.kid in trusted_by(dom0)]
            heard = "" if dom0.heard_lately else ", not heard lately"
            self.stdout.write(
                f"{dom0.name}: trusts {', '.join(names) or 'none of them, as far as it says'}{heard}"
            )
