"""The door in: once each, in any order, of one's own domUs only."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import OperationalError
from django.utils import timezone
from redis import ConnectionError as RedisConnectionError

from accounts.models import User
from tests.web.world import Mouth, make_dom0, make_domu
from vps import dispatch, reports
from vps.models import Conflict, Dom0, Domu, Event, Operation
from vps.models.operation import ENDED, OPEN, State
from vps.xen.messages import Report, ReportKind, Verb

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is rung here: on-commit hooks do not run in a test's transaction anyway."""
    monkeypatch.setattr(dispatch, "not_after", lambda: None)
    monkeypatch.setattr(dispatch, "send", lambda operation: True)


@pytest.fixture
def mouth() -> Mouth:
    return Mouth(make_dom0())


@pytest.fixture
def domu(mouth: Mouth) -> Domu:
    domu = make_domu(mouth.dom0)
    mouth.inventory({})
    return fresh(domu)


def fresh(domu: Domu) -> Domu:
    return Domu.objects.select_related("dom0").get(pk=domu.pk)


def order(domu: Domu, verb: Verb) -> Operation:
    return fresh(domu).order(verb, None)


def test_an_operation_runs_its_course(mouth: Mouth, domu: Domu) -> None:
    row = order(domu, Verb.START)
    assert fresh(domu).status == "starting"
    mouth.outcome(row, "accepted")
    mouth.outcome(
        row, "running", step="creating the domain", steps=[{"name": "kernel", "at": 1, "seconds": 0.1}]
    )
    row.refresh_from_db()
    assert (row.state, row.step, len(row.steps)) == (State.RUNNING, "creating the domain", 1)
    mouth.outcome(row, "done", result={"domid": 3, "run": str(uuid4()), "boots": 1})
    row.refresh_from_db()
    assert row.state == State.DONE
    assert row.ended_at is not None
    assert (fresh(domu).status, fresh(domu).wanted) == ("running", "running")


def test_what_comes_late_or_twice_changes_nothing(mouth: Mouth, domu: Domu) -> None:
    row = order(domu, Verb.START)
    mouth.outcome(row, "done")
    mouth.outcome(row, "running", step="late")
    mouth.outcome(row, "accepted")
    mouth.outcome(row, "failed", error={"code": "x", "text": "late"})
    row.refresh_from_db()
    assert (row.state, row.step, row.error) == (State.DONE, "", {})


def test_one_report_is_applied_once(mouth: Mouth, domu: Domu) -> None:
    row = order(domu, Verb.START)
    body = {"operation": str(row.pk), "domu": str(domu.pk), "outcome": "accepted", "generation": [1, 1]}
    text = Report(mouth.dom0.pk, mouth.journal, 1, ReportKind.OPERATION, 5, body).as_text()
    assert reports.apply(mouth.dom0, text) == (mouth.journal, 1)
    Operation.objects.filter(pk=row.pk).update(step="mark")
    assert reports.apply(mouth.dom0, text) == (mouth.journal, 1), "it is acknowledged again"
    row.refresh_from_db()
    assert row.step == "mark", "but not applied again"


def test_a_report_before_which_one_is_missing_is_not_applied(mouth: Mouth, domu: Domu) -> None:
    row = order(domu, Verb.START)

    def text(seq: int, outcome: str, oldest: int) -> str:
        body = {"operation": str(row.pk), "domu": str(domu.pk), "outcome": outcome, "generation": [1, 1]}
        return Report(mouth.dom0.pk, mouth.journal, seq, ReportKind.OPERATION, 5, body, oldest).as_text()

    for last in (0, 1):
        with pytest.raises(reports.Missing) as missing:
            reports.apply(mouth.dom0, text(3, "done", 1))
        assert (missing.value.journal, missing.value.seq) == (mouth.journal, last)
        reports.apply(mouth.dom0, text(last + 1, "running", 1))
    row.refresh_from_db()
    assert row.state == State.RUNNING
    assert reports.apply(mouth.dom0, text(3, "done", 1)) == (mouth.journal, 3)
    row.refresh_from_db()
    assert row.state == State.DONE


