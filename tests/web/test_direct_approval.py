"""Direct boot of an upload: asked for, decided by another, bound to the files; taken back, it starts no more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.models import Membership, Role
from tests.web.conftest import Browser, Cast, finish, log_in_freshly, make_blob, make_loaders, make_version
from tests.web.test_boot import rows
from tests.web.world import Mouth
from vps import sweep
from vps.dispatch import send as really_send
from vps.models import Conflict, DirectApproval, Domu, Event, KernelVersion, Operation
from vps.models.boot import EntryDraft, save_menu
from vps.xen.description import BootMethod

pytestmark = pytest.mark.django_db


def asked(cast: Cast, version: KernelVersion) -> DirectApproval:
    return DirectApproval.ask(version, cast.developer, "it is small")


def approved(cast: Cast, version: KernelVersion) -> DirectApproval:
    row = asked(cast, version)
    row.decide(cast.operator, True, "fine")
    return row


def save_direct(domu: Domu, version: KernelVersion, cast: Cast) -> Operation:
    return save_menu(domu, [EntryDraft(version, "", "")], cast.developer, method=BootMethod.DIRECT)


@pytest.fixture
def direct(cast: Cast, mouth: Mouth, domu: Domu, version: KernelVersion) -> Domu:
    """A stopped server that boots an approved upload directly."""
    approved(cast, version)
    save_direct(domu, version, cast)
    finish(mouth, domu)
    domu.refresh_from_db()
    return domu


def test_an_upload_needs_an_approval(cast: Cast, domu: Domu, version: KernelVersion) -> None:
    with pytest.raises(Conflict, match="an operator has to approve"):
        save_direct(domu, version, cast)
    row = asked(cast, version)
    with pytest.raises(Conflict, match="an operator has to approve"):
        save_direct(domu, version, cast)
    row.decide(cast.operator, True)
    operation = save_direct(domu, version, cast)
    assert version.original is not None
    assert operation.body["domu"]["boot"]["entries"][0]["kernel"] == version.original.ref().as_dict()


def test_the_catalogue_needs_none(cast: Cast, mouth: Mouth, domu: Domu) -> None:
    offered = make_version(None, "offered")
    save_direct(domu, offered, cast)
    finish(mouth, domu)
    offered.kernel.offer(False, cast.operator)
    domu.refresh_from_db()
    assert domu.start(cast.owner).body["domu"]["boot"]["entries"], "what boots it goes on"
    with pytest.raises(Conflict):
        DirectApproval.ask(offered, cast.operator, "")


def test_it_is_bound_to_the_files(cast: Cast, domu: Domu, version: KernelVersion) -> None:
    approved(cast, version)
    same = make_version(cast.tenant, "generic", 2)
    KernelVersion.objects.filter(pk=same.pk).update(original=version.original)
    same.refresh_from_db()
    save_direct(domu, same, cast)
    with_ramdisk = make_version(cast.tenant, "generic", 3)
    with_ramdisk.original, with_ramdisk.ramdisk = version.original, make_blob(b"a ramdisk")
    with_ramdisk.save()
    domu.operations.open().update(state="done")
    with pytest.raises(Conflict, match="generic 3 is an upload"):
        save_direct(domu, with_ramdisk, cast)


def test_it_is_bound_to_the_tenant(cast: Cast, version: KernelVersion) -> None:
    from vps.models.direct_approval import may_boot_directly

    approved(cast, version)
    assert may_boot_directly(cast.tenant, version.original_id, "")
    assert not may_boot_directly(cast.other, version.original_id, "")
    assert not may_boot_directly(cast.tenant, version.original_id, "0" * 64)
    assert not may_boot_directly(cast.tenant, "0" * 64, "")


def test_the_plain_file_of_an_approved_kernel_may(cast: Cast, domu: Domu) -> None:
    zstd = make_version(cast.tenant, "zstd", path_files={"direct_pv": "plain"})
    zstd.plain = make_blob(b"unpacked")
    zstd.save()
    approved(cast, zstd)
    entry = save_direct(domu, zstd, cast).body["domu"]["boot"]["entries"][0]
    assert entry["kernel"]["sha256"] == zstd.plain_id


def test_taken_back_it_is_not_started(cast: Cast, direct: Domu, version: KernelVersion) -> None:
    DirectApproval.objects.get().revoke(cast.second, "a hole was found")
    direct.refresh_from_db()
    with pytest.raises(Conflict, match="generic 1 may not boot directly"):
        direct.start(cast.owner)
    assert not direct.operations.open().exists()
    event = Event.objects.get(kind="direct.revoked")
    assert (event.actor, event.tenant, event.reason) == (cast.second, cast.tenant, "a hole was found")


def test_the_pages_say_that_it_boots_no_more(
    browser: Browser, cast: Cast, mouth: Mouth, direct: Domu, version: KernelVersion
) -> None:
    """The server's, its files, and the editor in which its owner chooses something else."""
    make_loaders()
    DirectApproval.objects.get().revoke(cast.second, "a hole was found")
    assert sweep._tell_of_revoked() == 1
    finish(mouth, direct)
    shown = browser(cast.owner).get(reverse("server_configuration", args=[direct.pk]))
    assert "generic 1 may not boot directly: an operator has to approve it." in shown.content.decode()
    assert browser(cast.owner).get(reverse("server", args=[direct.pk])).status_code == 200
    data = rows((version.pk, "Other", "root=xbd0a"), do="preview", method="pvgrub")
    preview = browser(cast.owner).post(reverse("boot", args=[direct.pk]), data)
    assert preview.status_code == 200 and "title Other" in preview.content.decode()


