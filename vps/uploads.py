"""Kernels on their way in: by offset into a staging file, so that a broken upload goes on where it stopped.

A piece is written, fsynced, and only then counted; `Upload.offset` is what is safe. Two senders of one upload are
kept apart by a lock on the file, and the second is told the true offset. With a storage of objects the pieces wait
there instead (vps.pieces), and the count itself keeps senders apart.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Resource, Tenant, User
from accounts.models.quota import release, size_text, use
from vps import pieces as stored
from vps.models import Conflict, Event, Kernel, KernelVersion, Upload, UploadToken

_KERNEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
ABANDONED = timedelta(hours=24)


class UploadRefused(ValueError):
    """An upload that cannot begin or go on; the text says why and what to do."""


class WrongOffset(UploadRefused):
    """The piece does not begin where the safe part ends; `offset` says where that is."""

    def __init__(self, offset: int) -> None:
        super().__init__(_("The upload stands at byte %(offset)s; go on from there.") % {"offset": offset})
        self.offset = offset


def begin(
    *,
    tenant: Tenant | None,
    user: User,
    kernel_name: str,
    filename: str,
    size: int,
    sha256: str = "",
    part: str = Upload.Part.KERNEL,
    onto: KernelVersion | None = None,
    token: UploadToken | None = None,
) -> Upload:
    """Begin an upload of `size` bytes; `tenant` None is the catalogue. Raises UploadRefused, QuotaExceeded.

    A part other than the kernel goes `onto` a version of the same tenant's.
    """
    check(kernel_name, filename, size, sha256)
    if onto is not None:
        _check_onto(onto)
    with transaction.atomic():
        upload = Upload.objects.create(
            tenant=tenant,
            user=user,
            part=part,
            onto=onto,
            token=token,
            kernel_name=kernel_name,
            filename=Path(filename).name[:255] or part,
            size=size,
            sha256=sha256,
        )
        if tenant is not None:
            use(tenant, {Resource.KERNELS: size}, subject(upload), f"upload of {upload.filename}", user)
    return upload


def check(kernel_name: str, filename: str, size: int, sha256: str) -> None:
    """Whether such an upload may begin. Raises UploadRefused."""
    if not _KERNEL_NAME.fullmatch(kernel_name):
        raise UploadRefused(
            _(
                "%(name)r cannot be a kernel's name; use letters, digits and . _ - and begin with a letter or digit."
            )
            % {"name": kernel_name[:80]}
        )
    if size <= 0:
        raise UploadRefused(_("%(file)s is empty; choose the file itself.") % {"file": filename[:80]})
    if size > settings.BERTH_KERNEL_LIMIT:
        raise UploadRefused(
            _("%(file)s is %(size)s; the limit is %(limit)s.")
            % {
                "file": filename[:80],
                "size": size_text(size),
                "limit": size_text(settings.BERTH_KERNEL_LIMIT),
            }
        )
    if sha256 and not _SHA256.fullmatch(sha256):
        raise UploadRefused(_("The SHA-256 must be 64 hexadecimal digits in small letters."))


def _check_onto(version: KernelVersion) -> None:
    if version.deleted_at:
        raise UploadRefused(_("%(version)s was deleted; choose another version.") % {"version": version})
    if version.state == KernelVersion.State.REFUSED:
        raise UploadRefused(
            _("%(version)s cannot boot, so nothing can stand beside it.") % {"version": version}
        )


def staging(upload: Upload) -> Path:
    """Where its bytes are until they are complete."""
    return Path(settings.BERTH_STAGING_DIR) / str(upload.pk)


def receive(upload: Upload, offset: int, pieces: Iterable[bytes]) -> Upload:
    """Take the bytes that begin at `offset`. Raises WrongOffset, UploadRefused.

    What arrives before the sender breaks off is kept.
    """
    if stored.in_storage():
        _receive_object(upload, offset, pieces)
    else:
        _receive_file(upload, offset, pieces)
    if upload.offset == upload.size:
        finish(upload)
    return upload


def _receive_file(upload: Upload, offset: int, pieces: Iterable[bytes]) -> None:
    with _locked(upload) as file:
        _check_place(upload, offset)
        try:
            written = _write(file, upload, pieces)
        finally:
            os.fsync(file)
            safe = min(os.fstat(file).st_size, upload.size)
            Upload.objects.filter(pk=upload.pk, state=Upload.State.OPEN).update(
                offset=safe, touched_at=timezone.now()
            )
        upload.offset = offset + written


def _receive_object(upload: Upload, offset: int, pieces: Iterable[bytes]) -> None:
    _check_place(upload, offset)
    if upload.pieces.count() >= stored.MOST:
        raise UploadRefused(
            _("The upload came in more than %(most)s pieces; begin anew with larger ones.")
            % {"most": stored.MOST}
        )
    with tempfile.TemporaryFile(dir=_folder()) as file:
        try:
            for piece in _announced(upload, pieces):
                file.write(piece)
        finally:
            came = file.tell()
            if came and not stored.keep(upload, offset, file, came):
                upload.refresh_from_db()
                raise WrongOffset(upload.offset)
    upload.offset = offset + came


def _check_place(upload: Upload, offset: int) -> None:
    """Whether a piece may come at `offset`, as the row is now. Raises WrongOffset, UploadRefused."""
    upload.refresh_from_db()
    if upload.state != Upload.State.OPEN:
        raise UploadRefused(_("The upload has ended; begin a new one."))
    if offset != upload.offset:
        raise WrongOffset(upload.offset)


def _announced(upload: Upload, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces, up to the one that is beyond the size that was announced. Raises UploadRefused."""
    room = upload.size - upload.offset
    for piece in pieces:
        room -= len(piece)
        if room < 0:
            raise UploadRefused(
                _("More bytes came than the %(size)s that were announced; begin anew with the true size.")
                % {"size": upload.size}
            )
        yield piece


