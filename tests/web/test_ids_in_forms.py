"""Every id that a form or an address carries besides its own: another tenant's is as good as none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Membership, Role
from tests.web.conftest import ASKED, Browser, Cast, make_loaders, make_version
from tests.web.test_boot import rows
from tests.web.test_request import OWN, text
from tests.web.world import Mouth, make_dom0, make_domu
from vps.models import BootMenu, Domu, Event, KernelVersion, Operation, Request, Upload, kept
from vps.models.boot import EntryDraft, save_menu

pytestmark = pytest.mark.django_db


@dataclass
class Theirs:
    """What another tenant has, of each kind that a form may name."""

    version: KernelVersion
    domu: Domu
    asked: Request
    upload: Upload
    member: Membership


@pytest.fixture
def theirs(cast: Cast, mouth: Mouth, rung: list[Operation]) -> Theirs:
    make_loaders()
    domu = make_domu(mouth.dom0, "zebra9", cast.other)
    version = make_version(cast.other, "zebra9")
    save_menu(domu, [EntryDraft(version, "Zebra9", "")], cast.stranger)
    domu.operations.open().get().move("done")
    return Theirs(
        version,
        domu,
        Request.ask(tenant=cast.other, by=cast.stranger, name="web9", **ASKED),
        Upload.objects.create(tenant=cast.other, user=cast.stranger, kernel_name="x", filename="x", size=10),
        cast.other.memberships.get(user=cast.stranger),
    )


def kernel_in_a_boot_form(client: Client, domu: Domu, theirs: Theirs) -> Any:
    data = {**rows((str(theirs.version.pk), "Mine", "")), "seen_serial": str(domu.menu_serial)}
    return client.post(reverse("boot", args=[domu.pk]), data)


def kernel_put_into_a_boot_form(client: Client, domu: Domu, theirs: Theirs) -> Any:
    return client.get(reverse("boot", args=[domu.pk]), {"add": str(theirs.version.pk)})


def tenant_of_a_request(client: Client, domu: Domu, theirs: Theirs) -> Any:
    data = {**OWN, "tenant": str(theirs.domu.tenant_id), "name": "web8", "why": "x"}
    return client.post(reverse("ask"), data)


def kernel_to_start_from(client: Client, domu: Domu, theirs: Theirs) -> Any:
    data = {**OWN, "tenant": str(domu.tenant_id), "name": "web8", "why": "x"}
    return client.post(reverse("ask"), {**data, "start_from": str(theirs.version.pk)})


def tenant_of_an_upload(client: Client, domu: Domu, theirs: Theirs) -> Any:
    data = {"tenant": str(theirs.domu.tenant_id), "kernel": "x", "filename": "x", "size": "10"}
    return client.post(reverse("kernel_upload"), data)


def catalogue_as_tenant_of_an_upload(client: Client, domu: Domu, theirs: Theirs) -> Any:
    data = {"tenant": "catalogue", "kernel": "x", "filename": "x", "size": "10"}
    return client.post(reverse("kernel_upload"), data)


def version_that_a_part_goes_onto(client: Client, domu: Domu, theirs: Theirs) -> Any:
    data = {"part": "ramdisk", "version": str(theirs.version.pk), "filename": "x", "size": "10"}
    return client.post(reverse("kernel_upload"), data)


def version_to_compare_with(client: Client, domu: Domu, theirs: Theirs) -> Any:
    mine = make_version(domu.tenant, "generic")
    return client.get(reverse("kernel_compare"), {"a": str(mine.pk), "b": str(theirs.version.pk)})


def line_that_follows_mine(client: Client, domu: Domu, theirs: Theirs) -> Any:
    mine = make_version(domu.tenant, "generic").kernel
    data = {"description": "", "successor": str(theirs.version.kernel_id)}
    return client.post(reverse("kernel_change", args=[mine.pk]), data)


def menu_of_another_server(client: Client, domu: Domu, theirs: Theirs) -> Any:
    """By its serial, which counts for each server: what is not this server's is not there."""
    serial = theirs.domu.menus.latest("serial").serial + 50
    BootMenu.objects.filter(domu=theirs.domu).update(serial=serial)
    return client.post(reverse("boot_use", args=[domu.pk, serial]))


