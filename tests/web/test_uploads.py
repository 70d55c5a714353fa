"""Uploads by offset: what is safe is kept, what is wrong is told, quota is booked once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from django.test import Client

from accounts.models import Membership, QuotaEntry, Role, Tenant, User
from accounts.models.quota import grant_default, sums, used_by
from vps import tasks, uploads
from vps.models import Conflict, Kernel, KernelVersion, Upload

pytestmark = pytest.mark.django_db


@pytest.fixture
def person(db: None) -> User:
    return User.objects.create_user("ann@example.org", "correct horse")


@pytest.fixture
def tenant(person: User) -> Tenant:
    tenant = Tenant.objects.create(name="Ann's")
    Membership.objects.create(tenant=tenant, user=person, role=Role.DEVELOPER)
    grant_default(tenant)
    return tenant


@pytest.fixture(autouse=True)
def staging(settings, tmp_path: Path) -> Path:
    settings.BERTH_STAGING_DIR = tmp_path / "staging"
    return settings.BERTH_STAGING_DIR


@pytest.fixture(autouse=True)
def rung(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the worker was rung for, instead of a worker."""
    bells: list[object] = []
    monkeypatch.setattr(tasks.inspect_version, "ring", bells.append)
    return bells


def _begin(tenant: Tenant, person: User, **changes: object) -> Upload:
    fields = {"kernel_name": "mine", "filename": "netbsd.gz", "size": 10, **changes}
    return uploads.begin(tenant=tenant, user=person, **fields)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"size": 0}, "is empty", id="empty"),
        pytest.param({"size": -5}, "is empty", id="negative"),
        pytest.param({"size": 257 * 1024**2}, "is 257 MiB; the limit is 256 MiB", id="257 MiB"),
        pytest.param({"kernel_name": "../etc"}, "cannot be a kernel's name", id="path"),
        pytest.param({"kernel_name": "-rf"}, "cannot be a kernel's name", id="option"),
        pytest.param({"kernel_name": "kérnel"}, "cannot be a kernel's name", id="unicode"),
        pytest.param({"kernel_name": "a" * 64}, "cannot be a kernel's name", id="too long"),
        pytest.param({"sha256": "ABC"}, "64 hexadecimal digits", id="sum"),
    ],
)
def test_what_cannot_begin(tenant: Tenant, person: User, changes: dict[str, object], words: str) -> None:
    with pytest.raises(uploads.UploadRefused, match=words):
        _begin(tenant, person, **changes)
    assert not Upload.objects.exists()
    assert not QuotaEntry.objects.filter(kind="use").exists()


def test_a_broken_upload_goes_on_where_it_stopped(
    tenant: Tenant, person: User, django_capture_on_commit_callbacks, rung: list[object]
) -> None:
    upload = _begin(tenant, person)

    def broken():
        yield b"0123"
        raise OSError("the sender is gone")

    with pytest.raises(OSError, match="gone"):
        uploads.receive(upload, 0, broken())
    upload.refresh_from_db()
    assert upload.offset == 4
    with pytest.raises(uploads.WrongOffset) as wrong:
        uploads.receive(upload, 0, [b"0123"])
    assert wrong.value.offset == 4
    with django_capture_on_commit_callbacks(execute=True):
        uploads.receive(upload, 4, [b"45", b"6789"])
    assert uploads.staging(upload).read_bytes() == b"0123456789"
    version = KernelVersion.objects.get()
    assert (version.number, version.state, str(version)) == (1, "inspecting", "mine 1")
    assert rung == [version.pk]
    assert uploads.finish(upload) == version, "finishing twice gives the same version"
    with pytest.raises(uploads.UploadRefused, match="has ended"):
        uploads.receive(upload, 10, [b"x"])


def test_more_bytes_than_announced(tenant: Tenant, person: User) -> None:
    upload = _begin(tenant, person)
    with pytest.raises(uploads.UploadRefused, match="More bytes came than the 10"):
        uploads.receive(upload, 0, [b"0123456789", b"x"])
    upload.refresh_from_db()
    assert upload.offset == 10
    assert upload.state == Upload.State.OPEN


