"""Trial boots on the web's side: who may have one, where, what is ordered, and what comes of a dom0's word."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.urls import reverse
from django.utils import timezone

from tests.web.conftest import Browser, Cast, make_loaders, make_version
from tests.web.test_request import text
from tests.web.world import Mouth
from vps import sweep
from vps.models import BootRecord, Conflict, Dom0, Domu, Event, KernelVersion, Operation, TrialBoot
from vps.models.boot import EntryDraft, save_menu
from vps.models.operation import State
from vps.models.trial import untried
from vps.views.agent import needed_by
from vps.views.home import strips
from vps.xen.messages import Verb
from vps.xen.trial import read

HOSTILE = "<script>alert(1)</script> & \u202e</pre>"


@pytest.fixture
def ready(mouth: Mouth, domu: Domu) -> Dom0:
    """A dom0 that is set aside, and whose agent knows trials; the cast's tenant has a server."""
    make_loaders()
    Dom0.objects.filter(pk=mouth.dom0.pk).update(trials=True)
    tell(mouth)
    return mouth.dom0


def tell(mouth: Mouth, *verbs: str) -> None:
    known = [*verbs] or [verb.value for verb in Verb]
    mouth.inventory({}, verbs=known)
    mouth.dom0.refresh_from_db()


def end(mouth: Mouth, trial: TrialBoot, outcome: str = "done", **result: Any) -> TrialBoot:
    more = {
        "result": {"verdict": "login", "line": "login:", "transcript": "x\nlogin:", "seconds": 3.5, **result}
    }
    mouth.outcome(trial.operation, outcome, **(more if outcome == "done" else {}))
    return TrialBoot.objects.get(pk=trial.pk)


def begun(cast: Cast, version: KernelVersion) -> TrialBoot:
    return TrialBoot.begin(version, cast.developer, "root=xbd0a")


def test_a_click_orders_a_throw_away_domain(
    browser: Browser, cast: Cast, ready: Dom0, version: KernelVersion, rung: list[Operation],
    django_capture_on_commit_callbacks: Any,
) -> None:  # fmt: skip
    page = text(browser(cast.developer).get(reverse("kernel_version", args=[version.pk])))
    assert "Try it" in page
    free = ready.capacity()["memory_mib"]["free"]
    with django_capture_on_commit_callbacks(execute=True):
        answer = browser(cast.developer).post(
            reverse("trial_begin", args=[version.pk]), {"arguments": "root=xbd0a -v"}
        )
    trial = TrialBoot.objects.get()
    assert answer["Location"] == reverse("trial", args=[trial.pk])
    assert rung == [trial.operation]
    operation = trial.operation
    assert (operation.verb, operation.lane, operation.domu, operation.dom0) == ("trial", "trial", None, ready)
    ordered = read(operation.pk, operation.order(1).body)
    assert ordered.description.boot.entries[0].arguments == "root=xbd0a -v"
    assert (ordered.description.nics, ordered.description.disks) == ((), ())
    assert ordered.seconds == 120 and ordered.description.memory_mib == 256
    assert ready.capacity()["memory_mib"]["free"] == free - 256
    assert {blob.sha256 for blob in ordered.description.boot.blobs()} <= needed_by(ready)
    assert Event.objects.get(kind="trial.begun").actor == cast.developer


def test_the_verdict_is_kept_and_the_room_given_back(
    browser: Browser, cast: Cast, ready: Dom0, mouth: Mouth, version: KernelVersion, rung: list[Operation]
) -> None:
    free = ready.capacity()
    trial = end(mouth, begun(cast, version), transcript=HOSTILE, line=HOSTILE, verdict="panicked")
    assert (trial.verdict, trial.line, trial.transcript, trial.seconds) == ("panicked", HOSTILE, HOSTILE, 3.5)
    assert ready.capacity() == free and trial.ended_at and not trial.good
    assert "transcript" not in Operation.objects.get(pk=trial.operation_id).result
    answer = browser(cast.viewer).get(reverse("trial", args=[trial.pk]))
    assert "It panicked." in text(answer) and b"<script>alert" not in answer.content
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.content.decode()
    version_page = text(browser(cast.viewer).get(reverse("kernel_version", args=[version.pk])))
    assert "It panicked." in version_page and "Try it" not in version_page
    assert needed_by(ready) == set()
    assert Event.objects.filter(kind="trial.ended").count() == 1
    # Told again, nothing changes.
    mouth.outcome(trial.operation, "done", result={"verdict": "login"})
    assert TrialBoot.objects.get(pk=trial.pk).verdict == "panicked"


