"""Trying once: asked for, heard of, said to be well by click and by call, made the default or taken back."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Mail
from tests.web.conftest import Browser, Cast, finish, make_version
from tests.web.test_boot import post, rows
from tests.web.test_request import text
from tests.web.world import Mouth
from vps import dispatch
from vps.models import BootRecord, BootTry, Conflict, Domu, Event, KernelVersion, Operation
from vps.models.boot_try import put_in_use
from vps.xen.description import Boot
from vps.xen.messages import Verb
from vps.xen.trying import Try

PAGE = {"seconds": "120", "usual": ["login:"]}


@pytest.fixture(autouse=True)
def notes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was said to dom0s: (server, operation of the try)."""
    said: list[Any] = []
    monkeypatch.setattr(dispatch, "say_well", lambda domu, operation: said.append((domu.pk, operation)))
    return said


@pytest.fixture
def two(browser: Browser, cast: Cast, mouth: Mouth, bootable: Domu, rung: list[Operation]) -> Domu:
    """A server with two entries on its dom0, that runs the first."""
    second = make_version(cast.tenant, "newer")
    version = bootable.menus.get().entries.get().version
    post(browser, cast.owner, bootable, rows((version.pk, "Good", "root=xbd0a"), (second.pk, "New", "")))
    finish(mouth, bootable)
    bootable.start(None)
    finish(mouth, bootable)
    mouth.inventory({bootable: "running"})
    rung.clear()
    bootable.refresh_from_db()
    return bootable


def ask(browser: Browser, person: Any, domu: Domu, **more: Any) -> Any:
    address = reverse("boot_try", args=[domu.pk, more.pop("serial", domu.menu_serial)])
    return browser(person).post(address, {**PAGE, "entry": "1", **more})


@pytest.fixture
def trying(browser: Browser, cast: Cast, mouth: Mouth, two: Domu) -> BootTry:
    """The second entry is being tried, as the dom0 says."""
    assert ask(browser, cast.developer, two).status_code == 302
    finish(mouth, two)
    mouth.inventory({two: "running"}, domus=[of(two, phase="trying")])
    two.refresh_from_db()
    return two.tries.get()


def of(domu: Domu, **more: Any) -> dict[str, Any]:
    return {
        "id": str(domu.pk),
        "generation": [domu.epoch, domu.n],
        "wanted": "running",
        "phase": "idle",
        "menu_serial": domu.menu_serial,
        "boots": 2,
        **more,
    }


def ends(mouth: Mouth, tried: BootTry, outcome: str, why: str, words: str, **more: Any) -> None:
    told = {
        "outcome": outcome,
        "why": why,
        "text": words,
        "seconds": 9.5,
        "tail": "",
        "at": mouth.clock,
        **more,
    }
    mouth.outcome(tried.operation, "done", result={"domid": 2, "tried": told})
    tried.refresh_from_db()


def server(browser: Browser, person: Any, domu: Domu) -> str:
    return text(browser(person).get(reverse("server", args=[domu.pk])))


def test_the_page_says_what_happens_if_it_fails(browser: Browser, cast: Cast, two: Domu) -> None:
    page = text(browser(cast.owner).get(reverse("boot_try", args=[two.pk, two.menu_serial]) + "?entry=1"))
    assert "goes back to Good by itself, also when this site cannot be reached" in page
    assert re.search(r'value="1"[^>]* checked', page)
    assert "login:" in page and "The server is shut down for it first." in page
    address = reverse("boot_try", args=[two.pk, two.menu_serial])
    assert f'href="{address}"' in server(browser, cast.owner, two)


