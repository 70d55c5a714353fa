"""Pages of kernels and versions: described, compared, out of date, in use, how they did; the catalogue."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.urls import reverse
from django.utils import timezone

from tests.web.conftest import Browser, Cast, make_version
from vps.models import BootRecord, Domu, Event, KernelConfiguration, KernelVersion
from vps.models.boot import draft_boot
from vps.views.kernel_facts import options_that_differ

pytestmark = pytest.mark.django_db


def page(browser: Browser, who: object, name: str, *args: object, **query: object) -> str:
    answer = browser(who).get(reverse(name, args=args), query)
    assert answer.status_code == 200
    return answer.content.decode()


def record(domu: Domu, version: KernelVersion, well: bool | None) -> None:
    BootRecord.objects.create(domu=domu, version=version, run=uuid4(), booted_at=timezone.now(), well=well)


def test_where_it_is_used_and_how_it_booted(
    cast: Cast, bootable: Domu, version: KernelVersion, browser: Browser
) -> None:
    for well in (True, True, False, None):
        record(bootable, version, well)
    text = page(browser, cast.viewer, "kernel_version", version.pk)
    assert "It booted well on 1 server." in text
    assert "ended too soon" in text and "not known yet" in text
    assert f'href="/servers/{bootable.pk}/boot/">web1</a>' in text
    assert "root=xbd0a" in text
    text = page(browser, cast.viewer, "kernel", version.kernel_id)
    assert "on 1 server" in text and "1 boot did not" in text


def test_servers_of_others_are_not_told_of(cast: Cast, bootable: Domu, browser: Browser) -> None:
    offered = make_version(None, "offered")
    record(bootable, offered, True)
    text = page(browser, cast.stranger, "kernel_version", offered.pk)
    assert "It booted well on 1 server." in text
    assert "web1" not in text
    assert "web1" in page(browser, cast.operator, "kernel_version", offered.pk)


def test_notes_and_out_of_date(cast: Cast, version: KernelVersion, browser: Browser) -> None:
    change = reverse("kernel_version_change", args=[version.pk])
    said = {"note": "built <with> npf", "deprecated": "it panics on 2 cpus"}
    assert browser(cast.developer).post(change, said).status_code == 302
    version.refresh_from_db()
    assert (version.note, version.out_of_date) == (said["note"], said["deprecated"])
    text = page(browser, cast.viewer, "kernel_version", version.pk)
    assert "built &lt;with&gt; npf" in text and "it panics on 2 cpus" in text
    event = Event.objects.get(kind="kernel.changed")
    assert (event.actor, event.before["note"], event.after["note"]) == (cast.developer, "", said["note"])
    browser(cast.developer).post(change, said)
    assert Event.objects.filter(kind="kernel.changed").count() == 1, "nothing changed"
    wrong = browser(cast.developer).post(change, {"note": "x", "deprecated": "y" * 201})
    assert wrong.status_code == 422 and "at most 200 characters" in wrong.content.decode()


def test_a_line_is_described_and_followed_by_another(
    cast: Cast, version: KernelVersion, browser: Browser
) -> None:
    newer = make_version(cast.tenant, "npf")
    change = reverse("kernel_change", args=[version.kernel_id])
    said = {
        "description": "For the mail server",
        "guest_os": "netbsd",
        "default_arguments": "root=xbd0a",
        "deprecated": "npf is better",
        "successor": str(newer.kernel_id),
    }
    assert browser(cast.admin).post(change, said).status_code == 302
    version.kernel.refresh_from_db()
    assert version.kernel.successor == newer.kernel
    text = page(browser, cast.viewer, "kernel", version.kernel_id)
    assert "For the mail server" in text and "npf is better" in text
    assert f'href="/kernels/{newer.kernel_id}/">npf</a>' in text
    assert "Describe it" not in text
    for wrong, words in (
        ({"default_arguments": 'root="x"'}, "default_arguments"),
        ({"guest_os": "vms"}, "Select a valid choice"),
        ({"successor": str(make_version(cast.other, "theirs").kernel_id)}, "Select a valid choice"),
    ):
        answer = browser(cast.admin).post(change, {**said, **wrong})
        assert answer.status_code == 422
        assert words in answer.content.decode()
    version.kernel.refresh_from_db()
    assert version.kernel.default_arguments == "root=xbd0a"


def test_the_catalogue(cast: Cast, bootable: Domu, browser: Browser) -> None:
    install, hidden = make_version(None, "install", role="installer"), make_version(None, "not-offered")
    hidden.kernel.offer(False, cast.operator)
    change = reverse("kernel_change", args=[install.kernel_id])
    said = {"description": "sysinst", "guest_os": "netbsd", "purpose": "install", "default_arguments": "-a"}
    assert browser(cast.operator).post(change, said).status_code == 302
    text = page(browser, cast.developer, "catalogue")
    assert "To install a system" in text and "sysinst" in text and "not-offered" not in text
    add = f"/servers/{bootable.pk}/boot/?add={install.pk}"
    assert add in text
    assert add not in page(browser, cast.viewer, "catalogue"), "a viewer changes no menu"
    assert "Put it into" not in page(browser, cast.stranger, "catalogue")
    editor = browser(cast.developer).get(add).content.decode()
    assert f'<option value="{install.pk}" selected>' in editor
    assert 'value="-a"' in editor
    assert bootable.menus.count() == 1, "nothing is saved by looking"
    unknown = browser(cast.developer).get(f"/servers/{bootable.pk}/boot/?add=nonsense")
    assert unknown.status_code == 200


def test_what_is_offered_no_more_goes_on_where_it_boots(cast: Cast, bootable: Domu, browser: Browser) -> None:
    from vps.models import Conflict
    from vps.models.boot import EntryDraft, save_menu
    from vps.xen.description import BootMethod

    offered = make_version(None, "offered")
    save_menu(bootable, [EntryDraft(offered, "", "")], cast.owner)
    bootable.operations.open().update(state="done")
    offered.kernel.offer(False, cast.operator)
    bootable.refresh_from_db()
    assert bootable.start(cast.owner).body["domu"]["boot"]["entries"][0]["label"] == "offered 1"
    with pytest.raises(Conflict, match="not among your kernels"):
        draft_boot(bootable, [EntryDraft(offered, "", "")], BootMethod.PVGRUB)
    with pytest.raises(Conflict, match="stands in the boot menu"):
        offered.delete_content(cast.operator)


def test_two_versions_side_by_side(cast: Cast, version: KernelVersion, browser: Browser) -> None:
    other = make_version(cast.tenant, "generic", 2, release="NetBSD 10.2", features={"npf": True})
    text = page(browser, cast.viewer, "kernel_compare", a=version.pk, b=other.pk)
    rows = [row for row in text.split("<tr") if "differs</b>" in row]
    assert any("NetBSD 10.1" in row and "NetBSD 10.2" in row for row in rows)
    assert any(">npf<" in row for row in rows)
    assert not any("Architecture" in row for row in rows)
    assert "Not both of them carry" in text
    for a, b in ((version, make_version(cast.other, "theirs")), (make_version(cast.other, "x"), version)):
        query = {"a": a.pk, "b": b.pk}
        assert browser(cast.viewer).get(reverse("kernel_compare"), query).status_code == 404
    assert browser(cast.viewer).get(reverse("kernel_compare"), {"a": "x", "b": other.pk}).status_code == 404


def test_options_that_differ(cast: Cast, version: KernelVersion, browser: Browser) -> None:
    other = make_version(cast.tenant, "generic", 2)
    KernelConfiguration.objects.create(version=version, lines='NET=y\nXEN=y\nCMDLINE="a b"\noptions NPF')
    KernelConfiguration.objects.create(version=other, lines='NET=m\nXEN=y\nCMDLINE="a b"\noptions IPSEC')
    lines = options_that_differ(version, other)
    assert lines is not None
    assert {(line.name, line.left, line.right) for line in lines} == {
        ("NET", "y", "m"),
        ("options NPF", "yes", ""),
        ("options IPSEC", "", "yes"),
    }
    text = page(browser, cast.viewer, "kernel_compare", a=version.pk, b=other.pk)
    assert "options IPSEC" in text and "Not both" not in text


def test_the_embedded_configuration_is_kept(cast: Cast, settings, tmp_path, monkeypatch) -> None:
    from tests.kernels import netbsd
    from vps import tasks, uploads

    settings.BERTH_STAGING_DIR = tmp_path / "staging"
    monkeypatch.setattr(tasks.inspect_version, "ring", lambda version: True)
    content = netbsd(embedded_config=True, features=("npf",))
    upload = uploads.begin(
        tenant=cast.tenant, user=cast.developer, kernel_name="mine", filename="netbsd", size=len(content)
    )
    uploads.receive(upload, 0, [content])
    tasks.inspect_version(str(upload.version.pk))
    upload.version.refresh_from_db()
    assert "options" not in upload.version.report, "it is large, and read seldom"
    assert "pseudo-device npf" in upload.version.configuration.lines.split("\n")