def test_taken_back_while_it_runs(cast: Cast, mouth: Mouth, direct: Domu, rung: list[Operation]) -> None:
    direct.start(cast.owner)
    finish(mouth, direct)
    mouth.inventory({direct: "running"})
    DirectApproval.objects.get().revoke(cast.second, "a hole was found")
    assert sweep._tell_of_revoked() == 1
    direct.refresh_from_db()
    told = direct.operations.open().get()
    assert told.verb == "prepare"
    assert told.body["domu"]["boot"]["entries"] == []
    assert told.body["domu"]["boot"]["method"] == "direct"
    assert direct.wanted == "running", "what runs goes on"
    assert sweep._tell_of_revoked() == 0, "it was told"
    finish(mouth, direct)
    direct.refresh_from_db()
    assert sweep._tell_of_revoked() == 0
    with pytest.raises(Conflict, match="may not boot directly"):
        direct.order(_verb("reboot"), cast.owner)
    direct.order(_verb("shutdown"), cast.owner)
    again = DirectApproval.objects.get().version
    DirectApproval.ask(again, cast.developer, "it was mended").decide(cast.operator, True)
    finish(mouth, direct)
    mouth.inventory({})
    mouth.inventory({})
    direct.refresh_from_db()
    assert direct.start(cast.owner).body["domu"]["boot"]["entries"]


def _verb(word: str) -> Any:
    from vps.xen.messages import Verb

    return Verb(word)


@pytest.mark.parametrize("end", ["failed", "cancelled", "given_up"])
def test_it_is_told_again_until_the_dom0_did_it(
    cast: Cast, mouth: Mouth, direct: Domu, rung: list[Operation], end: str
) -> None:
    DirectApproval.objects.get().revoke(cast.operator, "a hole")
    assert sweep._tell_of_revoked() == 1
    told = direct.operations.open().get()
    if end == "failed":
        finish(mouth, direct, "failed", error={"code": "expired", "text": "It came too late."})
    elif end == "cancelled":
        direct.cancel(told, cast.owner)
        if direct.operations.open().exists():
            mouth.outcome(told, "cancelled")
    else:
        told.give_up(cast.operator, "its dom0 is gone")
    assert sweep._tell_of_revoked() == 0, "not at once"
    direct.operations.filter(pk=told.pk).update(ended_at=timezone.now() - timedelta(minutes=2))
    assert sweep._tell_of_revoked() == 1
    finish(mouth, direct)
    direct.operations.update(ended_at=timezone.now() - timedelta(minutes=2))
    assert sweep._tell_of_revoked() == 0


@pytest.mark.parametrize("sealed", [False, True], ids=["never sealed", "not accepted yet"])
def test_an_order_that_waits_is_taken_back_with_it(
    cast: Cast, mouth: Mouth, direct: Domu, rung: list[Operation], sealed: bool
) -> None:
    """Redis was away when it was asked for, or the dom0 has not taken it: its queue has a word that ends it."""
    start = direct.start(cast.owner)
    row = {"envelope": "sealed", "state": "sent"} if sealed else {"envelope": "", "state": "queued"}
    Operation.objects.filter(pk=start.pk).update(**row)
    DirectApproval.objects.get().revoke(cast.second, "a hole was found")
    start.refresh_from_db()
    assert not really_send(start)
    start.refresh_from_db()
    direct.refresh_from_db()
    if sealed:
        assert start.is_open and start.cancel_asked_at, "the dom0 says what came of it"
    else:
        assert (start.state, start.envelope, direct.wanted) == ("cancelled", "", "stopped")
    said = Event.objects.get(kind="operation.cancel")
    assert "generic 1 may not boot directly" in said.reason and said.actor is None


