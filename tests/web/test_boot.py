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
    page = text(browser(cast.owner).get(reverse("boot", args=[domu.pk])))
    assert 'id="own-pv64" checked' in page and "Mend what is marked" not in page


def test_how_the_kernel_on_its_own_disk_starts(browser: Browser, cast: Cast, domu: Domu) -> None:
    strange = rows(("", "", ""), method="own_disk", own_kind="vax")
    assert "Choose how the kernel on the disk starts." in text(post(browser, cast.owner, domu, strange))
    assert not BootMenu.objects.exists()
    domu.dom0.inventory["xen"]["caps"] = ["xen-3.0-x86_64", "xen-3.0-x86_32p"]
    domu.dom0.save()
    narrow = rows(("", "", ""), method="own_disk", own_kind="pv32")
    assert post(browser, cast.owner, domu, narrow).status_code == 302
    assert 'id="own-pv32" checked' in text(browser(cast.owner).get(reverse("boot", args=[domu.pk])))


def test_handing_over_to_its_own_menu_stands_among_the_entries(
    browser: Browser, cast: Cast, domu: Domu, version: KernelVersion, rung: list[Operation]
) -> None:
    """It is added, moved, made the default, saved, written, shown and restored like every other line."""
    added = text(post(browser, cast.owner, domu, rows((version.pk, "NetBSD", ""), do="own_menu")))
    assert 'value="Own menu on the first disk"' in added and "shows the menu that it finds" in added
    assert "Add the menu on its own disk" not in added  # once is enough
    data = rows(
        (version.pk, "NetBSD", ""), ("own_menu", "Mine", ""), (version.pk, "Single", "-s"), default="k1"
    )
    assert post(browser, cast.owner, domu, data).status_code == 302
    menu = BootMenu.objects.get()
    assert menu.boot["own_menu"] == {"title": "Mine", "place": 1, "default": True}
    assert [entry["title"] for entry in menu.boot["entries"]] == ["NetBSD", "Single"]
    assert "set default=1" in menu.grub_cfg and "menuentry 'Mine' {" in menu.grub_cfg
    assert "default 1\n" in menu.menu_lst and "fallback 3 4 5\n" in menu.menu_lst
    page = text(browser(cast.owner).get(reverse("boot", args=[domu.pk])))
    assert 'name="key" value="own"' in page and 'id="default-own" checked' in page
    assert "NetBSD <span" in page and "<b>Mine</b>" in page and "Nothing is changed yet" in page
    domu.refresh_from_db()
    assert domu.boot().default_entry is None
    server = text(browser(cast.owner).get(reverse("server", args=[domu.pk])))
    assert "Own disk" not in server and "the menu on its own disk" in server


def test_a_hand_over_before_the_default_keeps_the_default(
    browser: Browser, cast: Cast, domu: Domu, version: KernelVersion
) -> None:
    data = rows(("own_menu", "", ""), (version.pk, "A", ""), (version.pk, "B", ""), default="k2")
    assert post(browser, cast.owner, domu, data).status_code == 302
    boot = BootMenu.objects.get().saved
    assert (boot.default, boot.default_line, boot.lines[2].title) == (1, 2, "B")


@pytest.mark.parametrize(
    ("entries", "more", "sentence"),
    [
        pytest.param([("own_menu", "", "")], {}, "choose “I, inside the server” for that", id="alone"),
        pytest.param(
            [("k", "", ""), ("own_menu", "a", ""), ("own_menu", "b", "")], {}, "once is enough", id="twice"
        ),
        pytest.param(
            [("k", "", ""), ("own_menu", "it's", "")], {}, "which the boot menu cannot carry", id="a title"
        ),
        pytest.param(
            [("k", "", ""), ("own_menu", "a", "-s")],
            {},
            "has its own arguments; leave this empty",
            id="arguments",
        ),
        pytest.param(
            [("c", "", ""), ("own_menu", "a", "")],
            {"method": "direct"},
            "A direct boot has no menu that could hand over",
            id="direct",
        ),
    ],
)
def test_a_hand_over_that_cannot_be(
    browser: Browser,
    cast: Cast,
    domu: Domu,
    version: KernelVersion,
    entries: list[tuple[str, str, str]],
    more: dict[str, Any],
    sentence: str,
) -> None:
    known = {"k": version.pk, "c": make_version(None, "offered").pk}
    data = rows(*((known.get(name, name), title, given) for name, title, given in entries), **more)
    answer = post(browser, cast.owner, domu, data)
    assert answer.status_code in (409, 422)
    assert sentence in text(answer).replace("&#x27;", "'")
    assert not BootMenu.objects.exists()


