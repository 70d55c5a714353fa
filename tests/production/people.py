"""People at the production layout: log-ins with a second factor, uploads by hand, a server that runs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value

from tests.kernels import linux_bzimage
from tests.production.layout import Layout
from tests.story import way
from tests.story.browser import Browser


def operator_of(site: Layout) -> Browser:
    """The operator, logged in; an operator has to set up a second factor first, and does."""
    browser = site.browser()
    email, password = site.logins["operator"]
    if secret := site.app_secret:
        browser.log_in(email, password, lambda: shown_by_the_app(secret))
    else:
        browser.log_in(email, password)
        page = browser.get("/me/second-factor/app/")
        found = re.search(r"\b[A-Z2-7]{32}\b", page.text)
        assert found, page.text
        browser.submit(page.form(having="code"), code=shown_by_the_app(found.group()))
        site.app_secret = found.group()
    today = browser.get("/today/")
    assert urlsplit(today.address).path == "/today/", f"{today.address}: {today.text[:500]}"
    return browser


def shown_by_the_app(secret: str) -> str:
    """What an authenticator app shows now. A code is good once: the next one is waited for."""
    step = int(time.time()) // 30
    while step <= _used.get(secret, 0):
        time.sleep(0.5)
        step = int(time.time()) // 30
    _used[secret] = step
    return str(format_hotp_value(hotp_value(secret, step)))


_used: dict[str, int] = {}


def owner_of(site: Layout) -> Browser:
    browser = site.browser()
    browser.log_in(*site.logins["owner"])
    return browser


def running_server(site: Layout, owner: Browser, operator: Browser, name: str, folder: Path) -> str:
    """Ask, approve, upload, choose, start; gives the address of the server's page."""
    request = way.ask(owner, name, memory=128, disk=16)
    way.approve(operator, request)
    server = way.server_of(owner, name)
    owner.wait_state(server, "stopped", seconds=120)
    path = folder / f"{name}.bzImage"
    path.write_bytes(linux_bzimage())
    page = way.upload(owner, path, name, seconds=120)
    assert page.state == "can boot", page.text[:600]
    boot(owner, server, page.address)
    return server


def boot(owner: Browser, server: str, version: str) -> None:
    """Make a version the only entry, and start the server."""
    way.choose(owner, server, version, "console=hvc0 root=/dev/xvda1 ro")
    owner.wait_state(server, "stopped", seconds=120)
    way.press(owner, server, "start")
    owner.wait_state(server, "running", seconds=120)


class Sending:
    """An upload by hand: each piece is sent where the test says."""

    def __init__(self, browser: Browser, kernel: str, content: bytes) -> None:
        self.browser = browser
        self.content = content
        form = browser.get("/kernels/").form(having="kernel")
        self.headers = {
            "X-CSRFToken": form.fields["csrfmiddlewaretoken"],
            "Referer": browser.web,
            "Origin": browser.web,
        }
        begun = browser.http.post(
            form.action,
            data={
                "tenant": form.fields["tenant"], "kernel": kernel, "filename": "bzImage",
                "size": str(len(content)),
            },
            headers=self.headers,
        )  # fmt: skip
        assert begun.status_code == 201, begun.text
        self.url = str(begun.json()["url"])
        self.version = ""

    def stands_at(self) -> int:
        answer = self.browser.http.get(self.url)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["offset"])

    def send(self, offset: int, size: int) -> int:
        """One piece through nginx; gives where the upload stands."""
        piece = self.content[offset : offset + size]
        answer = self.browser.http.put(
            self.url, content=piece, headers={**self.headers, "Upload-Offset": str(offset)}
        )
        assert answer.status_code == 200, answer.text
        told = answer.json()
        self.version = str(told.get("version") or "")
        return int(told["offset"])

    def slowly(self, offset: int, size: int, pause: float) -> Iterator[bytes]:
        """A piece of which half comes at once, and the rest after `pause` seconds."""
        half = size // 2
        yield self.content[offset : offset + half]
        time.sleep(pause)
        yield self.content[offset + half : offset + size]
