"""The story in a real browser: an operator, a customer and a stranger, to text typed and answered on a console."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.chromium import FLAGS
from tests.kernels import linux_bzimage, netbsd
from tests.product import Product

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

SLOW = 60_000  # ms; for what a dom0 does


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


def visitor(browser: Browser, product: Product, width: int = 1280) -> Page:
    """A fresh browser context; errors of scripts and of the page's policy fail the test at its end."""
    page = browser.new_context(base_url=product.web, viewport={"width": width, "height": 900}).new_page()
    page.set_default_timeout(20_000)
    return page


def log_in(page: Page, email: str, password: str) -> None:
    page.goto("/log-in/")
    page.fill("[name=login]", email)
    page.fill("[name=password]", password)
    page.click("main button")
    expect(page.get_by_role("button", name="Log out")).to_be_visible()


def make_stranger(operator: Page, product: Product) -> tuple[str, str]:
    """Somebody of another tenant, made by the command that an operator has for it."""
    import os
    import subprocess
    import sys

    email, password = f"eve-{secrets.token_hex(3)}@example.org", secrets.token_urlsafe(12)
    code = (
        "from accounts.models import *; from accounts.models.quota import grant_default;"
        f"u = User.objects.create_user({email!r}, {password!r}, name='Eve');"
        "t = Tenant.objects.create(name='Elsewhere'); grant_default(t);"
        "Membership.objects.create(tenant=t, user=u, role='owner')"
    )
    environment = {
        **os.environ,
        "BERTH_QUICKSTART": "1",
        "BERTH_DATA_DIR": str(product.data),
        "BERTH_SECRET_KEY": "not needed for this",
        "DJANGO_SETTINGS_MODULE": "vps.settings",
    }
    root = Path(__file__).resolve().parent.parent.parent
    subprocess.run(
        [sys.executable, str(root / "manage.py"), "shell", "-c", code], env=environment, check=True, cwd=root
    )
    return email, password


def test_from_asking_to_typing(browser: Browser, running_product: Product, tmp_path: Path) -> None:
    name = f"web-{secrets.token_hex(3)}"
    owner_login, operator_login = running_product.login("owner"), running_product.login("operator")
    customer, operator = visitor(browser, running_product), visitor(browser, running_product)
    stranger = visitor(browser, running_product, width=390)
    problems: list[str] = []
    for page in (customer, operator, stranger):
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console",
            lambda said: problems.append(said.text) if "Content Security Policy" in said.text else None,
        )

    log_in(customer, owner_login.email, owner_login.password)
    customer.goto("/ask/")
    customer.fill("[name=name]", "../etc/passwd")
    customer.locator("main form button.primary").click()
    expect(customer.locator("main")).to_contain_text("cannot be a server's name")
    assert customer.input_value("[name=name]") == "../etc/passwd", "what was typed is kept"
    customer.fill("[name=name]", name)
    customer.select_option("[name=guest_os]", "linux")
    customer.locator("main form button.primary").click()
    expect(customer.locator("main")).to_contain_text("waiting for approval")
    request = customer.url

    log_in(stranger, *make_stranger(operator, running_product))
    assert stranger.goto(request).status == 404  # type: ignore[union-attr]

    log_in(operator, operator_login.email, operator_login.password)
    operator.goto(request)
    operator.locator("form[action$='/approve/'] button.primary").click()
    expect(operator.locator("main")).to_contain_text("approved")

    customer.goto("/servers/")
    customer.get_by_role("link", name=name, exact=True).click()
    expect(customer.locator("#server h1")).to_have_text(name)
    server = customer.url
    assert stranger.goto(server).status == 404  # type: ignore[union-attr]
    assert stranger.goto(server + "console/").status == 404  # type: ignore[union-attr]
    expect(customer.locator("#server .under .word")).to_have_text("stopped", timeout=SLOW)

    upload_and_look(customer, tmp_path / "netbsd", netbsd(config="XEN3_DOM0"), "cannot boot", "XEN3_DOMU")
    kernel = upload_and_look(customer, tmp_path / "bzImage", linux_bzimage(), "can boot", "Boots as PV")

    customer.goto(server + "boot/")
    customer.locator("select[name=version]").select_option(kernel)
    customer.fill("[name=arguments]", 'root=/dev/xvda1" ; rm')
    customer.click("#save")
    expect(customer.locator("main")).to_contain_text("which the boot menu cannot carry")
    customer.fill("[name=arguments]", "console=hvc0 root=/dev/xvda1 ro")
    customer.click("#save")
    expect(customer.locator("#next-boot")).to_contain_text("is in place", timeout=SLOW)

    customer.click("#do-start")
    expect(customer.locator("#server .under .word")).to_have_text("running", timeout=SLOW)
    customer.click("#to-console")
    screen = customer.locator(".xterm-rows")
    expect(screen).to_contain_text(re.compile(r"/ #"), timeout=SLOW)
    customer.locator(".xterm-helper-textarea").focus()
    customer.keyboard.type("uname -a\n")
    expect(screen).to_contain_text(re.compile(rf"Linux {name} "), timeout=SLOW)
    customer.keyboard.type("poweroff\n")
    customer.goto(server)
    expect(customer.locator("#server .under .word")).to_have_text("stopped", timeout=SLOW)

    customer.goto(server + "delete/")
    customer.fill("[name=name]", name)
    customer.locator("main button.danger").click()
    expect(customer.locator("#server .under .word")).to_have_text("deleted but kept", timeout=SLOW)
    customer.click("#undelete")
    expect(customer.locator("#server .under .word")).to_have_text("stopped", timeout=SLOW)
    assert problems == []


def upload_and_look(page: Page, path: Path, content: bytes, verdict: str, words: str) -> str:
    """Drop a file on the page; gives the version's id once its verdict stands there."""
    path.write_bytes(content)
    page.goto("/kernels/")
    page.fill("[name=kernel]", f"{path.name}-{secrets.token_hex(2)}")
    page.set_input_files("#upload-file", path)
    page.wait_for_url("**/kernels/versions/**")
    expect(page.locator("#verdict .word").first).to_have_text(verdict, timeout=SLOW)
    expect(page.locator("#verdict")).to_contain_text(words)
    return page.url.rstrip("/").rsplit("/", 1)[-1]