def test_an_agent_that_cannot_hand_over_is_not_asked(
    browser: Browser, cast: Cast, mouth: Mouth, domu: Domu, version: KernelVersion
) -> None:
    mouth.inventory({}, can=[])
    answer = post(browser, cast.owner, domu, rows((version.pk, "A", ""), ("own_menu", "B", "")))
    assert answer.status_code == 409
    assert "cannot put a hand-over into a menu yet; update it." in text(answer)
    assert not BootMenu.objects.exists()


def test_a_fresh_row_may_become_the_hand_over(
    browser: Browser, cast: Cast, domu: Domu, version: KernelVersion
) -> None:
    """Its arguments are the guest's usual ones, which nobody typed."""
    data = rows((version.pk, "A", ""), ("own_menu", "", "root=xbd0a"))
    assert post(browser, cast.owner, domu, data).status_code == 302


def test_installers_and_rescue_systems_are_marked_and_may_be_chosen(
    browser: Browser, cast: Cast, domu: Domu, version: KernelVersion
) -> None:
    installer = make_version(None, "install", role="installer")
    rescue = make_version(None, "helper")
    rescue.kernel.purpose = "rescue"
    rescue.kernel.save()
    data = rows(
        (version.pk, "NetBSD", ""), (installer.pk, "Install", ""), (rescue.pk, "Rescue", ""), do="preview"
    )
    page = text(post(browser, cast.owner, domu, data))
    for group, name in (("To install a system", "install 1"), ("To rescue a system", "helper 1")):
        assert name in page.split(f'<optgroup label="{group}">')[1].split("</optgroup>")[0]
    assert "This is an installer" not in page
    assert "This is an installer, and the default" in text(
        post(browser, cast.owner, domu, {**data, "default": "k1"})
    )
    assert post(browser, cast.owner, domu, {**data, "do": "save", "default": "k2"}).status_code == 302
    assert [entry.version for entry in BootMenu.objects.get().entries.all()] == [version, installer, rescue]


def test_any_two_saved_menus_are_compared(
    browser: Browser, cast: Cast, mouth: Mouth, bootable: Domu, version: KernelVersion
) -> None:
    second = make_version(cast.tenant, "second")
    for data in (
        rows((version.pk, "NetBSD", "root=xbd0a -v"), (second.pk, "New", "")),
        rows((version.pk, "NetBSD", "root=xbd0a -v"), ("own_menu", "Mine", ""), default="k1"),
    ):
        assert post(browser, cast.owner, bootable, data).status_code == 302
        finish(mouth, bootable)
    url = reverse("boot_compare", args=[bootable.pk])
    assert url in text(browser(cast.viewer).get(reverse("boot", args=[bootable.pk])))
    page = text(browser(cast.owner).get(url))  # 2 against 3, the one in use
    assert '<option value="2" selected>2</option>' in page and '<option value="3" selected>3 (in use)' in page
    assert '<span class="mark">-</span>New' in page and '<span class="mark">+</span>Mine (default)' in page
    assert "menuentry &#x27;Mine&#x27; {" in page and "Restore menu 2" in page
    page = text(browser(cast.owner).get(url + "?left=1&right=2"))
    assert '<span class="mark">+</span> arguments root=xbd0a -v' in page and "Restore menu 1" in page
    assert "Mine" not in page
    assert text(browser(cast.owner).get(url + "?left=2&right=2")).count("No difference.") == 3
    assert "Restore menu" not in text(browser(cast.viewer).get(url))


@pytest.mark.parametrize("query", ["?left=9", "?right=rubbish", "?left=-1", f"?left={'9' * 30}"])
def test_a_menu_that_is_not_there_cannot_be_compared(
    browser: Browser, cast: Cast, bootable: Domu, query: str
) -> None:
    assert browser(cast.owner).get(reverse("boot_compare", args=[bootable.pk]) + query).status_code == 404


def test_a_direct_menu_is_compared_with_one_of_the_loaders(
    browser: Browser, cast: Cast, mouth: Mouth, bootable: Domu
) -> None:
    offered = make_version(None, "offered")
    post(browser, cast.owner, bootable, rows((offered.pk, "x", "root=xbd0a"), method="direct"))
    page = text(browser(cast.owner).get(reverse("boot_compare", args=[bootable.pk])))
    assert '<span class="mark">+</span>method direct' in page and "menu.lst" not in page


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
    for reason, words in (("poweroff", "ended before it was known to be well"), ("crash", "not well")):
        record = running.boot_records.get(menu_serial=2)
        record.end(reason, record.booted_at)
        assert words in text(browser(cast.owner).get(reverse("server", args=[running.pk])))
    assert 'id="back-to-good"' in page
    assert browser(cast.owner).post(reverse("boot_use", args=[running.pk, 1])).status_code == 302
    running.refresh_from_db()
    assert running.menu_serial == 1 and running.operations.open().get().verb == "prepare"
