"""`manage.py first_run`: what the quick start needs to be usable at once."""

from __future__ import annotations

import json
import secrets
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management.base import BaseCommand
from django.db import transaction

from accounts.models import Installation, Tenant, User
from vps.models import Blob, Loader, Size

SIZES = [("Small", 256, 1, 1024), ("Medium", 512, 1, 4096), ("Large", 1024, 2, 8192)]
PEOPLE = [("operator@localhost", "Operator", True), ("owner@localhost", "Owner", False)]


class Command(BaseCommand):
    help = "Sizes, loaders of the simulated dom0, an operator, a tenant with its owner. Prints new passwords."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--data-dir", type=Path, help="not used; the settings say where data is")

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic():
            for name, memory, vcpus, disk in SIZES:
                Size.objects.get_or_create(
                    name=name, defaults={"memory_mib": memory, "vcpus": vcpus, "disk_mib": disk}
                )
            placeholder_loaders()
            Installation.objects.get_or_create(defaults={"sign_up": Installation.SignUp.OPEN})
            made = [person for person in (self._person(*row) for row in PEOPLE) if person]
        self.stdout.write(json.dumps({"accounts": made}))

    def _person(self, email: str, name: str, operator: bool) -> dict[str, str] | None:
        if User.objects.filter(email=email).exists():
            return None
        password = secrets.token_urlsafe(9)
        user = User.objects.create_user(email, password, name=name, is_operator=operator)
        if not operator:
            Tenant.found("Example", user)
        return {"email": email, "password": password, "role": "operator" if operator else "owner"}


def placeholder_loaders() -> None:
    """What stands for pvgrub on a simulated dom0; no real one takes them."""
    from vps.agent.sim.loader import placeholder

    for kind in Loader.Kind:
        if Loader.objects.filter(kind=kind, simulated=True).exists():
            continue
        blob = keep_blob(placeholder(kind.value))
        Loader.objects.create(kind=kind, blob=blob, version="placeholder", simulated=True)


def keep_blob(content: bytes) -> Blob:
    """Keep bytes in the storage under their sum."""
    import hashlib

    sha256 = hashlib.sha256(content).hexdigest()
    found = Blob.objects.filter(pk=sha256).first()
    if found:
        return found
    name = default_storage.save(f"blobs/{sha256[:2]}/{sha256}", ContentFile(content))
    return Blob.objects.create(sha256=sha256, size=len(content), name=name)
