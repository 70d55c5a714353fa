"""Deleted but kept: what is free at once, what stays until it is wiped, and the way back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.models import QuotaExceeded
from accounts.models.quota import grant, sums, used_by
from tests.web.conftest import ASKED, Browser, Cast, finish
from tests.web.test_domu import do
from tests.web.test_request import text
from tests.web.world import Mouth
from vps.models import Conflict, Domu, Event, NoRoom, Operation, Request, kept
from vps.models.dom0 import BOOT_DISK_MIB
from vps.models.kept import purge_due
from vps.restoration import go_on


@pytest.fixture
def deleted(cast: Cast, mouth: Mouth, bootable: Domu, rung: list[Operation]) -> Domu:
    """The server, deleted, and its dom0 has done it."""
    kept.delete(bootable, cast.owner, "not needed")
    finish(mouth, bootable)
    rung.clear()
    return bootable


def test_deleting_wants_the_name_destroys_and_keeps(
    browser: Browser,
    cast: Cast,
    mouth: Mouth,
    running: Domu,
    rung: list[Operation],
    django_capture_on_commit_callbacks: Any,
) -> None:
    url = reverse("server_delete", args=[running.pk])
    assert "kept for 7 days" in text(browser(cast.owner).get(url))
    wrong = browser(cast.owner).post(url, {"name": "web2"})
    assert wrong.status_code == 422 and "Type web1, or go back." in text(wrong)
    with django_capture_on_commit_callbacks(execute=True):
        answer = browser(cast.owner).post(url, {"name": "web1", "reason": "not needed"})
    assert answer.status_code == 302
    (order,) = rung
    assert (order.verb, order.body["put_away"], order.body["domu"]["autostart"]) == ("destroy", True, False)
    running.refresh_from_db()
    assert running.is_kept and running.keep_until is not None
    assert used_by(running.subject) == {"disk_mib": 1024}
    # Its memory is the host's again when the domain is gone.
    assert mouth.dom0.promised_to(running.subject)["memory_mib"] == 256
    finish(mouth, running)
    assert mouth.dom0.promised_to(running.subject) == {"disk_mib": 1024 + BOOT_DISK_MIB}
    assert Event.objects.get(kind="domu.deleted").reason == "not needed"
    again = browser(cast.admin).post(url, {"name": "web1"})
    assert again.status_code == 409 and "web1 was deleted." in text(again)


def test_the_pages_say_until_when(browser: Browser, cast: Cast, deleted: Domu) -> None:
    page = text(browser(cast.owner).get(reverse("server", args=[deleted.pk])))
    assert "deleted but kept" in page and "Its disks are kept until" in page
    assert 'id="undelete"' in page and reverse("server_purge", args=[deleted.pk]) in page
    assert "/do/" not in page and 'id="to-console"' not in page
    viewer = text(browser(cast.viewer).get(reverse("server", args=[deleted.pk])))
    assert "Its disks are kept until" in viewer and 'id="undelete"' not in viewer
    listed = text(browser(cast.owner).get(reverse("servers")))
    assert "Deleted but kept" in listed and "web1<" in listed
    assert "web1<" not in text(browser(cast.stranger).get(reverse("servers")))


def test_nothing_else_is_done_with_it(browser: Browser, cast: Cast, deleted: Domu) -> None:
    answer = do(browser(cast.owner), deleted, "start")
    assert answer.status_code == 409 and "web1 was deleted; undelete it first." in text(answer)
    assert browser(cast.owner).get(reverse("console", args=[deleted.pk])).status_code == 404
    with pytest.raises(Conflict, match="was deleted"):
        Request.ask_size(deleted, cast.owner, 512, 1)


def test_undeleting_brings_it_back_stopped(
    browser: Browser,
    cast: Cast,
    mouth: Mouth,
    deleted: Domu,
    rung: list[Operation],
    django_capture_on_commit_callbacks: Any,
) -> None:
    url = reverse("server_undelete", args=[deleted.pk])
    assert browser(cast.owner).get(url).status_code == 405
    assert browser(cast.developer).post(url).status_code == 403
    assert browser(cast.stranger).post(url).status_code == 404
    with django_capture_on_commit_callbacks(execute=True):
        assert browser(cast.admin).post(url).status_code == 302
    assert [(row.verb, row.body["domu"]["autostart"]) for row in rung] == [("prepare", True)]
    finish(mouth, deleted)
    assert deleted.status == "stopped" and deleted.deleted_at is None
    assert used_by(deleted.subject) == {"servers": 1, "memory_mib": 256, "vcpus": 1, "disk_mib": 1024}
    assert mouth.dom0.promised_to(deleted.subject)["memory_mib"] == 256
    again = browser(cast.admin).post(url)
    assert again.status_code == 409 and "web1 is not deleted." in text(again)


def test_undeleting_looks_for_quota_room_and_name(
    browser: Browser, cast: Cast, mouth: Mouth, deleted: Domu
) -> None:
    Request.ask(tenant=cast.other, by=cast.stranger, name="web1", **ASKED)
    answer = browser(cast.owner).post(reverse("server_undelete", args=[deleted.pk]))
    assert answer.status_code == 409 and "has or waits for the name web1" in text(answer)
    Request.objects.waiting().get().withdraw(cast.stranger)
    grant(cast.tenant, {"memory_mib": -4000}, "less")
    with pytest.raises(QuotaExceeded, match="asks for 256 MiB of memory, but 96 MiB of 96 MiB is left"):
        kept.undelete(deleted, cast.owner)
    grant(cast.tenant, {"memory_mib": 4000}, "more")
    mouth.dom0.promise({"memory_mib": 3500}, "domu:other", "taken meanwhile")
    with pytest.raises(NoRoom, match="dom0-a has 84 MiB of memory left; the server wants 256 MiB more"):
        kept.undelete(deleted, cast.owner)
    deleted.refresh_from_db()
    assert deleted.is_kept and used_by(deleted.subject) == {"disk_mib": 1024}


def test_the_name_is_free_at_once(cast: Cast, mouth: Mouth, deleted: Domu) -> None:
    other = Request.ask(tenant=cast.other, by=cast.stranger, name="web1", **ASKED)
    assert other.approve(cast.operator, mouth.dom0).name == "web1"


def test_wiping_now_wants_the_name_and_frees_the_rest(
    browser: Browser, cast: Cast, mouth: Mouth, deleted: Domu
) -> None:
    url = reverse("server_purge", args=[deleted.pk])
    assert "Disk 0, 1 GiB, is wiped." in text(browser(cast.owner).get(url))
    assert browser(cast.owner).post(url, {"name": "web"}).status_code == 422
    assert browser(cast.owner).post(url, {"name": "web1"}).status_code == 302
    assert used_by(deleted.subject) == {"disk_mib": 1024}  # until it is done
    assert "being deleted" in text(browser(cast.owner).get(reverse("server", args=[deleted.pk])))
    again = browser(cast.owner).post(url, {"name": "web1"})
    assert again.status_code == 409 and "Delete is still under way" in text(again)
    undo = browser(cast.owner).post(reverse("server_undelete", args=[deleted.pk]))
    assert undo.status_code == 409
    finish(mouth, deleted)
    assert used_by(deleted.subject) == {} and mouth.dom0.promised_to(deleted.subject) == {}
    page = text(browser(cast.owner).get(reverse("server", args=[deleted.pk])))
    assert "its disks were wiped" in page
    for name in ("server_undelete", "server_purge"):
        late = browser(cast.owner).post(reverse(name, args=[deleted.pk]), {"name": "web1"})
        assert late.status_code == 409


def test_a_live_server_is_not_wiped(browser: Browser, cast: Cast, bootable: Domu) -> None:
    answer = browser(cast.owner).post(reverse("server_purge", args=[bootable.pk]), {"name": "web1"})
    assert answer.status_code == 409 and not bootable.operations.open().exists()


def test_the_sweep_wipes_when_the_days_are_over(cast: Cast, mouth: Mouth, deleted: Domu) -> None:
    deleted.operations.update(created_at=timezone.now() - timedelta(hours=1))
    assert purge_due() == 0
    Domu.objects.filter(pk=deleted.pk).update(keep_until=timezone.now())
    assert purge_due() == 1
    assert deleted.operations.open().get().verb == "delete"
    assert purge_due() == 0, "it is under way"
    finish(mouth, deleted, "failed", error={"code": "x", "text": "busy", "output": ""})
    assert purge_due() == 0, "not again at once"
    deleted.operations.update(created_at=timezone.now() - timedelta(hours=1))
    assert purge_due() == 1
    finish(mouth, deleted)
    assert deleted.purged_at is not None and sums(cast.tenant)["disk_mib"]["used"] == 0
    assert purge_due() == 0


def test_what_is_locked_is_neither_deleted_nor_wiped(cast: Cast, mouth: Mouth, bootable: Domu) -> None:
    Domu.objects.filter(pk=bootable.pk).update(locked="evidence")
    with pytest.raises(Conflict, match="locked by an operator: evidence"):
        kept.delete(bootable, cast.owner)
    Domu.objects.filter(pk=bootable.pk).update(
        deleted_at=timezone.now(), keep_until=timezone.now(), observed="gone"
    )
    bootable.operations.update(created_at=timezone.now() - timedelta(hours=1))
    assert purge_due() == 0 and not bootable.operations.open().exists()


def test_what_is_deleted_and_still_runs_is_ended(cast: Cast, mouth: Mouth, running: Domu) -> None:
    kept.delete(running, cast.owner)
    finish(mouth, running, "failed", error={"code": "x", "text": "xl hangs", "output": ""})
    mouth.inventory({running: "running"})
    assert mouth.dom0.promised_to(running.subject)["memory_mib"] == 256
    running.operations.update(created_at=timezone.now() - timedelta(hours=1))
    assert purge_due() == 1
    assert running.operations.open().get().verb == "destroy"


def test_deleting_takes_back_the_wish_for_more(cast: Cast, mouth: Mouth, bootable: Domu) -> None:
    asked = Request.ask_size(bootable, cast.owner, 512, 2)
    assert used_by(asked.subject) == {"memory_mib": 256, "vcpus": 1}
    kept.delete(bootable, cast.owner)
    asked.refresh_from_db()
    assert asked.state == "withdrawn" and used_by(asked.subject) == {}


def test_a_deleted_server_keeps_its_kernel_from_being_forgotten(cast: Cast, deleted: Domu) -> None:
    version = deleted.menus.get().entries.get().version
    with pytest.raises(Conflict, match="it stands in the boot menu of web1"):
        version.delete_content(cast.owner)


def test_it_has_one_size(browser: Browser, cast: Cast, deleted: Domu) -> None:
    url = reverse("server_resize", args=[deleted.pk])
    answer = browser(cast.owner).post(url, {"memory_mib": "128", "vcpus": "1"})
    assert answer.status_code == 422 and "web1 was deleted" in text(answer)


def test_a_restored_backup_gives_the_days_anew(cast: Cast, mouth: Mouth, deleted: Domu) -> None:
    Domu.objects.filter(pk=deleted.pk).update(keep_until=timezone.now() - timedelta(hours=1))
    go_on()
    deleted.refresh_from_db()
    assert deleted.keep_until is not None and deleted.keep_until > timezone.now() + timedelta(days=6)
    assert not deleted.operations.open().exists()
