"""Files of kernels that nothing needs any more: marked, kept for a while, and removed from the storage.

A deleted version lets go of its files; the row stays for what names it. A file is needed while a version, a loader, a
menu that a dom0 has or will get, the menu of a run that goes on, or an open operation names it. Two versions of the
same bytes share one file, and each holds it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Exists, OuterRef, ProtectedError, Q, QuerySet
from django.db.models.functions import Least
from django.utils import timezone

from vps.models import Blob, BootMenu, BootRecord, KernelVersion, Loader, Operation
from vps.xen.description import Boot

log = logging.getLogger(__name__)
_FILES = ("original", "plain", "ramdisk", "modules")
AT_ONCE = 50  # files, or versions, of one round


def collect() -> int:
    """One round; gives how many files were removed."""
    _let_go()
    marks = dict(_held_by_none().values_list("pk", "unneeded_since"))
    held_again = Blob.objects.exclude(unneeded_since=None).exclude(pk__in=marks)
    named = set(_named()) if marks else set()
    now = timezone.now()
    limit = now - timedelta(days=settings.BERTH_FILE_DAYS)
    _mark([*held_again.values_list("pk", flat=True), *(pk for pk in named if marks.get(pk))], None)
    _mark([pk for pk, since in marks.items() if since is None and pk not in named], now)
    due = [pk for pk, since in marks.items() if since is not None and since < limit and pk not in named]
    return sum(_remove(pk, limit) for pk in due[:AT_ONCE])


def _mark(files: list[str], since: datetime | None) -> None:
    if files:  # else nothing is written, round after round
        Blob.objects.filter(pk__in=files).update(unneeded_since=since)


def _let_go() -> None:
    """Deleted versions forget their files. (What stands in a menu in force cannot be deleted.)"""
    holding = Q(*((f"{name}__isnull", False) for name in _FILES), _connector=Q.OR)
    gone = KernelVersion.objects.exclude(deleted_at=None).filter(holding)
    for version in gone[:AT_ONCE]:
        if not version.in_use:
            KernelVersion.objects.filter(pk=version.pk).update(**dict.fromkeys(_FILES))


def _held_by_none() -> QuerySet[Blob]:
    """The files that no row holds."""
    held = [Exists(KernelVersion.objects.filter(**{name: OuterRef("pk")})) for name in _FILES]
    rows = Blob.objects.exclude(Exists(Loader.objects.filter(blob=OuterRef("pk"))))
    for condition in held:
        rows = rows.exclude(condition)
    return rows


def _named() -> Iterator[str]:
    """The sums that menus and orders name."""
    menus = BootMenu.objects.filter(
        Q(serial__gte=Least("domu__menu_serial", "domu__prepared_serial"), domu__purged_at=None)
        | Exists(
            BootRecord.objects.filter(domu=OuterRef("domu"), menu_serial=OuterRef("serial"), ended_at=None)
        )
    )
    yield from _sums(menus.values_list("boot", flat=True).iterator())
    for body in Operation.objects.open().values_list("body", flat=True).iterator():
        parts = ((body.get("domu") or {}), (body.get("try") or {}), (body.get("trial") or {}))
        yield from _sums(part["boot"] for part in parts if "boot" in part)


def _sums(boots: Iterable[object]) -> Iterator[str]:
    for boot in boots:
        yield from (ref.sha256 for ref in Boot.of(boot).blobs())


def _remove(pk: str, limit: datetime) -> bool:
    """Remove one file; False when somebody took it up meanwhile."""
    try:
        with transaction.atomic():
            row = Blob.objects.select_for_update().filter(pk=pk, unneeded_since__lt=limit).first()
            if row is None:
                return False
            row.delete()
            transaction.on_commit(lambda: default_storage.delete(row.name))
    except ProtectedError:
        return False
    log.info("the file %s was removed: nothing needs it any more", pk[:12])
    return True
