"""An upload's bytes in a storage that all web nodes reach: an object for each piece, and a row that counts it.

Nodes then share nothing but database, Redis and storage: any of them takes the next piece, and one that dies takes
nothing with it. An object that was put and not counted (two senders at once, or a node that died in between) is not
of the upload. Pieces begin where the one before ended, so their rows are the file.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import default_storage
from django.db import transaction
from django.utils import timezone

from vps.models import KernelVersion, Upload, UploadPiece

MOST = 1000  # pieces of one upload; 256 MiB in pieces of 8 MiB are 32
_READ = 1024 * 1024


def in_storage() -> bool:
    """Whether uploads wait in the storage; else in files of a folder that all web nodes see."""
    return bool(settings.BERTH_S3_BUCKET)


def keep(upload: Upload, offset: int, file: IO[bytes], size: int) -> bool:
    """Put a piece and count it; False when another sender was first, and nothing of this one is kept."""
    draft = f"staging/{upload.pk}/{offset:010d}-{secrets.token_hex(4)}"
    file.seek(0)
    name = default_storage.save(draft, File(file, name=draft))
    with transaction.atomic():
        moved = Upload.objects.filter(pk=upload.pk, state=Upload.State.OPEN, offset=offset).update(
            offset=offset + size, touched_at=timezone.now()
        )
        if moved:
            UploadPiece.objects.create(upload=upload, offset=offset, size=size, name=name)
    if not moved:
        default_storage.delete(name)
    return bool(moved)


@contextmanager
def together(upload: Upload) -> Iterator[Path | None]:
    """The pieces as one file of this machine, for as long as the block lasts; None when there are none."""
    rows = list(upload.pieces.order_by("offset"))
    if not rows:
        yield None
        return
    folder = Path(settings.BERTH_STAGING_DIR)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=f"{upload.pk}.", delete=False) as whole:
        path = Path(whole.name)
        try:
            for row in rows:
                with default_storage.open(row.name, "rb") as piece:
                    while data := piece.read(_READ):
                        whole.write(data)
            whole.flush()
            yield path
        finally:
            path.unlink(missing_ok=True)  # whoever keeps it has moved it


def forget(upload: Upload) -> None:
    """Remove the pieces; a second call removes what the first one could not."""
    for row in upload.pieces.all():
        default_storage.delete(row.name)
        row.delete()


def forget_left() -> int:
    """Remove the pieces of uploads that need none any more, whose end was cut off; gives of how many uploads."""
    needed = {"version__state": KernelVersion.State.INSPECTING}
    ended = Upload.objects.filter(state__in=(Upload.State.DONE, Upload.State.FAILED)).exclude(**needed)
    left = ended.filter(pieces__isnull=False).distinct()[:100]
    for upload in left:
        forget(upload)
    return len(left)