@pytest.mark.parametrize("outcome", ["failed", "refused", "cancelled"])
def test_one_that_came_to_nothing_is_over_and_says_why(
    browser: Browser, cast: Cast, ready: Dom0, mouth: Mouth, version: KernelVersion, rung: list[Operation],
    outcome: str,
) -> None:  # fmt: skip
    free, trial = ready.capacity(), begun(cast, version)
    error = {"code": "memory", "text": "The dom0 lacks memory.", "output": HOSTILE}
    mouth.outcome(trial.operation, outcome, error=error)
    trial.refresh_from_db()
    assert trial.ended_at and trial.verdict == "" and ready.capacity() == free
    answer = browser(cast.owner).get(reverse("trial", args=[trial.pk]))
    assert "The dom0 lacks memory." in text(answer) and b"<script>alert" not in answer.content
    assert begun(cast, version).is_open


def test_a_word_without_form_is_no_verdict(
    cast: Cast, ready: Dom0, mouth: Mouth, version: KernelVersion, rung: list[Operation]
) -> None:
    trial = end(mouth, begun(cast, version), verdict="splendid", seconds="long", line=["x"])
    assert trial.ended_at and (trial.verdict, trial.line, trial.transcript) == ("", "", "")
    trial = end(mouth, begun(cast, version), transcript="x" * 1_000_000, seconds=None)
    assert len(trial.transcript) < 70_000 and trial.seconds is None


def test_only_one_at_a_time_for_each_tenant(
    browser: Browser, cast: Cast, ready: Dom0, mouth: Mouth, version: KernelVersion, rung: list[Operation]
) -> None:
    trial = begun(cast, version)
    answer = browser(cast.owner).post(reverse("trial_begin", args=[version.pk]), {"arguments": "a=b"})
    assert answer.status_code == 409 and "Another trial of yours is under way" in text(answer)
    assert 'value="a=b"' in answer.content.decode()
    end(mouth, trial)
    assert browser(cast.owner).post(reverse("trial_begin", args=[version.pk]), {}).status_code == 302


def test_what_stands_against_a_trial(
    cast: Cast, ready: Dom0, mouth: Mouth, domu: Domu, version: KernelVersion, rung: list[Operation]
) -> None:
    def refused(words: str, which: KernelVersion = version, arguments: str = "") -> None:
        with pytest.raises(Conflict, match=words):
            TrialBoot.begin(which, cast.owner, arguments)
        assert not TrialBoot.objects.exists() and not Operation.objects.filter(verb="trial").exists()

    refused("not", arguments="a; reboot")
    lz4 = make_version(cast.tenant, "lz4", paths={"pvgrub": "GRUB does not unpack lz4."})
    refused("the loader does not take it: GRUB does not unpack lz4", lz4)
    refused("once you have a server", make_version(cast.other, "theirs"))
    tell(mouth, "prepare", "start")
    refused("does not know trials; update it")
    tell(mouth)
    Dom0.objects.update(heard_at=None)
    refused("was not heard lately")
    tell(mouth)
    ready.promise({"memory_mib": ready.capacity()["memory_mib"]["free"]}, "x", "x")
    refused("no memory left for a trial")
    ready.give_back("x", "x")
    Dom0.objects.update(trials=False)
    refused("No dom0 is set aside for trials")
    cast.tenant.suspended = "unpaid"
    cast.tenant.save()
    refused("suspended: unpaid")


