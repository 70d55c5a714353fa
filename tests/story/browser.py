"""A browser without a screen: pages, their forms, uploads by piece, a console.

What people do, over HTTP and WebSocket, with the addresses and forms that the pages themselves give.
"""

from __future__ import annotations

import json
import logging
import re
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

logging.getLogger("httpx").setLevel(logging.WARNING)
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>78]")


class NotAsExpected(AssertionError):
    """Something was not as it should be; the text says what."""


@dataclass
class Form:
    """A form of a page, with the values that it stands filled in with."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    choices: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


class _Reader(HTMLParser):
    """Collects forms, links and text."""

    def __init__(self, address: str) -> None:
        super().__init__(convert_charrefs=True)
        self.address = address
        self.forms: list[Form] = []
        self.links: list[tuple[str, str]] = []
        self.words: list[str] = []
        self._select: str | None = None
        self._option: tuple[str, bool] | None = None
        self._area: str | None = None
        self._link: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        got = {name: value or "" for name, value in attrs}
        form = self.forms[-1] if self.forms else None
        if tag == "form":
            self.forms.append(
                Form(urljoin(self.address, got.get("action") or self.address), got.get("method", "get"))
            )
        elif tag == "a" and "href" in got:
            self._link = urljoin(self.address, got["href"])
        elif form and tag == "input" and got.get("name"):
            kind = got.get("type", "text")
            if kind in ("radio", "checkbox"):
                form.choices.setdefault(got["name"], []).append((got.get("value", "on"), ""))
                if "checked" not in got:
                    return
            if kind not in ("submit", "file", "button"):
                form.fields[got["name"]] = got.get("value", "on" if kind == "checkbox" else "")
        elif form and tag == "select" and got.get("name"):
            self._select = got["name"]
            form.choices[self._select] = []
        elif form and tag == "option" and self._select:
            self._option = (got.get("value", ""), "selected" in got)
            form.choices[self._select].append((got.get("value", ""), ""))
            if "selected" in got or self._select not in form.fields:
                form.fields[self._select] = got.get("value", "")
        elif form and tag == "textarea" and got.get("name"):
            self._area = got["name"]
            form.fields[self._area] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = None
        elif tag == "option":
            self._option = None
        elif tag == "textarea":
            self._area = None
        elif tag == "a":
            self._link = None

    def handle_data(self, data: str) -> None:
        if self._area and self.forms:
            self.forms[-1].fields[self._area] += data
        if self._option and self._select and self.forms:
            options = self.forms[-1].choices[self._select]
            value, text = options[-1]
            options[-1] = (value, (text + data).strip())
        if data.strip():
            self.words.append(" ".join(data.split()))
            if self._link:
                self.links.append((self._link, data.strip()))


class Page:
    """What came back for one address."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.address = str(response.url)
        self.html = response.text
        reader = _Reader(self.address)
        reader.feed(self.html)
        self.forms, self.links = reader.forms, reader.links
        self.text = " ".join(reader.words)

    @property
    def state(self) -> str:
        """The first state word of the page: that of its thing."""
        found = re.search(r'<span class="word">\s*([^<]+?)\s*<', self.html)
        return found.group(1) if found else ""

    @property
    def busy(self) -> bool:
        """Whether an operation is under way that the page offers to cancel."""
        return any(urlsplit(form.action).path.endswith("/cancel/") for form in self.forms)

    def form(self, *, action: str = "", having: str = "") -> Form:
        """The first form whose address ends with `action` and that has the field `having`."""
        for form in self.forms:
            if urlsplit(form.action).path.endswith(action) and (
                not having or having in {*form.fields, *form.choices}
            ):
                return form
        there = [f"{urlsplit(form.action).path} ({', '.join(form.fields)})" for form in self.forms]
        raise NotAsExpected(f"{self.address}: no form {action or having}; there are: {'; '.join(there)}")

    def link(self, pattern: str) -> str:
        """The first link whose address or text matches."""
        for address, text in self.links:
            if re.search(pattern, address) or re.search(pattern, text):
                return address
        raise NotAsExpected(f"{self.address}: no link like {pattern}")


