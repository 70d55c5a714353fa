"""Files of deleted kernels: kept while anything needs them, and for a while after; then gone from the storage."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from tests.web.conftest import Cast, finish, make_blob, make_loaders, make_version
from tests.web.world import Mouth
from vps.models import Blob, BootRecord, Conflict, Domu, KernelVersion, Loader, Operation
from vps.models.boot import EntryDraft, save_menu
from vps.storage import keep_file
from vps.unneeded import collect


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let so many days go by."""
    now = timezone.now()
    clock = {"days": 0.0}
    monkeypatch.setattr("vps.unneeded.timezone.now", lambda: now + timedelta(days=clock["days"]))

    def go(days: float) -> None:
        clock["days"] += days

    return go


@pytest.fixture
def swept(later: Any, django_capture_on_commit_callbacks: Any) -> Any:
    """Collect at once, and again when the grace is over; gives how many files went."""

    def sweep() -> int:
        removed = 0
        for days in (0.0, 1.1, 0.0):
            later(days)
            with django_capture_on_commit_callbacks(execute=True):
                removed += collect()
        return removed

    return sweep


def there(blob: Blob) -> bool:
    row, file = Blob.objects.filter(pk=blob.pk).exists(), default_storage.exists(blob.name)
    assert row == file
    return row


def test_a_deleted_versions_files_go_after_a_while(
    cast: Cast, later: Any, django_capture_on_commit_callbacks: Any
) -> None:
    version = make_version(cast.tenant, "old")
    version.plain, version.ramdisk = make_blob(b"plain"), make_blob(b"ramdisk")
    version.save()
    files = list(version.blobs)
    assert collect() == 0
    version.delete_content(cast.owner)
    with django_capture_on_commit_callbacks(execute=True):
        assert collect() == 0
        later(0.9)
        assert collect() == 0
    assert all(there(blob) for blob in files)
    later(0.2)
    with django_capture_on_commit_callbacks(execute=True):
        assert collect() == 3
    assert not any(there(blob) for blob in files)
    version.refresh_from_db()  # the row stays for what names it
    assert version.blobs == [] and version.report["release"] == "NetBSD 10.1"
    assert collect() == 0


def test_what_is_held_stays(cast: Cast, swept: Any) -> None:
    """A version that nobody deleted, a loader, the catalogue."""
    make_loaders()
    make_version(cast.tenant, "mine")
    make_version(None, "offered")
    before = set(Blob.objects.values_list("pk", flat=True))
    assert swept() == 0
    assert set(Blob.objects.values_list("pk", flat=True)) == before
    assert not Blob.objects.exclude(unneeded_since=None).exists()


def test_shared_content_stays_while_one_version_has_it(cast: Cast, swept: Any) -> None:
    mine, theirs = make_version(cast.tenant, "same"), make_version(cast.other, "same")
    assert mine.original is not None and mine.original_id == theirs.original_id
    mine.delete_content(cast.owner)
    assert swept() == 0 and there(mine.original)
    theirs.delete_content(cast.stranger)
    assert swept() == 1 and not there(mine.original)


def test_a_file_that_is_uploaded_again_in_time_stays(
    cast: Cast, later: Any, tmp_path: Path, django_capture_on_commit_callbacks: Any
) -> None:
    version = make_version(cast.tenant, "again")
    assert version.original is not None
    with default_storage.open(version.original.name) as file:
        content = file.read()
    version.delete_content(cast.owner)
    assert collect() == 0
    later(2)
    (tmp_path / "again").write_bytes(content)
    assert keep_file(tmp_path / "again").unneeded_since is None
    with django_capture_on_commit_callbacks(execute=True):
        assert collect() == 0  # nothing names it yet: its time begins anew
    assert there(version.original)
    fresh = make_version(cast.tenant, "again", 2)
    KernelVersion.objects.filter(pk=fresh.pk).update(original=version.original)
    later(2)
    assert collect() == 0 and there(version.original)
    assert Blob.objects.get(pk=version.original.pk).unneeded_since is None


