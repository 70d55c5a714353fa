"""Operations: the list, the page, cancelling."""

from __future__ import annotations

import pytest
from django.urls import reverse

from tests.web.conftest import Browser, Cast, finish
from tests.web.test_request import text
from tests.web.world import Mouth
from vps.models import Domu, Operation
from vps.xen.messages import Verb


@pytest.fixture
def stopping(cast: Cast, running: Domu) -> Operation:
    """A shutdown that is queued."""
    return running.order(Verb.SHUTDOWN, cast.owner, "for the night")


def test_what_who_why_where_and_the_steps(
    browser: Browser, cast: Cast, mouth: Mouth, stopping: Operation
) -> None:
    steps = [
        {"name": "Asking the guest", "at": 0, "seconds": 0.31},
        {"name": "Waiting", "at": 0, "seconds": 12},
    ]
    mouth.outcome(stopping, "running", step="Waiting", steps=steps)
    page = text(browser(cast.viewer).get(reverse("operation", args=[stopping.pk])))
    for words in (
        "Shut down",
        "web1",
        "Owner",
        "for the night",
        "dom0-a",
        "Asking the guest",
        "0.3 s",
        "12 s",
    ):
        assert words in page, words
    assert 'hx-trigger="every 2s"' in page


def test_a_failure_has_the_dom0s_own_words_and_what_remains(
    browser: Browser, cast: Cast, mouth: Mouth, stopping: Operation
) -> None:
    assert stopping.domu is not None
    error = {"code": "xl", "text": "The guest did not react.", "output": "shutdown failed <rc=-9>"}
    finish(mouth, stopping.domu, "failed", error=error, remains="It still runs.")
    page = text(browser(cast.owner).get(reverse("operation", args=[stopping.pk])))
    for words in ("failed", "The guest did not react.", "shutdown failed &lt;rc=-9&gt;", "It still runs."):
        assert words in page, words
    assert "Try again" in page and 'id="cancel"' not in page
    assert 'hx-trigger="every 10s"' in page


def test_cancelling_before_it_is_sent(browser: Browser, cast: Cast, stopping: Operation) -> None:
    url = reverse("operation_cancel", args=[stopping.pk])
    assert browser(cast.developer).post(url).status_code == 302
    stopping.refresh_from_db()
    assert (stopping.state, stopping.remains) == ("cancelled", "Nothing was done.")
    again = browser(cast.developer).post(url)
    assert again.status_code == 409 and "It has ended already: cancelled." in text(again)


def test_cancelling_what_was_sent_asks_the_dom0(
    browser: Browser,
    cast: Cast,
    stopping: Operation,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: object,
) -> None:
    asked: list[Operation] = []
    monkeypatch.setattr("vps.dispatch.send_cancel", lambda row: asked.append(row) or True)
    stopping.envelope = "sealed"
    stopping.save()
    stopping.move("sent")
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
        answer = browser(cast.owner).post(reverse("operation_cancel", args=[stopping.pk]))
    assert answer.status_code == 302 and asked == [stopping]
    stopping.refresh_from_db()
    assert stopping.is_open  # until the dom0 says so


def test_who_may_cancel(browser: Browser, cast: Cast, stopping: Operation) -> None:
    url = reverse("operation_cancel", args=[stopping.pk])
    assert browser(cast.owner).get(url).status_code == 405
    assert browser(cast.viewer).post(url).status_code == 403
    assert browser(cast.stranger).post(url).status_code == 404
    assert 'id="cancel"' not in text(browser(cast.viewer).get(reverse("operation", args=[stopping.pk])))
    stopping.refresh_from_db()
    assert stopping.is_open


def test_an_operation_of_a_dom0_is_the_operators(browser: Browser, cast: Cast, mouth: Mouth) -> None:
    row = Operation.objects.create(dom0=mouth.dom0, lane=Operation.Lane.DOM0, verb=Verb.PREPARE.value)
    assert browser(cast.owner).get(reverse("operation", args=[row.pk])).status_code == 404
    assert browser(cast.operator).get(reverse("operation", args=[row.pk])).status_code == 200
    answer = browser(cast.operator).post(reverse("operation_cancel", args=[row.pk]))
    assert answer.status_code == 409 and "cannot be cancelled" in text(answer)


def test_the_list_keeps_to_ones_own(browser: Browser, cast: Cast, mouth: Mouth, stopping: Operation) -> None:
    url = reverse("operations")
    assert "Shut down<" in text(browser(cast.owner).get(url))
    assert "Shut down<" in text(browser(cast.operator).get(url, {"q": "dom0-a"}))
    assert "Nothing was done yet." in text(browser(cast.stranger).get(url))
    assert "Shut down<" in text(browser(cast.owner).get(url, {"state": "open"}))
    assert "None failed." in text(browser(cast.owner).get(url, {"state": "failed"}))
    assert "Nothing with “zzz”" in text(browser(cast.owner).get(url, {"q": "zzz"}))
    assert stopping.domu is not None
    finish(mouth, stopping.domu, "failed", error={"code": "x", "text": "It is deaf."})
    assert "It is deaf." in text(browser(cast.owner).get(url, {"state": "failed"}))


@pytest.mark.parametrize("outcome", ["failed", "refused", "cancelled"])
def test_trying_again_is_a_new_operation(
    browser: Browser, cast: Cast, mouth: Mouth, stopping: Operation, outcome: str
) -> None:
    assert stopping.domu is not None
    url = reverse("operation_retry", args=[stopping.pk])
    early = browser(cast.developer).post(url)
    assert early.status_code == 409 and "cannot be tried again from here" in text(early)
    finish(
        mouth, stopping.domu, outcome, error={"code": "deaf", "text": "It is deaf.", "output": "xl: timeout"}
    )
    mouth.inventory({stopping.domu: "running"})
    for name, args in (("operation", [stopping.pk]), ("server", [stopping.domu_id])):
        assert ('id="retry"' in text(browser(cast.developer).get(reverse(name, args=args)))) is (
            name == "operation" or outcome != "cancelled"
        )
        assert 'id="retry"' not in text(browser(cast.viewer).get(reverse(name, args=args)))
    answer = browser(cast.developer).post(url)
    again = stopping.domu.operations.open().get()
    assert answer.url == reverse("operation", args=[again.pk])
    assert (again.verb, again.by) == ("shutdown", cast.developer) and again.n > stopping.n
    late = browser(cast.developer).post(url)
    assert late.status_code == 409 and "Something else was asked for since" in text(late)


def test_who_may_try_again(browser: Browser, cast: Cast, mouth: Mouth, stopping: Operation) -> None:
    assert stopping.domu is not None
    finish(mouth, stopping.domu, "failed", error={"code": "x", "text": "It is deaf.", "output": ""})
    url = reverse("operation_retry", args=[stopping.pk])
    assert browser(cast.owner).get(url).status_code == 405
    assert browser(cast.viewer).post(url).status_code == 403
    assert browser(cast.stranger).post(url).status_code == 404
    assert not stopping.domu.operations.open().exists()


def test_destroying_is_not_tried_again_by_one_click(
    browser: Browser, cast: Cast, mouth: Mouth, running: Domu
) -> None:
    row = running.order(Verb.DESTROY, cast.owner)
    finish(mouth, running, "failed", error={"code": "x", "text": "xl hangs.", "output": ""})
    page = text(browser(cast.owner).get(reverse("server", args=[running.pk])))
    assert "xl hangs." in page and 'id="retry"' not in page
    assert browser(cast.owner).post(reverse("operation_retry", args=[row.pk])).status_code == 409
