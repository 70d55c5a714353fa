"""Somebody who never saw it, in Chromium: from the first page to a line typed on a console.

They know only what the pages say: every step is a link, a button or a field by the words that stand on it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.chromium import FLAGS
from tests.kernels import linux_bzimage
from tests.product import Login, Product

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]
SLOW = 90_000  # ms; for what a dom0 does


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


class Person:
    """Somebody before a screen. What is too wide for it, or what scripts complain of, is kept."""

    def __init__(self, browser: Browser, product: Product, width: int, colours: Any) -> None:
        context = browser.new_context(
            base_url=product.web, viewport={"width": width, "height": 900}, color_scheme=colours
        )
        self.page: Page = context.new_page()
        self.page.set_default_timeout(30_000)
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on(
            "console",
            lambda said: self.problems.append(said.text) if "Content Security Policy" in said.text else None,
        )

    def look(self) -> None:
        over = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if over > 0:
            self.problems.append(f"{self.page.url} is {over} px too wide")

    def follow(self, words: str) -> None:
        """The first link with these words."""
        self.page.get_by_role("link", name=words, exact=True).filter(visible=True).first.click()
        self.page.wait_for_load_state()
        self.look()

    def press(self, words: str) -> None:
        self.page.get_by_role("button", name=words, exact=True).filter(visible=True).first.click()
        self.page.wait_for_load_state()
        self.look()

    def write(self, label: str, text: str) -> None:
        self.page.get_by_label(label).filter(visible=True).first.fill(text)

    def reads(self, words: str | re.Pattern[str]) -> None:
        expect(self.page.locator("main")).to_contain_text(words, timeout=SLOW)

    def log_in(self, login: Login) -> None:
        self.page.goto("/")
        self.follow("Log in")
        self.write("E-mail address", login.email)
        self.write("Password", login.password)
        self.press("Log in")


@pytest.mark.parametrize(("width", "colours"), [(390, "dark"), (1440, "light")])
def test_from_the_first_page_to_the_console(
    browser: Browser, running_product: Product, tmp_path: Path, width: int, colours: str
) -> None:
    name = f"first-{secrets.token_hex(3)}"
    customer = Person(browser, running_product, width, colours)
    operator = Person(browser, running_product, width, colours)

    sign_up(customer, f"{name}@example.org")
    customer.follow("Ask for a server")
    customer.write("Name", name)
    customer.page.get_by_label("What will run in it").select_option("Linux")
    customer.write("What it is for", "To see whether our kernel boots.")
    customer.press("Ask")
    customer.reads("waiting for approval")

    operator.log_in(running_product.login("operator"))
    operator.reads("To see whether our kernel boots.")
    approve_by_keyboard(operator, name)

    customer.reads("approved")
    customer.follow(name)
    expect(customer.page.locator("#server .under .word")).to_have_text("stopped", timeout=SLOW)
    customer.follow("Choose a kernel")
    customer.follow("Upload one")
    upload(customer, tmp_path / "bzImage")
    customer.follow(name)
    customer.page.get_by_label("Kernel", exact=True).select_option(index=1)  # the one there is
    customer.write("Arguments", "console=hvc0 root=/dev/xvda1 ro")
    expect(customer.page.locator("#as-written")).to_contain_text("root=/dev/xvda1 ro")
    customer.press("Save")
    customer.reads("is in place")
    customer.press("Start with console")

    screen = customer.page.locator(".xterm-rows")
    expect(screen).to_contain_text("/ #", timeout=SLOW)
    customer.page.locator(".xterm-helper-textarea").focus()
    customer.page.keyboard.type("uname -a\n")
    expect(screen).to_contain_text(re.compile(rf"Linux {name} "), timeout=SLOW)
    customer.page.keyboard.type("poweroff\n")
    customer.follow("Leave")
    expect(customer.page.locator("#server .under .word")).to_have_text("stopped", timeout=SLOW)
    assert customer.problems + operator.problems == []


def sign_up(person: Person, email: str) -> None:
    """The quick start sends no mail: the page shows the letter."""
    person.page.goto("/")
    person.follow("Sign up")
    person.write("Your name", "Nora")
    person.write("E-mail address", email)
    person.write("Company or project", f"Shop of {email}")
    person.write("Password", secrets.token_urlsafe(12))
    person.press("Sign up")
    person.reads(f"This would go to {email}")
    person.page.locator("main a[href*='/confirm/']").click()
    person.reads(email)
    person.press("Confirm")
    person.reads("No servers yet")


def approve_by_keyboard(person: Person, name: str) -> None:
    """In the queue: down to the request, open it, approve it as it was asked."""
    person.follow("Requests")
    row = person.page.locator("a[data-row]:focus")
    for _ in range(20):
        person.page.keyboard.press("j")
        if row.text_content() == name:
            break
    expect(row).to_have_text(name)
    person.page.keyboard.press("Enter")
    expect(person.page.locator("h1")).to_contain_text(name)
    person.page.keyboard.press("a")
    expect(person.page.locator("#approve button")).to_be_focused()
    person.page.keyboard.press("Enter")
    person.reads("approved")


def upload(person: Person, path: Path) -> None:
    path.write_bytes(linux_bzimage())
    person.page.get_by_label("Drop a NetBSD or Linux kernel here").set_input_files(path)
    person.page.wait_for_url("**/kernels/versions/**")
    expect(person.page.locator("#verdict .word").first).to_have_text("can boot", timeout=SLOW)
    person.look()
