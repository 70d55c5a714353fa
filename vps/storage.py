"""Files by content: into the storage, under their sum, each once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from django.core.files.base import File
from django.core.files.storage import default_storage
from django.db import transaction

from vps.models.kernel import Blob

_PIECE = 256 * 1024


class _Movable(File):
    """A file that a file system storage may rename instead of copying."""

    def temporary_file_path(self) -> str:
        return str(self.name)


def keep_file(path: Path, sha256: str | None = None) -> Blob:
    """Move the file at `path` into the storage. `sha256`: where its sum is known already.

    The row is written last: a crash leaves at most a file that nobody names. Two at once keep one row.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = sha256 or sum_of(file)
        # Taken up again, should it be about to be removed.
        Blob.objects.filter(pk=digest).update(unneeded_since=None)
        found = Blob.objects.filter(pk=digest).first()
        if found and default_storage.exists(found.name):
            path.unlink()
            return found
        file.seek(0)
        name = default_storage.save(f"blobs/{digest[:2]}/{digest}", _Movable(file, name=str(path)))
    path.unlink(missing_ok=True)  # a storage elsewhere took a copy
    with transaction.atomic():
        blob, _ = Blob.objects.update_or_create(pk=digest, defaults={"size": size, "name": name})
    return blob


def pieces_of(blob: Blob, start: int = 0) -> Iterator[bytes]:
    """The bytes of a blob from `start` on. Raises OSError, or what the storage raises, before the first of them."""
    if start >= blob.size:
        return iter(())
    # What django-storages opens it fetches whole, before the first byte.
    if bucket := getattr(default_storage, "bucket", None):
        answer = bucket.Object(blob.name).get(Range=f"bytes={start}-")
        return iter(answer["Body"].iter_chunks(_PIECE))
    file = default_storage.open(blob.name, "rb")
    file.seek(start)
    return _read(file)


def _read(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(_PIECE):
            yield piece


def sum_of(file: IO[bytes]) -> str:
    """SHA-256 of what is left of an open file."""
    return hashlib.file_digest(file, "sha256").hexdigest()
