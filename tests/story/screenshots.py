"""`make screenshots`: the main pages of a product with something in it, as pictures in docs/screenshots/."""

from __future__ import annotations

import sys
import tempfile
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, sync_playwright

from tests.chromium import FLAGS
from tests.conftest import CHROMIUM, NO_CHROMIUM
from tests.kernels import linux_bzimage, netbsd
from tests.product import Product, product
from tests.story import way
from tests.story.browser import Browser

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
DESKTOP, PHONE = 1440, 390


def main() -> int:
    """Make all pictures anew; gives the exit status."""
    if not CHROMIUM:
        print(NO_CHROMIUM, file=sys.stderr)
        return 1
    FOLDER.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="berth-screenshots-") as folder,
        product(Path(folder) / "data") as running,
        sync_playwright() as playwright,
    ):
        pages = fill(running, Path(folder))
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, role, address, width, colours in pages:
            take(chromium, running, name, role, address, width, colours)
        chromium.close()
    return 0


def fill(running: Product, folder: Path) -> list[tuple[str, str, str, int, str]]:
    """Servers, kernels and requests as people leave them; gives what to take: name, who, address, width, colours."""
    with closing(Browser(running.web)) as operator, closing(Browser(running.web)) as owner:
        for browser, role in ((operator, "operator"), (owner, "owner")):
            login = running.login(role)
            browser.log_in(login.email, login.password)
        kernel, guest, refused = (
            folder / name for name in ("vmlinuz-6.1.0", "netbsd-XEN3_DOMU", "netbsd-DOM0")
        )
        kernel.write_bytes(linux_bzimage())
        guest.write_bytes(netbsd())
        refused.write_bytes(netbsd(config="XEN3_DOM0"))
        linux = way.upload(owner, kernel, "web-kernel")
        netbsd_version = way.upload(owner, guest, "npf-kernel")
        dom0_kernel = way.upload(owner, refused, "wrong-kernel")
        servers = {}
        for name, guest_os, version, arguments in (
            ("web1", "linux", linux.address, "console=hvc0 root=/dev/xvda1 ro"),
            ("mail", "netbsd", netbsd_version.address, "root=xbd0a"),
        ):
            way.approve(operator, way.ask(owner, name, guest_os=guest_os, memory=192, disk=16))
            servers[name] = way.server_of(owner, name)
            owner.wait_state(servers[name], "stopped")
            way.choose(owner, servers[name], version, arguments)
            owner.wait_state(servers[name], "stopped")
            way.press(owner, servers[name], "start")
            owner.wait_state(servers[name], "running")
        request = way.ask(owner, "db1", guest_os="netbsd", memory=512, disk=32)
    web1 = path(servers["web1"])
    return [
        ("servers", "owner", "/servers/", DESKTOP, "light"),
        ("server", "owner", web1, DESKTOP, "light"),
        ("server-phone", "owner", web1, PHONE, "dark"),
        ("boot-menu", "owner", f"{web1}boot/", DESKTOP, "light"),
        ("refusal", "owner", path(dom0_kernel.address), PHONE, "light"),
        ("console", "owner", f"{web1}console/", DESKTOP, "dark"),
        ("request", "operator", path(request), DESKTOP, "dark"),
        ("today", "operator", "/today/", DESKTOP, "dark"),
    ]


def path(address: str) -> str:
    return urlsplit(address).path


def take(
    chromium: Chromium, running: Product, name: str, role: str, address: str, width: int, colours: str
) -> None:
    context = chromium.new_context(
        base_url=running.web,
        viewport={"width": width, "height": 900},
        color_scheme="dark" if colours == "dark" else "light",
    )
    page: Page = context.new_page()
    login = running.login(role)
    page.goto("/log-in/")
    page.fill("[name=login]", login.email)
    page.fill("[name=password]", login.password)
    page.click("main button")
    page.goto(address)
    page.wait_for_timeout(3000 if name == "console" else 800)  # for what draws itself
    page.screenshot(path=FOLDER / f"{name}.png", full_page=name != "console")
    print(f"docs/screenshots/{name}.png", flush=True)
    context.close()


if __name__ == "__main__":
    sys.exit(main())
