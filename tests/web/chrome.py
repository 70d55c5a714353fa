"""Chromium before the pages of Django's live server: fixtures of the tests in a browser."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import OperationalError
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from accounts.models import User
from tests.chromium import FLAGS


@pytest.fixture(scope="module")
def chrome(chromium: str) -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # Playwright's loop runs in this thread; Django takes that for asynchronous code.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        running = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


Opener = Callable[..., Page]


@pytest.fixture
def opened(chrome: Browser, live_server: Any) -> Iterator[Opener]:
    """Open an address as a person. What scripts or the content policy complain of fails the test."""
    complaints: list[str] = []
    contexts: list[BrowserContext] = []

    def open_page(person: User, address: str, width: int = 1280, scheme: Any = "light") -> Page:
        client = Client()
        client.force_login(person)
        context = chrome.new_context(
            base_url=live_server.url, viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        contexts.append(context)
        cookie = client.cookies[django_settings.SESSION_COOKIE_NAME].value
        context.add_cookies(
            [{"name": django_settings.SESSION_COOKIE_NAME, "value": cookie, "url": live_server.url}]
        )
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda said: complaints.append(said.text) if "Content Security Policy" in said.text else None,
        )
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def patiently(call: Callable[[], Any]) -> Any:
    """The server's thread may hold the in-memory database."""
    give_up = time.monotonic() + 20
    while True:
        try:
            return call()
        except OperationalError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.01)