def test_the_page_and_its_scripts_way(
    client: Client, tenant: Tenant, person: User, django_capture_on_commit_callbacks
) -> None:
    client.force_login(person)
    begun = client.post(
        "/kernels/uploads/",
        {"tenant": str(tenant.pk), "kernel": "web", "filename": "k", "size": 6},
    )
    assert begun.status_code == 201
    where = begun.json()
    assert client.get(where["url"]).json()["offset"] == 0
    short = client.put(where["url"], b"abc", headers={"Upload-Offset": "0"})
    assert short.json()["offset"] == 3
    again = client.put(where["url"], b"abc", headers={"Upload-Offset": "0"})
    assert (again.status_code, again.json()["offset"]) == (409, 3)
    assert client.put(where["url"], b"def").status_code == 400
    huge = client.put(
        where["url"], b"def", headers={"Upload-Offset": "3", "Content-Length": str(where["piece"] + 1)}
    )
    assert huge.status_code == 413
    with django_capture_on_commit_callbacks(execute=True):
        done = client.put(where["url"], b"def", headers={"Upload-Offset": "3"})
    version = KernelVersion.objects.get()
    assert done.json()["version"] == f"/kernels/versions/{version.pk}/"


def test_another_persons_upload_is_not_there(client: Client, tenant: Tenant, person: User) -> None:
    upload = _begin(tenant, person)
    stranger = User.objects.create_user("eve@example.org", "correct horse")
    client.force_login(stranger)
    address = f"/kernels/uploads/{upload.pk}/"
    assert client.get(address).status_code == 404
    assert client.put(address, b"x", headers={"Upload-Offset": "0"}).status_code == 404
    into = {"tenant": str(tenant.pk), "kernel": "x", "filename": "x", "size": 5}
    assert client.post("/kernels/uploads/", into).status_code == 422
    assert client.post("/kernels/uploads/", {**into, "tenant": "catalogue"}).status_code == 422


def test_who_is_no_operator_any_more_sends_nothing_to_the_catalogue(client: Client, person: User) -> None:
    User.objects.filter(pk=person.pk).update(is_operator=True)
    upload = uploads.begin(tenant=None, user=person, kernel_name="rescue", filename="netbsd", size=1)
    User.objects.filter(pk=person.pk).update(is_operator=False)
    client.force_login(person)
    address = f"/kernels/uploads/{upload.pk}/"
    assert client.put(address, b"x", headers={"Upload-Offset": "0"}).status_code == 403
    assert not KernelVersion.objects.exists()


def test_a_viewer_uploads_nothing(client: Client, tenant: Tenant, person: User) -> None:
    Membership.objects.update(role=Role.VIEWER)
    client.force_login(person)
    into = {"tenant": str(tenant.pk), "kernel": "x", "filename": "x", "size": 5}
    assert client.post("/kernels/uploads/", into).status_code == 422


