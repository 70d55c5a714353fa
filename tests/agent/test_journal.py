"""The journal, the lanes and the line: what is written, in which order, and what is refused."""

from __future__ import annotations

import sqlite3
import threading
import time
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from vps.agent.clock import Clock
from vps.agent.config import Config
from vps.agent.inventory import spread
from vps.agent.journal import Journal, JournalRefused
from vps.agent.lanes import Lanes
from vps.agent.line import Line, acknowledgement
from vps.xen.description import Boot, BootMethod, Description, DomainType, GuestOS
from vps.xen.messages import (
    FINAL_OUTCOMES,
    Generation,
    Head,
    Note,
    NoteKind,
    Order,
    Outcome,
    ReportKind,
    SigningKey,
    TrustedKeys,
    Verb,
)
from vps.xen.reconcile import Phase, Wanted


def until(question: object, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not question():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite3"


def order(domu: UUID, verb: Verb = Verb.START) -> Order:
    return Order(uuid4(), uuid4(), domu, verb, Generation(1, 2), 5, {"a": [1]}, request_id="r")


def description(domu: UUID) -> Description:
    boot = Boot(BootMethod.PVGRUB, 0)
    return Description(domu, "web1", DomainType.PV, GuestOS.LINUX, 64, 1, (), (), boot)


def test_an_order_is_written_once_and_ends_once(path: Path) -> None:
    journal, domu = Journal(path), uuid4()
    first, second = order(domu), order(domu, Verb.DESTROY)
    assert journal.accept(first, Outcome.ACCEPTED, 1)
    assert not journal.accept(first, Outcome.REFUSED, 2)
    assert journal.accept(second, Outcome.ACCEPTED, 3)
    assert [row.operation for row in journal.open_orders(domu)] == [first.operation, second.operation]
    assert journal.move_order(first.operation, Outcome.RUNNING, step="x", steps=[{"name": "x"}])
    assert journal.move_order(first.operation, Outcome.DONE, result={"boots": 1})
    assert not journal.move_order(first.operation, Outcome.FAILED)
    journal.close()
    row = Journal(path).order(first.operation)
    assert row is not None
    assert (row.state, row.result, row.step, row.request_id, row.body, row.received) == (
        Outcome.DONE,
        {"boots": 1},
        "x",
        "r",
        {"a": [1]},
        1,
    )


@pytest.mark.parametrize("end", sorted(FINAL_OUTCOMES))
def test_the_end_of_a_reboot_leaves_no_intent_and_that_of_a_creation_is_looked_up(
    path: Path, end: Outcome
) -> None:
    journal, domu = Journal(path), uuid4()
    first = order(domu, Verb.REBOOT)
    journal.accept(first, Outcome.ACCEPTED, 1)
    for effect in ("reboot", "create"):
        journal.intend(domu, effect, {"run": uuid4()}, first.operation)
    journal.move_order(first.operation, Outcome.RUNNING)
    assert len(journal.open_intents(domu, "reboot")) == 1
    journal.move_order(first.operation, end)
    assert (len(journal.open_intents(domu, "reboot")), len(journal.open_intents(domu, "create"))) == (0, 1)


def test_a_transaction_is_whole_or_not(path: Path) -> None:
    journal, domu = Journal(path), uuid4()
    with pytest.raises(RuntimeError), journal.transaction():
        journal.describe(description(domu), Generation(1, 1))
        with journal.transaction():
            journal.report(ReportKind.OPERATION, {}, 1)
        raise RuntimeError
    assert journal.domu(domu) is None
    assert journal.reports(0) == ()


def test_a_domu_keeps_what_is_its_own_when_it_is_described_again(path: Path) -> None:
    journal, domu, run = Journal(path), uuid4(), uuid4()
    journal.describe(description(domu), Generation(1, 1))
    journal.set_domu(
        domu,
        run=run,
        wanted=Wanted.RUNNING,
        phase=Phase.STARTING,
        boots=4,
        crash_times=(1.5,),
        disks={"x": True},
    )
    journal.describe(replace(description(domu), memory_mib=128), Generation(2, 1))
    row = journal.domu(domu)
    assert row is not None
    assert (row.run, row.wanted, row.phase, row.boots, row.crash_times, row.disks) == (
        run,
        Wanted.RUNNING,
        Phase.STARTING,
        4,
        (1.5,),
        {"x": True},
    )
    assert (row.description.memory_mib, row.generation) == (128, Generation(2, 1))
    journal.set_domu(domu, deleted=True)
    assert journal.domus() == ()


def test_reports_are_numbered_for_ever(path: Path) -> None:
    journal = Journal(path)
    assert [journal.report(ReportKind.ENDED, {"n": n}, n) for n in range(3)] == [1, 2, 3]
    journal.acknowledge(2)
    assert [report.seq for report in journal.reports(0)] == [3]
    journal.acknowledge(99)
    journal.close()
    again = Journal(path)
    assert again.id == journal.id
    assert again.report(ReportKind.ENDED, {}, 1) == 4


def test_intents(path: Path) -> None:
    journal, domu = Journal(path), uuid4()
    run = uuid4()
    number = journal.intend(domu, "create", {"run": run, "config": Path("/x")}, None)
    (intent,) = journal.open_intents(domu, "create")
    assert (intent.detail, intent.id) == ({"run": str(run), "config": "/x"}, number)
    assert journal.open_intents(domu, "reboot") == ()
    journal.resolve(number, "created")
    assert journal.open_intents(domu, "create") == ()


def test_many_threads(path: Path) -> None:
    journal = Journal(path)
    threads = [
        threading.Thread(target=lambda: [journal.report(ReportKind.ENDED, {}, 0) for _ in range(30)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.seq for report in journal.reports(0)] == list(range(1, 121))


def test_journals_that_cannot_be_used(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with pytest.raises(JournalRefused, match=r"journal\.sqlite3 cannot be used: file is not a database"):
        Journal(path)
    with pytest.raises(JournalRefused, match="unable to open"):
        Journal(tmp_path / "none" / "journal")
    newer = tmp_path / "newer"
    Journal(newer).close()
    with sqlite3.connect(newer) as db:
        db.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    db.close()
    with pytest.raises(JournalRefused, match="it is of schema 99, this agent writes schema 1"):
        Journal(newer)


# -- lanes


def test_a_lane_keeps_its_order_and_lanes_run_beside_each_other() -> None:
    lanes, done, gate = Lanes(2), [], threading.Event()
    slow, quick = uuid4(), uuid4()
    lanes.submit(slow, lambda: (gate.wait(10), done.append("slow 1")))  # type: ignore[func-returns-value]
    lanes.submit(slow, lambda: done.append("slow 2"), "a")
    assert not lanes.submit(slow, lambda: done.append("never"), "a")
    lanes.submit(quick, lambda: done.append("quick"))
    until(lambda: done == ["quick"])
    assert lanes.busy(slow)
    gate.set()
    until(lambda: done == ["quick", "slow 1", "slow 2"])
    until(lambda: not lanes.busy(slow))


def test_a_lane_goes_on_after_a_failure() -> None:
    lanes, done, lane = Lanes(1), [], uuid4()
    lanes.submit(lane, lambda: 1 / 0)
    lanes.submit(lane, lambda: done.append(1))
    until(lambda: done == [1])
    lanes.close()
    assert not lanes.submit(lane, lambda: done.append(2))


def test_no_more_threads_than_asked_for() -> None:
    lanes, now, most, lock = Lanes(3), 0, 0, threading.Lock()

    def work() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1

    all_lanes = [uuid4() for _ in range(12)]
    for lane in all_lanes:
        lanes.submit(lane, work)
    until(lambda: not any(lanes.busy(lane) for lane in all_lanes))
    assert 1 < most <= 3


# -- notes


def test_notes_that_are_not_heard(config: Config, signing_key: SigningKey) -> None:
    heard: list[Note] = []
    clock = Clock()
    line = Line(
        config,
        clock,
        TrustedKeys(config.trusted_keys),
        dict.fromkeys(NoteKind, heard.append),
        lambda: None,
        lambda: None,
    )
    later = clock.now_ms() + 5000
    well = Note(config.dom0, NoteKind.LOOK, later)
    for envelope in (
        b"",
        b"\xff\xfe",
        b"x" * 2_000_000,
        signing_key.seal(replace(well, dom0=uuid4())).encode(),
        SigningKey.generate().seal(well).encode(),
        signing_key.seal(well).replace("look", "keys").encode(),
        signing_key.seal(replace(well, not_after=clock.now_ms() - 1)).encode(),
    ):
        line.take(envelope)
    assert heard == []
    line.take(signing_key.seal(well).encode())
    assert heard == [well]


@pytest.mark.parametrize(
    ("body", "seq"),
    [
        ({"journal": "J", "seq": 7}, 7),
        ({"journal": "other", "seq": 7}, None),
        ({"journal": "J", "seq": "7"}, None),
        ({"journal": "J", "seq": True}, None),
        ({}, None),
    ],
)
def test_acknowledgements(body: dict[str, object], seq: int | None) -> None:
    journal = uuid4()
    body = {key: str(journal) if value == "J" else value for key, value in body.items()}
    assert acknowledgement(Note(uuid4(), NoteKind.ACKNOWLEDGE, 0, body), journal) == seq


def test_the_clock_follows_redis() -> None:
    clock = Clock()
    now = time.monotonic()
    clock.heard(round(time.time() * 1000) - 60_000, now, now)
    assert clock.skew_ms == pytest.approx(60_000, abs=2)
    assert clock.now_ms() == pytest.approx(time.time() * 1000 - 60_000, abs=2)


def test_who_sets_the_dom0s_clock_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two questions for the time it would else let orders look too late, for half a minute."""
    clock, true = Clock(), time.time
    now = time.monotonic()
    clock.heard(round(true() * 1000), now, now)
    for step in (-3600, 3600):
        monkeypatch.setattr("vps.agent.clock.time.time", lambda step=step: true() + step)
        assert clock.now_ms() == pytest.approx(true() * 1000, abs=2)
        assert clock.skew_ms == pytest.approx(step * 1000, abs=2)


def test_a_kept_distance_counts_until_redis_is_heard() -> None:
    clock = Clock(5000)
    assert (clock.skew_ms, clock.known.is_set()) == (5000, False)
    assert clock.now_ms() == pytest.approx(time.time() * 1000 - 5000, abs=2)
    assert Clock().skew_ms is None


def test_heads_are_kept_and_another_seal_is_told(path: Path) -> None:
    journal = Journal(path)
    first, other = Head(7, "a" * 64), Head(7, "b" * 64)
    assert journal.keep_head(first) == ""
    assert journal.keep_head(first) == ""
    assert journal.keep_head(other) == "a" * 64
    assert journal.keep_head(Head(9, "c" * 64)) == ""
    journal.close()
    assert Journal(path).heads() == (first, Head(9, "c" * 64))


def test_old_heads_go_but_one_of_each_day_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vps.agent.journal._KEEP_HEADS", 3)
    journal, now = Journal(path), 86400.0 * 100
    monkeypatch.setattr("vps.agent.journal.time.time", lambda: now)
    for seq in range(1, 9):
        now += 86400.0 / 4
        journal.keep_head(Head(seq, f"{seq:064x}"))
    kept = [head.seq for head in journal.heads()]
    assert kept == [1, 4, 6, 7, 8]


@pytest.mark.parametrize(
    ("count", "told"), [(0, []), (1, [1]), (2, [2, 1]), (3, [3, 2, 1]), (10, [10, 9, 7, 3, 1])]
)
def test_some_heads_stand_for_all(count: int, told: list[int]) -> None:
    heads = tuple(Head(seq, "a" * 64) for seq in range(1, count + 1))
    assert [head.seq for head in spread(heads)] == told
