"""A restored backup: the dom0s are ahead of the rows, and go on with the new epoch."""

from __future__ import annotations

import pytest
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.urls import reverse

from tests.web.conftest import Browser, Cast, finish
from tests.web.world import Mouth
from vps import chain
from vps.models import Domu, Event, Operation
from vps.models.operation import State
from vps.restoration import go_on
from vps.xen.messages import Verb


def test_a_new_epoch_and_every_server_prepared(
    cast: Cast,
    mouth: Mouth,
    bootable: Domu,
    rung: list[Operation],
) -> None:
    under_way = bootable.start(cast.owner)
    before = (bootable.epoch, bootable.n)
    done = go_on()
    bootable.refresh_from_db()
    assert done.epoch == before[0] + 1 and (bootable.epoch, bootable.n) > before
    assert (done.given_up, done.prepared, done.refused) == (1, 1, [])
    under_way.refresh_from_db()
    assert under_way.state == State.LOST and "backup" in under_way.error_text
    prepare = bootable.operations.first()
    assert prepare is not None and (prepare.verb, prepare.epoch) == (Verb.PREPARE.value, done.epoch)
    assert bootable.observed == ""


def test_the_dom0s_word_counts_again_once_it_has_the_new_generation(
    cast: Cast, mouth: Mouth, bootable: Domu, rung: list[Operation]
) -> None:
    """The backup says stopped; meanwhile its owner had started it."""
    go_on()
    bootable.refresh_from_db()
    agent = {"id": str(bootable.pk), "wanted": "running", "phase": "idle", "boots": 3}
    mouth.inventory({bootable: "running"}, domus=[{**agent, "generation": [1, 99]}])
    bootable.refresh_from_db()
    assert (bootable.wanted, bootable.observed) == ("stopped", "running")
    finish(mouth, bootable)
    bootable.refresh_from_db()
    mouth.inventory({bootable: "running"}, domus=[{**agent, "generation": [bootable.epoch, bootable.n]}])
    bootable.refresh_from_db()
    assert (bootable.wanted, bootable.observed, bootable.boots) == ("running", "running", 3)


def test_everybody_is_logged_out(cast: Cast, browser: Browser, domu: Domu, rung: list[Operation]) -> None:
    client = browser(cast.owner)
    assert client.get(reverse("servers")).status_code == 200
    go_on()
    assert not Session.objects.exists()
    assert client.get(reverse("servers")).status_code == 302


def test_a_locked_server_is_named_and_the_others_go_on(
    cast: Cast, mouth: Mouth, bootable: Domu, rung: list[Operation]
) -> None:
    Domu.objects.filter(pk=bootable.pk).update(locked="unpaid")
    done = go_on()
    assert done.prepared == 0
    assert len(done.refused) == 1 and "web1" in done.refused[0] and "unpaid" in done.refused[0]


def test_it_stands_in_the_chain(cast: Cast, domu: Domu, rung: list[Operation]) -> None:
    go_on()
    while chain.seal_events():
        pass
    assert Event.objects.filter(kind=chain.RESTORED).count() == 1
    assert chain.verify().faults == []


def test_the_command_wants_a_yes(
    cast: Cast, domu: Domu, rung: list[Operation], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CommandError, match="--yes"):
        call_command("after_restore")
    epoch = domu.epoch
    call_command("after_restore", "--yes")
    assert f"Epoch {epoch + 1}." in capsys.readouterr().out
