"""Uploads and kernels in an S3 storage, by a server of that protocol (moto) on loopback."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from django.core.files.storage import default_storage
from django.utils import timezone
from storages.backends.s3 import S3Storage

from accounts.models import Membership, Role, Tenant, User
from accounts.models.quota import grant_default
from tests.kernels import netbsd
from vps import pieces, tasks, unneeded, uploads
from vps.models import Blob, KernelVersion, Upload, UploadPiece
from vps.quickstart import ports
from vps.storage import keep_file, pieces_of

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an S3 server, with the bucket `berth`."""
    port, log = ports.free_port(), tmp_path_factory.mktemp("s3") / "log"
    address = f"http://127.0.0.1:{port}"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=out,
            stderr=out,
            env={"PATH": os.environ["PATH"]},
        )
    try:
        give_up = time.monotonic() + 120
        while True:
            try:
                assert httpx.get(address, timeout=5).status_code < 500
                break
            except httpx.HTTPError:
                assert process.poll() is None and time.monotonic() < give_up, log.read_text()
                time.sleep(0.2)
        client = boto3.client(
            "s3", endpoint_url=address, region_name="us-east-1",
            aws_access_key_id="x", aws_secret_access_key="x",
        )  # fmt: skip
        client.create_bucket(Bucket="berth")
        client.close()
        yield address
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(autouse=True)
def storage(endpoint: str, settings: Any, tmp_path: Path) -> Iterator[Any]:
    """The settings of an S3 storage; gives its bucket, empty."""
    settings.BERTH_STAGING_DIR = tmp_path / "staging"
    settings.BERTH_S3_BUCKET = "berth"
    options = {
        "bucket_name": "berth", "endpoint_url": endpoint, "region_name": "us-east-1",
        "access_key": "x", "secret_key": "x", "file_overwrite": False, "max_memory_size": 1024,
        "client_config": Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    }  # fmt: skip
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options},
    }
    bucket = default_storage.bucket  # type: ignore[attr-defined]
    bucket.objects.all().delete()
    yield bucket
    bucket.meta.client.close()


