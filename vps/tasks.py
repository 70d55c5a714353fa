"""What the web's own worker does: sum up and inspect uploaded kernels.

A task may be lost or come twice: the row's state says what is to be done, and the sweep rings again.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from celery import Task
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from kombu.exceptions import OperationalError

from accounts.models import Resource
from accounts.models.quota import release, use
from vps import inspection
from vps.celery import app
from vps.inspection import InspectionFailed, inspect_file
from vps.models import Blob, Conflict, Event, KernelConfiguration, KernelVersion, Upload
from vps.storage import keep_file, sum_of
from vps.uploads import complete, forget_bytes, subject

log = logging.getLogger(__name__)
TRY_FOR = timedelta(minutes=15)  # the sweep rings again each minute


class Inspection(Task):  # type: ignore[misc]
    """A task that inspects one row, and how it is rung for."""

    def ring(self, row: UUID) -> bool:
        """Put it on the worker's queue; False when Redis is away (the sweep rings again)."""
        try:
            self.apply_async([str(row)], retry=False)
        except (OperationalError, OSError) as error:
            log.warning("inspection of %s waits, Redis is away: %s", row, error)
            return False
        return True


@app.task(base=Inspection, name="inspect_version")
def inspect_version(version_id: str) -> None:
    """Inspect one version that waits for it; a second call finds nothing to do."""
    version = KernelVersion.objects.filter(pk=version_id, state=KernelVersion.State.INSPECTING).first()
    if version is None:
        return
    upload = Upload.objects.filter(version=version).first()
    with complete(upload) if upload else nullcontext() as source:
        if source is not None:
            _inspect_version(version, upload, source)
        elif version.original_id is None:
            _refuse(version, upload, _("The file was lost before it was inspected; upload it again."))


def _inspect_version(version: KernelVersion, upload: Upload | None, source: Path) -> None:
    with source.open("rb") as file:
        sha256 = sum_of(file)
    if upload and upload.sha256 and upload.sha256 != sha256:
        _refuse(
            version,
            upload,
            _("The file's SHA-256 is %(is)s, not the announced %(told)s; upload it again.")
            % {"is": sha256, "told": upload.sha256},
        )
        forget_bytes(upload)
        return
    try:
        found = inspect_file(source, Path(settings.BERTH_STAGING_DIR))
    except InspectionFailed as error:
        log.error("inspecting %s: %s", version, error)
        if timezone.now() - version.created_at < TRY_FOR:
            raise
        _refuse(version, upload, _("It could not be inspected, by a fault of ours; upload it again later."))
        return
    options = found.report.pop("options", None) or []
    original = keep_file(source, sha256)
    plain = keep_file(found.plain) if found.plain else None
    with transaction.atomic():
        fresh = KernelVersion.objects.select_for_update().get(pk=version.pk)
        if fresh.state != KernelVersion.State.INSPECTING:
            return
        fresh.original, fresh.plain, fresh.report = original, plain, found.report
        fresh.state = (
            KernelVersion.State.OK if found.report["verdict"] == "ok" else KernelVersion.State.REFUSED
        )
        fresh.summary = str(found.report.get("summary") or found.report.get("reason") or "")[:500]
        fresh.save()
        if options:
            KernelConfiguration.objects.create(version=fresh, lines="\n".join(map(str, options)))
        _book(fresh, upload)
        Event.record(
            "kernel.inspected",
            _("%(version)s: %(state)s") % {"version": fresh, "state": fresh.get_state_display()},
            tenant=fresh.kernel.tenant,
            reason=fresh.summary,
        )
        waiting = Upload.objects.filter(onto=fresh, state=Upload.State.INSPECTING)
        for part in waiting.values_list("pk", flat=True):
            transaction.on_commit(partial(inspect_part.ring, part))
    if upload is not None:
        forget_bytes(upload)
    log.info("inspected %s: %s", fresh, fresh.state)


