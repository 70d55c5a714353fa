"""`manage.py burnin DOM0`: the whole way on a dom0 of a live installation, with a server that is thrown away."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import redis
from django.core.management.base import BaseCommand, CommandError

from accounts.models import QuotaExceeded, User
from vps import burnin_kernel
from vps.burnin import Burnin, Failed, Wishes
from vps.models import Conflict, Dom0, NoRoom
from vps.redis import client
from vps.uploads import UploadRefused
from vps.xen.description import GuestOS


class Command(BaseCommand):
    help = (
        "Asks for a server, approves it on DOM0, uploads a kernel, boots it, reads its console, reboots it, shuts it "
        "down, deletes and wipes it; prints what each step took. Everything is removed, also when a step fails; of "
        "the tenant and the account only empty rows remain, which events and ledgers name. Run it where the web runs."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("dom0", help="its name")
        parser.add_argument("--by", default="", help="the operator who approves, by e-mail address")
        parser.add_argument(
            "--kernel", type=Path, help="without it a kernel that only a simulated dom0 boots"
        )
        parser.add_argument("--ramdisk", type=Path, help="that goes with the kernel")
        parser.add_argument("--arguments", default="", help="of the kernel")
        parser.add_argument(
            "--expect", default="", help="what its console says when it is well; 'Linux version'"
        )
        parser.add_argument("--guest-os", default="linux", choices=[os.value for os in GuestOS])
        parser.add_argument("--memory", type=int, default=192, help="MiB")
        parser.add_argument("--disk", type=int, default=32, help="MiB")
        parser.add_argument(
            "--hard",
            action="store_true",
            help="the kernel has no system that ends when it is asked to: destroy instead of reboot and shutdown",
        )
        parser.add_argument(
            "--seconds", type=float, default=180, help="for each step, before it counts as failed"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        dom0 = Dom0.objects.filter(name=options["dom0"]).first()
        if dom0 is None:
            names = ", ".join(Dom0.objects.values_list("name", flat=True)) or "none"
            raise CommandError(f"There is no dom0 {options['dom0']}; there are: {names}.")
        if options["kernel"] is None and not dom0.simulated:
            raise CommandError(f"{dom0} has a real Xen: name a kernel that it can boot with --kernel.")
        if why := dom0.why_not(options["memory"], 1, options["disk"]):
            raise CommandError(why)
        try:
            client().ping()
        except redis.RedisError as error:
            raise CommandError(
                f"Redis cannot be reached ({error}): set BERTH_REDIS_URL as the web has it."
            ) from error
        try:
            Burnin(dom0, self._operator(options["by"]), self._wishes(options), self._say).run()
        except (Failed, Conflict, NoRoom, QuotaExceeded, UploadRefused, redis.RedisError) as error:
            raise CommandError(str(error)) from error

    def _operator(self, email: str) -> User:
        rows = User.objects.filter(is_operator=True, is_active=True).order_by("date_joined")
        found = rows.filter(email__iexact=email).first() if email else rows.first()
        if found is None:
            raise CommandError(
                f"There is no operator {email}." if email else "There is no operator to approve it."
            )
        return found

    def _wishes(self, options: dict[str, Any]) -> Wishes:
        kernel: Path | None = options["kernel"]
        try:
            return Wishes(
                kernel=kernel.read_bytes() if kernel else burnin_kernel.kernel(),
                filename=kernel.name if kernel else "burnin-kernel",
                ramdisk=options["ramdisk"].read_bytes() if options["ramdisk"] else b"",
                arguments=options["arguments"],
                expect=options["expect"] or "Linux version",
                guest_os=options["guest_os"],
                memory_mib=options["memory"],
                disk_mib=options["disk"],
                hard=options["hard"],
                patience=options["seconds"],
            )
        except OSError as error:
            raise CommandError(f"{error.filename} cannot be read: {error.strerror}.") from error

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