def test_what_the_dom0_keeps_no_more_is_not_missed(mouth: Mouth, domu: Domu) -> None:
    """The web's database was restored, and is behind what it had acknowledged; or its agent does not tell."""
    row = order(domu, Verb.START)
    body = {"operation": str(row.pk), "domu": str(domu.pk), "outcome": "running", "generation": [1, 1]}
    for seq, oldest in ((1, 1), (40, 40), (41, 40), (50, 0)):
        told = Report(mouth.dom0.pk, mouth.journal, seq, ReportKind.OPERATION, 5, body, oldest).as_text()
        assert reports.apply(mouth.dom0, told) == (mouth.journal, seq)


def test_an_inventory_that_comes_late_changes_nothing(mouth: Mouth, domu: Domu) -> None:
    agent = {"id": str(domu.pk), "generation": [domu.epoch, domu.n], "boots": 1}
    mouth.inventory({}, domus=[{**agent, "wanted": "running", "phase": "starting"}])
    mouth.inventory({}, domus=[{**agent, "wanted": "stopped", "phase": "idle"}])
    mouth.clock -= 2000
    mouth.inventory({}, domus=[{**agent, "wanted": "running", "phase": "starting"}])
    domu.refresh_from_db()
    assert (domu.wanted, domu.phase) == ("stopped", "idle")


def test_an_inventory_counts_after_a_silence_whatever_its_time(mouth: Mouth, domu: Domu) -> None:
    """The clock of Redis was set back: a dom0 that was not heard for long is heard all the same."""
    mouth.inventory({})
    Dom0.objects.filter(pk=mouth.dom0.pk).update(heard_at=timezone.now() - timedelta(minutes=5))
    mouth.clock -= 5000
    mouth.inventory({})
    assert Dom0.objects.get(pk=mouth.dom0.pk).heard_lately


def test_a_new_journal_counts_from_one_again(mouth: Mouth, domu: Domu) -> None:
    first = order(domu, Verb.START)
    for _ in range(3):
        mouth.outcome(first, "running")
    other = Mouth(mouth.dom0, clock=mouth.clock)
    other.outcome(first, "done")
    first.refresh_from_db()
    assert first.state == State.DONE
    assert Dom0.objects.get(pk=mouth.dom0.pk).last_seq == 1


def test_what_was_given_up_does_not_come_back_into_the_way_of_something_else(
    mouth: Mouth, domu: Domu
) -> None:
    operator = User.objects.create_user("op@example.org", is_operator=True)
    first = order(domu, Verb.START)
    mouth.outcome(first, "accepted")
    first.refresh_from_db()
    first.give_up(operator, "")
    second = order(domu, Verb.START)
    mouth.outcome(first, "running", step="Creating the domain")
    first.refresh_from_db()
    assert (first.state, fresh(domu).open_operation) == (State.LOST, second)
    mouth.outcome(first, "done")
    mouth.outcome(second, "done")
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, second.state) == (State.DONE, State.DONE)


def test_what_was_given_up_goes_on_where_nothing_else_does(mouth: Mouth, domu: Domu) -> None:
    row = order(domu, Verb.START)
    mouth.outcome(row, "accepted")
    row.refresh_from_db()
    row.give_up(User.objects.create_user("op@example.org", is_operator=True), "")
    mouth.outcome(row, "running")
    row.refresh_from_db()
    assert (row.state, row.ended_at) == (State.RUNNING, None)


@pytest.mark.parametrize("number", [10**30, -(2**70)])
def test_a_number_that_no_database_keeps_is_refused_and_does_not_stop_the_rest(
    mouth: Mouth, domu: Domu, number: int
) -> None:
    row = order(domu, Verb.START)
    booted = {"domu": str(domu.pk), "run": str(uuid4()), "domid": number, "boots": 1, "menu_serial": 1}
    assert mouth.say(ReportKind.BOOTED, booted) == (mouth.journal, 1), (
        "it is acknowledged: it never gets better"
    )
    assert Event.objects.filter(kind="report.refused").count() == 1
    mouth.outcome(row, "done")
    row.refresh_from_db()
    assert row.state == State.DONE


