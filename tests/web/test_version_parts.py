"""What stands beside a kernel: uploaded by the same way, inspected, put onto a version, and never into one in use."""

from __future__ import annotations

import gzip
import io
import tarfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import User
from accounts.models.quota import sums, used_by
from tests.kernels import netbsd
from tests.web.conftest import Browser, Cast, make_version
from vps import sweep, tasks, uploads
from vps.inspection import InspectionFailed
from vps.models import Conflict, Domu, Event, KernelVersion, Operation, Upload
from vps.models.boot import EntryDraft, draft_boot, save_menu
from vps.templatetags.kernels import beside
from vps.views.agent import needed_by
from vps.xen.description import BootMethod

pytestmark = pytest.mark.django_db

RAMDISK = gzip.compress(b"070701" + b"0" * 104 + b"init\0" + bytes(900))


def archive(*names: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as file:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 5
            file.addfile(info, io.BytesIO(b"bytes"))
    return out.getvalue()


MODULES = archive("lib/modules/6.1.0-test/a.ko", "lib/modules/6.1.0-test/b.ko")


@pytest.fixture(autouse=True)
def staging(settings: Any, tmp_path: Path) -> Path:
    settings.BERTH_STAGING_DIR = tmp_path / "staging"
    return settings.BERTH_STAGING_DIR


@pytest.fixture(autouse=True)
def bells(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[object]]:
    """What the worker was rung for, instead of a worker."""
    rung: dict[str, list[object]] = {"version": [], "part": []}
    monkeypatch.setattr(tasks.inspect_version, "ring", rung["version"].append)
    monkeypatch.setattr(tasks.inspect_part, "ring", rung["part"].append)
    return rung


def sent(version: KernelVersion, by: User, part: str, content: bytes, **fields: Any) -> Upload:
    """All bytes of a part are there."""
    upload = uploads.begin(
        tenant=version.kernel.tenant,
        user=by,
        kernel_name=version.kernel.name,
        filename=f"{part}.img",
        size=len(content),
        part=part,
        onto=version,
        **fields,
    )
    uploads.receive(upload, 0, [content])
    return upload


def put(version: KernelVersion, by: User, part: str, content: bytes, **fields: Any) -> Upload:
    upload = sent(version, by, part, content, **fields)
    tasks.inspect_part(str(upload.pk))
    upload.refresh_from_db()
    return upload


def test_a_ramdisk_and_modules_stand_beside_a_kernel(
    cast: Cast, version: KernelVersion, staging: Path
) -> None:
    before = sums(cast.tenant)["kernel_bytes"]["used"]
    upload = put(version, cast.developer, "ramdisk", RAMDISK)
    assert (upload.state, upload.version, upload.error) == ("done", version, "")
    put(version, cast.developer, "modules", MODULES)
    version.refresh_from_db()
    assert version.ramdisk is not None and version.modules is not None
    assert (version.ramdisk.size, version.modules.size) == (len(RAMDISK), len(MODULES))
    assert version.parts["ramdisk"]["holds"] == "cpio"
    assert version.parts["modules"]["releases"] == ["6.1.0-test"]
    (_, _, ramdisk, _), (_, _, modules, _) = beside(version)
    assert not {"Files", "Unpacked"} & set(dict(ramdisk)), "nobody counted what is in a ramdisk"
    assert dict(modules)["Files"] == "2"
    booked = used_by(version.subject)["kernel_bytes"]
    assert (
        sums(cast.tenant)["kernel_bytes"]["used"] == before + booked == before + len(RAMDISK) + len(MODULES)
    )
    assert not list(staging.iterdir())
    assert KernelVersion.objects.count() == 1
    tasks.inspect_part(str(upload.pk))
    assert used_by(version.subject)["kernel_bytes"] == booked, "a second call changes nothing"
    assert Event.objects.filter(kind="kernel.part", tenant=cast.tenant, actor=cast.developer).count() == 2
    version.delete_content(cast.developer)
    assert sums(cast.tenant)["kernel_bytes"]["used"] == before


def test_they_reach_the_menu_and_the_dom0(
    cast: Cast, domu: Domu, bootable: Domu, version: KernelVersion
) -> None:
    put(version, cast.developer, "ramdisk", RAMDISK)
    newer = KernelVersion.objects.exclude(pk=version.pk).get(kernel=version.kernel)
    put(newer, cast.developer, "modules", MODULES)
    newer.refresh_from_db()
    assert newer.ramdisk is not None and newer.modules is not None
    _, boot = draft_boot(bootable, [EntryDraft(newer, "", "")], BootMethod.PVGRUB)
    assert boot.entries[0].ramdisk == newer.ramdisk.ref()
    assert boot.entries[0].modules == newer.modules.ref()
    operation = save_menu(bootable, [EntryDraft(newer, "", "")], cast.developer)
    entry = operation.body["domu"]["boot"]["entries"][0]
    assert entry["modules"] == newer.modules.ref().as_dict()
    assert f"initrd /k/{newer.ramdisk_id[:12]}" in bootable.menus.get(serial=boot.serial).menu_lst
    assert {newer.ramdisk_id, newer.modules_id} <= needed_by(bootable.dom0)


def test_what_stood_in_a_menu_is_not_changed(
    cast: Cast, bootable: Domu, version: KernelVersion, rung: list[Operation]
) -> None:
    upload = put(version, cast.admin, "ramdisk", RAMDISK)
    made = upload.version
    assert made is not None and made != version
    assert (made.number, made.made_from, made.state) == (2, version, "ok")
    assert (made.original, made.report, made.uploaded_by) == (version.original, version.report, cast.admin)
    assert made.original is not None
    assert used_by(made.subject) == {"kernel_bytes": made.original.size + len(RAMDISK)}
    version.refresh_from_db()
    assert (version.ramdisk, version.parts) == (None, {})
    assert not rung, "no order was made of it"
    another = put(made, cast.admin, "ramdisk", gzip.compress(b"070701" + b"1" * 200)).version
    assert another is not None and another.number == 3, "a ramdisk is not exchanged, either"
    made.refresh_from_db()
    assert another.ramdisk != made.ramdisk is not None


def test_a_part_waits_for_its_kernel(
    cast: Cast, bells: dict[str, list[object]], django_capture_on_commit_callbacks: Any
) -> None:
    content = netbsd()
    kernel = uploads.begin(
        tenant=cast.tenant, user=cast.developer, kernel_name="new", filename="netbsd", size=len(content)
    )
    with django_capture_on_commit_callbacks(execute=True):
        uploads.receive(kernel, 0, [content])
        version = KernelVersion.objects.get(kernel__name="new")
        part = sent(version, cast.developer, "ramdisk", RAMDISK)
    assert bells == {"version": [version.pk], "part": [part.pk]}
    tasks.inspect_part(str(part.pk))
    part.refresh_from_db()
    assert part.state == "inspecting"
    with django_capture_on_commit_callbacks(execute=True):
        tasks.inspect_version(str(version.pk))
    assert bells["part"] == [part.pk, part.pk]
    tasks.inspect_part(str(part.pk))
    version.refresh_from_db()
    assert (version.state, version.ramdisk_id is not None) == ("ok", True)


@pytest.mark.parametrize(
    ("part", "content", "fields", "words"),
    [
        pytest.param("ramdisk", netbsd(), {}, "is a kernel, not a ramdisk", id="a kernel"),
        pytest.param("ramdisk", RAMDISK, {"sha256": "0" * 64}, "not the announced 000", id="sum"),
        pytest.param(
            "modules", archive("lib/modules/6/a.ko", "etc/passwd"), {}, "etc/passwd", id="elsewhere"
        ),
        pytest.param("modules", archive("/lib/modules/6/a.ko"), {}, "begins with /", id="absolute"),
        pytest.param("modules", archive("lib/modules/../../a"), {}, "has .. in its path", id=".."),
        pytest.param("modules", RAMDISK, {}, "no tar archive", id="a ramdisk"),
    ],
)
def test_what_is_refused(
    cast: Cast,
    version: KernelVersion,
    staging: Path,
    browser: Browser,
    part: str,
    content: bytes,
    fields: dict[str, str],
    words: str,
) -> None:
    before = sums(cast.tenant)["kernel_bytes"]["used"]
    upload = put(version, cast.developer, part, content, **fields)
    assert (upload.state, upload.version) == ("failed", None)
    assert words in upload.error and upload.error.endswith(".")
    version.refresh_from_db()
    assert (version.ramdisk, version.modules, version.parts) == (None, None, {})
    assert sums(cast.tenant)["kernel_bytes"]["used"] == before
    assert not list(staging.iterdir())
    page = browser(cast.viewer).get(reverse("kernel_version", args=[version.pk])).content.decode()
    assert words.replace("'", "&#x27;") in page


def test_nothing_goes_onto_what_is_deleted_or_refused(cast: Cast, version: KernelVersion) -> None:
    upload = sent(version, cast.developer, "ramdisk", RAMDISK)
    version.delete_content(cast.developer)
    tasks.inspect_part(str(upload.pk))
    upload.refresh_from_db()
    assert (upload.state, "was deleted" in upload.error) == ("failed", True)
    with pytest.raises(uploads.UploadRefused, match="was deleted"):
        sent(version, cast.developer, "ramdisk", RAMDISK)
    refused = make_version(cast.tenant, "bad")
    KernelVersion.objects.filter(pk=refused.pk).update(state="refused")
    refused.refresh_from_db()
    with pytest.raises(uploads.UploadRefused, match="cannot boot"):
        sent(refused, cast.developer, "ramdisk", RAMDISK)
    with pytest.raises(Conflict, match="cannot boot"):
        refused.with_part("ramdisk", version.original, "x", {}, cast.developer)


def test_a_lost_file_and_a_fault_of_ours(
    cast: Cast, version: KernelVersion, monkeypatch: pytest.MonkeyPatch, bells: dict[str, list[object]]
) -> None:
    lost = sent(version, cast.developer, "ramdisk", RAMDISK)
    uploads.staging(lost).unlink()
    tasks.inspect_part(str(lost.pk))
    lost.refresh_from_db()
    assert (lost.state, "was lost" in lost.error) == ("failed", True)

    def broken(*args: object) -> None:
        raise InspectionFailed("no memory")

    monkeypatch.setattr("vps.inspection.inspect_part", broken)
    waits = sent(version, cast.developer, "ramdisk", RAMDISK)
    with pytest.raises(InspectionFailed):
        tasks.inspect_part(str(waits.pk))
    Upload.objects.filter(pk=waits.pk).update(touched_at=waits.touched_at - timedelta(seconds=30))
    bells["part"].clear()
    sweep._ring_inspections()
    assert bells["part"] == [waits.pk], "the sweep rings again"
    Upload.objects.filter(pk=waits.pk).update(touched_at=waits.touched_at - timedelta(minutes=16))
    tasks.inspect_part(str(waits.pk))
    waits.refresh_from_db()
    assert (waits.state, "fault of ours" in waits.error) == ("failed", True)


def _begin(client: Client, onto: KernelVersion, **fields: str) -> Any:
    data = {"part": "ramdisk", "version": str(onto.pk), "filename": "initrd", "size": str(len(RAMDISK))}
    return client.post(reverse("kernel_upload"), {**data, **fields})


def test_the_pages_way(
    cast: Cast, version: KernelVersion, browser: Browser, bells: dict[str, list[object]]
) -> None:
    client = browser(cast.developer)
    begun = _begin(client, version)
    assert begun.status_code == 201
    assert begun.json()["version_id"] == str(version.pk)
    done = client.put(begun.json()["url"], RAMDISK, headers={"Upload-Offset": "0"}).json()
    assert (done["state"], done["version"]) == ("inspecting", f"/kernels/versions/{version.pk}/")
    parts = reverse("kernel_parts", args=[version.pk])
    waiting = client.get(parts).content.decode()
    assert "is being looked at" in waiting and "data-poll" in waiting
    tasks.inspect_part(str(Upload.objects.get().pk))
    text = client.get(parts).content.decode()
    assert "cpio" in text and "data-poll" not in text
    assert client.get(begun.json()["url"]).json()["state"] == "done"


@pytest.mark.parametrize("who", ["stranger", "viewer", "operator"])
def test_who_may_not(cast: Cast, version: KernelVersion, browser: Browser, who: str) -> None:
    answer = _begin(browser(getattr(cast, who)), version)
    assert answer.status_code == 422
    assert "no such version" in answer.json()["error"]
    assert not Upload.objects.exists()


def test_the_catalogue_is_the_operators(cast: Cast, browser: Browser) -> None:
    offered = make_version(None, "offered")
    assert _begin(browser(cast.owner), offered).status_code == 422
    assert _begin(browser(cast.operator), offered).status_code == 201


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"part": "floppy"}, "Select a valid choice"),
        ({"version": ""}, "no such version"),
        ({"version": "x"}, "valid UUID"),
        ({"size": "0"}, "is empty"),
        ({"size": str(257 << 20)}, "the limit is 256 MiB"),
        ({"part": "kernel", "kernel": "new"}, "for whom"),
    ],
)
def test_bad_beginnings(
    cast: Cast, version: KernelVersion, browser: Browser, fields: dict[str, str], words: str
) -> None:
    answer = _begin(browser(cast.developer), version, **fields)
    assert answer.status_code == 422
    assert words in answer.json()["error"]


def test_the_lines_for_the_guest(cast: Cast, version: KernelVersion, browser: Browser) -> None:
    linux = make_version(cast.tenant, "linux", guest_os="Linux", release="6.1.0-test")
    put(linux, cast.developer, "modules", MODULES)
    linux.refresh_from_db()
    page = browser(cast.viewer).get(reverse("kernel_version", args=[linux.pk])).content.decode()
    assert "mount -o ro /dev/xvdz /mnt\n" in page
    assert f"tar -C / -xzf /mnt/m/{linux.modules_id[:16]}\n" in page
    assert "depmod -a 6.1.0-test" in page
    assert "will not load them" not in page
    assert "Add a ramdisk" not in page, "a viewer adds nothing"
    bsd = make_version(cast.tenant, "bsd", guest_os="NetBSD", release="10.1")
    put(bsd, cast.developer, "modules", archive("lib/modules/9/a.ko"))
    page = browser(cast.developer).get(reverse("kernel_version", args=[bsd.pk])).content.decode()
    assert "mount -t ext2fs -o ro /dev/xbd1d /mnt" in page
    assert "will not load them" in page
    assert "Add a ramdisk" in page and "Other modules" in page
