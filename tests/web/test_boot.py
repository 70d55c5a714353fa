"""The boot menu: looked at before it is saved, saved once, kept and restored."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from tests.web.conftest import Browser, Cast, finish, make_loaders, make_version
from tests.web.test_request import text
from tests.web.world import Mouth
from vps.models import BootMenu, Domu, KernelVersion, Operation
from vps.xen.messages import ReportKind, Verb


def rows(*entries: tuple[str, str, str], **more: Any) -> dict[str, Any]:
    """The form of a menu: (version, title, arguments) for each entry; the first is the default."""
    data = {
        "key": [f"k{i}" for i in range(len(entries))],
        "version": [str(entry[0]) for entry in entries],
        "title": [entry[1] for entry in entries],
        "arguments": [entry[2] for entry in entries],
        "default": "k0",
        "timeout": "5",
        "method": "pvgrub",
        "do": "save",
    }
    return {**data, **more}


def post(browser: Browser, person: Any, domu: Domu, data: dict[str, Any], **headers: str) -> Any:
    data = {"seen_serial": str(domu.menu_serial), **data}
    return browser(person).post(reverse("boot", args=[domu.pk]), data, headers=headers)


@pytest.fixture(autouse=True)
def loaders(db: None) -> None:
    make_loaders()


def test_the_first_menu_begins_with_the_guests_arguments(
    browser: Browser, cast: Cast, domu: Domu, version: KernelVersion
) -> None:
    page = text(browser(cast.owner).get(reverse("boot", args=[domu.pk])))
    assert 'value="root=xbd0a"' in page
    assert "generic 1 – NetBSD 10.1" in page
    assert "Choose a kernel to see what the dom0 will get." in page


def test_only_kernels_that_this_server_may_boot_are_offered(
    browser: Browser, cast: Cast, domu: Domu, version: KernelVersion
) -> None:
    make_version(cast.other, "theirs")
    make_version(None, "offered")
    hidden = make_version(None, "hidden")
    hidden.kernel.in_catalogue = False
    hidden.kernel.save()
    refused = make_version(cast.tenant, "refused")
    refused.state = KernelVersion.State.REFUSED
    refused.save()
    make_version(cast.tenant, "loader", role="loader")
    page = text(browser(cast.owner).get(reverse("boot", args=[domu.pk])))
    found = {
        name
        for name in ("generic", "offered", "theirs", "hidden", "refused", "loader")
        if f">{name} 1" in page
    }
    assert found == {"generic", "offered"}


def test_saving_orders_the_preparation(
    browser: Browser,
    cast: Cast,
    domu: Domu,
    version: KernelVersion,
    rung: list[Operation],
    django_capture_on_commit_callbacks: Any,
) -> None:
    second = make_version(cast.tenant, "second")
    data = rows((version.pk, "One", "root=xbd0a"), (second.pk, "", "-v"), default="k1", timeout="9")
    with django_capture_on_commit_callbacks(execute=True):
        answer = post(browser, cast.developer, domu, data)
    assert answer.status_code == 302
    (operation,) = rung
    boot = operation.body["domu"]["boot"]
    assert (operation.verb, boot["serial"], boot["default"], boot["timeout"]) == ("prepare", 1, 1, 9)
    assert [(e["title"], e["arguments"]) for e in boot["entries"]] == [
        ("One", "root=xbd0a"),
        ("second 1", "-v"),
    ]
    menu = BootMenu.objects.get()
    assert menu.by == cast.developer and "title One" in menu.menu_lst
    assert [entry.version for entry in menu.entries.all()] == [version, second]


def test_looking_saves_nothing_and_marks_what_changes(
    browser: Browser, cast: Cast, bootable: Domu, version: KernelVersion
) -> None:
    data = rows((version.pk, "NetBSD", "root=xbd0a -v"), do="preview")
    part = text(post(browser, cast.owner, bootable, data, HX_Request="true"))
    assert "<html" not in part
    assert '<span class="line taken"><span class="mark">-</span>kernel' in part
    assert "root=xbd0a -v </span>" in part and "line added" in part
    assert BootMenu.objects.count() == 1 and not bootable.operations.open().exists()


def test_an_unchanged_menu_is_said_to_be_so(browser: Browser, cast: Cast, bootable: Domu) -> None:
    assert "Nothing is changed yet" in text(browser(cast.owner).get(reverse("boot", args=[bootable.pk])))


@pytest.mark.parametrize(
    ("command", "order"),
    [
        pytest.param("down:k0", ["k1", "k0", "k2"], id="down"),
        pytest.param("up:k2", ["k0", "k2", "k1"], id="up"),
        pytest.param("up:k0", ["k0", "k1", "k2"], id="up at the top"),
        pytest.param("down:k2", ["k0", "k1", "k2"], id="down at the end"),
        pytest.param("remove:k1", ["k0", "k2"], id="remove"),
        pytest.param("add", ["k0", "k1", "k2", "n0"], id="add"),
        pytest.param("duplicate:k1", ["k0", "k1", "n0", "k2"], id="duplicate"),
        pytest.param("up:nothing", ["k0", "k1", "k2"], id="a key that is not there"),
        pytest.param("rubbish", ["k0", "k1", "k2"], id="a command that is none"),
    ],
)
def test_entries_are_moved_without_scripts(
    browser: Browser, cast: Cast, domu: Domu, version: KernelVersion, command: str, order: list[str]
) -> None:
    data = rows(*((version.pk, f"Entry {n}", "") for n in range(3)), do=command)
    page = text(post(browser, cast.owner, domu, data))
    keys = [piece.split('"')[0] for piece in page.split('name="key" value="')[1:]]
    assert keys == order
    assert f'value="Entry {order.index("k0")}"' in page or "Entry 0" in page
    assert not BootMenu.objects.exists()


def test_removing_the_default_leaves_a_default(
    browser: Browser, cast: Cast, domu: Domu, version: KernelVersion
) -> None:
    data = rows((version.pk, "a", ""), (version.pk, "b", ""), do="remove:k0")
    page = text(post(browser, cast.owner, domu, data))
    assert 'id="default-k1" checked' in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param('root="xbd0a"', "the character &#x27;&quot;&#x27;", id="quote"),
        pytest.param("root=xbd0a'", "which the boot menu cannot carry", id="apostrophe"),
        pytest.param("root=xbd0a\ntitle own", "which the boot menu cannot carry", id="newline"),
        pytest.param("root=xbd0a; halt", "the character &#x27;;&#x27;", id="semicolon"),
        pytest.param("root=(hd0)", "which the boot menu cannot carry", id="parenthesis"),
        pytest.param("$root", "which the boot menu cannot carry", id="dollar"),
        pytest.param("x" * 1025, "The arguments have 1025 characters; the limit is 1024.", id="too long"),
        pytest.param("röot", "which the boot menu cannot carry", id="unicode"),
    ],
)
def test_bad_arguments(
    browser: Browser, cast: Cast, domu: Domu, version: KernelVersion, arguments: str, words: str
) -> None:
    answer = post(browser, cast.owner, domu, rows((version.pk, "Mine", arguments)))
    assert answer.status_code == 422
    page = text(answer)
    assert words in page and 'value="Mine"' in page
    assert not BootMenu.objects.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"title": ["x" * 61]}, "The title has 61 characters; the limit is 60.", id="long title"),
        pytest.param({"title": ["}"]}, "which the boot menu cannot carry", id="title with a brace"),
        pytest.param({"version": [""], "title": ["x"]}, "Choose a kernel.", id="no kernel"),
        pytest.param({"version": ["rubbish"]}, "That kernel is not among yours", id="no id"),
        pytest.param(
            {"version": [""], "title": [""]}, "The menu is empty; choose a kernel.", id="empty menu"
        ),
        pytest.param({"timeout": "601"}, "Give whole seconds from 0 to 600.", id="timeout"),
        pytest.param({"timeout": "-1"}, "Give whole seconds from 0 to 600.", id="negative timeout"),
        pytest.param({"timeout": "²"}, "Give whole seconds from 0 to 600.", id="strange digit"),
        pytest.param({"timeout": ""}, "Give whole seconds from 0 to 600.", id="no timeout"),
        pytest.param({"method": "hvm"}, "Choose who looks after the kernel.", id="method"),
        pytest.param({"key": []}, "The menu is empty; choose a kernel.", id="no rows"),
    ],
)
def test_other_bad_input(
    browser: Browser, cast: Cast, domu: Domu, version: KernelVersion, changes: dict[str, Any], words: str
) -> None:
    answer = post(browser, cast.owner, domu, {**rows((version.pk, "Mine", "")), **changes})
    assert answer.status_code == 422 and words in text(answer)
    assert not BootMenu.objects.exists()


def test_anothers_kernel_cannot_be_chosen(browser: Browser, cast: Cast, domu: Domu) -> None:
    theirs = make_version(cast.other, "theirs")
    answer = post(browser, cast.owner, domu, rows((theirs.pk, "x", "")))
    assert answer.status_code == 422 and "That kernel is not among yours" in text(answer)


def test_what_the_model_refuses_is_a_sentence(
    browser: Browser, cast: Cast, domu: Domu, version: KernelVersion
) -> None:
    answer = post(browser, cast.owner, domu, rows((version.pk, "x", ""), method="direct"))
    assert answer.status_code == 409
    assert "generic 1 is an upload; an operator has to approve that it boots directly." in text(answer)


def test_direct_boot_of_the_catalogue(browser: Browser, cast: Cast, domu: Domu) -> None:
    offered = make_version(None, "offered")
    answer = post(browser, cast.owner, domu, rows((offered.pk, "x", "root=xbd0a"), method="direct"))
    assert answer.status_code == 302
    domu.refresh_from_db()
    assert domu.boot_method == "direct"
    page = text(browser(cast.owner).get(reverse("server_configuration", args=[domu.pk])))
    assert "web1-kernel-" in page and "extra = &quot;root=xbd0a&quot;" in page and "menu.lst" not in page


def test_own_disk_needs_no_kernel(browser: Browser, cast: Cast, domu: Domu) -> None:
    answer = post(browser, cast.owner, domu, rows(("", "", ""), method="own_disk"))
    assert answer.status_code == 302
    assert "Own menu: first disk" in BootMenu.objects.get().menu_lst


def test_a_menu_saved_by_somebody_else_meanwhile(
    browser: Browser, cast: Cast, mouth: Mouth, bootable: Domu, version: KernelVersion
) -> None:
    data = rows((version.pk, "Mine", ""), seen_serial="1")
    post(browser, cast.admin, bootable, rows((version.pk, "Theirs", "")))
    finish(mouth, bootable)
    answer = post(browser, cast.owner, bootable, data)
    assert answer.status_code == 409
    page = text(answer)
    assert "Somebody else saved the menu meanwhile" in page
    assert 'value="Mine"' in page and 'name="seen_serial" value="2"' in page  # can be saved after a look
    assert BootMenu.objects.count() == 2


@pytest.mark.parametrize("serial", ["rubbish", "", "-1", "9" * 30])
def test_a_page_without_its_serial_saves_nothing(
    browser: Browser, cast: Cast, bootable: Domu, version: KernelVersion, serial: str
) -> None:
    answer = post(browser, cast.owner, bootable, rows((version.pk, "Mine", ""), seen_serial=serial))
    assert answer.status_code == 409
    assert BootMenu.objects.count() == 1


def test_while_something_is_done_no_menu_is_saved(
    browser: Browser, cast: Cast, running: Domu, version: KernelVersion
) -> None:
    running.order(Verb.REBOOT, cast.owner)
    answer = post(browser, cast.owner, running, rows((version.pk, "Mine", "")))
    assert answer.status_code == 409 and "Reboot is still under way" in text(answer)
    assert BootMenu.objects.count() == 1


def test_history_and_restoring(
    browser: Browser, cast: Cast, mouth: Mouth, bootable: Domu, version: KernelVersion
) -> None:
    post(browser, cast.owner, bootable, rows((version.pk, "Newer", "-v")))
    finish(mouth, bootable)
    url = reverse("boot", args=[bootable.pk])
    page = text(browser(cast.owner).get(url))
    assert 'value="Newer"' in page and "?menu=1" in page and "?menu=2" not in page
    old = text(browser(cast.owner).get(url, {"menu": "1"}))
    assert "This is menu 1 as it was. It is not saved yet." in old
    assert 'value="NetBSD"' in old and "Newer" in old  # in the difference
    answer = post(browser, cast.owner, bootable, rows((version.pk, "NetBSD", "root=xbd0a")))
    assert answer.status_code == 302
    assert [menu.serial for menu in BootMenu.objects.all()] == [3, 2, 1]
    assert browser(cast.owner).get(url, {"menu": "99"}).status_code == 404


def test_a_kernel_that_is_no_longer_offered_stays_in_its_menu(
    browser: Browser, cast: Cast, bootable: Domu, version: KernelVersion
) -> None:
    version.state = KernelVersion.State.REFUSED
    version.report = {**version.report, "reason": "It was looked at again."}
    version.save()
    answer = post(browser, cast.owner, bootable, rows((version.pk, "Mine", "")))
    assert answer.status_code == 409 and "cannot be booted: It was looked at again." in text(answer)


def test_who_may_change_it(browser: Browser, cast: Cast, bootable: Domu, version: KernelVersion) -> None:
    data = rows((version.pk, "Mine", ""))
    for person in (cast.viewer, cast.operator):
        page = text(browser(person).get(reverse("boot", args=[bootable.pk])))
        assert 'id="save"' not in page and "disabled" in page
        assert post(browser, person, bootable, data).status_code == 403
    assert post(browser, cast.stranger, bootable, data).status_code == 404
    assert browser(cast.owner).put(reverse("boot", args=[bootable.pk])).status_code == 405
    assert BootMenu.objects.count() == 1


def test_too_many_entries(browser: Browser, cast: Cast, domu: Domu, version: KernelVersion) -> None:
    answer = post(browser, cast.owner, domu, rows(*((version.pk, f"e{n}", "") for n in range(33))))
    assert answer.status_code == 422 and "The menu has 33 entries; the limit is 32." in text(answer)
    assert not BootMenu.objects.exists()


def test_what_is_likely_wrong_is_said_beside_the_menu(
    browser: Browser, cast: Cast, bootable: Domu, version: KernelVersion
) -> None:
    data = rows((version.pk, "One", "root=xbd3a"), (version.pk, "Two", ""), do="preview")
    page = text(post(browser, cast.owner, bootable, data))
    assert "Entry 1:" in page and "root=xbd3a: the server has no such disk; it has xbd0." in page
    assert "As it will be written" in page, "a warning refuses nothing"
    assert post(browser, cast.owner, bootable, {**data, "do": "save"}).status_code == 302


def test_what_the_dom0_cannot_run_is_not_saved(browser: Browser, cast: Cast, bootable: Domu) -> None:
    narrow = make_version(cast.tenant, "narrow", architecture="x86_32")
    answer = post(browser, cast.owner, bootable, rows((narrow.pk, "", "")))
    assert answer.status_code == 409
    assert "Xen runs no 32-bit PV guests; take a 64-bit kernel." in text(answer).replace("&#x27;", "'")
    assert bootable.menus.count() == 1


def test_the_server_says_what_booted_last_and_goes_back_by_one_click(
    browser: Browser, cast: Cast, mouth: Mouth, running: Domu, version: KernelVersion
) -> None:
    def booted(serial: int, entry: str, run: str) -> None:
        body = {"domu": str(running.pk), "run": run, "domid": 1, "boots": 1, "menu_serial": serial}
        mouth.say(ReportKind.BOOTED, {**body, "entry": entry, "label": f"kernel of {entry}", "why": "start"})

    booted(1, "NetBSD", "01900000-0000-7000-8000-000000000001")
    running.boot_records.update(well=True, sign="time")
    assert "It is what boots next." in text(browser(cast.owner).get(reverse("server", args=[running.pk])))
    post(browser, cast.owner, running, rows((version.pk, "Newer", "")))
    finish(mouth, running)
    booted(2, "Newer", "01900000-0000-7000-8000-000000000002")
    page = text(browser(cast.owner).get(reverse("server", args=[running.pk])))
    assert "whether it is well is not known yet" in page and "kernel of NetBSD" in page
    assert 'id="back-to-good"' in page
    assert browser(cast.owner).post(reverse("boot_use", args=[running.pk, 1])).status_code == 302
    running.refresh_from_db()
    assert running.menu_serial == 1 and running.operations.open().get().verb == "prepare"
