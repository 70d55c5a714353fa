"""Servers: the list, the page, the verbs: works, wrong method, read-only member, stranger, stale, dispatched."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import override

from accounts.models.quota import grant
from tests.web.conftest import ASKED, Browser, Cast, finish, make_version
from tests.web.test_request import text
from tests.web.world import Mouth, make_dom0, make_domu
from vps.models import Domu, Event, KernelVersion, MacAddress, Nic, Operation, Request, Size
from vps.models.boot import EntryDraft, save_menu
from vps.xen.messages import ReportKind, Verb


def seen(domu: Domu) -> dict[str, str]:
    return {"seen": f"{domu.epoch}.{domu.n}"}


def do(client: Client, domu: Domu, verb: str, **data: str) -> Any:
    return client.post(reverse("server_do", args=[domu.pk, verb]), {**seen(domu), **data})


# The list


def test_an_empty_list_says_how_to_begin(browser: Browser, cast: Cast) -> None:
    page = text(browser(cast.owner).get(reverse("servers")))
    assert "No servers yet" in page and "Upload your kernel." in page
    assert reverse("ask") in page
    assert reverse("ask") not in text(browser(cast.viewer).get(reverse("servers")))


def test_the_list_has_servers_requests_and_quota(
    browser: Browser, cast: Cast, mouth: Mouth, running: Domu
) -> None:
    run = str(uuid4())
    booted = {"domu": str(running.pk), "run": run, "domid": 3, "boots": 1, "label": "generic 1"}
    mouth.say(ReportKind.BOOTED, booted)
    Request.ask(tenant=cast.other, by=cast.stranger, name="theirs", **ASKED)
    Request.ask(tenant=cast.tenant, by=cast.owner, name="web2", **ASKED)
    page = text(browser(cast.owner).get(reverse("servers")))
    for words in (
        "web1",
        "running",
        "generic 1",
        str(running.nics.get().mac),
        "web1 booted generic 1",
        "web2",
        "waiting for approval",
        "place 2 in the queue",
        "512 MiB <span",
        "Withdraw",
        reverse("console", args=[running.pk]),
    ):
        assert words in page, words
    assert "theirs" not in page
    assert "Withdraw" not in text(browser(cast.developer).get(reverse("servers")))


def test_a_poll_gets_the_part_that_changes(browser: Browser, cast: Cast, running: Domu) -> None:
    for name, args in (("servers", []), ("server", [running.pk])):
        answer = browser(cast.owner).get(reverse(name, args=args), headers={"HX-Request": "true"})
        assert "<html" not in text(answer) and 'hx-trigger="every 10s"' in text(answer)
        assert answer["Cache-Control"] == "no-store" and "HX-Request" in answer["Vary"]
    running.order(Verb.SHUTDOWN, cast.owner)
    for name, args in (("servers", []), ("server", [running.pk])):
        assert 'hx-trigger="every 2s"' in text(browser(cast.owner).get(reverse(name, args=args)))


def test_searching_keeps_to_ones_own(browser: Browser, cast: Cast, domu: Domu) -> None:
    owner, stranger = browser(cast.owner), browser(cast.stranger)
    assert "web1<" in text(owner.get(reverse("servers"), {"q": "web"}))
    assert "No server has “nothing”" in text(owner.get(reverse("servers"), {"q": "nothing"}))
    assert "web1<" not in text(stranger.get(reverse("servers"), {"q": "web1"}))


def test_a_list_of_many_takes_as_many_queries_as_one_of_few(
    browser: Browser,
    cast: Cast,
    mouth: Mouth,
    rung: object,
    django_assert_max_num_queries: Any,
    django_assert_num_queries: Any,
) -> None:
    grant(cast.tenant, {"servers": 100, "memory_mib": 10**5, "vcpus": 100, "disk_mib": 10**6}, "many")
    owner = browser(cast.owner)

    def make(names: list[str]) -> None:
        for name in names:
            asked = Request.ask(tenant=cast.tenant, by=cast.owner, name=name, **{**ASKED, "memory_mib": 16})
            finish(mouth, asked.approve(cast.operator, mouth.dom0))

    make(["web1", "web2"])
    with django_assert_max_num_queries(40) as few:
        owner.get(reverse("servers"))
    make([f"many{number}" for number in range(6)])
    with django_assert_num_queries(len(few.captured_queries)):
        page = text(owner.get(reverse("servers")))
    assert page.count("/console/") >= 8


def test_a_list_of_50_takes_as_many_queries_as_one_of_5(
    browser: Browser, cast: Cast, mouth: Mouth, django_assert_num_queries: Any
) -> None:
    owner, operator = browser(cast.owner), browser(cast.operator)
    for n in range(5):
        make_domu(mouth.dom0, f"few{n}", cast.tenant)
    counts = []
    for person in (owner, operator):
        person.get(reverse("servers"))
        with CaptureQueriesContext(connection) as few:
            person.get(reverse("servers"))
        counts.append(len(few))
    second = make_dom0("dom0-b")
    for n in range(45):
        make_domu(second if n % 2 else mouth.dom0, f"more{n:02}", cast.tenant)
    for person, count in zip((owner, operator), counts, strict=True):
        with django_assert_num_queries(count):
            page = text(person.get(reverse("servers")))
        assert page.count('class="row-end"') == 50


def test_a_line_that_was_drawn_before_is_never_old(browser: Browser, cast: Cast, running: Domu) -> None:
    owner = browser(cast.owner)

    def line() -> str:
        page = text(owner.get(reverse("servers")))
        return page[page.index("<tbody>") : page.index("</tbody>")]

    first = line()
    assert "running" in first and "locked" not in first
    changes: list[tuple[dict[str, Any], str]] = [
        ({"locked": "abuse"}, "locked"),
        ({"observed": "paused"}, "paused"),
        ({"memory_mib": 3072}, "3 GiB"),
        ({"booted_label": "NetBSD 11.0", "observed": "running"}, "NetBSD 11.0"),
        ({"name": "renamed"}, "renamed"),
        ({"prepared_serial": 77}, "menu not on the dom0 yet"),
    ]
    for fields, words in changes:
        assert words not in line()
        Domu.objects.filter(pk=running.pk).update(**fields)
        assert words in line()
    Nic.objects.update(mac=MacAddress.give(running.pk))
    assert str(Nic.objects.get().mac) in line()
    Event.record("domu.other", "something else happened", domu=running, tenant=cast.tenant)
    assert "something else happened" in line()
    with override("de"):  # no German yet, but the line is not taken from the other language's
        assert "renamed" in line()


def test_a_list_of_51_has_two_pages(browser: Browser, cast: Cast, mouth: Mouth) -> None:
    Domu.objects.bulk_create(
        Domu(tenant=cast.tenant, dom0=mouth.dom0, name=f"web{n:02}", guest_os="linux", memory_mib=16, vcpus=1)
        for n in range(51)
    )
    first = text(browser(cast.owner).get(reverse("servers")))
    assert "Page 1 of 2, 51 in all" in first and "web50<" not in first
    assert "web50<" in text(browser(cast.owner).get(reverse("servers"), {"page": "2"}))
    assert "web50<" in text(browser(cast.owner).get(reverse("servers"), {"page": "9999"}))


# The page


def test_a_new_server_is_led_to_its_kernel(browser: Browser, cast: Cast, domu: Domu) -> None:
    page = text(browser(cast.owner).get(reverse("server", args=[domu.pk])))
    assert "There is nothing to boot yet." in page and "Choose a kernel" in page
    assert 'id="do-start"' not in page
    assert "xbd0" in page and str(domu.nics.get().mac) in page


def test_a_stopped_server_offers_start(browser: Browser, cast: Cast, bootable: Domu) -> None:
    page = text(browser(cast.owner).get(reverse("server", args=[bootable.pk])))
    assert 'id="do-start"' in page and 'id="do-shutdown"' not in page
    for words in ("generic 1", "Boots as PV.", "root=xbd0a", "Menu 1 is in place."):
        assert words in page, words


def test_who_may_what_sees_the_buttons_for_it(browser: Browser, cast: Cast, running: Domu) -> None:
    url = reverse("server", args=[running.pk])
    pages = {
        name: text(browser(getattr(cast, name)).get(url))
        for name in ("viewer", "developer", "admin", "operator")
    }
    can_stop = {name: 'id="do-shutdown"' in page for name, page in pages.items()}
    can_delete = {name: reverse("server_delete", args=[running.pk]) in page for name, page in pages.items()}
    assert can_stop == {"viewer": False, "developer": True, "admin": True, "operator": True}
    assert can_delete == {"viewer": False, "developer": False, "admin": True, "operator": False}
    assert reverse("dom0", args=[running.dom0_id]) in pages["operator"]
    assert reverse("dom0", args=[running.dom0_id]) not in pages["admin"]


def test_the_page_shows_what_is_done_now(browser: Browser, cast: Cast, mouth: Mouth, running: Domu) -> None:
    operation = running.order(Verb.SHUTDOWN, cast.owner)
    steps = [{"name": "Asking the guest to power off", "at": 0, "seconds": 0.2}]
    mouth.outcome(operation, "running", step="Waiting for the domain to end", steps=steps)
    page = text(browser(cast.owner).get(reverse("server", args=[running.pk])))
    assert "Asking the guest to power off" in page and "under way" in page
    assert reverse("operation_cancel", args=[operation.pk]) in page
    viewer = text(browser(cast.viewer).get(reverse("server", args=[running.pk])))
    assert reverse("operation_cancel", args=[operation.pk]) not in viewer


def test_a_crash_leaves_its_last_words(browser: Browser, cast: Cast, mouth: Mouth, running: Domu) -> None:
    run = str(uuid4())
    mouth.say(ReportKind.BOOTED, {"domu": str(running.pk), "run": run, "domid": 3, "boots": 1})
    ended = {"domu": str(running.pk), "run": run, "reason": "crash", "next": "limit", "code": 3}
    mouth.say(ReportKind.ENDED, {**ended, "tail": "panic: <b>out of ideas</b>"})
    mouth.inventory({}, domus=[{"id": str(running.pk), "phase": "limit", "generation": [0, 0]}])
    page = text(browser(cast.owner).get(reverse("server", args=[running.pk])))
    assert "It crashed too often and is not started again by itself." in page
    assert "Start again" in page and 'id="do-start-again"' in page
    assert "panic: &lt;b&gt;out of ideas&lt;/b&gt;" in page
    assert 'id="do-start"' in page


def test_a_silent_dom0_is_said(browser: Browser, cast: Cast, running: Domu) -> None:
    running.dom0.heard_at = timezone.now() - timedelta(hours=2)
    running.dom0.save()
    page = text(browser(cast.owner).get(reverse("server", args=[running.pk])))
    assert "not heard since" in page and "2 h ago" in page
    assert "Its host was not heard of lately" in page


def test_a_deleted_server_stays_readable(browser: Browser, cast: Cast, mouth: Mouth, domu: Domu) -> None:
    domu.order(Verb.DELETE, cast.owner)
    finish(mouth, domu)
    page = text(browser(cast.owner).get(reverse("server", args=[domu.pk])))
    assert "its disks were wiped" in page
    assert "/do/" not in page and reverse("server_delete", args=[domu.pk]) not in page
    assert browser(cast.stranger).get(reverse("server", args=[domu.pk])).status_code == 404
    assert do(browser(cast.owner), domu, "start").status_code == 409
    assert "web1<" not in text(browser(cast.owner).get(reverse("servers")))


def test_a_lock_and_a_suspension_are_said(browser: Browser, cast: Cast, bootable: Domu) -> None:
    bootable.locked = "sends spam"
    bootable.save()
    cast.tenant.suspended = "not paid"
    cast.tenant.save()
    page = text(browser(cast.owner).get(reverse("server", args=[bootable.pk])))
    assert "Locked by an operator: sends spam" in page and "Example is suspended: not paid" in page
    answer = do(browser(cast.owner), bootable, "start")
    assert answer.status_code == 409 and "was locked by an operator: sends spam" in text(answer)


# The verbs


@pytest.mark.parametrize("verb", ["shutdown", "reboot", "pause"])
def test_a_verb_is_ordered_once_after_the_commit(
    browser: Browser,
    cast: Cast,
    running: Domu,
    rung: list[Operation],
    verb: str,
    django_capture_on_commit_callbacks: Any,
) -> None:
    before = running.n
    with django_capture_on_commit_callbacks(execute=True):
        answer = do(browser(cast.developer), running, verb)
    assert answer.status_code == 302 and answer.url == reverse("server", args=[running.pk])
    assert [(o.verb, o.n, o.by, o.domu) for o in rung] == [(verb, before + 1, cast.developer, running)]
    event = Event.objects.get(kind=f"domu.{verb}")
    assert (event.actor, event.tenant, event.operation) == (cast.developer, cast.tenant, rung[0])
    assert rung[0].request_id == answer["X-Request-ID"]


def test_start_carries_the_menu(
    browser: Browser,
    cast: Cast,
    bootable: Domu,
    rung: list[Operation],
    django_capture_on_commit_callbacks: Any,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        do(browser(cast.owner), bootable, "start")
    (operation,) = rung
    boot = operation.body["domu"]["boot"]
    assert (operation.verb, boot["serial"], boot["entries"][0]["title"]) == ("start", 1, "NetBSD")
    bootable.refresh_from_db()
    assert bootable.wanted == "running"


def test_start_with_console_goes_there(browser: Browser, cast: Cast, bootable: Domu) -> None:
    page = text(browser(cast.owner).get(reverse("server", args=[bootable.pk])))
    assert 'id="do-start-console"' in page and "Start with console" in page
    answer = do(browser(cast.developer), bootable, "start", to="console")
    assert answer.url == reverse("console", args=[bootable.pk])
    assert bootable.operations.open().get().verb == "start"
    elsewhere = do(browser(cast.developer), bootable, "start", to="https://example.org/")
    assert elsewhere.status_code == 409, "and it leads nowhere else"


def test_what_failed_says_the_dom0s_words(browser: Browser, cast: Cast, mouth: Mouth, bootable: Domu) -> None:
    bootable.start(cast.owner)
    error = {"code": "create", "text": "The domain could not be created.", "output": "libxl: <no memory>"}
    finish(mouth, bootable, "failed", error=error)
    page = text(browser(cast.owner).get(reverse("server", args=[bootable.pk])))
    for words in (
        "Start: failed",
        "The domain could not be created.",
        "libxl: &lt;no memory&gt;",
        'id="retry"',
    ):
        assert words in page, words
    bootable.start(cast.owner)
    finish(mouth, bootable)
    assert 'id="failed"' not in text(browser(cast.owner).get(reverse("server", args=[bootable.pk])))


def test_without_a_kernel_nothing_starts(browser: Browser, cast: Cast, domu: Domu) -> None:
    answer = do(browser(cast.owner), domu, "start")
    assert answer.status_code == 409
    assert "web1 has nothing to boot yet; choose a kernel first." in text(answer)
    assert not domu.operations.open().exists()


def test_a_stale_button_is_told_who_was_first(
    browser: Browser, cast: Cast, mouth: Mouth, running: Domu
) -> None:
    old = seen(running)
    running.order(Verb.PAUSE, cast.admin)
    finish(mouth, running)
    running.order(Verb.UNPAUSE, cast.admin)
    finish(mouth, running)
    answer = browser(cast.owner).post(reverse("server_do", args=[running.pk, "shutdown"]), old)
    assert answer.status_code == 409
    assert "Admin was first: unpause was asked for meanwhile." in text(answer)
    assert not running.operations.open().exists()


def test_a_second_click_does_nothing_more(browser: Browser, cast: Cast, running: Domu) -> None:
    old = seen(running)
    url = reverse("server_do", args=[running.pk, "reboot"])
    assert browser(cast.owner).post(url, old).status_code == 302
    again = browser(cast.owner).post(url, old)
    assert again.status_code == 409 and "Reboot is still under way" in text(again)
    assert running.operations.filter(verb="reboot").count() == 1


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        pytest.param("start", "web1 is running; start cannot be done now.", id="start what runs"),
        pytest.param("unpause", "web1 is running; unpause cannot be done now.", id="unpause what runs"),
    ],
)
def test_a_verb_out_of_its_state(browser: Browser, cast: Cast, running: Domu, verb: str, words: str) -> None:
    answer = do(browser(cast.owner), running, verb)
    assert answer.status_code == 409 and words in text(answer)


@pytest.mark.parametrize("verb", ["destroy", "delete", "cancel", "migrate", "START"])
def test_other_verbs_have_no_such_address(browser: Browser, cast: Cast, running: Domu, verb: str) -> None:
    assert do(browser(cast.owner), running, verb).status_code == 404
    assert not running.operations.open().exists()


@pytest.mark.parametrize("value", ["", "1", "x.y", "1.-1", "1.99999999999999999999999", "²." + "1"])
def test_rubbish_as_what_was_seen_is_no_error(
    browser: Browser, cast: Cast, running: Domu, value: str
) -> None:
    answer = browser(cast.owner).post(reverse("server_do", args=[running.pk, "shutdown"]), {"seen": value})
    assert answer.status_code in (302, 409)


def test_a_verb_needs_post_a_role_and_ones_own_server(browser: Browser, cast: Cast, running: Domu) -> None:
    url = reverse("server_do", args=[running.pk, "shutdown"])
    assert browser(cast.owner).get(url).status_code == 405
    assert browser(cast.viewer).post(url).status_code == 403
    assert browser(cast.stranger).post(url).status_code == 404
    assert not running.operations.open().exists()


# Destroy


def test_destroy_wants_the_name(
    browser: Browser,
    cast: Cast,
    running: Domu,
    rung: list[Operation],
    django_capture_on_commit_callbacks: Any,
) -> None:
    url = reverse("server_destroy", args=[running.pk])
    for wrong in ("", "web2", "WEB1"):
        answer = browser(cast.owner).post(url, {"name": wrong})
        assert answer.status_code == 422
    assert "That is not its name. Type web1, or go back." in text(answer)
    assert not running.operations.open().exists()
    with django_capture_on_commit_callbacks(execute=True):
        answer = browser(cast.owner).post(url, {"name": "web1", "reason": "it hangs"})
    assert answer.status_code == 302
    assert [(o.verb, o.reason) for o in rung] == [("destroy", "it hangs")]


def test_destroy_supersedes_what_runs(browser: Browser, cast: Cast, running: Domu) -> None:
    old = running.order(Verb.SHUTDOWN, cast.owner)
    browser(cast.owner).post(reverse("server_destroy", args=[running.pk]), {"name": "web1"})
    old.refresh_from_db()
    assert old.state == "superseded"
    assert running.operations.open().get().verb == "destroy"


# What the dom0 gets


def test_the_texts_and_their_difference(
    browser: Browser, cast: Cast, mouth: Mouth, bootable: Domu, sizes: list[Size], version: KernelVersion
) -> None:
    url = reverse("server_configuration", args=[bootable.pk])
    page = text(browser(cast.viewer).get(url))
    for words in ("menu.lst", "grub.cfg", "title NetBSD", "vdev=xvdz,access=ro", "There was none before."):
        assert words in page, words
    # What the dom0 reports of its preparation is what the next one is compared with.
    last = {"menu_serial": 1, "menu_lst": "title Old one\n", "grub_cfg": "", "config": 'name = "web1"\n'}
    row = bootable.operations.filter(verb="prepare").first()
    assert row is not None
    row.result = last
    row.save()
    save_menu(bootable, [EntryDraft(make_version(cast.tenant, "second"), "Second", "")], cast.owner)
    page = text(browser(cast.viewer).get(url))
    assert "it is not there yet" in page and "Difference from the last" in page
    assert '<span class="line added"><span class="mark">+</span>title Second' in page
    assert '<span class="line taken"><span class="mark">-</span>title Old one' in page


def test_nothing_to_boot_has_no_texts(browser: Browser, cast: Cast, domu: Domu) -> None:
    page = text(browser(cast.owner).get(reverse("server_configuration", args=[domu.pk])))
    assert "there is nothing to boot" in page