def test_failure_takes_wanted_back(mouth: Mouth, domu: Domu) -> None:
    row = order(domu, Verb.START)
    assert fresh(domu).wanted == "running"
    mouth.outcome(
        row, "failed", error={"code": "create", "text": "No kernel.", "output": "xc: error"}, remains=""
    )
    row.refresh_from_db()
    assert (row.state, row.error_text, row.error["output"]) == (State.FAILED, "No kernel.", "xc: error")
    assert fresh(domu).wanted == "stopped"
    assert fresh(domu).status == "stopped"


def test_failure_of_an_older_one_leaves_wanted(mouth: Mouth, domu: Domu) -> None:
    old = order(domu, Verb.START)
    new = order(domu, Verb.DESTROY)
    old.refresh_from_db()
    assert old.state == State.SUPERSEDED
    mouth.outcome(old, "failed", error={"code": "aborted", "text": "Aborted."})
    old.refresh_from_db()
    assert old.state == State.SUPERSEDED
    mouth.outcome(new, "done")
    assert fresh(domu).wanted == "stopped"


def test_lost_is_moved_by_a_late_report(mouth: Mouth, domu: Domu) -> None:
    row = order(domu, Verb.START)
    assert row.move(State.LOST)
    mouth.outcome(row, "running")
    row.refresh_from_db()
    assert row.state == State.RUNNING
    mouth.outcome(row, "done")
    row.refresh_from_db()
    assert row.state == State.DONE


@pytest.mark.parametrize("state", sorted(ENDED - {State.LOST}))
def test_an_end_is_an_end(mouth: Mouth, domu: Domu, state: str) -> None:
    row = order(domu, Verb.START)
    assert row.move(state)
    for other in sorted(OPEN | ENDED):
        assert not Operation.objects.get(pk=row.pk).move(other) or other == state


def test_another_dom0s_words_are_refused_and_recorded(mouth: Mouth, domu: Domu) -> None:
    row = order(domu, Verb.START)
    eve = Mouth(make_dom0("dom0-b"))
    eve.outcome(row, "done")
    eve.say(ReportKind.BOOTED, {"domu": str(domu.pk), "run": str(uuid4()), "domid": 1, "boots": 7})
    eve.say(ReportKind.ENDED, {"domu": str(domu.pk), "run": str(uuid4()), "reason": "crash"})
    row.refresh_from_db()
    assert row.state == State.QUEUED
    assert fresh(domu).boots == 0
    refused = Event.objects.filter(kind="report.refused", dom0=eve.dom0)
    assert refused.count() == 3
    assert "not of this dom0" in refused.last().reason
    pretender = Report(mouth.dom0.pk, uuid4(), 1, ReportKind.INVENTORY, 1, {}).as_text()
    assert reports.apply(eve.dom0, pretender) is None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("\x00\xff", id="rubbish"),
        pytest.param("[]", id="a list"),
        pytest.param("{}", id="nothing in it"),
        pytest.param("[" * 100_000, id="deep"),
        pytest.param('{"v":2}', id="another schema"),
    ],
)
def test_rubbish_is_recorded(mouth: Mouth, text: str) -> None:
    assert reports.apply(mouth.dom0, text) is None
    assert Event.objects.get(kind="report.refused").dom0 == mouth.dom0


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"xen": {}, "domains": "x"}, id="domains a text"),
        pytest.param({"xen": {"version": "4"}, "agent": "x"}, id="agent a text"),
        pytest.param({"xen": [4]}, id="xen a list"),
        pytest.param({"xen": {"version": "4"}, "domains": [{"uuid": 5}]}, id="a domain without anything"),
        pytest.param({"xen": {"version": "4"}, "domains": [7]}, id="a number"),
        pytest.param({"domains": [{"memory_mib": "x"}]}, id="a memory of words without Xen"),
        pytest.param({"free_disk_mib": "much"}, id="a disk of words without Xen"),
        pytest.param({"xen": {"version": "4"}, "domains": []}, id="no memory"),
        pytest.param({"domus": [{"id": "x", "generation": "y"}]}, id="generation a text"),
    ],
)
def test_a_bad_inventory_changes_nothing(mouth: Mouth, domu: Domu, body: dict[str, object]) -> None:
    mouth.inventory({domu: "running"})
    domus = body.get("domus")
    if domus:
        body = {"domus": [{**domus[0], "id": str(domu.pk)}]}  # type: ignore[index]
    mouth.say(ReportKind.INVENTORY, body, kept=False)
    assert Event.objects.filter(kind="report.refused").count() == 1
    assert fresh(domu).observed == "running"