def test_the_menu_in_force_and_the_one_on_the_dom0_keep_theirs(
    cast: Cast, mouth: Mouth, bootable: Domu, version: KernelVersion, swept: Any
) -> None:
    second = make_version(cast.tenant, "second")
    save_menu(bootable, [EntryDraft(second, "x")], cast.owner)
    # Not on the dom0 yet: it still has the first.
    KernelVersion.objects.filter(pk=version.pk).update(deleted_at=timezone.now(), original=None)
    first = Blob.objects.get(pk=bootable.menus.get(serial=1).boot["entries"][0]["kernel"]["sha256"])
    assert swept() == 0 and there(first)
    finish(mouth, bootable)
    assert swept() == 1 and not there(first)


def test_a_run_that_goes_on_with_an_older_menu_keeps_its_files(
    cast: Cast, mouth: Mouth, running: Domu, version: KernelVersion, swept: Any
) -> None:
    record = BootRecord.objects.create(
        domu=running,
        run=running.pk,
        version=version,
        menu_serial=1,
        booted_at=timezone.now(),
        entry="NetBSD",
    )
    save_menu(running, [EntryDraft(make_version(cast.tenant, "second"), "x")], cast.owner)
    finish(mouth, running)
    with pytest.raises(Conflict, match="web1 runs it"):
        version.delete_content(cast.owner)
    KernelVersion.objects.filter(pk=version.pk).update(deleted_at=timezone.now())
    assert version.original is not None
    assert swept() == 0 and there(version.original)
    BootRecord.objects.filter(pk=record.pk).update(ended_at=timezone.now())
    assert swept() == 1


def test_the_way_back_cannot_be_deleted(
    cast: Cast, mouth: Mouth, running: Domu, version: KernelVersion
) -> None:
    """What booted well last, until something newer has."""
    now, second = timezone.now(), make_version(cast.tenant, "second")
    boot = {"domu": running, "menu_serial": 1, "well": True}
    ended = now - timedelta(hours=2)
    BootRecord.objects.create(
        **boot, run=uuid4(), version=version, booted_at=now - timedelta(hours=3), ended_at=ended
    )
    save_menu(running, [EntryDraft(second, "x")], cast.owner)
    finish(mouth, running)
    with pytest.raises(Conflict, match="it is what web1 booted well last, and its way back"):
        version.delete_content(cast.owner)
    BootRecord.objects.create(**boot, run=uuid4(), version=second, booted_at=now)
    version.delete_content(cast.owner)
    assert version.deleted_at


def test_an_order_under_way_keeps_what_it_names(
    cast: Cast, mouth: Mouth, bootable: Domu, version: KernelVersion, swept: Any
) -> None:
    save_menu(bootable, [EntryDraft(version, "NetBSD")], cast.owner)
    operation = bootable.operations.open().get()
    lost = Blob.objects.get(pk=operation.body["domu"]["boot"]["loader"]["sha256"])
    Loader.objects.filter(blob=lost).delete()
    bootable.menus.all().delete()
    assert swept() == 0 and there(lost)
    Operation.objects.filter(pk=operation.pk).update(state=Operation.State.DONE)
    assert swept() == 1 and not there(lost)


def test_a_kept_server_comes_back_with_its_kernel(
    cast: Cast, mouth: Mouth, bootable: Domu, version: KernelVersion, swept: Any
) -> None:
    from vps.models import kept

    kept.delete(bootable, cast.owner, "")
    finish(mouth, bootable)
    version.refresh_from_db()
    KernelVersion.objects.filter(pk=version.pk).update(deleted_at=timezone.now())
    assert swept() == 0
    version.refresh_from_db()
    assert version.original is not None and there(version.original)


def test_somebody_takes_it_up_at_the_last_moment(
    cast: Cast, later: Any, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    from vps import unneeded

    version = make_version(cast.tenant, "old")
    assert version.original is not None
    version.delete_content(cast.owner)
    collect()
    later(2)
    real = unneeded._remove

    def meanwhile(pk: str, limit: Any) -> bool:
        Blob.objects.filter(pk=pk).update(unneeded_since=None)
        return real(pk, limit)

    monkeypatch.setattr(unneeded, "_remove", meanwhile)
    with django_capture_on_commit_callbacks(execute=True):
        assert collect() == 0
    assert there(version.original)