def test_the_page_warns_of_a_way_back_that_was_never_well(browser: Browser, cast: Cast, two: Domu) -> None:
    """Who saves a kernel as the default and then tries it would come back to the same."""
    address = reverse("boot_try", args=[two.pk, two.menu_serial])
    page = text(browser(cast.owner).get(address))
    assert (
        'id="unproven"' in page
        and "It would go back to Good of menu 2, which was not seen to boot well" in page
    )
    assert "Go back to it first" not in page, "nothing was well yet"
    now, older = timezone.now(), two.menus.order_by("serial").first()
    assert older is not None
    boot = {"domu": two, "run": uuid4(), "well": True, "booted_at": now, "label": "generic 1"}
    BootRecord.objects.create(**boot, menu_serial=older.serial)
    page = text(browser(cast.owner).get(address))
    assert f"What booted well last is generic 1 of menu {older.serial}." in page and "#way-back" in page
    BootRecord.objects.create(**{**boot, "run": uuid4()}, menu_serial=two.menu_serial)
    assert 'id="unproven"' not in text(browser(cast.owner).get(address))


def test_trying_orders_the_boot_and_leaves_the_menu_in_use(
    browser: Browser, cast: Cast, two: Domu, rung: list[Operation], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        answer = ask(browser, cast.developer, two, key="berth/up=1", keep="on")
    assert answer.status_code == 302
    (operation,) = rung
    what = Try.of(operation.body["try"])
    assert (operation.verb, what.boot.default, what.seconds, what.keep) == ("try", 1, 120, True)
    assert [sign.text for sign in what.signs] == ["login:", "berth/up=1"]
    assert Boot.of(operation.body["domu"]["boot"]).default == 0, "what one goes back to"
    tried = two.tries.get()
    assert (tried.state, tried.title, tried.back, tried.by) == ("asked", "New", "Good", cast.developer)
    before = two.menu_serial
    two.refresh_from_db()
    assert (two.menu_serial, tried.menu.serial, two.wanted) == (before, before + 1, "running")


def test_an_edited_menu_is_tried_without_being_saved(browser: Browser, cast: Cast, two: Domu) -> None:
    version = make_version(cast.tenant, "third")
    answer = post(browser, cast.owner, two, rows((version.pk, "Third", "-v"), do="try"))
    serial = two.menu_serial + 1
    assert answer["Location"] == reverse("boot_try", args=[two.pk, serial])
    two.refresh_from_db()
    assert two.menu_serial == serial - 1
    assert ask(browser, cast.owner, two, serial=serial, entry="0").status_code == 302
    assert two.tries.get().menu.serial == serial, "the menu that was kept, not a copy"
    # The next menu that is saved gets a number of its own.
    finish_and_save = rows((version.pk, "Third", ""))
    two.operations.open().update(state="failed")
    assert post(browser, cast.owner, two, finish_and_save).status_code == 302
    two.refresh_from_db()
    assert two.menu_serial == serial + 1


def test_it_is_shown_while_it_is_tried(browser: Browser, cast: Cast, two: Domu, trying: BootTry) -> None:
    BootTry.objects.update(until=timezone.now() + timedelta(seconds=75.5))
    page = server(browser, cast.owner, two)
    assert "being tried" in page and re.search(r"1 min 1\d s left", page)
    assert "its dom0 goes back to Good by itself" in page
    assert 'id="well"' in page and 'id="well"' not in server(browser, cast.viewer, two)
    assert "being tried" in text(browser(cast.owner).get(reverse("servers")))


def test_well_and_made_the_default_by_a_click(
    browser: Browser, cast: Cast, mouth: Mouth, two: Domu, trying: BootTry, rung: list[Operation]
) -> None:
    ends(mouth, trying, "healthy", "console", "login:")
    assert (trying.state, trying.default) == ("healthy", False)
    assert Event.objects.filter(kind="try.healthy", domu=two).count() == 1
    mail = Mail.objects.get(template="boot_try")
    assert mail.to == cast.developer.email and "is well with New" in mail.subject
    mouth.inventory({two: "running"}, domus=[of(two)])
    page = server(browser, cast.owner, two)
    assert "It was well by: login:" in page and 'id="make-default"' in page
    address = reverse("boot_use", args=[two.pk, trying.menu.serial])
    assert browser(cast.owner).post(address).status_code == 302
    two.refresh_from_db()
    assert two.menu_serial == trying.menu.serial and two.boot().default == 1
    assert two.operations.open().get().verb == "prepare"
    again = browser(cast.owner).post(address)
    assert again.status_code == 409 and "in use already" in text(again)


def test_well_and_kept_puts_its_menu_in_use(mouth: Mouth, two: Domu, trying: BootTry) -> None:
    ends(mouth, trying, "healthy", "console", "login:", default=True)
    two.refresh_from_db()
    assert (two.menu_serial, trying.default) == (trying.menu.serial, True)
    assert Event.objects.get(kind="boot.in_use").after["menu_serial"] == trying.menu.serial
    # The report comes again: nothing more happens.
    ends(mouth, trying, "back", "crash", "It crashed.", default=True)
    assert trying.state == "healthy" and Event.objects.filter(kind="boot.in_use").count() == 1


def test_what_the_dom0_kept_is_in_use_though_nobody_may_choose_it_now(
    mouth: Mouth, two: Domu, trying: BootTry, settings: Any
) -> None:
    settings.BERTH_TRIAL_DEMANDED = True
    with pytest.raises(Conflict):
        put_in_use(two, trying.menu, None)
    ends(mouth, trying, "healthy", "console", "login:", default=True)
    two.refresh_from_db()
    assert (trying.state, two.menu_serial) == ("healthy", trying.menu.serial)
    assert not Event.objects.filter(kind="report.refused").exists()


def test_a_menu_that_was_saved_meanwhile_stays_in_use(
    browser: Browser, cast: Cast, mouth: Mouth, two: Domu, trying: BootTry
) -> None:
    """Its order is on the way, and the dom0 does it after it kept the other."""
    version = two.menus.first().entries.first().version
    assert post(browser, cast.owner, two, rows((version.pk, "Newest", "root=xbd0a"))).status_code == 302
    two.refresh_from_db()
    newest = two.menu_serial
    assert newest > trying.menu.serial
    ends(mouth, trying, "healthy", "console", "login:", default=True)
    two.refresh_from_db()
    assert (trying.state, trying.default, two.menu_serial) == ("healthy", False, newest)


def test_taken_back_is_told_with_the_end_of_the_console(
    browser: Browser, cast: Cast, mouth: Mouth, two: Domu, trying: BootTry
) -> None:
    ends(mouth, trying, "back", "panic", "The kernel panicked: panic: no root", tail="<last> words\n")
    mouth.inventory({two: "running"}, domus=[of(two)])
    page = server(browser, cast.owner, two)
    assert "The kernel panicked: panic: no root" in page and "The server went back to Good." in page
    assert "&lt;last&gt; words" in page and 'id="make-default"' not in page
    mail = Mail.objects.get(template="boot_try")
    assert "was taken back from New" in mail.subject and "<last> words" in mail.text
    two.refresh_from_db()
    assert two.boot().default == 0


def test_one_boot_only(browser: Browser, cast: Cast, mouth: Mouth, two: Domu) -> None:
    assert ask(browser, cast.owner, two, once="on").status_code == 302
    operation = two.operations.open().get()
    assert operation.body["try"]["once"] is True
    finish(mouth, two)
    ends(mouth, two.tries.get(), "given_up", "once", "It was to be booted once.")
    mouth.inventory({two: "running"}, domus=[of(two)])
    page = server(browser, cast.owner, two)
    assert "booted once" in page and "The next boot is Good again." in page and 'id="make-default"' in page
    assert not Mail.objects.filter(template="boot_try").exists()


@pytest.fixture
def armed(browser: Browser, cast: Cast, mouth: Mouth, two: Domu) -> BootTry:
    """The second entry is the next boot only, as the dom0 says."""
    answer = ask(browser, cast.developer, two, do="arm", seconds="")  # what only a try needs is not asked for
    assert answer.status_code == 302
    operation = two.operations.open().get()
    assert (operation.verb, operation.wanted_before) == ("arm", "running")
    assert Try.of(operation.body["try"]).once and operation.body["try"]["boot"]["default"] == 1
    finish(mouth, two, result={"armed": True})
    return two.tries.get()


def test_what_is_armed_stays_when_what_came_after_it_came_to_nothing(
    browser: Browser, cast: Cast, mouth: Mouth, two: Domu, armed: BootTry
) -> None:
    mouth.inventory({two: "running"}, domus=[of(two)])
    ask(browser, cast.developer, two, do="arm", seconds="")
    finish(mouth, two, "failed", error={"code": "fetch", "text": "The kernel could not be fetched."})
    assert [one.state for one in two.tries.all()] == ["failed", "armed"]
    page = server(browser, cast.owner, two)
    assert 'id="armed"' in page and 'id="disarm"' in page and "Next boot only" in page
    assert "could not be fetched" in page


def test_the_next_boot_only_is_armed_without_booting(
    browser: Browser, cast: Cast, mouth: Mouth, two: Domu, armed: BootTry
) -> None:
    assert armed.state == BootTry.State.ARMED and armed.is_armed
    two.refresh_from_db()
    assert two.status == "running" and two.boot().default == 0  # the saved menu is as it was
    page = server(browser, cast.owner, two)
    assert "Next boot only: New" in page and "The boot after it is Good." in page and 'id="disarm"' in page
    assert 'id="well"' not in page
    with pytest.raises(Conflict):
        armed.say_well(cast.owner)
    # It was booted, whoever did it.
    ends(mouth, armed, "given_up", "once", "It was to be booted once.")
    assert Event.objects.filter(kind="try.given_up", text__contains="once").exists()
    page = server(browser, cast.owner, two)
    assert "booted once" in page and 'id="disarm"' not in page


def test_it_is_disarmed(browser: Browser, cast: Cast, mouth: Mouth, two: Domu, armed: BootTry) -> None:
    url = reverse("boot_disarm", args=[two.pk])
    assert browser(cast.viewer).post(url).status_code == 403
    assert browser(cast.stranger).post(url).status_code == 404
    assert browser(cast.owner).get(url).status_code == 405
    assert browser(cast.owner).post(url).status_code == 302
    operation = two.operations.open().get()
    assert (operation.verb, operation.body["try"]) == ("arm", None)
    finish(mouth, two, result={"armed": False})
    ends(mouth, armed, "given_up", "disarmed", "It was taken back before it booted.")
    page = server(browser, cast.owner, two)
    assert "Next boot only" not in page and 'id="tried"' not in page
    assert "is not newer 1 any more" in page  # among what happened
    again = browser(cast.owner).post(url)
    assert again.status_code == 409 and "Nothing is armed for the next boot" in text(again)


def test_it_is_disarmed_where_the_dom0_forgot_it(
    browser: Browser, cast: Cast, mouth: Mouth, two: Domu, armed: BootTry
) -> None:
    """Its journal was lost with the disk: nothing is armed there, and nothing is said of what was."""
    browser(cast.owner).post(reverse("boot_disarm", args=[two.pk]))
    finish(mouth, two, result={"armed": False})
    armed.refresh_from_db()
    assert (armed.state, armed.why) == ("given_up", "disarmed") and armed.ended_at
    assert "Next boot only" not in server(browser, cast.owner, two)


def test_an_agent_that_cannot_arm_is_not_asked(browser: Browser, cast: Cast, mouth: Mouth, two: Domu) -> None:
    verbs = [verb.value for verb in Verb if verb is not Verb.ARM]
    mouth.inventory({two: "running"}, verbs=verbs)
    page = text(browser(cast.owner).get(reverse("boot_try", args=[two.pk, two.menu_serial])))
    assert 'id="arm"' not in page and 'id="try"' in page
    answer = ask(browser, cast.owner, two, do="arm")
    assert answer.status_code == 409 and "does not know arm; update it." in text(answer)
    assert not two.tries.exists()


def test_a_direct_upload_does_not_wait_for_a_boot(cast: Cast, two: Domu, version: KernelVersion) -> None:
    from vps.models.boot_try import arm

    menu = two.menus.get(serial=two.menu_serial)
    menu.boot = {**menu.boot, "method": "direct", "loader": None}
    with pytest.raises(Conflict, match="approval could be taken back before"):
        arm(two, menu, cast.owner)
    assert not two.operations.open().exists()


def test_an_order_that_failed_is_no_try(mouth: Mouth, browser: Browser, cast: Cast, two: Domu) -> None:
    ask(browser, cast.owner, two)
    finish(mouth, two, "failed", error={"code": "deaf", "text": "The guest did not shut down.", "output": ""})
    tried = two.tries.get()
    assert (tried.state, tried.text) == ("failed", "The guest did not shut down.")
    assert "The guest did not shut down." in server(browser, cast.owner, two)


@pytest.mark.parametrize("way", ["superseded", "cancelled", "given up"])
def test_an_order_that_the_dom0_never_got_is_no_try(
    browser: Browser, cast: Cast, two: Domu, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Redis is away, and the order is ended here before it could be sent."""
    monkeypatch.setattr(dispatch, "not_after", lambda: None)
    ask(browser, cast.developer, two)
    tried = two.tries.get()
    two.refresh_from_db()
    assert (tried.state, tried.operation.state, tried.operation.envelope) == ("asked", "queued", "")
    if way == "superseded":
        two.order(Verb.DESTROY, cast.developer)
    elif way == "cancelled":
        two.cancel(tried.operation, cast.developer)
    else:
        tried.operation.give_up(cast.operator, "its dom0 is gone")
    tried.refresh_from_db()
    words = {
        "superseded": "destroy came after it.",
        "cancelled": "Nothing was done.",
        "given up": "gave it up",
    }
    assert tried.state == "failed" and words[way] in tried.text and tried.ended_at


def test_the_dom0_tells_the_end_of_a_try_that_was_superseded_here(
    browser: Browser, cast: Cast, mouth: Mouth, two: Domu
) -> None:
    """The order had reached it after all: what it made the default is the menu in use here, too."""
    ask(browser, cast.developer, two)
    tried = two.tries.get()
    two.refresh_from_db()
    two.order(Verb.DESTROY, cast.developer)
    tried.refresh_from_db()
    assert tried.state == "failed"
    ends(mouth, tried, "healthy", "console", "login:", default=True)
    two.refresh_from_db()
    assert (tried.state, two.menu_serial) == ("healthy", tried.menu.serial)


def test_a_click_says_that_it_is_well(
    browser: Browser,
    cast: Cast,
    mouth: Mouth,
    two: Domu,
    trying: BootTry,
    notes: list[Any],
    django_capture_on_commit_callbacks: Any,
) -> None:
    address = reverse("boot_well", args=[two.pk])
    assert browser(cast.owner).get(address).status_code == 405
    assert browser(cast.viewer).post(address).status_code == 403
    assert browser(cast.stranger).post(address).status_code == 404
    assert notes == []
    with django_capture_on_commit_callbacks(execute=True):
        assert browser(cast.owner).post(address).status_code == 302
    assert notes == [(two.pk, trying.operation_id)]
    # The note may be lost: it is said again with the next inventory, until the dom0 answers.
    with django_capture_on_commit_callbacks(execute=True):
        mouth.inventory({two: "running"}, domus=[of(two, phase="trying")])
    assert len(notes) == 2
    ends(mouth, trying, "healthy", "word", "the owner")
    with django_capture_on_commit_callbacks(execute=True):
        mouth.inventory({two: "running"}, domus=[of(two)])
    assert len(notes) == 2
    late = browser(cast.owner).post(address)
    assert late.status_code == 409 and "not being tried any more" in text(late)


def test_a_call_counts_once(
    browser: Browser,
    cast: Cast,
    mouth: Mouth,
    two: Domu,
    notes: list[Any],
    django_capture_on_commit_callbacks: Any,
) -> None:
    answer = ask(browser, cast.owner, two, call="on")
    (told,) = [str(message) for message in get_messages(answer.wsgi_request)]
    found = re.search(r"/well/([^/ ]+)/", told)
    assert found
    finish(mouth, two)
    anybody = Client()
    address = reverse("well", args=[found[1]])
    assert anybody.head(address).status_code == 200
    assert anybody.get(reverse("well", args=["another"])).status_code == 404
    assert notes == []
    with django_capture_on_commit_callbacks(execute=True):
        assert anybody.post(address).status_code == 200
    assert len(notes) == 1
    assert anybody.get(address).status_code == 404
    assert BootTry.objects.get().call_sha256 == ""


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        pytest.param({"seconds": "5"}, "greater than or equal to 10", id="too short"),
        pytest.param({"pattern": "a*"}, "would be found in any boot", id="a pattern of nothing"),
        pytest.param({"key": "../x"}, "cannot be a key of the xenstore", id="a key that leads away"),
        pytest.param({"usual": ["something else"]}, "Select a valid choice", id="not offered"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_lost(
    browser: Browser, cast: Cast, two: Domu, more: dict[str, Any], sentence: str
) -> None:
    answer = ask(browser, cast.owner, two, **more)
    assert answer.status_code == 422 and sentence in text(answer).replace("&#x27;", "'")
    for value in more.values():
        assert isinstance(value, list) or f'value="{value}"' in text(answer)
    assert not two.tries.exists() and not two.operations.open().exists()


def test_the_hand_over_can_be_booted_once(
    browser: Browser, cast: Cast, mouth: Mouth, two: Domu, version: KernelVersion
) -> None:
    from vps.models.boot import EntryDraft, OwnMenuDraft, save_menu

    save_menu(two, [OwnMenuDraft("Mine"), EntryDraft(version, "NetBSD")], cast.owner, default=1)
    finish(mouth, two)
    page = text(browser(cast.owner).get(reverse("boot_try", args=[two.pk, two.menu_serial])))
    assert "<b>Mine</b>" in page and 'value="1" checked' in page
    assert ask(browser, cast.owner, two, serial=two.menu_serial, entry="0", once="on").status_code == 302
    operation = two.operations.open().get()
    boot = operation.body["try"]["boot"]
    assert boot["own_menu"] == {"title": "Mine", "place": 0, "default": True}
    assert BootTry.objects.get().title == "the menu on its own disk"
    assert two.boot().default_entry is not None  # the saved menu is as it was


def test_who_may_not(browser: Browser, cast: Cast, two: Domu) -> None:
    assert ask(browser, cast.viewer, two).status_code == 403
    assert ask(browser, cast.stranger, two).status_code == 404
    assert ask(browser, cast.owner, two, entry="7").status_code == 404
    assert ask(browser, cast.owner, two, serial=99).status_code == 404
    assert not two.tries.exists()


def test_an_agent_that_does_not_know_it_is_not_asked(browser: Browser, cast: Cast, two: Domu) -> None:
    inventory = dict(two.dom0.inventory)
    inventory["agent"]["verbs"] = [verb.value for verb in Verb if verb is not Verb.TRY]
    two.dom0.inventory = inventory
    two.dom0.save()
    assert "does not know how to try; update it" in text(
        browser(cast.owner).get(reverse("boot_try", args=[two.pk, two.menu_serial]))
    )
    assert ask(browser, cast.owner, two).status_code == 409
    assert 'id="try"' not in text(browser(cast.owner).get(reverse("boot", args=[two.pk])))
    assert "Try an entry once" not in server(browser, cast.owner, two)


def test_the_first_menu_has_nothing_to_go_back_to(
    browser: Browser, cast: Cast, domu: Domu, version: KernelVersion, mouth: Mouth
) -> None:
    from tests.web.conftest import make_loaders
    from vps.models.boot import EntryDraft, keep_menu
    from vps.models.boot_try import try_once

    make_loaders()
    menu = keep_menu(domu, [EntryDraft(version, "NetBSD")], cast.owner)
    with pytest.raises(Conflict, match="nothing to go back to"):
        try_once(domu, menu, cast.owner, seconds=60, signs=[])


def test_somebody_else_acts_at_the_same_time(browser: Browser, cast: Cast, two: Domu) -> None:
    two.order(Verb.REBOOT, cast.owner)
    answer = ask(browser, cast.developer, two)
    assert answer.status_code == 409 and "still under way" in text(answer)
    assert two.menus.count() == 2, "and no menu is kept for nothing"