def test_a_trial_that_was_given_up_gives_its_room_back_and_may_still_end_well(
    cast: Cast, ready: Dom0, mouth: Mouth, version: KernelVersion, rung: list[Operation],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    free, trial = ready.capacity(), begun(cast, version)
    Operation.objects.filter(pk=trial.operation_id).update(state=State.SENT, not_after=1)
    monkeypatch.setattr(sweep, "now_ms", lambda: 10_000_000)
    assert sweep._give_up() == 1
    trial.refresh_from_db()
    assert trial.ended_at and ready.capacity() == free
    assert end(mouth, trial).verdict == "login" and ready.capacity() == free


def test_cancelling(
    browser: Browser, cast: Cast, ready: Dom0, mouth: Mouth, version: KernelVersion, rung: list[Operation],
    monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any,
) -> None:  # fmt: skip
    asked: list[Operation] = []
    monkeypatch.setattr("vps.dispatch.send_cancel", asked.append)
    trial = begun(cast, version)
    url = reverse("trial_cancel", args=[trial.pk])
    assert browser(cast.developer).get(url).status_code == 405
    assert browser(cast.viewer).post(url).status_code == 403
    assert browser(cast.stranger).post(url).status_code == 404
    assert browser(cast.developer).post(url).status_code == 302
    trial.refresh_from_db()
    assert trial.ended_at and trial.operation.state == State.CANCELLED and asked == []
    again = browser(cast.developer).post(url)
    assert again.status_code == 409 and "has ended already" in text(again)
    trial = begun(cast, version)
    Operation.objects.filter(pk=trial.operation_id).update(state=State.RUNNING, envelope="x")
    with django_capture_on_commit_callbacks(execute=True):
        browser(cast.owner).post(reverse("trial_cancel", args=[trial.pk]))
    assert [operation.pk for operation in asked] == [trial.operation_id]


def test_strangers_see_nothing_of_it(
    browser: Browser, cast: Cast, ready: Dom0, version: KernelVersion, rung: list[Operation]
) -> None:
    trial = begun(cast, version)
    for person in (cast.viewer, cast.developer, cast.operator):
        assert browser(person).get(reverse("trial", args=[trial.pk])).status_code == 200
        assert browser(person).get(reverse("operation", args=[trial.operation_id])).status_code == 200
    assert browser(cast.stranger).get(reverse("trial", args=[trial.pk])).status_code == 404
    assert browser(cast.stranger).get(reverse("operation", args=[trial.operation_id])).status_code == 404
    assert browser(cast.stranger).post(reverse("trial_begin", args=[version.pk])).status_code == 404
    assert browser(cast.viewer).post(reverse("trial_begin", args=[version.pk])).status_code == 403


def test_operators_set_a_dom0_aside(browser: Browser, cast: Cast, mouth: Mouth) -> None:
    url = reverse("dom0_trials", args=[mouth.dom0.pk])
    assert browser(cast.operator).get(url).status_code == 405
    assert browser(cast.owner).post(url, {"trials": "yes"}).status_code == 404
    for word, wanted in (("yes", True), ("yes", True), ("no", False)):
        assert browser(cast.operator).post(url, {"trials": word}).status_code == 302
        mouth.dom0.refresh_from_db()
        assert mouth.dom0.trials is wanted
    assert Event.objects.filter(kind="dom0.trials").count() == 2
    browser(cast.operator).post(url, {"trials": "yes"})
    page = text(browser(cast.operator).get(reverse("dom0", args=[mouth.dom0.pk])))
    assert "Kernels are booted on trial here." in page


def test_an_installation_may_demand_a_trial_before_an_upload_stands_in_a_menu(
    browser: Browser, cast: Cast, ready: Dom0, mouth: Mouth, domu: Domu, version: KernelVersion,
    rung: list[Operation], settings: Any,
) -> None:  # fmt: skip
    settings.BERTH_TRIAL_DEMANDED = True
    draft = EntryDraft(version, "NetBSD", "root=xbd0a")
    with pytest.raises(Conflict, match="was not tried yet, which this installation demands"):
        save_menu(domu, [draft], cast.owner)
    page = text(browser(cast.owner).get(reverse("kernel_version", args=[version.pk])))
    assert "was not tried yet" in page
    end(mouth, begun(cast, version), verdict="panicked")
    with pytest.raises(Conflict, match="was not tried yet"):
        save_menu(domu, [draft], cast.owner)
    end(mouth, begun(cast, version), verdict="root_prompt")
    assert save_menu(domu, [draft], cast.owner).verb == "prepare"


def test_what_booted_well_or_cannot_be_tried_needs_no_trial(
    cast: Cast, domu: Domu, version: KernelVersion, settings: Any
) -> None:
    settings.BERTH_TRIAL_DEMANDED = True
    assert "was not tried yet" in untried(version)
    record = BootRecord.objects.create(domu=domu, run=uuid4(), version=version, booted_at=timezone.now())
    assert "was not tried yet" in untried(version)
    record.seen_well("console")
    assert untried(version) == ""
    direct_only = make_version(cast.tenant, "direct-only")
    paths = {**direct_only.report["paths"], "pvgrub": "GRUB cannot read it.", "direct_pv": "ok"}
    direct_only.report = {**direct_only.report, "paths": paths, "pvh": False}
    assert direct_only.loader_path == "" and untried(direct_only) == ""


def test_kernels_of_the_catalogue_need_no_trial(
    cast: Cast, ready: Dom0, domu: Domu, rung: list[Operation], settings: Any
) -> None:
    settings.BERTH_TRIAL_DEMANDED = True
    offered = make_version(None, "netbsd-10")
    assert save_menu(domu, [EntryDraft(offered, "NetBSD", "")], cast.owner).verb == "prepare"


def test_a_trials_domain_is_not_unknown(
    cast: Cast, ready: Dom0, mouth: Mouth, version: KernelVersion, rung: list[Operation]
) -> None:
    trial = begun(cast, version)
    name = trial.operation.body["trial"]["name"]
    ready.inventory["domains"] += [
        {"uuid": str(trial.operation_id), "name": name, "domid": 5, "memory_mib": 256, "state": "running"},
        {"uuid": str(uuid4()), "name": name, "domid": 6, "memory_mib": 256, "state": "running"},
    ]
    (line,) = strips([ready])
    assert [row["domid"] for row in line["unknown"]] == [6]
