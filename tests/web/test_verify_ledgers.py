"""`manage.py verify_ledgers`: silent when all agrees, a sentence and exit 1 for each kind of difference."""

from __future__ import annotations

from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import call_command

from accounts.models.quota import use
from tests.web.conftest import Cast, finish, make_loaders, make_version
from tests.web.world import Mouth
from vps.models import Dom0, Domu, ForeignDomain, Operation, Request, kept
from vps.models.trial import TrialBoot


def said() -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("verify_ledgers", stdout=out)
    except SystemExit as end:
        return int(str(end.code)), out.getvalue()
    return 0, out.getvalue()


@pytest.fixture
def world(cast: Cast, mouth: Mouth, bootable: Domu, rung: list[Operation]) -> Domu:
    """A server, one that waits for a larger size, a deleted one, a request, a kernel: all well booked."""
    for version in (menu.entries.get().version for menu in bootable.menus.all()):
        use(cast.tenant, {"kernel_bytes": sum(b.size for b in version.blobs)}, version.subject, "test")
    second = Request.ask(
        tenant=cast.tenant, by=cast.owner, name="web2", guest_os="linux", memory_mib=64, vcpus=1, disk_mib=64
    ).approve(cast.operator, mouth.dom0)
    finish(mouth, second)
    kept.delete(second, cast.owner)
    Request.ask_size(bootable, cast.owner, 512, 2)
    Request.ask_quota(cast.tenant, cast.owner, {"servers": 2}, "more")
    Request.ask(
        tenant=cast.tenant, by=cast.owner, name="web3", guest_os="linux", memory_mib=64, vcpus=1, disk_mib=64
    )
    return bootable


def test_what_agrees(world: Domu) -> None:
    assert said() == (0, "The ledgers agree with what exists.\n")


def test_each_difference_is_said(cast: Cast, mouth: Mouth, world: Domu) -> None:
    use(cast.tenant, {"memory_mib": 100}, world.subject, "wrong")
    use(cast.tenant, {"vcpus": 1}, "domu:nothing", "of nothing")
    mouth.dom0.promise({"disk_mib": 5}, world.subject, "wrong")
    mouth.dom0.promise({"memory_mib": 9000}, "domu:ghost", "of nothing")
    waiting = Request.objects.waiting().get(name="web3")
    use(cast.tenant, {"disk_mib": -1}, waiting.subject, "wrong")
    lost = make_version(cast.tenant, "not booked")
    code, words = said()
    assert code == 1
    for sentence in (
        "Example: web1: 356 MiB of memory_mib booked, and it has 256 MiB.",
        "Example: 1 of vcpus booked for domu:nothing, of which nothing is there.",
        "dom0-a: web1: 1.3 GiB of disk_mib promised, and it has 1.2 GiB.",
        "dom0-a: 8.8 GiB of memory_mib promised to domu:ghost, of which nothing is there.",
        "Example: the request for web3: 63 MiB of disk_mib booked, and it has 64 MiB.",
        f"Example: kernel {lost}: 0 B of kernel_bytes booked",
        "dom0-a: 9.0 GiB of memory_mib promised, and it has 3.5 GiB.",
    ):
        assert sentence in words, (sentence, words)
    assert words.endswith(f"{len(words.splitlines()) - 1} differences\n")


def test_a_smaller_disk_than_is_booked_is_found(world: Domu) -> None:
    world.disks.update(size_mib=512)
    code, words = said()
    assert code == 1 and "1 GiB of disk_mib booked, and it has 512 MiB." in words


def test_domains_that_are_not_ours_are_known(mouth: Mouth, world: Domu) -> None:
    counted = {"dom0": mouth.dom0, "memory_mib": 64, "standing": ForeignDomain.Standing.KEPT}
    row = ForeignDomain.objects.create(uuid=uuid4(), name="theirs", **counted)
    assert "dom0-a: the domain theirs: 0 MiB of memory_mib promised, and it has 64 MiB." in said()[1]
    mouth.dom0.promise({"memory_mib": 64}, row.subject, "counted")
    assert said()[0] == 0


def test_a_trial_that_runs_is_known(cast: Cast, mouth: Mouth, world: Domu) -> None:
    make_loaders()
    Dom0.objects.filter(pk=mouth.dom0.pk).update(trials=True)
    version = world.menus.get().entries.get().version
    trial = TrialBoot.begin(version, cast.owner, "")
    assert said() == (0, "The ledgers agree with what exists.\n")
    trial.dom0.give_back(trial.subject, "lost")
    code, words = said()
    assert code == 1 and f"the trial boot of {version}: 0 MiB of memory_mib promised" in words
