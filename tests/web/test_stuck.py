"""What is stuck: found, with why; asked again, given up, set aside; domains that are not Berth's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.web.conftest import Browser, Cast, finish
from tests.web.test_request import text
from tests.web.world import Mouth
from vps import alarms, stuck
from vps.models import Alarm, Conflict, Dom0, Domu, Event, ForeignDomain, Operation
from vps.models.operation import State
from vps.xen.messages import ReportKind, Verb


@pytest.fixture
def cancelled(monkeypatch: pytest.MonkeyPatch) -> list[Operation]:
    """Operations that dom0s were asked to leave off."""
    told: list[Operation] = []
    monkeypatch.setattr("vps.dispatch.send_cancel", lambda operation: told.append(operation) or True)
    return told


@pytest.fixture
def operator(browser: Browser, cast: Cast) -> Client:
    return browser(cast.operator)


def act(client: Client, row: Operation, do: str, **data: str) -> Any:
    return client.post(reverse("stuck_operation", args=[row.pk, do]), data)


def page(client: Client) -> str:
    return text(client.get(reverse("stuck")))


def age(row: Operation, seconds: float = 300, **fields: Any) -> None:
    then = timezone.now() - timedelta(seconds=seconds)
    values = {"created_at": then, "sent_at": then, **fields}
    Operation.objects.filter(pk=row.pk).update(**values)
    row.refresh_from_db()


def test_nothing_is_stuck(operator: Client, cast: Cast, running: Domu) -> None:
    running.order(Verb.SHUTDOWN, cast.owner)
    assert "Nothing is stuck." in page(operator)
    assert operator.post(reverse("stuck")).status_code == 405


@pytest.mark.parametrize(
    ("fields", "heard", "why"),
    [
        ({"state": "queued", "sent_at": None}, True, "It was never sent"),
        ({"state": "sent", "tries": 7}, True, "did not take the order, which was sent 7 times"),
        ({"state": "sent"}, False, "dom0-a is not heard"),
        ({"state": "running", "step": "Wiping disks"}, True, "Its last step: Wiping disks"),
    ],
)
def test_why_an_operation_does_not_go_on(
    operator: Client, running: Domu, fields: dict[str, Any], heard: bool, why: str
) -> None:
    row = running.order(Verb.SHUTDOWN, None)
    age(row, **fields)
    if not heard:
        Dom0.objects.update(heard_at=timezone.now() - timedelta(minutes=9))
    shown = page(operator)
    assert why in shown and "Give up" in shown
    assert why in text(operator.get(reverse("today")))


def test_asking_again_and_giving_up(
    operator: Client,
    cast: Cast,
    mouth: Mouth,
    running: Domu,
    rung: list[Operation],
    cancelled: list[Operation],
    django_capture_on_commit_callbacks: Any,
) -> None:
    row = running.order(Verb.SHUTDOWN, cast.owner)
    age(row, state="sent", envelope="sealed")
    assert act(operator, row, "retry").status_code == 302
    assert rung == [row]
    with django_capture_on_commit_callbacks(execute=True):
        assert act(operator, row, "give-up", words="no sense").status_code == 302
    row.refresh_from_db()
    running.refresh_from_db()
    assert (row.state, running.wanted) == (State.LOST, "running")
    assert "Operator gave it up. no sense" in row.error_text and cancelled == [row]
    event = Event.objects.get(kind="operation.given_up")
    assert (event.actor, event.reason, event.domu) == (cast.operator, "no sense", running)
    answer = act(operator, row, "give-up")
    assert answer.status_code == 409 and "It has ended already" in text(answer)
    # The dom0 did it all the same: what is true is shown.
    mouth.outcome(row, "done")
    row.refresh_from_db()
    assert row.state == State.DONE


def test_what_failed_twice_is_tried_again_or_set_aside(
    operator: Client, cast: Cast, mouth: Mouth, bootable: Domu, rung: list[Operation]
) -> None:
    for n in range(2):
        assert stuck.failures() == []
        bootable.start(cast.owner)
        last = finish(mouth, bootable, "failed", error={"code": "x", "text": f"No memory {n}."})
    shown = page(operator)
    assert "Failed again" in shown and "2 times" in shown and "No memory 1." in shown
    assert "failed 2 times: No memory 1." in text(operator.get(reverse("today")))
    assert act(operator, last, "retry").status_code == 302
    again = bootable.operations.open().get()
    assert (again.verb, again.by) == ("start", cast.operator)
    answer = act(operator, last, "retry")
    assert answer.status_code == 409 and "still under way" in text(answer)
    finish(mouth, bootable, "failed", error={"code": "x", "text": "No."})
    assert [n for _row, n in stuck.failures()] == [3]
    assert act(operator, last, "set-aside").status_code == 302
    assert stuck.failures() == []
    assert act(operator, last, "set-aside").status_code == 409
    assert Event.objects.filter(kind="operation.set_aside").count() == 3


def test_a_success_between_makes_failures_good(mouth: Mouth, bootable: Domu, cast: Cast) -> None:
    for outcome in ("failed", "failed", "done"):
        bootable.start(cast.owner)
        finish(mouth, bootable, outcome)
    assert stuck.failures() == []


def test_unknown_deeds_and_strangers(operator: Client, browser: Browser, cast: Cast, running: Domu) -> None:
    row = running.order(Verb.SHUTDOWN, None)
    assert act(operator, row, "explode").status_code == 404
    assert operator.post(reverse("stuck_server", args=[running.pk, "explode"])).status_code == 404
    for person in (cast.owner, cast.stranger):
        assert act(browser(person), row, "give-up").status_code == 404
    row.refresh_from_db()
    assert row.state == State.QUEUED


def test_a_server_that_is_not_as_it_should_be(
    operator: Client, cast: Cast, mouth: Mouth, running: Domu, rung: list[Operation]
) -> None:
    for _ in range(2):
        mouth.inventory({})
    alarms.watch()
    assert stuck.alarms() == [], "not at once"
    Alarm.objects.update(opened_at=timezone.now() - timedelta(minutes=5))
    assert "web1 should run, and does not." in page(operator)
    rung.clear()
    assert operator.post(reverse("stuck_server", args=[running.pk, "again"])).status_code == 302
    assert running.operations.open().get().verb == "start"
    alarms.watch()
    assert not Alarm.objects.open().exists(), "something is being done about it"
    finish(mouth, running, "failed")
    alarms.watch()
    assert operator.post(reverse("stuck_server", args=[running.pk, "stopped"])).status_code == 302
    assert running.operations.open().get().verb == "destroy"
    answer = operator.post(reverse("stuck_server", args=[running.pk, "again"]))
    assert answer.status_code == 409


# Domains that are not Berth's

STRANGER = UUID(int=99)


def with_stranger(mouth: Mouth, memory: int = 512, **more: Any) -> None:
    body = {
        **Dom0.objects.get(pk=mouth.dom0.pk).inventory,
        "domains": [
            {"uuid": str(UUID(int=0)), "name": "Domain-0", "domid": 0, "memory_mib": 512, "state": "running"},
            {
                "uuid": str(STRANGER),
                "name": "<b>old</b>",
                "domid": 7,
                "memory_mib": memory,
                "state": "running",
                **more,
            },
        ],
    }
    mouth.say(ReportKind.INVENTORY, body, kept=False)
    mouth.dom0.refresh_from_db()


def decide(client: Client, mouth: Mouth, do: str, uuid: UUID = STRANGER, **data: str) -> Any:
    return client.post(reverse("dom0_domain", args=[mouth.dom0.pk, uuid, do]), data)


def test_an_unknown_domain_is_counted_and_taken_back(operator: Client, cast: Cast, mouth: Mouth) -> None:
    with_stranger(mouth)
    shown = page(operator)
    assert "&lt;b&gt;old&lt;/b&gt;" in shown and "<b>old" not in shown
    assert decide(operator, mouth, "count", note="the mail server of before").status_code == 302
    assert mouth.dom0.capacity()["memory_mib"]["promised"] == 512
    assert "Nothing is stuck." in page(operator)
    answer = decide(operator, mouth, "ignore")
    assert answer.status_code == 409 and "It was decided already" in text(answer)
    its_page = text(operator.get(reverse("dom0", args=[mouth.dom0.pk])))
    assert "the mail server of before" in its_page and "not there now" not in its_page
    mouth.inventory({})
    mouth.dom0.refresh_from_db()
    assert mouth.dom0.capacity()["memory_mib"]["promised"] == 512, "it may come back"
    assert "not there now" in text(operator.get(reverse("dom0", args=[mouth.dom0.pk])))
    assert decide(operator, mouth, "take-back", back="dom0").url == reverse("dom0", args=[mouth.dom0.pk])
    assert mouth.dom0.capacity()["memory_mib"]["promised"] == 0
    assert decide(operator, mouth, "take-back").status_code == 404
    kinds = list(
        Event.objects.filter(kind__startswith="domain.").order_by("pk").values_list("kind", flat=True)
    )
    assert kinds == ["domain.kept", "domain.unknown"]


def test_an_ignored_one_is_not_spoken_of(operator: Client, mouth: Mouth) -> None:
    with_stranger(mouth)
    assert decide(operator, mouth, "ignore").status_code == 302
    assert mouth.dom0.capacity()["memory_mib"]["promised"] == 0
    assert "Nothing is stuck." in page(operator)
    assert "1 domain that is not" not in text(operator.get(reverse("today")))
    with_stranger(mouth, memory=1024)
    assert stuck.unknown_domains() == []
    assert ForeignDomain.objects.get().memory_mib == 512


def test_what_is_gone_or_ours_cannot_be_decided(operator: Client, mouth: Mouth, running: Domu) -> None:
    for uuid in (uuid4(), running.pk):
        answer = decide(operator, mouth, "count", uuid)
        assert answer.status_code == 409 and "has no such domain any more" in text(answer)
    with_stranger(mouth)
    assert decide(operator, mouth, "explode").status_code == 404
    assert operator.get(reverse("dom0_domain", args=[mouth.dom0.pk, STRANGER, "count"])).status_code == 405


def test_two_that_take_it_back_at_once(cast: Cast, mouth: Mouth) -> None:
    with_stranger(mouth)
    one = ForeignDomain.decide(mouth.dom0, STRANGER, ForeignDomain.Standing.KEPT, "", cast.operator)
    two = ForeignDomain.objects.get()
    one.take_back(cast.operator)
    with pytest.raises(Conflict, match="Somebody was first"):
        two.take_back(cast.second)
    assert mouth.dom0.capacity()["memory_mib"]["promised"] == 0
