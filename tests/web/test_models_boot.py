"""What a menu becomes: PV or PVH, which file for which path, which loader; and what is refused, with why."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web.conftest import Cast, finish, make_blob, make_loaders, make_version
from tests.web.world import Mouth
from vps.models import BootMenu, Conflict, Domu, KernelVersion, Loader
from vps.models.boot import EntryDraft, draft_boot, menu_type, own_kind_of, save_menu
from vps.models.boot_try import use_menu
from vps.views.agent import needed_by
from vps.xen.description import BootMethod, DomainType
from vps.xen.loaders import LoaderKind

PVH_ONLY: dict[str, Any] = {
    "pv": False,
    "pvh": True,
    "format": "bzImage",
    "file_compression": "none",
    "paths": {"pvgrub": "It has no PV entry.", "direct_pv": "It has no PV entry.", "direct_pvh": "ok"},
}
BOTH: dict[str, Any] = {
    **PVH_ONLY,
    "pv": True,
    "paths": dict.fromkeys(("pvgrub", "direct_pv", "direct_pvh"), "ok"),
}
HVM = ["xen-3.0-x86_64", "hvm-3.0-x86_32"]


@pytest.fixture(autouse=True)
def loaders(db: None) -> None:
    make_loaders()


def draft(domu: Domu, *versions: KernelVersion, method: BootMethod = BootMethod.PVGRUB) -> Any:
    return draft_boot(domu, [EntryDraft(version, "", "") for version in versions], method)


def test_a_pv_kernel_takes_the_pv_loader(domu: Domu, version: KernelVersion) -> None:
    kind, boot = draft(domu, version)
    assert kind is DomainType.PV
    assert boot.loader == Loader.objects.get(kind="pv64").blob.ref()
    assert boot.entries[0].title == boot.entries[0].label == "generic 1"


def test_a_pvh_only_kernel_makes_it_pvh(cast: Cast, domu: Domu) -> None:
    kind, boot = draft(domu, make_version(cast.tenant, "pvh", **PVH_ONLY))
    assert kind is DomainType.PVH
    assert boot.loader == Loader.objects.get(kind="pvh").blob.ref()


def test_a_pvh_only_bzimage_is_given_to_the_loader_as_it_came(cast: Cast, domu: Domu) -> None:
    lz4 = make_version(cast.tenant, "lz4", **PVH_ONLY, path_files={"direct_pvh": "plain"})
    lz4.plain = make_blob(b"unpacked")
    lz4.save()
    assert lz4.original is not None
    assert draft(domu, lz4)[1].entries[0].kernel == lz4.original.ref()
    assert lz4.loader_path == "pvgrub_pvh"


def test_a_pvh_only_elf_is_refused_with_what_to_do(cast: Cast, domu: Domu) -> None:
    """On real Xen it hung the loader silently."""
    netbsd = make_version(cast.tenant, "netbsd", **{**PVH_ONLY, "format": "ELF"})
    with pytest.raises(Conflict, match="and nothing else: start it directly as PVH"):
        draft(domu, netbsd)
    assert netbsd.loader_path == ""


def test_what_starts_as_both_goes_with_either(cast: Cast, domu: Domu, version: KernelVersion) -> None:
    both = make_version(cast.tenant, "both", **BOTH)
    narrow = make_version(cast.tenant, "narrow", architecture="x86_32", **PVH_ONLY)
    assert draft(domu, both, version)[0] is DomainType.PV
    kind, boot = draft(domu, both, narrow)  # also of 32 and 64 bit, which this loader does not mind
    assert kind is DomainType.PVH and boot.loader == Loader.objects.get(kind="pvh").blob.ref()


@pytest.mark.parametrize("method", [BootMethod.PVGRUB, BootMethod.OWN_DISK])
def test_pvh_where_the_dom0_cannot(cast: Cast, domu: Domu, method: BootMethod) -> None:
    pvh = make_version(cast.tenant, "pvh", **PVH_ONLY)
    wanted: dict[str, Any] = {"method": method, "own_kind": LoaderKind.PVH}
    with pytest.raises(Conflict, match="cannot run PVH guests"):
        save_menu(domu, [EntryDraft(pvh, "")], cast.owner, **wanted)
    assert not BootMenu.objects.exists()
    domu.dom0.inventory["xen"]["caps"] = HVM
    domu.dom0.save()
    assert save_menu(domu, [EntryDraft(pvh, "")], cast.owner, **wanted).body["domu"]["type"] == "pvh"


def test_its_own_disk_gets_the_loader_that_was_chosen_whatever_it_was_before(
    cast: Cast, mouth: Mouth, domu: Domu
) -> None:
    """A server left at type pvh by an earlier menu went on with the PVH loader, which starts no PV kernel."""
    domu.dom0.inventory["xen"]["caps"] = [*HVM, "xen-3.0-x86_32p"]
    domu.dom0.save()
    save_menu(domu, [EntryDraft(make_version(cast.tenant, "pvh", **PVH_ONLY), "")], cast.owner)
    finish(mouth, domu)
    assert domu.type == "pvh"
    for kind, expected in ((LoaderKind.PV64, "pv"), (LoaderKind.PV32, "pv"), (LoaderKind.PVH, "pvh")):
        body = save_menu(domu, [], cast.owner, method=BootMethod.OWN_DISK, own_kind=kind).body["domu"]
        assert body["type"] == expected
        assert body["boot"]["loader"]["sha256"] == Loader.objects.get(kind=kind.value).blob_id
        finish(mouth, domu)
    # An old menu comes back as it was, not as the server is now.
    first = domu.menus.get(serial=2)
    assert menu_type(domu, first) is DomainType.PV and own_kind_of(first.saved) is LoaderKind.PV64
    use_menu(domu, first, cast.owner)
    domu.refresh_from_db()
    assert domu.type == "pv"


def test_32_bit_takes_its_own_loader(cast: Cast, domu: Domu) -> None:
    _, boot = draft(domu, make_version(cast.tenant, "i386", architecture="x86_32"))
    assert boot.loader == Loader.objects.get(kind="pv32").blob.ref()


def test_the_plain_file_where_the_loader_cannot_read_the_original(cast: Cast, domu: Domu) -> None:
    lz4 = make_version(cast.tenant, "lz4", path_files={"pvgrub": "plain", "direct_pv": "original"})
    lz4.plain = make_blob(b"unpacked")
    lz4.save()
    _, boot = draft(domu, lz4)
    assert boot.entries[0].kernel == lz4.plain.ref()


def unusable(cast: Cast, which: str) -> list[KernelVersion]:
    own = make_version(cast.tenant, "own")
    if which == "being inspected":
        own.state = KernelVersion.State.INSPECTING
        own.save()
    if which == "pv and pvh":
        return [own, make_version(cast.tenant, "pvh", **PVH_ONLY)]
    if which == "32 and 64 bit":
        return [own, make_version(cast.tenant, "i386", architecture="x86_32")]
    if which == "of another tenant":
        return [make_version(cast.other, "theirs")]
    if which == "not offered":
        hidden = make_version(None, "hidden")
        hidden.kernel.in_catalogue = False
        hidden.kernel.save()
        return [hidden]
    if which == "no path":
        paths = {"pvgrub": "GRUB cannot unpack zstd.", "direct_pv": "ok", "direct_pvh": "no"}
        return [make_version(cast.tenant, "zstd", paths=paths)]
    return [own]


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("being inspected", "own 1 cannot be booted: being inspected"),
        ("pv and pvh", "pvh 1 can start as PVH only, and not all others can"),
        ("32 and 64 bit", "The menu mixes 32-bit and 64-bit kernels"),
        ("of another tenant", "theirs 1 is not among your kernels."),
        ("not offered", "hidden 1 is not among your kernels."),
        ("no path", "GRUB cannot unpack zstd."),
    ],
)
def test_what_no_menu_takes(cast: Cast, domu: Domu, which: str, words: str) -> None:
    with pytest.raises(Conflict) as refused:
        draft(domu, *unusable(cast, which))
    assert words in str(refused.value)


def test_without_a_loader_it_is_said(domu: Domu, version: KernelVersion) -> None:
    Loader.objects.all().delete()
    with pytest.raises(Conflict, match="no loader for x86_64 kernels"):
        draft(domu, version)


def test_a_real_dom0_never_takes_a_placeholder(domu: Domu, version: KernelVersion) -> None:
    Loader.objects.filter(kind="pv64").update(simulated=True)
    with pytest.raises(Conflict, match="no loader"):
        draft(domu, version)
    domu.dom0.simulated = True
    assert draft(domu, version)[1].loader is not None


def test_an_empty_menu_and_a_default_that_is_not_there(domu: Domu, version: KernelVersion) -> None:
    with pytest.raises(Conflict, match="The menu is empty"):
        draft_boot(domu, [], BootMethod.PVGRUB)
    with pytest.raises(Conflict, match="The default entry is not in the menu"):
        draft_boot(domu, [EntryDraft(version, "x")], BootMethod.PVGRUB, default=1)


@pytest.mark.parametrize("arguments", ['a"b', "a\nb", "a;b", "a)b", "$a", "{", "x" * 1025])
def test_arguments_that_no_file_can_carry(domu: Domu, version: KernelVersion, arguments: str) -> None:
    with pytest.raises(Conflict):
        draft_boot(domu, [EntryDraft(version, "x", arguments)], BootMethod.PVGRUB)


def test_a_refused_menu_leaves_nothing(cast: Cast, domu: Domu, version: KernelVersion) -> None:
    before = (domu.n, domu.menu_serial)
    with pytest.raises(Conflict):
        save_menu(domu, [EntryDraft(version, "x", '"')], cast.owner)
    domu.refresh_from_db()
    assert (domu.n, domu.menu_serial) == before
    assert not BootMenu.objects.exists() and not domu.operations.open().exists()


def test_an_agent_gets_the_files_of_its_menus_only(
    cast: Cast, mouth: Mouth, bootable: Domu, version: KernelVersion
) -> None:
    second = make_version(cast.tenant, "second")
    unused = make_version(cast.tenant, "unused")
    assert version.original_id in needed_by(mouth.dom0)
    save_menu(bootable, [EntryDraft(second, "x")], cast.owner)
    # Until the new one is in place both are needed.
    assert {version.original_id, second.original_id} <= needed_by(mouth.dom0)
    finish(mouth, bootable)
    assert version.original_id not in needed_by(mouth.dom0)
    assert unused.original_id not in needed_by(mouth.dom0)


def test_the_catalogue_shows_what_it_offers(cast: Cast, domu: Domu) -> None:
    from vps.models import Kernel

    hidden = unusable(cast, "not offered")[0].kernel
    offered = make_version(None, "offered").kernel
    assert set(Kernel.objects.visible_to(cast.owner).filter(tenant=None)) == {offered}
    assert set(Kernel.objects.visible_to(cast.operator).filter(tenant=None)) == {offered, hidden}