@pytest.mark.parametrize("verb", ["shutdown", "destroy"])
def test_an_order_that_builds_nothing_waits_on(
    cast: Cast, mouth: Mouth, direct: Domu, rung: list[Operation], verb: str
) -> None:
    direct.start(cast.owner)
    finish(mouth, direct)
    mouth.inventory({direct: "running"})
    direct.refresh_from_db()
    order = direct.order(_verb(verb), cast.owner)
    DirectApproval.objects.get().revoke(cast.second, "a hole was found")
    really_send(order)
    order.refresh_from_db()
    assert order.is_open and order.cancel_asked_at is None


def test_a_locked_server_forgets_as_well(cast: Cast, direct: Domu) -> None:
    Domu.objects.filter(pk=direct.pk).update(locked="abuse")
    DirectApproval.objects.get().revoke(cast.operator, "a hole")
    assert sweep._tell_of_revoked() == 1


def test_nobody_decides_for_their_own(cast: Cast, version: KernelVersion) -> None:
    row = asked(cast, version)
    Membership.objects.create(tenant=cast.tenant, user=cast.operator, role=Role.VIEWER)
    with pytest.raises(Conflict, match="own tenant"):
        row.decide(cast.operator, True)
    row.decide(cast.second, True)
    with pytest.raises(Conflict, match="own tenant"):
        row.revoke(cast.operator, "x")


def test_the_second_is_told_who_was_first(cast: Cast, version: KernelVersion) -> None:
    row = asked(cast, version)
    late = DirectApproval.objects.get()
    row.decide(cast.operator, False, "no")
    with pytest.raises(Conflict, match="Operator was first: it is refused already"):
        late.decide(cast.second, True)
    with pytest.raises(Conflict, match="it is refused already"):
        late.revoke(cast.second, "x")


def test_asked_once_at_a_time(cast: Cast, version: KernelVersion) -> None:
    row = asked(cast, version)
    with pytest.raises(Conflict, match="asked for already"):
        asked(cast, version)
    row.decide(cast.operator, False, "no")
    assert asked(cast, version).state == "waiting"
    pvgrub_only = make_version(
        cast.tenant, "xz", paths={"pvgrub": "ok", "direct_pv": "It has no xz.", "direct_pvh": "No."}
    )
    with pytest.raises(Conflict, match="cannot boot directly: It has no xz"):
        asked(cast, pvgrub_only)


def test_the_pages_way(cast: Cast, version: KernelVersion, browser: Browser) -> None:
    page = reverse("kernel_version", args=[version.pk])
    assert "Ask for direct boot" in browser(cast.developer).get(page).content.decode()
    assert "Ask for direct boot" not in browser(cast.viewer).get(page).content.decode()
    ask = reverse("direct_ask", args=[version.pk])
    empty = browser(cast.developer).post(ask, {"words": ""})
    assert empty.status_code == 422 and "This field is required" in empty.content.decode()
    answer = browser(cast.developer).post(ask, {"words": "no loader <reads> it"})
    row = DirectApproval.objects.get()
    assert (answer.status_code, row.words) == (302, "no loader <reads> it")
    assert browser(cast.developer).post(ask, {"words": "again"}).status_code == 409
    today = browser(cast.operator).get(reverse("today")).content.decode()
    assert "Direct boot to decide on" in today and "no loader &lt;reads&gt; it" in today
    one = reverse("direct_approval", args=[row.pk])
    assert version.original_id in browser(cast.operator).get(one).content.decode()
    decide = reverse("direct_decide", args=[row.pk])
    stale = browser(cast.operator).post(decide, {"answer": "approve"})
    assert (stale.status_code, "again/" in stale["Location"]) == (302, True)
    row.refresh_from_db()
    assert row.state == "waiting", "who did not log in lately decides nothing"
    operator = log_in_freshly(browser(cast.operator), cast.operator)
    second = log_in_freshly(browser(cast.second), cast.second)
    assert "Say why" in operator.post(decide, {"answer": "refuse"}).content.decode()
    assert operator.post(decide, {"answer": "perhaps"}).status_code == 422
    assert operator.post(decide, {"answer": "approve", "words": "yes"}).status_code == 302
    assert second.post(decide, {"answer": "approve"}).status_code == 409
    assert "Direct boot to decide on" not in browser(cast.operator).get(reverse("today")).content.decode()
    assert "approved" in browser(cast.viewer).get(page).content.decode()
    revoke = reverse("direct_revoke", args=[row.pk])
    assert operator.post(revoke, {"why": ""}).status_code == 422
    assert operator.post(revoke, {"why": "a hole"}).status_code == 302
    assert "a hole" in browser(cast.developer).get(one).content.decode()
    assert "Ask again" in browser(cast.developer).get(page).content.decode()
