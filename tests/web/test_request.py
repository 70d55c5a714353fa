"""Asking for servers and deciding: what works, what is refused with which words, who was first."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.models import Mail, Membership, Role
from accounts.models.quota import sums, used_by
from tests.web.conftest import ASKED, Browser, Cast, make_loaders, make_version
from tests.web.world import Mouth, make_dom0
from vps.models import Conflict, Domu, Event, Operation, Request, Size
from vps.xen.messages import ReportKind, Verb

OWN = {"guest_os": "netbsd", "offer": "own", "memory_mib": "256", "vcpus": "1", "disk_mib": "1024"}


def form(**changes: Any) -> dict[str, str]:
    return {"name": "web1", "why": "mail", **OWN, **{k: str(v) for k, v in changes.items()}}


def text(answer: Any) -> str:
    return re.sub(r"\s+", " ", answer.content.decode())


def post_ask(browser: Browser, cast: Cast, **changes: Any) -> Any:
    data = {"tenant": str(cast.tenant.pk), **form(**changes)}
    return browser(cast.owner).post(reverse("ask"), data)


def approval(asked: Request, mouth: Mouth, **changes: Any) -> dict[str, str]:
    data = {"dom0": mouth.dom0.pk, **asked.size, "words": "", **changes}
    return {name: str(value) for name, value in data.items()}


# Asking


def test_asking_books_the_quota(browser: Browser, cast: Cast) -> None:
    answer = post_ask(browser, cast)
    asked = Request.objects.get()
    assert answer.status_code == 302 and answer.url == reverse("request", args=[asked.pk])
    assert (asked.name, asked.tenant, asked.by, asked.why) == ("web1", cast.tenant, cast.owner, "mail")
    assert used_by(asked.subject) == {"servers": 1, "memory_mib": 256, "vcpus": 1, "disk_mib": 1024}


def test_an_offered_size_stands_for_its_numbers(browser: Browser, cast: Cast, sizes: list[Size]) -> None:
    post_ask(browser, cast, offer=sizes[1].pk, memory_mib="rubbish", vcpus="-1", disk_mib="")
    assert Request.objects.get().size == {"memory_mib": 1024, "vcpus": 2, "disk_mib": 8192}


def test_the_page_shows_what_would_be_left(browser: Browser, cast: Cast, sizes: list[Size]) -> None:
    page = text(browser(cast.owner).get(reverse("ask")))
    assert "What would be left" in page and "3.8 GiB" in page  # 4 GiB less 256 MiB
    part = browser(cast.owner).get(
        reverse("ask"), {"offer": str(sizes[1].pk)}, headers={"HX-Request": "true"}
    )
    assert "<html" not in text(part)
    assert "3 GiB" in text(part) and "32 GiB" in text(part)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"name": ""}, "Give the server a host name such as web1.", id="no name"),
        pytest.param({"name": "../../etc/passwd"}, "cannot be a server&#x27;s name", id="path"),
        pytest.param({"name": "-rf"}, "cannot be a server&#x27;s name", id="option"),
        pytest.param({"name": "wéb"}, "cannot be a server&#x27;s name", id="unicode"),
        pytest.param({"name": "Web1"}, "cannot be a server&#x27;s name", id="capitals"),
        pytest.param({"name": "web 1"}, "cannot be a server&#x27;s name", id="space"),
        pytest.param({"name": "a;reboot"}, "cannot be a server&#x27;s name", id="shell"),
        pytest.param({"name": "a" * 64}, "The name has 64 characters; the limit is 63.", id="too long"),
        pytest.param({"name": "dom0"}, "is a reserved name; choose another one.", id="reserved"),
        pytest.param({"memory_mib": 0}, "It must be 16 or more.", id="no memory"),
        pytest.param({"memory_mib": -256}, "It must be 16 or more.", id="negative memory"),
        pytest.param({"vcpus": 0}, "It must be 1 or more.", id="no cpus"),
        pytest.param({"vcpus": 65}, "It must be 64 or less.", id="many cpus"),
        pytest.param({"disk_mib": -1}, "It must be 1 or more.", id="negative disk"),
        pytest.param({"disk_mib": 10**30}, "It must be 67108864 or less.", id="astronomic disk"),
        pytest.param({"memory_mib": "a lot"}, "Give a whole number.", id="words"),
        pytest.param({"memory_mib": "256.5"}, "Give a whole number.", id="fraction"),
        pytest.param({"memory_mib": ""}, "Give a number.", id="nothing"),
        pytest.param({"memory_mib": 4097}, "is more than the quota leaves: 4 GiB of 4 GiB.", id="over quota"),
        pytest.param({"vcpus": 9}, "is more than the quota leaves: 8 of 8.", id="over cpus"),
        pytest.param({"disk_mib": 40961}, "is more than the quota leaves: 40 GiB of 40 GiB.", id="over disk"),
        pytest.param({"guest_os": "plan9"}, "is not one of the available choices", id="system"),
        pytest.param({"offer": "99"}, "is not one of the available choices", id="size not offered"),
        pytest.param({"why": "x" * 501}, "at most 500 characters", id="long story"),
    ],
)
def test_bad_input_gets_a_sentence_and_keeps_what_was_typed(
    browser: Browser, cast: Cast, changes: dict[str, Any], words: str
) -> None:
    answer = post_ask(browser, cast, **changes)
    assert answer.status_code == 422
    page = text(answer)
    assert words in page
    assert 'value="1024"' in page or "disk_mib" in changes  # what was typed elsewhere
    assert not Request.objects.exists()
    assert sums(cast.tenant)["memory_mib"]["used"] == 0


def test_more_than_every_dom0_has(browser: Browser, cast: Cast, mouth: Mouth) -> None:
    answer = post_ask(browser, cast, memory_mib=3585)  # 4096 less dom0's own 512
    assert answer.status_code == 422
    assert "the largest has 3.5 GiB of memory for servers" in text(answer)


@pytest.mark.parametrize("taken_by", ["request", "server"])
def test_a_name_that_is_taken(
    browser: Browser, cast: Cast, mouth: Mouth, taken_by: str, rung: object
) -> None:
    first = Request.ask(tenant=cast.other, by=cast.stranger, name="web1", **ASKED)
    if taken_by == "server":
        first.approve(cast.operator, mouth.dom0)
    answer = post_ask(browser, cast)
    assert answer.status_code == 422
    assert "The name web1 is taken; choose another one." in text(answer)


def test_no_server_left_in_the_quota(browser: Browser, cast: Cast) -> None:
    for number in range(5):
        Request.ask(tenant=cast.tenant, by=cast.owner, name=f"web{number}", **ASKED)
    answer = post_ask(browser, cast, name="web9")
    assert answer.status_code == 422
    assert "may have 5 servers and has them" in text(answer)


def test_asking_for_another_tenant(browser: Browser, cast: Cast) -> None:
    answer = post_ask(browser, cast, tenant=cast.other.pk)
    assert answer.status_code == 422
    assert not Request.objects.exists()


# Deciding


def test_the_operator_sees_the_deciding_facts(
    browser: Browser, cast: Cast, mouth: Mouth, asked: Request
) -> None:
    silent = make_dom0("dom0-silent", "other")
    page = text(browser(cast.operator).get(reverse("request", args=[asked.pk])))
    assert "Quota of Example" in page and "History of Example" in page
    assert "dom0-a" in page and f"{silent.name} was not heard lately." in page
    assert "Left afterwards: 3.2 GiB of memory" in page
    assert "Approve" in page and "Refuse" in page


def test_the_customer_sees_place_and_no_decision(browser: Browser, cast: Cast, asked: Request) -> None:
    page = text(browser(cast.viewer).get(reverse("request", args=[asked.pk])))
    assert "Place 1 in the queue." in page
    assert "Approve" not in page and "Withdraw" not in page and "dom0-a" not in page


def test_approving_makes_the_server_and_orders_its_preparation(
    browser: Browser,
    cast: Cast,
    mouth: Mouth,
    asked: Request,
    rung: list[Operation],
    django_capture_on_commit_callbacks: Any,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        answer = browser(cast.operator).post(
            reverse("request_approve", args=[asked.pk]), approval(asked, mouth, words="welcome")
        )
    assert answer.status_code == 302
    domu = Domu.objects.get()
    assert (domu.name, domu.tenant, domu.dom0) == ("web1", cast.tenant, mouth.dom0)
    assert [operation.verb for operation in rung] == [Verb.PREPARE]
    assert rung[0].body["domu"]["disks"][0]["size_mib"] == 1024
    asked.refresh_from_db()
    assert (asked.state, asked.decided_by, asked.words) == ("approved", cast.operator, "welcome")
    assert used_by(asked.subject) == {} and used_by(domu.subject)["memory_mib"] == 256


def test_change_and_approve(
    browser: Browser, cast: Cast, mouth: Mouth, asked: Request, rung: list[Operation]
) -> None:
    browser(cast.operator).post(
        reverse("request_approve", args=[asked.pk]), approval(asked, mouth, memory_mib=128, disk_mib=512)
    )
    domu = Domu.objects.get()
    assert domu.memory_mib == 128 and domu.disks.get().size_mib == 512
    assert used_by(domu.subject)["disk_mib"] == 512
    page = text(browser(cast.owner).get(reverse("request", args=[asked.pk])))
    assert 'asked for: <span class="size">256 MiB' in page


def test_the_second_operator_is_told_who_was_first(
    browser: Browser, cast: Cast, mouth: Mouth, asked: Request, rung: list[Operation]
) -> None:
    browser(cast.operator).post(reverse("request_approve", args=[asked.pk]), approval(asked, mouth))
    for name, data in (("approve", approval(asked, mouth)), ("refuse", {"words": "no"})):
        answer = browser(cast.second).post(reverse(f"request_{name}", args=[asked.pk]), data)
        assert answer.status_code == 409
        assert "Operator was first: the request was approved already." in text(answer)
    assert Domu.objects.count() == 1
    asked.refresh_from_db()
    assert asked.decided_by == cast.operator


def test_nobody_decides_on_their_own(
    browser: Browser, cast: Cast, mouth: Mouth, asked: Request, rung: list[Operation]
) -> None:
    Membership.objects.create(tenant=cast.tenant, user=cast.operator, role=Role.VIEWER)
    page = text(browser(cast.operator).get(reverse("request", args=[asked.pk])))
    assert "Nobody decides on a request of their own tenant" in page
    for name, data in (("approve", approval(asked, mouth)), ("refuse", {"words": "no"})):
        answer = browser(cast.operator).post(reverse(f"request_{name}", args=[asked.pk]), data)
        assert answer.status_code == 409
        assert "Nobody decides on a request of their own tenant" in text(answer)
    asked.refresh_from_db()
    assert asked.state == "waiting" and not Domu.objects.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"memory_mib": 3585}, "has 3584 MiB of memory left", id="memory of the dom0"),
        pytest.param({"disk_mib": 100_000}, "MiB of disk left", id="disk of the dom0"),
        pytest.param({"vcpus": 5}, "has 4 cpus; the server wants 5.", id="cpus of the dom0"),
        pytest.param({"memory_mib": 0}, "It must be 16 or more.", id="no memory"),
        pytest.param({"vcpus": ""}, "Give a number.", id="no number"),
        pytest.param({"dom0": ""}, "Choose the dom0", id="no dom0"),
        pytest.param({"dom0": "rubbish"}, "is not a valid", id="no dom0's id"),
        pytest.param({"dom0": "01931f6a-7c1e-7b6e-9d3a-2f9a3c1e4b5d"}, "not there any more", id="gone"),
    ],
)
def test_what_cannot_be_approved(
    browser: Browser, cast: Cast, mouth: Mouth, asked: Request, changes: dict[str, Any], words: str
) -> None:
    if changes.get("disk_mib"):
        from accounts.models.quota import grant

        grant(cast.tenant, {"disk_mib": 200_000}, "for this test")
    answer = browser(cast.operator).post(
        reverse("request_approve", args=[asked.pk]), approval(asked, mouth, **changes)
    )
    assert answer.status_code == 422
    assert words in text(answer)
    asked.refresh_from_db()
    assert asked.state == "waiting" and not Domu.objects.exists()
    assert used_by(asked.subject)["memory_mib"] == 256


def test_more_than_the_quota_is_not_approved(
    browser: Browser, cast: Cast, mouth: Mouth, asked: Request
) -> None:
    answer = browser(cast.operator).post(
        reverse("request_approve", args=[asked.pk]), approval(asked, mouth, disk_mib=50_000)
    )
    assert answer.status_code == 422
    assert "but 40 GiB of 40 GiB is left." in text(answer)
    assert not Domu.objects.exists()


def test_a_dom0_that_takes_no_new_servers(browser: Browser, cast: Cast, mouth: Mouth, asked: Request) -> None:
    mouth.dom0.accepts_new = False
    mouth.dom0.save()
    answer = browser(cast.operator).post(reverse("request_approve", args=[asked.pk]), approval(asked, mouth))
    assert answer.status_code == 422 and "takes no new servers" in text(answer)


def test_refusing_needs_words_which_the_customer_reads(browser: Browser, cast: Cast, asked: Request) -> None:
    url = reverse("request_refuse", args=[asked.pk])
    assert browser(cast.operator).post(url, {"words": "  "}).status_code == 422
    assert browser(cast.operator).post(url, {"words": "no room until March"}).status_code == 302
    assert used_by(asked.subject) == {}
    for name, args in (("request", [asked.pk]), ("servers", [])):
        assert "no room until March" in text(browser(cast.owner).get(reverse(name, args=args)))


def test_withdrawing(browser: Browser, cast: Cast, asked: Request) -> None:
    url = reverse("request_withdraw", args=[asked.pk])
    assert browser(cast.admin).post(url).status_code == 302
    asked.refresh_from_db()
    assert asked.state == "withdrawn" and used_by(asked.subject) == {}
    again = browser(cast.owner).post(url)
    assert again.status_code == 409 and "was first: the request was withdrawn already." in text(again)


def test_deciding_on_what_was_withdrawn(browser: Browser, cast: Cast, mouth: Mouth, asked: Request) -> None:
    asked.withdraw(cast.owner)
    answer = browser(cast.operator).post(reverse("request_approve", args=[asked.pk]), approval(asked, mouth))
    assert answer.status_code == 409 and not Domu.objects.exists()


def test_the_list_filters_searches_and_pages(browser: Browser, cast: Cast) -> None:
    from accounts.models.quota import grant

    grant(cast.tenant, {"servers": 100, "memory_mib": 10**6, "vcpus": 1000, "disk_mib": 10**6}, "many")
    for number in range(51):
        Request.ask(tenant=cast.tenant, by=cast.owner, name=f"web{number}", **ASKED)
    Request.objects.get(name="web7").refuse(cast.operator, "no")
    operator = browser(cast.operator)
    first = text(operator.get(reverse("requests")))
    assert "web50" in first and "Page 1 of" not in first  # 50 wait
    assert "Page 1 of 2, 51 in all" in text(operator.get(reverse("requests"), {"state": "all"}))
    refused = text(operator.get(reverse("requests"), {"state": "refused"}))
    assert "web7<" in refused and "web8<" not in refused
    found = text(operator.get(reverse("requests"), {"q": "web33"}))
    assert "web33<" in found and "web34<" not in found
    assert "No request has" in text(operator.get(reverse("requests"), {"q": "<script>"}))


# Who looks after the kernel, and what it starts from


def test_the_kernel_is_looked_after_inside(
    browser: Browser, cast: Cast, mouth: Mouth, rung: list[Operation]
) -> None:
    page = text(browser(cast.owner).get(reverse("ask")))
    assert "Who looks after the kernel?" in page and 'name="start_from"' not in page
    post_ask(browser, cast, boot_method="own_disk")
    asked = Request.objects.get()
    assert asked.boot_method == "own_disk"
    assert "Looked after inside the server." in text(
        browser(cast.operator).get(reverse("request", args=[asked.pk]))
    )
    domu = asked.approve(cast.operator, mouth.dom0)
    assert domu.boot_method == "own_disk" and not domu.boot().bootable
    wrong = post_ask(browser, cast, name="web2", boot_method="pygrub")
    assert wrong.status_code == 422 and Request.objects.count() == 1


@pytest.mark.parametrize(
    ("guest_os", "arguments"),
    [pytest.param("netbsd", "", id="netbsd"), pytest.param("linux", "console=hvc0", id="linux")],
)
def test_starting_from_an_installer(
    browser: Browser, cast: Cast, mouth: Mouth, rung: list[Operation], guest_os: str, arguments: str
) -> None:
    make_loaders()
    installer = make_version(None, "install", role="installer")
    make_version(None, "plain")
    assert str(installer) in text(browser(cast.owner).get(reverse("ask")))
    assert "plain 1" not in text(browser(cast.owner).get(reverse("ask")))
    post_ask(browser, cast, guest_os=guest_os, start_from=installer.pk)
    domu = Request.objects.get().approve(cast.operator, mouth.dom0)
    (entry,) = domu.boot().entries
    assert (entry.title, entry.arguments, entry.label) == ("Install install", arguments, "install 1")
    (operation,) = domu.operations.all()
    assert operation.verb == "prepare" and len(operation.body["domu"]["boot"]["entries"]) == 1


def test_an_installer_that_cannot_be_taken_leaves_the_server_without(
    browser: Browser, cast: Cast, mouth: Mouth, rung: list[Operation]
) -> None:
    installer = make_version(None, "install", role="installer")  # and there is no loader
    post_ask(browser, cast, start_from=installer.pk)
    domu = Request.objects.get().approve(cast.operator, mouth.dom0)
    assert domu.menu_serial == 0 and domu.operations.get().verb == "prepare"
    assert "no loader" in Event.objects.get(kind="boot.not_saved").reason


def test_what_is_no_installer_of_the_catalogue_is_not_taken(browser: Browser, cast: Cast) -> None:
    own = make_version(cast.tenant, "mine", role="installer")
    make_version(None, "install", role="installer")
    answer = post_ask(browser, cast, start_from=own.pk)
    assert answer.status_code == 422 and "not offered any more" in text(answer)


# Mail, and an end by itself


def test_both_sides_get_mail(browser: Browser, cast: Cast, mouth: Mouth, rung: list[Operation]) -> None:
    post_ask(browser, cast)
    asked = Request.objects.get()
    waiting = Mail.objects.filter(template="request_waiting")
    assert {mail.to for mail in waiting} == {cast.operator.email, cast.second.email}
    assert reverse("request", args=[asked.pk]) in waiting[0].text and "256 MiB of memory" in waiting[0].text
    browser(cast.operator).post(
        reverse("request_approve", args=[asked.pk]), approval(asked, mouth, words="welcome & enjoy")
    )
    decided = Mail.objects.get(template="request_decided")
    assert decided.to == cast.owner.email and "web1: approved" in decided.subject
    assert "welcome & enjoy" in decided.text
    other = Request.ask(tenant=cast.tenant, by=cast.admin, name="web2", **ASKED)
    other.refuse(cast.operator, "no room")
    last = Mail.objects.filter(template="request_decided").latest("created_at")
    assert (last.to, "no room" in last.text) == (cast.admin.email, True)
    third = Request.ask(tenant=cast.tenant, by=cast.admin, name="web3", **ASKED)
    third.withdraw(cast.admin)
    assert Mail.objects.filter(template="request_decided").count() == 2


def test_what_nobody_decides_ends_by_itself(
    browser: Browser, cast: Cast, asked: Request, settings: Any
) -> None:
    page = text(browser(cast.owner).get(reverse("request", args=[asked.pk])))
    assert f"Undecided, it ends by itself on {asked.expires_at:%Y-%m-%d}." in page
    assert list(Request.objects.overdue()) == []
    Request.objects.filter(pk=asked.pk).update(asked_at=timezone.now() - timedelta(days=14))
    (overdue,) = Request.objects.overdue()
    overdue.expire()
    asked.refresh_from_db()
    assert (asked.state, asked.decided_by) == ("expired", None) and used_by(asked.subject) == {}
    mail = Mail.objects.get(template="request_decided")
    assert mail.to == cast.owner.email and "Nobody decided" in mail.text
    with pytest.raises(Conflict, match="was expired already"):
        overdue.expire()
    assert list(Request.objects.overdue()) == []
    Request.ask(tenant=cast.tenant, by=cast.owner, name="web1", **ASKED)


def test_the_history_that_an_operator_sees(
    browser: Browser, cast: Cast, mouth: Mouth, running: Domu, rung: list[Operation]
) -> None:
    Request.ask(tenant=cast.tenant, by=cast.owner, name="web2", **ASKED).refuse(cast.operator, "no")
    run = str(uuid4())
    mouth.say(ReportKind.BOOTED, {"domu": str(running.pk), "run": run, "domid": 3, "boots": 1})
    mouth.say(ReportKind.ENDED, {"domu": str(running.pk), "run": run, "reason": "crash", "next": "restart"})
    Event.record("tenant.suspended", "Example was suspended", tenant=cast.tenant, reason="not paid")
    asked = Request.ask(tenant=cast.tenant, by=cast.owner, name="web3", **{**ASKED, "vcpus": 4})
    page = text(browser(cast.operator).get(reverse("request", args=[asked.pk])))
    for words in (
        "<dt>Requests so far</dt><dd>1 approved, 1 refused</dd>",
        "<dt>Crashes in 30 days</dt><dd>1</dd>",
        "Example was suspended",
        "It would have as many cpus as dom0-a itself",
        "NetBSD before release 6 uses one cpu only.",
        'accesskey="a"',
        "js/decide.js",
    ):
        assert words in page, words
    assert "Crashes in 30 days" not in text(browser(cast.owner).get(reverse("request", args=[asked.pk])))