def _book(version: KernelVersion, upload: Upload | None) -> None:
    """The upload's quota becomes the version's; what is stored counts."""
    tenant = version.kernel.tenant
    if tenant is None:
        return
    if upload is not None:
        release(tenant, subject(upload), "inspected")
    stored = sum(blob.size for blob in (version.original, version.plain) if blob)
    # The plain kernel was made by us: it may exceed what is left, and is marked as over.
    use(tenant, {Resource.KERNELS: stored}, version.subject, str(version), over=True)


def _refuse(version: KernelVersion, upload: Upload | None, why: str) -> None:
    with transaction.atomic():
        report: dict[str, Any] = {"verdict": "refused", "reason": why, "paths": {}}
        KernelVersion.objects.filter(pk=version.pk, state=KernelVersion.State.INSPECTING).update(
            state=KernelVersion.State.REFUSED, report=report, summary=why[:500]
        )
        if upload is not None and upload.tenant is not None:
            release(upload.tenant, subject(upload), "refused")


@app.task(base=Inspection, name="inspect_part")
def inspect_part(upload_id: str) -> None:
    """Inspect a ramdisk or modules, and put them onto their version; a second call finds nothing to do."""
    upload = Upload.objects.filter(pk=upload_id, state=Upload.State.INSPECTING).first()
    # While the kernel itself is being inspected, its parts wait; the end of that rings for them.
    if upload is None or upload.onto is None or upload.onto.state == KernelVersion.State.INSPECTING:
        return
    with complete(upload) as source:
        if source is None:
            _fail(upload, _("The file was lost before it was inspected; upload it again."))
        else:
            _inspect_part(upload, upload.onto, source)


def _inspect_part(upload: Upload, onto: KernelVersion, source: Path) -> None:
    with source.open("rb") as file:
        sha256 = sum_of(file)
    if upload.sha256 and upload.sha256 != sha256:
        _fail(
            upload,
            _("The file's SHA-256 is %(is)s, not the announced %(told)s; upload it again.")
            % {"is": sha256, "told": upload.sha256},
        )
        return
    try:
        report = inspection.inspect_part(source, upload.part)
    except InspectionFailed as error:
        log.error("inspecting the %s of %s: %s", upload.part, onto, error)
        if timezone.now() - upload.touched_at < TRY_FOR:
            raise
        _fail(upload, _("It could not be inspected, by a fault of ours; upload it again later."))
        return
    if report["verdict"] != "ok":
        _fail(upload, str(report["reason"]))
        return
    blob = keep_file(source, sha256)
    try:
        _put_onto(upload, blob, report)
    except Conflict as error:
        _fail(upload, str(error))
    else:
        forget_bytes(upload)


def _put_onto(upload: Upload, blob: Blob, report: dict[str, Any]) -> None:
    with transaction.atomic():
        row = Upload.objects.select_for_update().get(pk=upload.pk)
        if row.state != Upload.State.INSPECTING or row.onto is None:
            return
        if row.tenant is not None:
            release(row.tenant, subject(row), "inspected")
        version = row.onto.with_part(row.part, blob, row.filename, report, row.user)
        row.version, row.state = version, Upload.State.DONE
        row.save()
        Event.record(
            "kernel.part",
            _("%(version)s has a part now: %(part)s") % {"version": version, "part": row.get_part_display()},
            actor=row.user,
            tenant=row.tenant,
            reason=str(report.get("summary") or "")[:500],
            after={"filename": row.filename, "size": row.size, "sha256": blob.sha256},
        )


def _fail(upload: Upload, why: str) -> None:
    """Nothing came of a part: say why, and give its quota back."""
    with transaction.atomic():
        moved = Upload.objects.filter(pk=upload.pk, state=Upload.State.INSPECTING).update(
            state=Upload.State.FAILED, error=why[:500], touched_at=timezone.now()
        )
        if moved and upload.tenant is not None:
            release(upload.tenant, subject(upload), "refused")
    forget_bytes(upload)
