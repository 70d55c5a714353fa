"""An operator's morning in Chromium, from Today: three requests, a stuck operation, a dom0 that is silent."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from tests.web import states
from tests.web.chrome import Opener, patiently
from tests.web.conftest import ASKED, Cast
from tests.web.world import Mouth, make_domu
from vps.models import Domu, Operation, Request
from vps.models.operation import State
from vps.xen.messages import Verb

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]


@pytest.mark.parametrize(("width", "colours"), [(390, "dark"), (1440, "light")])
def test_a_morning_of_an_operator(
    opened: Opener,
    cast: Cast,
    mouth: Mouth,
    running: Domu,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    width: int,
    colours: str,
) -> None:
    settings.BERTH_SILENT_AFTER = 3600  # nobody speaks for the dom0s meanwhile
    monkeypatch.setattr("accounts.mail._ring", lambda mails: None)
    monkeypatch.setattr("vps.dispatch.send_cancel", lambda operation: True)
    silent = states.silent_dom0()
    stuck = stuck_operation(mouth, cast)
    new = Request.ask(tenant=cast.other, by=cast.stranger, name="shop1", **{**ASKED, "why": "A shop."})
    larger = Request.ask_size(running, cast.owner, 768, 2, "The build needs more memory.")
    more = Request.ask_quota(cast.other, cast.stranger, {"servers": 50}, "Just in case.")

    page = opened(cast.operator, "/", width, colours)
    page.set_default_timeout(20_000)
    expect(page.get_by_role("heading", name="Waiting for you 3")).to_be_visible()
    for words in ("A shop.", "The build needs more memory.", "Just in case.", "dom0-silent was not heard"):
        expect(page.locator("main")).to_contain_text(words)

    decide(page, "shop1")
    expect(page.locator("#approve")).to_contain_text("dom0-silent was not heard lately")
    expect(page.get_by_label(mouth.dom0.name)).to_be_checked()
    # A link inside the choice leads on and chooses nothing.
    assert page.locator("label a").count() == 0
    page.get_by_role("button", name="Approve").click()
    expect(page.locator(".said")).to_contain_text("shop1 was approved")

    decide(page, running.name)
    page.get_by_label("Memory in MiB").fill("512")
    page.locator("#approve").get_by_label("Words to the customer").fill(
        "Half of it until the new host is here."
    )
    page.get_by_role("button", name="Approve").click()
    expect(page.locator(".said")).to_contain_text("has the new size from its next boot on")
    expect(page.locator("main")).to_contain_text("asked for: 768 MiB")

    decide(page, "more quota")
    page.locator("#refuse textarea").fill("Fifty servers need a talk first: call us.")
    page.get_by_role("button", name="Refuse").click()
    expect(page.locator("main")).to_contain_text("Fifty servers need a talk first")

    page.get_by_role("link", name="Today").first.click()
    expect(page.locator("main")).to_contain_text("No request waits.")
    page.get_by_role("link", name="All that is stuck, and what can be done").click()
    row = page.locator("#stuck-operations tr").filter(has_text="web-stuck")
    row.get_by_role("button", name="Give up").click()
    expect(page.locator("#stuck-operations")).to_have_count(0)
    page.get_by_role("link", name="Today").first.click()
    page.get_by_role("link", name=silent.dom0.name).first.click()
    expect(page.locator("main")).to_contain_text("not heard")

    assert patiently(lambda: Domu.objects.get(name="shop1").tenant_id) == cast.other.pk
    for asked, state, memory in (
        (new, "approved", 256),
        (larger, "approved", 512),
        (more, "refused", 0),
    ):
        patiently(asked.refresh_from_db)
        assert (asked.state, asked.memory_mib) == (state, memory)
    patiently(stuck.refresh_from_db)
    assert not stuck.is_open
    assert page.url.endswith(reverse("dom0", args=[silent.dom0.pk]))


def decide(page: Page, what: str) -> None:
    """From Today to the page of a request that waits."""
    page.get_by_role("link", name="Today").first.click()
    page.get_by_role("link", name=f"Decide {what}", exact=True).click()
    expect(page.locator("h1")).to_contain_text(what)


def stuck_operation(mouth: Mouth, cast: Cast) -> Operation:
    """Sent five minutes ago, and nothing was heard of it."""
    then = timezone.now() - timedelta(minutes=5)
    domu = make_domu(mouth.dom0, "web-stuck", cast.tenant, n=2)
    row = Operation.objects.create(
        domu=domu,
        dom0=mouth.dom0,
        verb=Verb.START.value,
        state=State.SENT,
        by=cast.owner,
        epoch=1,
        n=2,
        sent_at=then,
    )
    Operation.objects.filter(pk=row.pk).update(created_at=then)
    return row