class Browser:
    """One person's browser."""

    def __init__(self, web: str, gateway: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.web = web.rstrip("/")
        self.gateway = gateway or self.web.replace("http", "ws", 1)
        self.tls = tls  # who may have signed the web's certificate
        self.http = httpx.Client(
            base_url=self.web, follow_redirects=True, timeout=30, verify=True if tls is None else tls
        )

    def close(self) -> None:
        self.http.close()

    def get(self, address: str, expect: int = 200) -> Page:
        return self._expect(Page(self.http.get(address)), expect)

    def submit(self, form: Form, expect: int = 200, **values: str) -> Page:
        """Fill in and send a form, as from its page."""
        data = {**form.fields, **values}
        if form.method.lower() == "get":
            return self._expect(Page(self.http.get(form.action, params=data)), expect)
        response = self.http.post(
            form.action, data=data, headers={"Referer": form.action, "Origin": self.web}
        )
        return self._expect(Page(response), expect)

    def wait_state(self, address: str, *words: str, seconds: float = 60) -> Page:
        """Look at a page until its state is one of `words` and nothing is under way there."""
        end = time.monotonic() + seconds
        while (page := self.get(address)).state not in words or page.busy:
            if time.monotonic() > end:
                raise NotAsExpected(
                    f"{address} is {page.state!r} after {seconds} s, not {' or '.join(words)}: {page.text[:1500]}"
                )
            time.sleep(0.2)
        return page

    def _expect(self, page: Page, status: int) -> Page:
        if page.status != status:
            raise NotAsExpected(f"{page.address} answered {page.status}, not {status}: {page.text[:600]}")
        return page

    def log_in(self, email: str, password: str, code: Callable[[], str] | None = None) -> Page:
        """`code` gives what an authenticator app shows, for whoever has a second factor."""
        page = self.get("/log-in/")
        page = self.submit(page.form(having="password"), login=email, password=password)
        if code is not None:
            page = self.submit(page.form(having="code"), code=code())
        if "/log-in/" in page.address:
            raise NotAsExpected(f"{email} could not log in: {page.text[:300]}")
        return page

    def upload(
        self, path: Path, kernel: str, tenant: str | None = None, stop_at: int | None = None, onto: str = ""
    ) -> str:
        """Upload a file as the page's script does; gives the address of the version.

        `stop_at`: break off at that byte once, ask where it stands, and go on. `onto`: the address of a version
        whose ramdisk it becomes.
        """
        form = self.get(onto or "/kernels/").form(having="part" if onto else "kernel")
        token = {"X-CSRFToken": form.fields["csrfmiddlewaretoken"], "Referer": self.web, "Origin": self.web}
        size = path.stat().st_size
        what = (
            {"part": "ramdisk", "version": form.fields["version"]}
            if onto
            else {"tenant": tenant or form.fields["tenant"], "kernel": kernel}
        )
        begun = self.http.post(
            form.action, data={**what, "filename": path.name, "size": str(size)}, headers=token
        )
        where = begun.json()
        if begun.status_code != 201:
            raise NotAsExpected(where.get("error", begun.text[:300]))
        with path.open("rb") as file:
            while where["offset"] < size:
                file.seek(where["offset"])
                piece = file.read(where["piece"])
                if stop_at is not None and where["offset"] + len(piece) > stop_at:
                    piece, stop_at = piece[: max(1, stop_at - where["offset"])], None
                sent = self.http.put(
                    where["url"], content=piece, headers={**token, "Upload-Offset": str(where["offset"])}
                )
                if sent.status_code not in (200, 409):
                    raise NotAsExpected(f"A piece was answered with {sent.status_code}: {sent.text[:300]}")
                where |= sent.json()
        return str(where["version"])

    def console(self, server: str) -> Console:
        """Sit down at the console of a server (its page's address)."""
        page = self.get(server.rstrip("/") + "/console/")
        cookies = self.http.cookies
        response = self.http.post(
            server.rstrip("/") + "/console/ticket/",
            headers={"X-CSRFToken": cookies["csrftoken"], "Referer": page.address, "Origin": self.web},
        )
        if response.status_code != 200:
            raise NotAsExpected(f"No ticket: {response.status_code} {response.text[:300]}")
        session = "; ".join(f"{cookie.name}={cookie.value}" for cookie in cookies.jar)
        stack = ExitStack()
        opening = connect(
            self.gateway + "/ws/console",
            origin=self.web,  # type: ignore[arg-type]
            additional_headers={"Cookie": session},
            open_timeout=15,
            max_size=None,
            ssl=self.tls,
        )
        socket = stack.enter_context(opening)
        socket.send(json.dumps({"ticket": response.json()["ticket"]}))
        return Console(socket, stack)


class Console:
    """A console: what was said, and typing."""

    def __init__(self, socket: ClientConnection, stack: ExitStack) -> None:
        self.socket = socket
        self._stack = stack
        self.raw = bytearray()
        self.told: list[dict[str, object]] = []
        self._taken = 0

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def text(self) -> str:
        """All that came, without the control sequences."""
        return _ANSI.sub("", self.raw.decode("utf-8", "replace")).replace("\r", "")

    def receive(self, seconds: float) -> None:
        """Take one message, if one comes in time."""
        try:
            message = self.socket.recv(timeout=seconds)
        except TimeoutError:
            return
        if isinstance(message, bytes):
            self.raw += message
            self.socket.send(json.dumps({"type": "took", "bytes": len(self.raw)}))
        else:
            self.told.append(json.loads(message))

    def wait(self, pattern: str, seconds: float = 60, since: int = 0) -> str:
        """Read until the text from character `since` on matches; gives the text from there."""
        return self._until(lambda: re.search(pattern, self.text[since:]) is not None, pattern, seconds, since)

    def wait_told(self, kind: str, seconds: float = 60, since: int = 0) -> dict[str, object]:
        """Read until a message of a kind was told, not counting the first `since` of `told`; gives the last one."""
        self._until(lambda: any(m.get("type") == kind for m in self.told[since:]), kind, seconds, 0)
        return next(m for m in reversed(self.told) if m.get("type") == kind)

    def _until(self, there: Callable[[], bool], what: str, seconds: float, since: int) -> str:
        end = time.monotonic() + seconds
        while not there():
            left = end - time.monotonic()
            if left <= 0:
                raise NotAsExpected(
                    f"The console did not show {what!r} in {seconds} s. Told: {self.told[-5:]}. "
                    f"Its end: {self.text[-1500:]!r}"
                )
            try:
                self.receive(min(left, 1))
            except ConnectionClosed as error:
                raise NotAsExpected(
                    f"The console was closed: {error}. Its end: {self.text[-800:]!r}"
                ) from error
        return self.text[since:]

    def type(self, keys: str) -> int:
        """Type; gives how many characters had come before."""
        before = len(self.text)
        self.socket.send(keys.encode())
        return before

    def ask(self, line: str, pattern: str, seconds: float = 60) -> str:
        """Type a line and wait for an answer that the echo of the line is not."""
        before = self.type(line + "\r")
        return self.wait(pattern, seconds, since=before)
