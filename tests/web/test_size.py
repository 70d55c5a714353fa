"""Another size: less at once, more as a request; what is booked follows what runs."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.urls import reverse

from accounts.models import QuotaExceeded
from accounts.models.quota import grant, sums, used_by
from tests.web.conftest import Browser, Cast, finish
from tests.web.test_request import text
from tests.web.world import Mouth
from vps.models import Conflict, Domu, NoRoom, Operation, Request
from vps.xen.messages import ReportKind, Verb


def boot(mouth: Mouth, domu: Domu, memory_mib: int = 256, vcpus: int = 1) -> None:
    """The dom0 says that it runs, built with this size."""
    size = {"memory_mib": memory_mib, "vcpus": vcpus} if memory_mib else {}
    body = {"domu": str(domu.pk), "run": str(uuid4()), "domid": 3, "boots": domu.boots + 1, **size}
    mouth.say(ReportKind.BOOTED, body)
    domu.refresh_from_db()


def memory_of(domu: Domu) -> tuple[int, int]:
    """What is booked for it: in the quota, on its dom0."""
    return used_by(domu.subject)["memory_mib"], domu.dom0.promised_to(domu.subject)["memory_mib"]


def resize(
    browser: Browser, cast: Cast, domu: Domu, memory_mib: Any, vcpus: Any = 1, who: str = "owner"
) -> Any:
    data = {"memory_mib": memory_mib, "vcpus": vcpus, "why": "more mail"}
    return browser(getattr(cast, who)).post(reverse("server_resize", args=[domu.pk]), data)


def test_less_needs_nobody_and_is_free_after_the_boot(
    browser: Browser,
    cast: Cast,
    mouth: Mouth,
    running: Domu,
    rung: list[Operation],
    django_capture_on_commit_callbacks: Any,
) -> None:
    boot(mouth, running)
    with django_capture_on_commit_callbacks(execute=True):
        answer = resize(browser, cast, running, 128)
    assert answer.status_code == 302 and answer.url == reverse("server", args=[running.pk])
    assert [(row.verb, row.body["domu"]["memory_mib"]) for row in rung] == [("prepare", 128)]
    finish(mouth, running)
    assert running.pending_size and memory_of(running) == (256, 256)
    page = text(browser(cast.owner).get(reverse("server", args=[running.pk])))
    assert "It runs with 256 MiB and 1 cpus; the new size takes effect at the next boot." in page
    boot(mouth, running, 128)
    assert not running.pending_size and memory_of(running) == (128, 128)
    page = text(browser(cast.owner).get(reverse("server", args=[running.pk])))
    assert "takes effect at the next boot" not in page


def test_less_of_a_stopped_one_is_free_at_once(cast: Cast, browser: Browser, bootable: Domu) -> None:
    resize(browser, cast, bootable, 128)
    assert memory_of(bootable) == (128, 128)


def test_of_an_agent_that_does_not_tell_nothing_is_given_back(
    cast: Cast, browser: Browser, mouth: Mouth, running: Domu
) -> None:
    boot(mouth, running, memory_mib=0)
    resize(browser, cast, running, 128)
    finish(mouth, running)
    boot(mouth, running, memory_mib=0)
    assert memory_of(running) == (256, 256)
    mouth.say(ReportKind.ENDED, {"domu": str(running.pk), "run": str(running.run), "reason": "poweroff"})
    assert memory_of(running) == (128, 128)


def test_what_was_given_up_and_still_runs_comes_back_without_approval(
    browser: Browser, cast: Cast, mouth: Mouth, running: Domu
) -> None:
    boot(mouth, running)
    resize(browser, cast, running, 128)
    finish(mouth, running)
    resize(browser, cast, running, 256)
    running.refresh_from_db()
    assert running.memory_mib == 256 and not Request.objects.waiting().exists()


def test_what_runs_larger_than_it_should_is_booked(cast: Cast, mouth: Mouth, running: Domu) -> None:
    boot(mouth, running, 512)
    assert memory_of(running) == (512, 512)


def test_more_is_a_request_that_reserves_the_difference(
    browser: Browser, cast: Cast, mouth: Mouth, running: Domu, rung: list[Operation]
) -> None:
    answer = resize(browser, cast, running, 1024, 2)
    asked = Request.objects.waiting().get()
    assert answer.url == reverse("request", args=[asked.pk])
    assert (asked.kind, asked.domu, asked.amounts) == ("resize", running, {"memory_mib": 1024, "vcpus": 2})
    assert used_by(asked.subject) == {"memory_mib": 768, "vcpus": 1}
    assert not running.operations.open().exists()
    page = text(browser(cast.owner).get(reverse("server", args=[running.pk])))
    assert "waits for a larger size" in page
    assert "larger size" in text(browser(cast.owner).get(reverse("servers")))
    again = resize(browser, cast, running, 2048)
    assert again.status_code == 422 and "waits for another size already" in text(again)


def test_approving_makes_it_larger_at_its_next_boot(
    browser: Browser,
    cast: Cast,
    mouth: Mouth,
    running: Domu,
    rung: list[Operation],
    django_capture_on_commit_callbacks: Any,
) -> None:
    boot(mouth, running)
    asked = Request.ask_size(running, cast.owner, 1024, 2, "more mail")
    url = reverse("request_approve", args=[asked.pk])
    page = text(browser(cast.operator).get(reverse("request", args=[asked.pk])))
    assert "request: larger size" in page and "Left afterwards: 2.5 GiB of memory" in page
    with django_capture_on_commit_callbacks(execute=True):
        answer = browser(cast.operator).post(url, {"memory_mib": "1024", "vcpus": "2", "words": "enjoy"})
    assert answer.status_code == 302
    assert [(row.verb, row.body["domu"]["memory_mib"]) for row in rung] == [("prepare", 1024)]
    finish(mouth, running)
    assert (running.memory_mib, running.vcpus, running.pending_size) == (1024, 2, True)
    assert used_by(asked.subject) == {} and memory_of(running) == (1024, 1024)
    again = browser(cast.second).post(url, {"memory_mib": "1024", "vcpus": "2"})
    assert again.status_code == 409 and "Operator was first" in text(again)
    boot(mouth, running, 1024, 2)
    assert not running.pending_size


def test_approving_another_size(browser: Browser, cast: Cast, mouth: Mouth, running: Domu) -> None:
    asked = Request.ask_size(running, cast.owner, 1024, 4)
    browser(cast.operator).post(
        reverse("request_approve", args=[asked.pk]), {"memory_mib": "512", "vcpus": "2", "words": "half"}
    )
    running.refresh_from_db()
    assert (running.memory_mib, running.vcpus) == (512, 2)
    assert sums(cast.tenant)["memory_mib"]["used"] == 512
    page = text(browser(cast.owner).get(reverse("request", args=[asked.pk])))
    assert 'asked for: <span class="size">1 GiB of memory' in page and "half" in page


@pytest.mark.parametrize(
    ("memory_mib", "vcpus", "words"),
    [
        pytest.param("3600", "1", "dom0-a has 3328 MiB of memory left", id="memory of the dom0"),
        pytest.param("512", "5", "dom0-a has 4 cpus; the server wants 5.", id="cpus of the dom0"),
        pytest.param("5000", "1", "of 4 GiB is left", id="quota"),
        pytest.param("1", "1", "It must be 16 or more.", id="too little"),
        pytest.param("", "1", "Give a number.", id="no number"),
    ],
)
def test_what_cannot_be_approved(
    browser: Browser, cast: Cast, running: Domu, memory_mib: str, vcpus: str, words: str
) -> None:
    asked = Request.ask_size(running, cast.owner, 512, 2)
    answer = browser(cast.operator).post(
        reverse("request_approve", args=[asked.pk]), {"memory_mib": memory_mib, "vcpus": vcpus}
    )
    assert answer.status_code == 422 and words in text(answer)
    asked.refresh_from_db()
    running.refresh_from_db()
    assert asked.state == "waiting" and running.memory_mib == 256
    assert used_by(asked.subject) == {"memory_mib": 256, "vcpus": 1}


def test_a_warning_when_it_would_have_all_cpus(browser: Browser, cast: Cast, running: Domu) -> None:
    asked = Request.ask_size(running, cast.owner, 256, 4)
    page = text(browser(cast.operator).get(reverse("request", args=[asked.pk])))
    assert "It would have as many cpus as dom0-a itself" in page
    assert "NetBSD before release 6 uses one cpu only." in page


def test_something_under_way_is_waited_for(browser: Browser, cast: Cast, running: Domu) -> None:
    running.order(Verb.SHUTDOWN, cast.owner)
    answer = resize(browser, cast, running, 128)
    assert answer.status_code == 422 and "Shutdown is still under way" in text(answer)
    running.refresh_from_db()
    assert running.memory_mib == 256


@pytest.mark.parametrize(
    ("memory_mib", "vcpus", "words"),
    [
        pytest.param("256", "1", "web1 has this size already.", id="the same"),
        pytest.param("", "1", "Give a number.", id="nothing"),
        pytest.param("much", "1", "Give a whole number.", id="words"),
        pytest.param("8", "1", "It must be 16 or more.", id="little"),
        pytest.param("256", "65", "It must be 64 or less.", id="many cpus"),
        pytest.param("5000", "1", "Example asks for 4.6 GiB of memory", id="over the quota"),
    ],
)
def test_bad_input_keeps_what_was_typed(
    browser: Browser, cast: Cast, bootable: Domu, memory_mib: str, vcpus: str, words: str
) -> None:
    answer = resize(browser, cast, bootable, memory_mib, vcpus)
    assert answer.status_code == 422 and words in text(answer)
    assert "more mail" in text(answer) and not Request.objects.waiting().exists()
    bootable.refresh_from_db()
    assert bootable.memory_mib == 256 and not bootable.operations.open().exists()


def test_who_may(browser: Browser, cast: Cast, bootable: Domu) -> None:
    assert resize(browser, cast, bootable, 128, who="developer").status_code == 403
    assert resize(browser, cast, bootable, 128, who="stranger").status_code == 404
    assert browser(cast.owner).put(reverse("server_resize", args=[bootable.pk])).status_code == 405


def test_models_refuse_what_pages_do_not_offer(cast: Cast, mouth: Mouth, bootable: Domu) -> None:
    from vps.models.size import resize as give
    from vps.models.size import shrink

    with pytest.raises(Conflict, match="larger than what was approved"):
        shrink(bootable, cast.owner, 512, 1)
    with pytest.raises(QuotaExceeded):
        give(bootable, cast.operator, 5000, 1)
    grant(cast.tenant, {"memory_mib": 9000}, "more")
    with pytest.raises(NoRoom):
        give(bootable, cast.operator, 9000, 1)
    assert memory_of(bootable) == (256, 256)
