"""A passkey in Chromium, with a device that its debugging protocol pretends: add it, then log in with it alone."""

from __future__ import annotations

import time
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.urls import reverse
from playwright.sync_api import Browser, expect

from tests.web.conftest import PASSWORD, Cast

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]
DEVICE = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


def test_a_passkey_is_added_and_logs_in_alone(chrome: Browser, live_server: Any, cast: Cast) -> None:
    # By name: a browser takes no address of numbers for passkeys.
    base = live_server.url.replace("127.0.0.1", "localhost")
    page = chrome.new_context(base_url=base).new_page()
    page.set_default_timeout(60_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if "Policy" in said.text else None)
    protocol = page.context.new_cdp_session(page)
    protocol.send("WebAuthn.enable")
    protocol.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})
    page.goto(reverse("login"))
    page.fill("[name=login]", "owner@example.org")
    page.fill("[name=password]", PASSWORD)
    page.click("main form >> nth=0 >> button")
    expect(page.get_by_role("heading", name="Servers", exact=True)).to_be_visible(timeout=60_000)
    page.goto(reverse("mfa_add_webauthn"))
    page.fill("[name=name]", "my phone")
    page.check("[name=passwordless]")
    page.click("form[data-passkey] button")
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible(timeout=60_000)
    page.goto(reverse("mfa_list_webauthn"))
    expect(page.get_by_role("row", name="my phone")).to_contain_text("logs in alone", timeout=60_000)
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("button", name="Log in with a passkey").click()
    expect(page.get_by_role("heading", name="Servers", exact=True)).to_be_visible(timeout=60_000)
    give_up = time.monotonic() + 20
    while Authenticator.objects.get(type="webauthn").last_used_at is None:
        assert time.monotonic() < give_up
        time.sleep(0.1)
    assert not complaints