def test_what_is_nested_deeply_is_refused_before_it_is_kept(mouth: Mouth, domu: Domu) -> None:
    operation = order(domu, Verb.START)
    deep: object = "x"
    for _ in range(200):
        deep = [deep]
    body = {"operation": str(operation.pk), "outcome": "running", "steps": deep}
    mouth.say(ReportKind.OPERATION, body)
    assert "nested more than 50 deep" in Event.objects.get(kind="report.refused").reason


def test_a_dom0_in_strange_hands_does_not_fill_the_database(mouth: Mouth) -> None:
    other = make_dom0("dom0-b")
    for _ in range(reports.REFUSED_AN_HOUR + 5):
        assert reports.apply(mouth.dom0, "rubbish") is None
    refused = Event.objects.filter(kind="report.refused", dom0=mouth.dom0)
    assert refused.count() == reports.REFUSED_AN_HOUR
    assert "in the collector's log only" in refused.latest("pk").reason
    reports.apply(other, "rubbish")
    assert Event.objects.filter(kind="report.refused", dom0=other).count() == 1
    refused.update(at=timezone.now() - timedelta(hours=2))
    reports.apply(mouth.dom0, "rubbish")
    assert refused.count() == reports.REFUSED_AN_HOUR + 1


def test_a_fault_of_ours_keeps_no_other_report_waiting(
    mouth: Mouth, domu: Domu, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(dom0: Dom0, report: Report) -> None:
        raise AssertionError("never thought of")

    row = order(domu, Verb.START)
    with monkeypatch.context() as patch:
        patch.setitem(reports._APPLY, ReportKind.BOOTED, faulty)
        mouth.say(ReportKind.BOOTED, {"domu": str(domu.pk)})
    reason = Event.objects.get(kind="report.refused").reason
    assert "a fault of Berth's: AssertionError('never thought of')" in reason
    mouth.say(ReportKind.OPERATION, {"operation": str(row.pk), "outcome": "running"})
    row.refresh_from_db()
    assert row.state == State.RUNNING


@pytest.mark.parametrize("error", [OperationalError("locked"), RedisConnectionError("away"), OSError("full")])
def test_what_passes_is_read_again(
    mouth: Mouth, domu: Domu, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def away(dom0: Dom0, report: Report) -> None:
        raise error

    monkeypatch.setitem(reports._APPLY, ReportKind.BOOTED, away)
    with pytest.raises(type(error)):
        mouth.say(ReportKind.BOOTED, {"domu": str(domu.pk)})
    assert not Event.objects.filter(kind="report.refused").exists()


def test_two_inventories_agree_before_a_domain_counts_as_gone(mouth: Mouth, domu: Domu) -> None:
    mouth.inventory({domu: "running"})
    mouth.inventory({})
    assert fresh(domu).observed == "running"
    mouth.inventory({})
    assert fresh(domu).observed == "gone"


def test_without_xen_nothing_counts_as_gone(mouth: Mouth, domu: Domu) -> None:
    mouth.inventory({domu: "running"})
    for _ in range(5):
        mouth.inventory({}, xen=False)
    assert (fresh(domu).observed, fresh(domu).status) == ("running", "unknown")
    assert Dom0.objects.get(pk=mouth.dom0.pk).memory_mib == 4096 - 512, "its room is remembered"


def test_a_strange_state_is_unknown(mouth: Mouth, domu: Domu) -> None:
    mouth.inventory({domu: "sideways"})
    assert fresh(domu).status == "unknown"


@pytest.mark.parametrize("end", ["cancelled", "lost", "refused"])
def test_the_dom0_says_what_is_wanted_also_after_an_order_that_it_never_took(
    mouth: Mouth, domu: Domu, end: str
) -> None:
    """A shutdown was cancelled, a start never came to the dom0: then the guest went down after all."""
    mouth.outcome(order(domu, Verb.START), "done")
    row = order(domu, Verb.SHUTDOWN)
    mouth.outcome(row, "cancelled")
    assert order(domu, Verb.REBOOT).move(end)
    agent = {"id": str(domu.pk), "generation": [1, row.n], "wanted": "stopped", "phase": "idle"}
    mouth.inventory({}, domus=[agent])
    assert (fresh(domu).wanted, fresh(domu).n) == ("stopped", row.n + 1)


def test_between_orders_the_dom0_says_what_is_wanted(mouth: Mouth, domu: Domu) -> None:
    row = order(domu, Verb.START)
    agent = {"id": str(domu.pk), "generation": [1, 1], "wanted": "stopped", "phase": "idle", "menu_serial": 0}
    mouth.inventory({}, domus=[agent])
    assert fresh(domu).wanted == "running", "an operation is open"
    mouth.outcome(row, "done")
    mouth.inventory({}, domus=[{**agent, "generation": [1, 0]}])
    assert fresh(domu).wanted == "running", "that was of an older generation"
    mouth.inventory({}, domus=[agent])
    assert fresh(domu).wanted == "stopped"


def test_booted_and_ended(mouth: Mouth, domu: Domu) -> None:
    run = uuid4()
    mouth.say(
        ReportKind.BOOTED,
        {"domu": str(domu.pk), "run": str(run), "domid": 4, "boots": 2, "label": "mine 3", "why": "start"},
    )
    seen = fresh(domu)
    assert (seen.boots, seen.booted_label, seen.domid, seen.status) == (2, "mine 3", 4, "running")
    old = {"domu": str(domu.pk), "run": str(uuid4()), "reason": "crash", "next": "restart"}
    mouth.say(ReportKind.ENDED, old)
    assert fresh(domu).status == "running", "that was another run"
    mouth.say(ReportKind.ENDED, {**old, "run": str(run), "reason": "poweroff", "code": 0, "next": "stopped"})
    assert fresh(domu).last_end["reason"] == "poweroff"
    assert fresh(domu).observed == "gone"


def test_delete_frees_everything_once(mouth: Mouth, domu: Domu) -> None:
    from accounts.models.quota import sums, use

    use(domu.tenant, {"servers": 1, "memory_mib": 256}, domu.subject, "made")
    mouth.dom0.refresh_from_db()
    mouth.dom0.place(256, 1, 64, domu.subject, "made")
    row = order(domu, Verb.DELETE)
    assert fresh(domu).status == "deleting"
    mouth.outcome(row, "done")
    gone = fresh(domu)
    assert gone.deleted_at is not None
    assert all(line["used"] == 0 for line in sums(domu.tenant).values())
    assert all(line["promised"] == 0 for line in mouth.dom0.capacity().values())
    gone.retire()
    assert all(line["used"] == 0 for line in sums(domu.tenant).values())
    with pytest.raises(Conflict, match="was deleted"):
        gone.order(Verb.START, None)
    make_domu(mouth.dom0, domu.name, domu.tenant)


def test_one_open_life_operation(mouth: Mouth, domu: Domu) -> None:
    order(domu, Verb.START)
    with pytest.raises(Conflict, match="still under way"):
        order(domu, Verb.START)
    with pytest.raises(Conflict, match="still under way"):
        order(domu, Verb.PREPARE)
    destroy = order(domu, Verb.DESTROY)
    assert list(Operation.objects.open()) == [destroy]
    delete = order(domu, Verb.DELETE)
    with pytest.raises(Conflict, match="still under way"):
        order(domu, Verb.DESTROY)
    assert list(Operation.objects.open()) == [delete]


def test_a_stale_click_is_told(mouth: Mouth, domu: Domu) -> None:
    mouth.inventory({domu: "running"})
    with pytest.raises(Conflict, match="web1 is running; start cannot be done now"):
        order(domu, Verb.START)
    with pytest.raises(Conflict, match="nothing to boot"):
        fresh(domu).start(None)


def test_a_nul_is_no_reason_to_lose_a_report(mouth: Mouth, domu: Domu) -> None:
    run = str(uuid4())
    mouth.say(ReportKind.ENDED, {"domu": str(domu.pk), "run": run, "reason": "crash", "tail": "a\0b\\u0000"})
    assert fresh(domu).last_end["tail"] == "a\ufffdb\\ufffd"
