"""`manage.py add_loaders FOLDER`, or `--image FILE --kind pv64`: the pvgrub images that servers boot through."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from vps.inspection import InspectionFailed, inspect_file
from vps.models import Loader
from vps.storage import keep_file

_KINDS = {"berth-pv64": Loader.Kind.PV64, "berth-pv32": Loader.Kind.PV32, "berth-pvh": Loader.Kind.PVH}


class Command(BaseCommand):
    help = "Add the loaders that packaging/loaders/build made, or one image of another origin."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, nargs="?", help="with loaders.json and the images")
        parser.add_argument("--image", type=Path, help="one image, such as a legacy pv-grub")
        parser.add_argument("--kind", choices=Loader.Kind.values, help="what the image is")
        parser.add_argument(
            "--label", default="", help="its version, as people call it: 'pv-grub of Xen 4.15'"
        )
        parser.add_argument("--built", default="", help="how it was built, or where it comes from")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["image"]:
            if not options["kind"]:
                raise CommandError("An image needs --kind: pv64, pv32 or pvh.")
            image = options["image"]
            build = {"file": image.name, "built": options["built"]}
            self._add(image, options["kind"], options["label"] or image.name, build)
            return
        if not options["folder"]:
            raise CommandError("Name the folder that packaging/loaders/build wrote, or --image FILE.")
        manifest = options["folder"] / "loaders.json"
        try:
            listed = json.loads(manifest.read_text())
            for entry in listed["images"]:
                build = {name: value for name, value in listed.items() if name != "images"} | entry
                self._add(
                    options["folder"] / entry["file"],
                    _KINDS[entry["name"]],
                    f"GRUB {listed.get('grub')}",
                    build,
                )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CommandError(f"{manifest} cannot be read as a list of loaders: {error!r}") from error

    def _add(self, image: Path, kind: str, label: str, build: dict[str, Any]) -> None:
        folder = Path(settings.BERTH_STAGING_DIR)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            copy = Path(place) / "loader"
            try:
                shutil.copyfile(image, copy)
                report = inspect_file(copy, Path(place)).report
            except (OSError, InspectionFailed) as error:
                raise CommandError(f"{image} cannot be inspected: {error}") from error
            if report.get("role") != "loader":
                raise CommandError(f"{image} is no loader: {report.get('summary') or report.get('reason')}")
            if kind != (found := _kind(report)):
                raise CommandError(
                    f"{image} is an image for {found}, not for {kind}: {report.get('summary')}"
                )
            sha256 = hashlib.sha256(copy.read_bytes()).hexdigest()
            if build.get("sha256", sha256) != sha256:
                raise CommandError(f"{image} has the sum {sha256}, not the one that its list tells.")
            build = {
                **build,
                "sha256": sha256,
                "size": copy.stat().st_size,
                "inspected": report.get("summary"),
            }
            loader, made = Loader.add(kind, keep_file(copy, sha256), label, build)
        self.stdout.write(f"{loader}: {'added' if made else 'was there already'}, {sha256[:16]}")


def _kind(report: dict[str, Any]) -> str:
    """What an image can be used for, by its inspection."""
    if not report.get("pv"):
        return Loader.Kind.PVH.value
    return (Loader.Kind.PV32 if report.get("architecture") == "x86_32" else Loader.Kind.PV64).value
