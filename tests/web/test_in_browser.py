"""What the pages do by themselves, in Chromium: polling, the boot menu's editor, the switch of colours, fitting."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from tests.web.chrome import Opener, patiently
from tests.web.conftest import ASKED, Cast, finish, make_version
from tests.web.world import Mouth
from vps.models import BootMenu, Domu, KernelVersion, Operation, Request
from vps.xen.messages import Verb

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_page_keeps_itself_true(
    opened: Opener, cast: Cast, mouth: Mouth, running: Domu, rung: list[Operation]
) -> None:
    patiently(lambda: running.order(Verb.SHUTDOWN, cast.owner))
    page = opened(cast.owner, reverse("server", args=[running.pk]))
    state = page.locator("#server .under .word")
    expect(state).to_have_text("stopping")
    page.locator("#more summary").click()
    patiently(lambda: finish(mouth, running))
    # A menu that is open is not taken away from under the hand: no poll is even sent.
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2500)
    assert asked == []
    expect(page.locator("#more")).to_have_attribute("open", "")
    expect(state).to_have_text("stopping")
    page.keyboard.press("Escape")
    expect(state).to_have_text("stopped", timeout=15_000)
    expect(page.locator("#do-start")).to_be_visible()


def test_a_log_out_elsewhere_is_noticed(opened: Opener, cast: Cast, running: Domu, rung: object) -> None:
    patiently(lambda: running.order(Verb.SHUTDOWN, cast.owner))
    page = opened(cast.owner, reverse("server", args=[running.pk]))
    page.context.clear_cookies()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible(timeout=15_000)
    assert page.locator("h1").count() == 1


def test_the_boot_menu_is_edited_without_reloading(
    opened: Opener, cast: Cast, bootable: Domu, version: KernelVersion
) -> None:
    patiently(lambda: make_version(cast.tenant, "second"))
    page = opened(cast.owner, reverse("boot", args=[bootable.pk]))
    page.evaluate("window.same = true")
    written = page.locator("#as-written pre").first

    page.fill("#arguments-e0", "root=xbd0a -v")
    expect(written).to_contain_text("root=xbd0a -v")
    expect(page.locator("#arguments-e0")).to_be_focused()

    page.click("#add")
    page.select_option("#version-n0", label="second 1 – NetBSD 10.1")
    expect(written).to_contain_text("title second 1")
    page.click("#up-n0")
    expect(page.locator("[data-row] input[name=key]").first).to_have_value("n0")
    page.fill("#title-n0", "A } brace")
    expect(page.locator(".row.wrong .error")).to_contain_text("which the boot menu cannot carry")
    expect(page.locator("#as-written")).to_contain_text("Mend what is marked")
    page.fill("#title-n0", "Second")
    expect(written).to_contain_text("title Second")
    assert page.evaluate("window.same") is True  # all of that in one page

    # What is typed while an answer is on its way is not taken away by it.
    with page.expect_response(lambda answer: answer.url.endswith("/boot/")):
        page.select_option("#version-n0", label="generic 1 – NetBSD 10.1")
        page.locator("#title-n0").press_sequentially(" one", delay=20)
    expect(page.locator("#title-n0")).to_have_value("Second one")
    expect(written).to_contain_text("title Second one")

    page.click("#save")
    expect(page.locator("#next-boot")).to_contain_text("the default of 2")
    menu = patiently(lambda: BootMenu.objects.get(serial=2))
    assert [entry["title"] for entry in menu.boot["entries"]] == ["Second one", "NetBSD"]
    assert menu.boot["default"] == 1  # the default went along when its entry was moved


def test_entries_are_dragged(opened: Opener, cast: Cast, bootable: Domu, version: KernelVersion) -> None:
    page = opened(cast.owner, reverse("boot", args=[bootable.pk]))
    page.click("#add")
    page.select_option("#version-n0", str(version.pk))
    expect(page.locator("#as-written pre").first).to_contain_text("title generic 1")
    bars = page.locator("[data-row] .row-bar")
    expect(bars).to_have_count(2)
    bars.nth(1).drag_to(bars.nth(0), target_position={"x": 5, "y": 2})
    expect(page.locator("[data-row] input[name=key]").first).to_have_value("n0")
    expect(page.locator("#as-written pre").first).to_contain_text("default 1")


def test_what_would_be_left_follows_the_numbers(opened: Opener, cast: Cast, sizes: object) -> None:
    page = opened(cast.owner, reverse("ask"))
    page.get_by_label("Numbers of my own").check()
    page.fill("[name=memory_mib]", "5000")
    expect(page.locator("#left")).to_contain_text("more than the 4 GiB left")
    page.fill("[name=memory_mib]", "1024")
    expect(page.locator("#left")).to_contain_text("3 GiB")


def test_the_colours_are_kept(opened: Opener, cast: Cast) -> None:
    page = opened(cast.owner, reverse("servers"))
    back = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(back)
    page.click("#theme")  # light
    page.click("#theme")  # dark
    dark = page.evaluate(back)
    assert dark != light
    page.reload()
    assert page.evaluate(back) == dark
    page.click("#theme")  # the system's
    assert page.evaluate(back) == light


@pytest.mark.parametrize("width", [390, 1440])
def test_no_page_is_wider_than_its_screen(
    opened: Opener, cast: Cast, mouth: Mouth, running: Domu, sizes: object, width: int
) -> None:
    Domu.objects.filter(pk=running.pk).update(name="n" * 63)
    operation = running.operations.first()
    assert operation is not None
    owners = ["servers", "ask", "operations", "events", "kernels"]
    operators = ["today", "requests", "dom0s", "dom0_enrol"]
    of_server = ["server", "boot", "server_configuration", "server_delete"]
    tour = {
        cast.owner: [
            *(reverse(name) for name in owners),
            *(reverse(name, args=[running.pk]) for name in of_server),
            reverse("operation", args=[operation.pk]),
        ],
        cast.operator: [
            *(reverse(name) for name in operators),
            reverse("dom0", args=[mouth.dom0.pk]),
            reverse("request", args=[running.requests.get().pk]),
        ],
    }
    wide = {}
    for person, addresses in tour.items():
        page = opened(person, "/", width)
        for address in addresses:
            page.goto(address)
            over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            if over > 0:
                wide[address] = over
    assert wide == {}


def test_an_operator_decides_by_keyboard(
    opened: Opener, cast: Cast, mouth: Mouth, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BERTH_SILENT_AFTER = 3600  # nobody speaks for the dom0 meanwhile
    monkeypatch.setattr("accounts.mail._ring", lambda mails: None)
    for name in ("first", "second"):
        Request.ask(tenant=cast.tenant, by=cast.owner, name=name, **ASKED)
    page = opened(cast.operator, reverse("requests"))
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator("a[data-row]:focus")).to_have_text("second")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("first")
    page.keyboard.press("r")
    expect(page.locator("#refuse textarea")).to_be_focused()
    page.keyboard.type("ajar")  # what is typed is no command
    expect(page.locator("#refuse textarea")).to_have_value("ajar")
    page.locator("h1").click()
    page.keyboard.press("c")
    expect(page.locator("#approve input[name=memory_mib]")).to_be_focused()
    page.locator("h1").click()
    page.keyboard.press("a")
    page.keyboard.press("Enter")
    expect(page.locator(".said")).to_contain_text("first was approved")
    assert patiently(lambda: Domu.objects.get().name) == "first"
