"""axe-core over servers, requests and operations in every state, lists by the thousand and empty, on phone and desktop.

With BERTH_PICTURES=FOLDER it leaves a picture of each there, for the eye, and what axe said in found.txt.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from django.conf import settings as django_settings
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, BrowserContext, Page

from accounts.models import Membership, Role, Tenant, User
from accounts.models.quota import grant_default
from tests.web import states
from tests.web.conftest import PASSWORD, Cast, log_in_freshly
from tests.web.test_access_table import World, world  # noqa: F401  world is a fixture
from tests.web.world import Mouth

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(540)]

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
CHECK = """only => axe.run(document, {runOnly: only, resultTypes: ["violations"]}).then(found =>
  found.violations.map(rule => [rule.id, rule.help, rule.nodes.map(node =>
    node.target.join(" ") + "  " + node.html.slice(0, 160) + "  " + node.any.map(why => why.message).join(" "))]))"""
EVERYTHING = {"type": "tag", "values": RULES}
CONTRAST = {"type": "rule", "values": ["color-contrast"]}  # all that changes with the colours
# How each page is looked at: width, colours, which rules.
LOOKS: list[tuple[int, Any, dict[str, Any]]] = [
    (1440, "light", EVERYTHING),
    (1440, "dark", CONTRAST),
    (390, "dark", EVERYTHING),
    (390, "light", CONTRAST),
]


def test_axe_does_find_things(chrome: Browser) -> None:
    context = chrome.new_context()
    context.add_init_script(AXE_SCRIPT)
    page = context.new_page()
    page.goto("data:text/html,<title>x</title><img src=y><p style='color:%23ccc;background:%23fff'>Pale</p>")
    found = {rule for rule, _why, _nodes in page.evaluate(CHECK, EVERYTHING)}
    context.close()
    assert {"image-alt", "color-contrast", "html-has-lang"} <= found


@dataclass
class Look:
    """Goes from page to page as one person, and keeps what axe says."""

    page: Page
    who: str
    wrong: list[str] = field(default_factory=list)

    def at(self, address: str, name: str, status: int = 200) -> None:
        """Look at an address, which must show its page to this person."""
        width, colours, _ = LOOKS[0]
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme=colours)
        answer = self.page.goto(address)
        path = re.sub(r"^https?://[^/]+|\?.*$", "", self.page.url)
        assert answer is not None and (answer.status, path) == (status, address.split("?")[0]), name
        self.here(name)

    def here(self, name: str) -> None:
        """Look at what stands in the browser now, in each way."""
        for width, colours, rules in LOOKS:
            self.page.set_viewport_size({"width": width, "height": 900})
            self.page.emulate_media(color_scheme=colours)
            for rule, why, nodes in self.page.evaluate(CHECK, rules):
                where = f"{name} for {self.who}, {width} px, {colours}"
                self.wrong += [f"{where}: {rule} ({why}): {node}" for node in nodes[:3]]
            if (folder := os.environ.get("BERTH_PICTURES")) and rules is EVERYTHING:
                file = re.sub(r"\W+", "-", f"{name}-{self.who}-{width}-{colours}")
                self.page.screenshot(path=Path(folder) / f"{file}.png", full_page=True)
                (Path(folder) / f"found-{self.who}.txt").write_text("\n".join(self.wrong))


Eyes = Callable[..., Look]


@pytest.fixture
def eyes(chrome: Browser, live_server: Any, settings: Any) -> Iterator[Eyes]:
    """Browsers of people who logged in freshly, with axe in every page. What it found fails the test."""
    settings.BERTH_SILENT_AFTER = 3600  # nobody speaks for the dom0s meanwhile
    looks: list[Look] = []

    def opened(who: str, person: User | None) -> Look:
        context = chrome.new_context(base_url=live_server.url)
        context.add_init_script(AXE_SCRIPT)  # from outside the page: its policy stays as it is
        if person is not None:
            log_in(context, live_server.url, person)
        page = context.new_page()
        page.set_default_timeout(60_000)
        looks.append(Look(page, who))
        return looks[-1]

    yield opened
    for look in looks:
        look.page.context.close()
    wrong = [line for look in looks for line in look.wrong]
    assert not wrong, f"{len(wrong)} things:\n" + "\n".join(wrong)


def log_in(context: BrowserContext, base: str, person: User) -> None:
    client = Client()
    client.force_login(person)
    log_in_freshly(client, person)
    name = django_settings.SESSION_COOKIE_NAME
    context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": base}])


def newcomer() -> User:
    """Somebody who just signed up, and has nothing yet."""
    user = User.objects.create_user("new@example.org", PASSWORD, name="Newcomer")
    tenant = Tenant.objects.create(name="Just begun")
    grant_default(tenant)
    Membership.objects.create(tenant=tenant, user=user, role=Role.OWNER)
    return user


def test_every_state_of_servers_requests_and_operations(
    eyes: Eyes,
    cast: Cast,
    mouth: Mouth,
    world: World,  # noqa: F811
) -> None:
    servers = states.all_servers(cast, mouth, world.version)
    requests = states.all_requests(cast, world.domu, mouth)
    operations = states.all_operations(cast, world.domu)
    owner = eyes("member", cast.owner)
    owner.at(reverse("servers"), "servers in all states")
    owner.at(reverse("servers") + "?q=nothing-like-it", "servers without a hit")
    for name, domu in [*servers.items(), ("kept", world.kept)]:
        owner.at(reverse("server", args=[domu.pk]), f"server {name}")
    for name in ("quota", "refused", "partly"):
        owner.at(reverse("request", args=[requests[name].pk]), f"request {name}")
    for name in ("failed", "lost", "superseded"):
        owner.at(reverse("operation", args=[operations[name].pk]), f"operation {name}")
    owner.at(reverse("operation", args=[servers["provisioning"].operations.get().pk]), "operation runs")


def test_a_thousand_and_none(eyes: Eyes, cast: Cast, mouth: Mouth) -> None:
    states.many(cast, mouth)
    many, empty = eyes("owner of a thousand", cast.stranger), eyes("newcomer", newcomer())
    for name in ("servers", "operations", "events"):
        many.at(reverse(name), f"{name} by the thousand")
    for name in ("servers", "kernels", "operations", "events"):
        empty.at(reverse(name), f"{name}, none")
