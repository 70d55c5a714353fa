"""The chain of events: whatever is changed, removed, slipped in, cut off or made again is found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from tests.web.conftest import Cast
from tests.web.world import Mouth
from vps import chain
from vps.models import Chain, Event
from vps.xen.messages import Head


@pytest.fixture
def sealed(db: None, cast: Cast) -> list[Event]:
    """Five sealed events."""
    for number in range(5):
        Event.record("test", f"event {number}", actor=cast.owner, tenant=cast.tenant, after={"n": number})
    assert chain.seal_events() == 5
    return list(Event.objects.order_by("seq"))


def remake() -> None:
    """What somebody with the whole database can do: seal everything again."""
    Event.objects.update(seq=None, seal="")
    Chain.objects.update(seq=0, seal="")
    chain.seal_events()


def test_a_whole_chain(sealed: list[Event]) -> None:
    assert chain.seal_events() == 0
    found = chain.verify([("a", head) for event in sealed if (head := Head.of([event.seq, event.seal]))])
    assert (found.sealed, found.unsealed, found.faults, found.notes) == (5, 0, [], [])
    assert len({event.seal for event in sealed}) == 5
    assert chain.head() == Head(5, sealed[-1].seal)


def test_sealing_goes_on_where_it_ended_in_batches(sealed: list[Event]) -> None:
    for number in range(4):
        Event.record("test", f"later {number}")
    assert [chain.seal_events(3), chain.seal_events(3), chain.seal_events(3)] == [3, 1, 0]
    assert [e.seq for e in Event.objects.order_by("pk")] == list(range(1, 10))
    assert chain.verify().faults == []


Change = Callable[[list[Event]], object]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(
            lambda rows: Event.objects.filter(seq=3).update(text="another"), "Event 3 (test", id="text"
        ),
        pytest.param(
            lambda rows: Event.objects.filter(seq=3).update(after={"n": 7}), "Event 3 (test", id="after"
        ),
        pytest.param(lambda rows: Event.objects.filter(seq=3).update(actor=None), "Event 3 (test", id="who"),
        pytest.param(
            lambda rows: Event.objects.filter(seq=3).update(at=rows[2].at + timedelta(seconds=1)),
            "Event 3 (test",
            id="when",
        ),
        pytest.param(lambda rows: rows[2].delete(), "Event 3 was removed", id="removed"),
        pytest.param(
            lambda rows: Event.objects.filter(seq__in=[2, 3]).delete(), "Events 2 to 3 were", id="two removed"
        ),
        pytest.param(lambda rows: rows[0].delete(), "Event 1 was removed", id="the first removed"),
        pytest.param(lambda rows: rows[4].delete(), "the end was cut off", id="the last removed"),
        pytest.param(
            lambda rows: (rows[4].delete(), Chain.objects.update(seq=4, seal=rows[3].seal)),
            "dom0-a knows event 5",
            id="the last removed, and the head set back",
        ),
        pytest.param(
            lambda rows: (Event.objects.filter(seq=3).update(text="another"), remake()),
            "the chain was made again",
            id="made again after a change",
        ),
        pytest.param(
            lambda rows: (rows[1].delete(), remake()), "dom0-a knows event 5", id="made again, one less"
        ),
        pytest.param(
            lambda rows: (Event.objects.filter(seq__lte=2).delete(), _prune_silently(rows)),
            "no event tells of it",
            id="the beginning removed as if by age",
        ),
    ],
)
def test_what_was_done_to_it_is_found(sealed: list[Event], change: Change, told: str) -> None:
    kept = [("dom0-a", Head(5, sealed[4].seal)), ("dom0-a", Head(2, sealed[1].seal))]
    change(sealed)
    faults = chain.verify(kept).faults
    assert any(told in fault for fault in faults), faults


def _prune_silently(rows: list[Event]) -> None:
    Chain.objects.update(pruned_seq=2, pruned_seal=rows[1].seal)


def test_a_row_slipped_in_is_found_by_its_time(sealed: list[Event]) -> None:
    event = Event.record("test", "it was always so")
    Event.objects.filter(pk=event.pk).update(at=event.at - timedelta(hours=1))
    chain.seal_events()
    (fault,) = chain.verify().faults
    assert "Event 6 says it is of" in fault and "slipped in" in fault


def test_old_events_are_removed_and_the_chain_goes_on(sealed: list[Event], cast: Cast) -> None:
    old = datetime(2020, 1, 2, tzinfo=UTC)
    Event.objects.update(seq=None, seal="")
    Chain.objects.all().delete()
    Event.objects.filter(pk__in=[event.pk for event in sealed[:3]]).update(at=old)
    chain.seal_events()
    kept = [("a", Head(e.seq or 0, e.seal)) for e in Event.objects.order_by("seq")]
    call_command("prune_events", "2021-01-01")
    assert list(Event.objects.order_by("seq").values_list("seq", flat=True)) == [4, 5, 6]
    assert Event.objects.get(seq=6).kind == "events.pruned"
    Event.record("test", "after it")
    chain.seal_events()
    found = chain.verify(kept)
    assert found.faults == []
    (note,) = found.notes
    assert "Events up to 3 were removed on" in note and "as event 6 tells" in note
    # Somebody made the beginning anew before it was removed: the last of it has another seal than dom0s know.
    (fault,) = chain.verify([("dom0-a", Head(3, "3" * 64))]).faults
    assert "Event 3 has another seal than dom0-a was told" in fault
    assert chain.prune_events(datetime(2021, 1, 1, tzinfo=UTC)) == 0


@pytest.mark.parametrize("day", ["yesterday", "2026-13-01", "9000-01-01", ""])
def test_prune_refuses_what_is_no_day_of_the_past(sealed: list[Event], day: str) -> None:
    with pytest.raises(CommandError):
        call_command("prune_events", day)
    assert Event.objects.count() == 5


def test_after_a_restoration_numbers_that_dom0s_know_are_left_out(sealed: list[Event], mouth: Mouth) -> None:
    while chain.seal_events():
        pass
    lost = Head(9, "9" * 64)  # sealed after the backup was made
    mouth.dom0.inventory = {**mouth.dom0.inventory, "heads": [lost.as_list(), ["x", 1]]}
    mouth.dom0.save()
    event = chain.go_on_after_restoration()
    assert event.seq == 10
    Event.record("test", "life goes on")
    chain.seal_events()
    found = chain.verify([("dom0-a", lost), ("dom0-a", Head(5, sealed[4].seal))])
    assert found.faults == []
    assert any("Event 9, which dom0-a knows, was lost" in note for note in found.notes)
    assert any("to 9 were lost with the restoration of" in note for note in found.notes)


def test_the_command(sealed: list[Event], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "heads"
    file.write_text("".join(f"{event.seq} {event.seal}\n" for event in sealed))
    call_command("verify_events", "--wait", "0", "--heads", str(file))
    out = capsys.readouterr().out
    assert "5 events are sealed, 0 wait for it; compared with 5 heads." in out
    assert "The chain is whole." in out
    Event.objects.filter(seq=2).update(reason="for another reason")
    with pytest.raises(CommandError, match="Event 2") as caught:
        call_command("verify_events", "--wait", "0", "--heads", str(file))
    assert caught.value.returncode == 1


@pytest.mark.parametrize("content", [b"5 zz", b"seq seal", b"\xff\xfe", b"-1 " + b"a" * 64, b"9" * 30])
def test_the_command_refuses_a_file_of_something_else(
    sealed: list[Event], tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "heads"
    file.write_bytes(content)
    with pytest.raises(CommandError, match="heads"):
        call_command("verify_events", "--wait", "0", "--heads", str(file))
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("verify_events", "--wait", "0", "--heads", str(tmp_path / "missing"))
