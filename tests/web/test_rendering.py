"""What the dom0 gets, as text: as it told, or as it will be; with the marks of what changes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web.conftest import Cast, make_version
from vps.models import Domu
from vps.models.boot import EntryDraft, save_menu
from vps.rendering import Text, marked, next_boot, unified
from vps.xen.messages import Verb
from vps.xen.xlcfg import parse


def told(domu: Domu, **result: Any) -> None:
    """Let the newest preparation have reported this."""
    row = domu.operations.filter(verb=Verb.PREPARE.value, state="done").first()
    assert row is not None
    row.result = {**row.result, **result}
    row.save()


def test_before_the_dom0_told_it_is_rendered_with_the_usual_folders(bootable: Domu) -> None:
    found = next_boot(bootable, bootable.boot())
    config = next(text for text in found.texts if text.name == "web1")
    values = parse(config.text)
    assert str(values["kernel"]).startswith(f"/var/lib/berth/domus/{bootable.pk}/web1-loader-")
    own, boot_disk = values["disk"]  # type: ignore[misc]
    assert own.endswith(f"target=/var/lib/berth/disks/{bootable.disks.get().pk}.img")
    assert f"/domus/{bootable.pk}/web1-boot-1-" in boot_disk
    assert not found.as_prepared and not config.changed


def test_what_the_dom0_told_is_shown_as_it_told_it(bootable: Domu) -> None:
    told(bootable, menu_lst="its menu\n", grub_cfg="", config="its configuration\n")
    found = next_boot(bootable, bootable.boot())
    assert found.as_prepared
    assert [(text.name, text.text) for text in found.texts] == [
        ("menu.lst", "its menu\n"),
        ("web1", "its configuration\n"),
    ]


def test_the_next_one_lies_in_the_folders_of_the_last(cast: Cast, bootable: Domu) -> None:
    config = next(t for t in next_boot(bootable, bootable.boot()).texts if t.name == "web1").text
    elsewhere = config.replace("/var/lib/berth/disks", "/pool").replace("/var/lib/berth", "/srv/agent")
    told(bootable, menu_lst="its menu\n", grub_cfg="x\n", config=elsewhere)
    save_menu(bootable, [EntryDraft(make_version(cast.tenant, "second"), "Second", "")], cast.owner)
    found = next_boot(bootable, bootable.boot())
    assert not found.as_prepared
    new = next(text for text in found.texts if text.name == "web1")
    assert f"/srv/agent/domus/{bootable.pk}/web1-loader-" in new.text
    assert "target=/pool/" in new.text and "/var/lib/berth" not in new.text
    # Only what the menu is behind has changed: the loader and the disk are the same.
    changed = [line for mark, line in new.difference if mark in "+-"]
    assert all("menu " in line or "-boot-" in line for line in changed) and changed


def test_nothing_to_boot_has_no_texts(domu: Domu) -> None:
    found = next_boot(domu, domu.boot())
    assert found.texts == [] and found.entry is None


@pytest.mark.parametrize(
    ("before", "after", "marks"),
    [
        pytest.param("a\nb\n", "a\nb\n", "  ", id="the same"),
        pytest.param("a\nb\n", "a\nc\n", " -+", id="one line"),
        pytest.param("", "a\n", "+", id="all new"),
        pytest.param("a\n", "", "-", id="all gone"),
        pytest.param("a\nb\nc\n", "b\nc\nd\n", "-  +", id="moved"),
    ],
)
def test_every_line_has_its_mark(before: str, after: str, marks: str) -> None:
    lines = marked(before, after)
    assert "".join(mark for mark, _ in lines) == marks
    assert [line for mark, line in lines if mark != "-"] == after.splitlines()
    assert [line for mark, line in lines if mark != "+"] == before.splitlines()


def test_the_unified_difference_leaves_out_what_is_far_away() -> None:
    before = "".join(f"line {n}\n" for n in range(30))
    lines = unified(before, before.replace("line 15\n", "another\n"))
    assert ("-", "line 15") in lines and ("+", "another") in lines and lines[0] == ("@", "-13,7 +13,7")
    assert (" ", "line 1") not in lines
    assert Text("x", "a\n").difference == []