def test_quota_is_booked_at_the_beginning(tenant: Tenant, person: User) -> None:
    tenant_left = sums(tenant)["kernel_bytes"]["left"]
    upload = _begin(tenant, person, size=tenant_left // 8)
    assert used_by(f"upload:{upload.pk}") == {"kernel_bytes": tenant_left // 8}
    for _ in range(7):
        _begin(tenant, person, size=tenant_left // 8)
    from accounts.models import QuotaExceeded

    with pytest.raises(QuotaExceeded, match="kernels"):
        _begin(tenant, person, size=tenant_left // 8)


def _inspected(tenant: Tenant | None, person: User, content: bytes, **fields: object) -> KernelVersion:
    upload = uploads.begin(
        tenant=tenant, user=person, kernel_name="mine", filename="netbsd", size=len(content), **fields
    )
    uploads.receive(upload, 0, [content])
    assert upload.version is not None
    tasks.inspect_version(str(upload.version.pk))
    upload.version.refresh_from_db()
    return upload.version


def test_a_kernel_is_inspected_and_stored(tenant: Tenant, person: User, staging: Path) -> None:
    from tests.kernels import netbsd

    content = netbsd()
    version = _inspected(tenant, person, content)
    assert (version.state, version.path("pvgrub")) == ("ok", "ok")
    assert version.original is not None
    assert version.original.sha256 == hashlib.sha256(content).hexdigest()
    assert used_by(version.subject)["kernel_bytes"] >= len(content)
    assert not list(staging.iterdir())
    tasks.inspect_version(str(version.pk))
    assert used_by(version.subject)["kernel_bytes"] >= len(content), "a second call changes nothing"
    version.delete_content(person)
    assert used_by(version.subject) == {}


def test_the_plain_elf_is_made_for_what_grub_cannot_read(tenant: Tenant, person: User) -> None:
    from tests.kernels import linux_bzimage

    version = _inspected(tenant, person, linux_bzimage(compression="lz4"))
    assert (version.state, version.path("pvgrub")) == ("ok", "ok")
    assert version.plain is not None
    assert version.blob_for("pvgrub") == version.plain
    assert version.report["plain"]["sha256"] == version.plain.sha256


def test_a_fault_of_ours_is_tried_again_and_then_told(
    tenant: Tenant, person: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import timedelta

    from vps.inspection import InspectionFailed

    def broken(*args: object) -> None:
        raise InspectionFailed("no memory")

    monkeypatch.setattr(tasks, "inspect_file", broken)
    with pytest.raises(InspectionFailed):
        _inspected(tenant, person, b"anything")
    version = KernelVersion.objects.get()
    assert version.state == "inspecting"
    KernelVersion.objects.update(created_at=version.created_at - timedelta(minutes=16))
    tasks.inspect_version(str(version.pk))
    version.refresh_from_db()
    assert (version.state, "fault of ours" in version.reason) == ("refused", True)
    assert sums(tenant)["kernel_bytes"]["used"] == 0


def test_the_same_bytes_are_kept_once(tenant: Tenant, person: User) -> None:
    from tests.kernels import netbsd

    first, second = (_inspected(tenant, person, netbsd()) for _ in range(2))
    assert (first.number, second.number) == (1, 2)
    assert first.original == second.original
    assert Kernel.objects.count() == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"hello, I am no kernel\n" * 20, "text", id="text file"),
        pytest.param(b"\x7fELF" + b"\x00" * 3, "", id="truncated"),
    ],
)
def test_a_refusal_is_a_sentence(tenant: Tenant, person: User, content: bytes, words: str) -> None:
    version = _inspected(tenant, person, content)
    assert version.state == "refused"
    assert version.reason.endswith(".")
    assert words in version.reason
    from vps.models import BootMenu

    assert not BootMenu.objects.exists()


def test_a_wrong_sum_is_refused(tenant: Tenant, person: User) -> None:
    version = _inspected(tenant, person, b"x" * 100, sha256="0" * 64)
    assert version.state == "refused"
    assert "not the announced 0000" in version.reason
    assert sums(tenant)["kernel_bytes"]["used"] == 0


def test_a_version_in_a_menu_is_not_deleted(tenant: Tenant, person: User) -> None:
    from tests.kernels import netbsd
    from vps.models import BootEntryRow, BootMenu, Dom0, Domu

    version = _inspected(tenant, person, netbsd())
    dom0 = Dom0.objects.create(name="a", secret_sha256="0" * 64)
    domu = Domu.objects.create(
        tenant=tenant, dom0=dom0, name="web1", guest_os="netbsd", memory_mib=256, vcpus=1, menu_serial=1
    )
    menu = BootMenu.objects.create(domu=domu, serial=1, boot={})
    BootEntryRow.objects.create(menu=menu, position=0, version=version, title="x")
    with pytest.raises(Conflict, match="stands in the boot menu"):
        version.delete_content(person)
    domu.menu_serial = domu.prepared_serial = 2
    domu.save()
    version.delete_content(person)
