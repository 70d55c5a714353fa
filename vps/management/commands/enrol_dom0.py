"""`manage.py enrol_dom0 NAME --out FILE`: a row, a Redis user, and the agent's configuration file."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from vps.enrolment import agent_toml, enrol, simulated_toml
from vps.models import Dom0


class Command(BaseCommand):
    help = (
        "Enrol a dom0 and write its agent's configuration (mode 0600; the credential is shown nowhere else)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--out", type=Path, required=True, help="where the configuration is written")
        parser.add_argument("--simulated", action="store_true", help="a simulated dom0")
        parser.add_argument("--state-dir", type=Path, help="of a simulated dom0: where its files are")
        parser.add_argument("--bridge", default="xenbr0", help="the bridge of guests on this dom0")
        parser.add_argument("--redis", default="", help="how the dom0 reaches Redis")
        parser.add_argument("--web", default="", help="how the dom0 reaches the web")

    def handle(self, *args: Any, **options: Any) -> None:
        out: Path = options["out"]
        existing = Dom0.objects.filter(name=options["name"]).first()
        if existing and out.exists() and str(existing.pk) in out.read_text():
            self.stdout.write(f"{existing.name} is enrolled already; {out} is kept.")
            return
        if options["simulated"] and not options["state_dir"]:
            raise CommandError("A simulated dom0 needs --state-dir, a folder for its files.")
        with transaction.atomic():
            dom0, secret = enrol(options["name"], simulated=options["simulated"], bridge=options["bridge"])
            where = {
                "redis": options["redis"] or settings.BERTH_AGENT_REDIS_URL,
                "web": options["web"] or settings.BERTH_AGENT_WEB_URL,
            }
            text = (
                simulated_toml(dom0, secret, options["state_dir"].resolve(), **where)
                if options["simulated"]
                else agent_toml(dom0, secret, **where)
            )
            if options["simulated"]:
                (options["state_dir"] / "etc-xen").mkdir(parents=True, exist_ok=True)
            out.parent.mkdir(parents=True, exist_ok=True)
            out.touch(mode=0o600)
            out.chmod(0o600)
            out.write_text(text)
        self.stdout.write(f"{dom0.name} is enrolled; start its agent with: berth-agent run --config {out}")