@pytest.fixture(autouse=True)
def rung(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the worker was rung for, instead of a worker."""
    called: list[object] = []
    monkeypatch.setattr(tasks.inspect_version, "ring", called.append)
    return called


@pytest.fixture
def person() -> User:
    return User.objects.create_user("ann@example.org", "correct horse")


@pytest.fixture
def tenant(person: User) -> Tenant:
    tenant = Tenant.objects.create(name="Ann's")
    Membership.objects.create(tenant=tenant, user=person, role=Role.DEVELOPER)
    grant_default(tenant)
    return tenant


def begun(tenant: Tenant, person: User, content: bytes, **more: Any) -> Upload:
    return uploads.begin(
        tenant=tenant, user=person, kernel_name="k", filename="netbsd", size=len(content), **more
    )


def keys(bucket: Any) -> list[str]:
    return [one.key for one in bucket.objects.all()]


def test_pieces_become_a_kernel_and_are_removed(
    tenant: Tenant, person: User, storage: Any, settings: Any
) -> None:
    content = netbsd()
    upload = begun(tenant, person, content, sha256=hashlib.sha256(content).hexdigest())
    third = len(content) // 3
    for at in (0, third, 2 * third):
        end = len(content) if at == 2 * third else at + third
        uploads.receive(Upload.objects.get(pk=upload.pk), at, [content[at : at + 10], content[at + 10 : end]])
    assert len(keys(storage)) == 3 == UploadPiece.objects.count()
    upload.refresh_from_db()
    assert upload.state == Upload.State.DONE and upload.version is not None
    tasks.inspect_version(str(upload.version.pk))
    version = KernelVersion.objects.get(pk=upload.version.pk)
    assert version.state == KernelVersion.State.OK, version.summary
    assert version.original is not None
    assert b"".join(pieces_of(version.original)) == content
    assert all(key.startswith("blobs/") for key in keys(storage))
    assert UploadPiece.objects.count() == 0
    assert list(Path(settings.BERTH_STAGING_DIR).iterdir()) == []


def test_inspecting_again_after_a_worker_died(
    tenant: Tenant, person: User, storage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = netbsd()
    upload = uploads.receive(begun(tenant, person, content), 0, [content])
    assert upload.version is not None
    monkeypatch.setattr(tasks, "_book", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tasks.inspect_version(str(upload.version.pk))
    monkeypatch.undo()
    assert UploadPiece.objects.count() == 1, "kept until the row says what became of them"
    tasks.inspect_version(str(upload.version.pk))
    assert KernelVersion.objects.get(pk=upload.version.pk).state == KernelVersion.State.OK


def test_what_came_before_the_sender_broke_off_is_kept(tenant: Tenant, person: User, storage: Any) -> None:
    upload = begun(tenant, person, b"0123456789")

    def breaks_off() -> Iterator[bytes]:
        yield b"0123"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        uploads.receive(upload, 0, breaks_off())
    upload.refresh_from_db()
    assert upload.offset == 4
    with pytest.raises(uploads.WrongOffset) as wrong:
        uploads.receive(upload, 0, [b"01"])
    assert wrong.value.offset == 4
    uploads.receive(upload, 4, [b"456789"])
    with uploads.complete(upload) as path:
        assert path is not None and path.read_bytes() == b"0123456789"
    assert not path.exists()


def test_two_senders_at_once_are_one(tenant: Tenant, person: User, storage: Any) -> None:
    upload = begun(tenant, person, b"0123456789")
    other = Upload.objects.get(pk=upload.pk)

    def overtaken() -> Iterator[bytes]:
        yield b"01"
        uploads.receive(other, 0, [b"0123"])
        yield b"23456"

    with pytest.raises(uploads.WrongOffset) as wrong:
        uploads.receive(upload, 0, overtaken())
    assert wrong.value.offset == 4
    assert [piece.size for piece in upload.pieces.all()] == [4]
    assert keys(storage) == [piece.name for piece in upload.pieces.all()], "the late one's object is gone"


def test_too_many_pieces_are_refused(
    tenant: Tenant, person: User, storage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "MOST", 2)
    upload = begun(tenant, person, b"0123456789")
    for at in (0, 1):
        uploads.receive(upload, at, [b"x"])
    with pytest.raises(uploads.UploadRefused, match="more than 2 pieces"):
        uploads.receive(upload, 2, [b"x"])


def test_more_than_announced_is_refused(tenant: Tenant, person: User, storage: Any) -> None:
    upload = begun(tenant, person, b"0123")
    with pytest.raises(uploads.UploadRefused, match="More bytes came"):
        uploads.receive(upload, 0, [b"0123", b"4"])
    upload.refresh_from_db()
    assert upload.offset == 4


def test_abandoned_and_left_pieces_are_removed(tenant: Tenant, person: User, storage: Any) -> None:
    given_up = begun(tenant, person, b"0123")
    uploads.receive(given_up, 0, [b"01"])
    left = begun(tenant, person, b"0123")
    uploads.receive(left, 0, [b"01"])
    Upload.objects.filter(pk=left.pk).update(state=Upload.State.FAILED)  # and the process died there
    going_on = begun(tenant, person, b"0123")
    uploads.receive(going_on, 0, [b"01"])
    assert uploads.abandon(given_up, "enough")
    assert uploads.forget_abandoned() == 1
    assert {piece.upload_id for piece in UploadPiece.objects.all()} == {going_on.pk}
    assert len(keys(storage)) == 1


def test_a_file_that_comes_again_while_it_is_removed_stays(
    storage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    def keep() -> Blob:
        path = tmp_path / "file"
        path.write_bytes(b"a kernel")
        return keep_file(path)

    blob, kept = keep(), []
    delete = S3Storage.delete

    def delete_late(self: S3Storage, name: str) -> None:
        kept.append(keep())
        delete(self, name)

    monkeypatch.setattr(S3Storage, "delete", delete_late)
    Blob.objects.update(unneeded_since=timezone.now() - timedelta(days=1000))
    with django_capture_on_commit_callbacks(execute=True):
        assert unneeded._remove(blob.pk, timezone.now())
    again = Blob.objects.get()
    assert kept == [again] and again.name != blob.name
    assert b"".join(pieces_of(again)) == b"a kernel"


def test_a_blob_is_given_from_any_offset(storage: Any, tmp_path: Path) -> None:
    content = bytes(range(256)) * 3000
    path = tmp_path / "file"
    path.write_bytes(content)
    blob = keep_file(path)
    assert not path.exists() and keys(storage) == [blob.name]
    for start in (0, 1, 300_000, len(content) - 1, len(content), len(content) + 5):
        assert b"".join(pieces_of(blob, start)) == content[start:]
    path.write_bytes(content)
    assert keep_file(path) == blob and not path.exists()


def test_a_piece_that_the_storage_does_not_take_is_not_counted(
    tenant: Tenant, person: User, storage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = begun(tenant, person, b"0123")

    def away(*_: object) -> str:
        raise OSError("away")

    monkeypatch.setattr(S3Storage, "save", away)
    with pytest.raises(OSError, match="away"):
        uploads.receive(upload, 0, io.BytesIO(b"0123"))
    upload.refresh_from_db()
    assert (upload.offset, upload.state) == (0, Upload.State.OPEN)