def _write(file: int, upload: Upload, pieces: Iterable[bytes]) -> int:
    os.ftruncate(file, upload.offset)
    os.lseek(file, upload.offset, os.SEEK_SET)
    written = 0
    for piece in _announced(upload, pieces):
        view = memoryview(piece)
        while view:
            count = os.write(file, view)
            view = view[count:]
            written += count
    return written


@contextmanager
def complete(upload: Upload) -> Iterator[Path | None]:
    """The file as it came, on this machine, for as long as the block lasts; None when it is lost."""
    if stored.in_storage():
        with stored.together(upload) as path:
            yield path
        return
    path = staging(upload)
    yield path if path.exists() else None


def forget_bytes(upload: Upload) -> None:
    """Remove what came, wherever it waits."""
    staging(upload).unlink(missing_ok=True)
    stored.forget(upload)


def _folder() -> Path:
    folder = Path(settings.BERTH_STAGING_DIR)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


@contextmanager
def _locked(upload: Upload) -> Iterator[int]:
    _folder()
    file = os.open(staging(upload), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UploadRefused(_("Another piece of this upload is being written; try again.")) from error
        yield file
    finally:
        os.close(file)


def finish(upload: Upload) -> KernelVersion | None:
    """All bytes are there: make the version, and have it inspected. A second call gives the same version.

    None for a part of a version: which one it goes onto is known when it was inspected.
    """
    from vps.tasks import inspect_part, inspect_version

    if upload.part != Upload.Part.KERNEL:
        with transaction.atomic():
            moved = Upload.objects.filter(
                pk=upload.pk, state=Upload.State.OPEN, offset=models.F("size")
            ).update(state=Upload.State.INSPECTING, touched_at=timezone.now())
            if moved:
                transaction.on_commit(lambda: inspect_part.ring(upload.pk))
        upload.refresh_from_db()
        return upload.version
    with transaction.atomic():
        row = Upload.objects.select_for_update().get(pk=upload.pk)
        if row.version is not None:
            upload.version = row.version
            return row.version
        if row.offset != row.size:
            raise Conflict(_("The upload is not complete."))
        kernel = _kernel(row)
        last = kernel.versions.order_by("-number").values_list("number", flat=True).first() or 0
        version = KernelVersion.objects.create(
            kernel=kernel, number=last + 1, filename=row.filename, uploaded_by=row.user
        )
        row.version, row.state = version, Upload.State.DONE
        row.save()
        Event.record(
            "kernel.uploaded",
            _("%(version)s was uploaded") % {"version": version},
            actor=row.user,
            tenant=row.tenant,
            after={"filename": row.filename, "size": row.size},
        )
        transaction.on_commit(lambda: inspect_version.ring(version.pk))
    upload.version, upload.state = version, row.state
    return version


def _kernel(upload: Upload) -> Kernel:
    if upload.tenant_id:
        Tenant.objects.select_for_update().get(pk=upload.tenant_id)
    kernel, _made = Kernel.objects.get_or_create(
        tenant=upload.tenant,
        name=upload.kernel_name,
        defaults={"in_catalogue": upload.tenant is None},
    )
    return Kernel.objects.select_for_update().get(pk=kernel.pk)


def abandon(upload: Upload, why: str) -> bool:
    """Give up an open upload: its quota and its bytes are given back. Whether it was open."""
    with transaction.atomic():
        moved = Upload.objects.filter(pk=upload.pk, state=Upload.State.OPEN).update(
            state=Upload.State.FAILED, error=why[:500]
        )
        if moved and upload.tenant is not None:
            release(upload.tenant, subject(upload), "abandoned")
    if moved:
        forget_bytes(upload)
    return bool(moved)


def forget_abandoned() -> int:
    """Remove uploads that nobody went on with for a day, and pieces that were left; gives of how many uploads."""
    old = Upload.objects.filter(state=Upload.State.OPEN, touched_at__lt=timezone.now() - ABANDONED)
    gone = sum(abandon(upload, _("It was not gone on with for a day.")) for upload in old[:100])
    return gone + stored.forget_left()


def subject(upload: Upload) -> str:
    """Its name in the quota ledger."""
    return f"upload:{upload.pk}"