def member_of_another_tenant(client: Client, domu: Domu, theirs: Theirs) -> Any:
    return client.post(reverse("member_role", args=[theirs.member.pk]), {"role": Role.VIEWER})


def piece_of_anothers_upload(client: Client, domu: Domu, theirs: Theirs) -> Any:
    url = reverse("kernel_upload_piece", args=[theirs.upload.pk])
    return client.put(url, b"x", "application/octet-stream", headers={"Upload-Offset": "0"})


def dom0_of_ones_own_request(client: Client, domu: Domu, theirs: Theirs) -> Any:
    """A customer approves nothing, wherever."""
    data = {"dom0": str(domu.dom0_id), "memory_mib": "256", "vcpus": "1", "disk_mib": "1024"}
    return client.post(reverse("request_approve", args=[theirs.asked.pk]), data)


WAYS: dict[Callable[[Client, Domu, Theirs], Any], tuple[int, str]] = {
    kernel_in_a_boot_form: (422, "That kernel is not among yours, or cannot boot; choose another one."),
    kernel_put_into_a_boot_form: (200, ""),
    tenant_of_a_request: (422, "Select a valid choice"),
    kernel_to_start_from: (422, "That installer is not offered any more."),
    tenant_of_an_upload: (422, "Select a valid choice"),
    catalogue_as_tenant_of_an_upload: (422, "Select a valid choice"),
    version_that_a_part_goes_onto: (422, "There is no such version among the kernels that you may change."),
    version_to_compare_with: (404, ""),
    line_that_follows_mine: (422, "Select a valid choice"),
    menu_of_another_server: (404, ""),
    member_of_another_tenant: (404, ""),
    piece_of_anothers_upload: (404, ""),
    dom0_of_ones_own_request: (404, ""),
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_anothers_id_is_as_good_as_none(
    way: Callable[[Client, Domu, Theirs], Any],
    cast: Cast,
    domu: Domu,
    theirs: Theirs,
    browser: Browser,
    rung: list[Operation],
) -> None:
    status, words = WAYS[way]
    rung.clear()
    before = counts()
    answer = way(browser(cast.owner), domu, theirs)
    assert answer.status_code == status
    page = text(answer)
    assert words in page
    assert "zebra9" not in page.lower(), "its name is not told either"
    made = {"kernel versions": 1} if way in (version_to_compare_with, line_that_follows_mine) else {}
    assert counts() == {**before, **{name: before[name] + more for name, more in made.items()}}
    assert rung == []


def counts() -> dict[str, int]:
    """What there is: nothing comes of an id that is not one's own."""
    return {
        "menus": BootMenu.objects.count(),
        "requests": Request.objects.count(),
        "waiting": Request.objects.waiting().count(),
        "uploads": Upload.objects.count(),
        "bytes": sum(Upload.objects.values_list("offset", flat=True)),
        "kernel versions": KernelVersion.objects.count(),
        "viewers": Membership.objects.filter(role=Role.VIEWER).count(),
        "events": Event.objects.count(),
    }


def test_a_dom0_that_is_none(cast: Cast, asked: Request, mouth: Mouth, browser: Browser) -> None:
    gone = make_dom0("dom0-z", "other")
    pk = gone.pk
    gone.delete()
    data = {"dom0": str(pk), "memory_mib": "256", "vcpus": "1", "disk_mib": "1024", "words": ""}
    answer = browser(cast.operator).post(reverse("request_approve", args=[asked.pk]), data)
    assert answer.status_code == 422 and "That dom0 is not there any more" in text(answer)


def test_who_is_in_both_tenants_carries_no_kernel_over(
    cast: Cast, domu: Domu, theirs: Theirs, browser: Browser
) -> None:
    Membership.objects.create(tenant=cast.other, user=cast.owner, role=Role.OWNER)
    answer = kernel_in_a_boot_form(browser(cast.owner), domu, theirs)
    assert answer.status_code == 422 and "That kernel is not among yours" in text(answer)


def test_a_deleted_server_of_another(cast: Cast, domu: Domu, theirs: Theirs, browser: Browser) -> None:
    kept.delete(theirs.domu, cast.stranger)
    owner = browser(cast.owner)
    for name in ("server", "server_undelete", "server_purge"):
        url = reverse(name, args=[theirs.domu.pk])
        assert (
            owner.get(url) if name == "server" else owner.post(url, {"name": "zebra9"})
        ).status_code == 404
