"""The console's page in Chromium, from a real guest's pty to what is drawn and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.agent.guests import until
from tests.chromium import FLAGS
from tests.conftest import RedisServer
from tests.web.console_page import Pages, serving_pages
from tests.web.console_way import Way, serving, whole_way
from vps.console import Gateway

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield launched
        launched.close()


@dataclass
class Desk:
    """Somebody's page, and what went wrong in it."""

    page: Page
    faults: list[str] = field(default_factory=list)

    def text(self) -> str:
        return str(self.page.evaluate("() => BerthConsole.page ? BerthConsole.page.screen.text() : ''"))

    def shows(self, text: str) -> None:
        until(lambda: text in self.text())

    def ready(self) -> None:
        until(lambda: self.page.evaluate("() => Boolean(BerthConsole.page && BerthConsole.page.screen.live)"))

    def type(self, text: str) -> None:
        self.page.locator("#terminal textarea").focus()
        self.page.keyboard.type(text)

    def note(self) -> str:
        return self.page.locator("#note .text").text_content() if self.page.is_visible("#note") else ""  # type: ignore[return-value]

    def paste(self, text: str) -> None:
        """As Ctrl+V does, with that text in the clipboard."""
        self.page.evaluate(
            """text => {
                const data = new DataTransfer();
                data.setData("text/plain", text);
                document.querySelector("#terminal textarea").dispatchEvent(
                    new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
            }""",
            text,
        )


@dataclass
class Room:
    """A way, its pages, and browsers at desks."""

    way: Way
    pages: Pages
    origin: str
    browser: Browser
    domu: UUID = field(default_factory=uuid4)
    run: UUID = field(default_factory=uuid4)
    desks: list[Desk] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    def open(self, name: str = "Ana", *, wait: bool = True, **options: Any) -> Desk:
        context = self.browser.new_context(**options)
        context.add_cookies([{"name": "name", "value": name, "url": self.origin}])
        self.contexts.append(context)
        desk = Desk(context.new_page())
        desk.page.on("pageerror", lambda error: desk.faults.append(str(error)))
        desk.page.on(
            "console", lambda said: desk.faults.append(said.text) if "Content Security" in said.text else None
        )
        desk.page.goto(f"{self.origin}/servers/{self.domu}/console/")
        self.desks.append(desk)
        if wait:
            desk.ready()
        return desk


@pytest.fixture
def room(redis_server: RedisServer, tmp_path: Path, browser: Browser) -> Iterator[Room]:
    with whole_way(redis_server.url, tmp_path) as way, serving_pages(way) as (pages, origin):
        made = Room(way, pages, origin, browser)
        yield made
        for context in made.contexts:
            context.close()
        assert [fault for desk in made.desks for fault in desk.faults] == []


@pytest.fixture
def guest(room: Room) -> Any:
    return room.way.boot(5, room.domu, room.run)


def test_typing_and_answer(room: Room, guest: Any) -> None:
    guest.say(b"NetBSD 10.1 (XEN3_DOMU)\r\nlogin: ")
    desk = room.open()
    desk.shows("login: ")
    desk.type("root\r")
    assert guest.hear(5) == b"root\r"
    guest.say(b"root\r\nWelcome.\r\n# ")
    desk.shows("Welcome.")
    assert desk.page.title() == "web1 · Console · Berth"


def test_special_keys(room: Room, guest: Any) -> None:
    desk = room.open()
    desk.page.locator("#terminal textarea").focus()
    for key, sent in (
        ("ArrowUp", b"\x1b[A"), ("Control+c", b"\x03"), ("Tab", b"\t"), ("Escape", b"\x1b"), ("ä", "ä".encode()),
    ):  # fmt: skip
        desk.page.keyboard.press(key) if key != "ä" else desk.page.keyboard.insert_text(key)
        assert guest.hear(len(sent)) == sent
    desk.page.keyboard.press("Shift+Escape")
    assert desk.page.evaluate("() => document.querySelector('#bar').contains(document.activeElement)")


def test_two_people(room: Room, guest: Any) -> None:
    ana = room.open("Ana")
    ben = room.open("Ben")
    assert ana.page.locator("#mode [data-mode=typing]").get_attribute("aria-pressed") == "true"
    assert ben.page.locator("#mode [data-mode=watching]").get_attribute("aria-pressed") == "true"
    until(lambda: ana.page.text_content("#people") == "Also here: Ben (watching)")
    until(lambda: ben.page.text_content("#people") == "Also here: Ana (typing)")
    ben.type("ignored")
    ben.page.click("#mode [data-mode=typing]")
    until(lambda: ben.page.locator("#mode [data-mode=typing]").get_attribute("aria-pressed") == "true")
    ben.type("heard")
    assert guest.hear(5) == b"heard"


def test_who_may_only_watch(room: Room, guest: Any) -> None:
    room.pages.may_type["Vic"] = False
    desk = room.open("Vic")
    assert desk.page.is_disabled("#mode [data-mode=typing]")
    assert desk.page.is_disabled("#paste-open")
    desk.type("x")
    assert desk.note() == "You may watch this console, not type on it."
    until(lambda: desk.note() == "")
    desk.paste("text")
    assert desk.note() == "You may watch this console, not type on it."


ASKS = {
    "where the cursor is": b"\x1b[6n",
    "what it is": b"\x1b[c",
    "what version": b"\x1b[>c",
    "how it is": b"\x1b[5n",
    "which colours": b"\x1bP$qm\x1b\\",
    "which mode": b"\x1b[?25$p",
}


def test_only_the_first_typist_answers_for_the_terminal(room: Room, guest: Any) -> None:
    ana, ben, vic = room.open("Ana"), room.open("Ben"), room.open("Vic")
    ben.page.click("#mode [data-mode=typing]")
    until(lambda: ana.page.text_content("#people") == "Also here: Ben (typing), Vic (watching)")
    until(lambda: ana.page.evaluate("() => BerthConsole.page.screen.mayAnswer"))
    for name, question in ASKS.items():
        guest.say(question + name.encode())
        for desk in (ana, ben, vic):
            desk.shows(name)
        ana.type("X")
        heard = b""
        while not heard.endswith(b"X"):
            heard += guest.hear(1)
        answer = heard[:-1].removesuffix(b"\x1b\\")
        assert answer.startswith(b"\x1b") and answer.count(b"\x1b") == 1, name


def test_record_with_questions_is_not_answered_again(room: Room, guest: Any) -> None:
    guest.say(b"".join(ASKS.values()) + b"asked long ago")
    until(lambda: room.way.agent.consoles.tail(room.domu).endswith("asked long ago"))
    desk = room.open()
    desk.shows("asked long ago")
    desk.type("x")
    assert guest.hear(1) == b"x"


HOSTILE = {
    "title": b"\x1b]0;owned\x07\x1b]2;owned\x1b\\",
    "clipboard": b"\x1b]52;c;b3duZWQ=\x07\x1b]52;c;?\x07",
    "colours asked for": b"\x1b]10;?\x07\x1b]11;?\x07\x1b]4;1;?\x07",
    "colours set": b"\x1b]11;#ff0000\x07\x1b]10;#ff0000\x07\x1b]4;7;#000000\x07",
    "title asked for": b"\x1b]2;owned\x07\x1b[21t\x1b[20t",
    "window": b"\x1b[8;200;200t\x1b[14t\x1b[18t\x1b[4;900;900t\x1b[3;0;0t",
    "132 columns": b"\x1b[?3h\x1b[?40h\x1b[?3h",
    "notification": b"\x1b]9;4;1;50\x07\x1b]777;notify;a;b\x07\x1b]1337;File=inline=1:AAAA\x07",
    "HTML": b"<img src=x onerror=alert(1)><script>alert(1)</script>",
    "script link": b"\x1b]8;;javascript:alert(1)\x07click\x1b]8;;\x07",
    "focus and mouse": b"\x1b[?1004h\x1b[?1003h\x1b[?1006h",
    "old questions": b"\x05\x1bZ\x1b[0x\x1b]l\x1b\\",
    "long DCS": b"\x1bP" + b"A" * 100_000 + b"\x1b\\",
    "not UTF-8": b"\xff\xfe\xc3\x28\xf0\x28\x8c\x28",
    "right to left": "\u202e\u2066evil\u2069".encode(),
}


def test_hostile_output_does_nothing_to_a_watcher(room: Room, guest: Any) -> None:
    watcher = room.open("Ben")
    watcher.page.click("#mode [data-mode=watching]")
    pressed = watcher.page.locator("#mode [data-mode=watching]")
    until(lambda: pressed.get_attribute("aria-pressed") == "true")
    alerts: list[str] = []
    watcher.page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    look = "() => [document.title, BerthConsole.page.screen.terminal.cols, document.body.children.length]"
    before = watcher.page.evaluate(look)
    for name, output in HOSTILE.items():
        guest.say(output + b"\x1b[0m\r\nafter " + name.encode())
        watcher.shows("after " + name)
        watcher.page.mouse.move(200, 200)
        watcher.page.mouse.click(210, 200)
        watcher.page.keyboard.type("no")
        assert watcher.page.evaluate(look) == before, name
    assert alerts == []
    assert watcher.page.locator("main img, main script").count() == 0
    typist = room.open("Ana")
    typist.shows("after right to left")
    typist.type("k")
    assert guest.hear(1) == b"k"


@pytest.mark.parametrize(
    "output",
    [
        b"see http://example.org/path for more",
        b"\x1b]8;;http://example.org/path\x07a link that hides it\x1b]8;;\x07",
    ],
    ids=["plain", "hidden"],
)
def test_link_is_asked_about(room: Room, guest: Any, output: bytes) -> None:
    desk = room.open()
    guest.say(b"\x1b[H\x1b[2J    " + output)
    desk.shows("    ")
    cell = desk.page.evaluate(
        """() => {
            const box = document.querySelector(".xterm-screen").getBoundingClientRect();
            return [box.x + box.width * 12.5 / 80, box.y + box.height / 48];
        }"""
    )

    def asked() -> bool:
        desk.page.mouse.move(cell[0] + 30, cell[1] + 60)
        desk.page.mouse.move(*cell)
        desk.page.mouse.click(*cell)
        return desk.page.is_visible("dialog#link")

    until(asked)
    assert desk.page.text_content("#link .address") == "http://example.org/path"
    desk.page.click("#link [value=no]")
    assert len(desk.page.context.pages) == 1


def test_one_line_is_pasted_at_once(room: Room, guest: Any) -> None:
    desk = room.open()
    desk.paste("uname -a \x1b[201~\x07ok")
    assert guest.hear(15) == b"uname -a [201~o"


def test_several_lines_are_asked_about(room: Room, guest: Any) -> None:
    desk = room.open()
    desk.paste("one\r\ntwo\nthree\n")
    assert desk.page.text_content("#paste-title") == "Paste 3 lines? Each line’s end is an Enter.".replace(
        "’", "'"
    )
    desk.page.click("#paste [value=no]")
    desk.paste("one\r\ntwo\n")
    desk.page.click("#paste [value=paste]")
    assert guest.hear(8) == b"one\rtwo\r"


def test_bracketed_paste(room: Room, guest: Any) -> None:
    desk = room.open()
    guest.say(b"\x1b[?2004hready")
    desk.shows("ready")
    desk.paste("one\ntwo\x1b[201~")
    desk.page.click("#paste [value=paste]")
    assert guest.hear(24) == b"\x1b[200~one\rtwo[201~\x1b[201~"


def test_too_long_a_paste(room: Room, guest: Any) -> None:
    desk = room.open()
    desk.paste("x" * 40_000)
    assert "40 KiB are too much" in str(desk.page.text_content("#paste .problem"))
    desk.page.click("#paste [value=paste]")
    assert desk.page.is_visible("dialog#paste")


def test_guest_that_dies_leaves_its_last_words(room: Room, guest: Any) -> None:
    desk = room.open()
    guest.say(b"\x1b[?1049h\x1b[31mpanic: \x1b[?25lno root")
    until(lambda: room.way.agent.consoles.tail(room.domu).endswith("no root"))
    guest.die()
    until(lambda: room.way.agent.endings)
    room.way.agent.consoles.ended(room.domu, room.run, {"reason": "crash", "code": 3, "next": "limit"})
    until(lambda: desk.page.is_visible("#end"))
    assert desk.page.text_content("#end .what") == "The guest has crashed."
    assert desk.page.text_content("#end .next") == (
        "Xen's code for it is 3. It has crashed too often and is not started again by itself."
    )
    assert "panic: no root" in desk.page.evaluate(
        "() => Array.from({length: 24}, (_, n) => {"
        " const b = BerthConsole.page.screen.terminal.buffer.active;"
        " return b.getLine(b.baseY + n).translateToString(true) }).join('\\n')"
    )
    desk.page.click("#start")
    until(lambda: "Asked for" in desk.note())
    assert room.pages.posted[-1] == f"/servers/{room.domu}/do/start/"
    again = room.way.boot(6, room.domu, uuid4())
    again.say(b"boots again")
    desk.shows("boots again")
    until(lambda: not desk.page.is_visible("#end"))
    assert desk.note() == ""


def test_server_that_never_ran(room: Room) -> None:
    desk = room.open()
    until(lambda: desk.page.is_visible("#end"))
    assert desk.page.text_content("#end .what") == "The server does not run, and never has."
    first = room.way.boot(6, room.domu, uuid4())
    first.say(b"boots at last")
    desk.shows("boots at last")
    until(lambda: not desk.page.is_visible("#end"))


def test_gateway_that_is_started_again(room: Room, guest: Any) -> None:
    guest.say(b"before ")
    way = room.way
    with serving(Gateway(way.url, lambda: way.key, way.rights)) as port:
        room.pages.gateway = f"ws://127.0.0.1:{port}/ws/console"
        desk = room.open()
        desk.shows("before")
    until(lambda: "The connection was lost" in desk.note())
    guest.say(b"meanwhile ")
    with serving(Gateway(way.url, lambda: way.key, way.rights), port):
        desk.page.click("#note button")
        desk.shows("before meanwhile")
        assert desk.text().count("before") == 1
        until(lambda: desk.note() == "")
        desk.type("k")
        assert guest.hear(1) == b"k"
        room.contexts.pop().close()


def test_gateway_that_cannot_be_reached(room: Room) -> None:
    room.pages.gateway = "ws://127.0.0.1:1/ws/console"
    desk = room.open(wait=False)
    until(lambda: "cannot be reached" in desk.note(), 20)


@pytest.mark.parametrize(
    ("status", "note", "link"),
    [
        (404, "This server is not there any more, or no longer yours.", None),
        (403, "You may no longer look at this console.", None),
        (302, "You are logged out.", "/log-in/?next="),
    ],
    ids=["gone", "no right", "logged out"],
)
def test_ticket_that_is_refused(room: Room, guest: Any, status: int, note: str, link: str | None) -> None:
    room.pages.answers = [status]
    desk = room.open(wait=False)
    until(lambda: desk.note() == note)
    assert desk.page.is_visible("#note a") is (link is not None)
    if link:
        assert str(desk.page.get_attribute("#note a", "href")).startswith(link)


def test_ticket_that_is_late(room: Room, guest: Any) -> None:
    room.pages.answers = [503, 500]
    desk = room.open(wait=False)
    desk.ready()
    assert desk.note() == ""


def test_rights_that_are_gone(room: Room, guest: Any) -> None:
    desk = room.open()
    room.way.rights.access.clear()
    until(lambda: desk.note() == "You may no longer look at this console.")
    desk.type("x")


def test_search(room: Room, guest: Any) -> None:
    guest.say(b"".join(b"line %d\r\n" % n for n in range(100)))
    desk = room.open()
    desk.shows("line 99")
    desk.page.keyboard.press("Control+Shift+F")
    desk.page.fill("#search-text", "line 4")
    desk.page.press("#search-text", "Enter")
    until(lambda: " of 11" in str(desk.page.text_content("#search-found")))
    desk.page.fill("#search-text", "no such")
    desk.page.press("#search-text", "Enter")
    until(lambda: desk.page.text_content("#search-found") == "nothing found")
    desk.page.press("#search-text", "Escape")
    assert not desk.page.is_visible("#search")


def test_much_output_is_drawn_to_its_end(room: Room, guest: Any) -> None:
    desk = room.open()
    line = b"0123456789" * 7 + b"\r\n"
    for _ in range(60):
        guest.say(line * 1000)
    guest.say(b"the end")
    desk.shows("the end")


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1440, 900), (844, 390)])
def test_page_fits(room: Room, guest: Any, width: int, height: int) -> None:
    guest.say(b"0" * 79 + b"!\r\n" + b"\r\n" * 22 + b"last line")
    desk = room.open(viewport={"width": width, "height": height})
    desk.shows("last line")
    wide, high, columns, rows = desk.page.evaluate(
        """() => {
            const terminal = BerthConsole.page.screen.terminal;
            const page = document.documentElement;
            return [page.scrollWidth, page.scrollHeight, terminal.cols, terminal.rows];
        }"""
    )
    assert (wide, high) == (width, height)
    assert (columns, rows) == (80, 24)
    box = desk.page.locator(".xterm-screen").bounding_box()
    assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width


def test_filling_the_page(room: Room, guest: Any) -> None:
    desk = room.open(viewport={"width": 1440, "height": 900})
    desk.page.click("#size")
    size = "() => [BerthConsole.page.screen.terminal.cols, BerthConsole.page.screen.terminal.rows]"
    columns, rows = desk.page.evaluate(size)
    assert columns > 100 and rows > 30
    assert desk.page.text_content("#note button") == f"Type “stty cols {columns} rows {rows}”"
    desk.page.click("#note button")
    command = f"stty cols {columns} rows {rows}\r".encode()
    assert guest.hear(len(command)) == command
    desk.page.click("#size")
    assert desk.page.evaluate("() => BerthConsole.page.screen.terminal.cols") == 80


def test_keys_of_a_phone(room: Room, guest: Any) -> None:
    desk = room.open(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    until(lambda: desk.page.is_visible("#keys"))
    desk.page.tap("#keys [data-arrow=A]")
    assert guest.hear(3) == b"\x1b[A"
    desk.page.tap("#ctrl")
    desk.page.keyboard.type("c")
    assert guest.hear(1) == b"\x03"
    desk.page.keyboard.type("c")
    assert guest.hear(1) == b"c"
    sizes = desk.page.evaluate(
        """() => [...document.querySelectorAll("button, a")].filter((e) => e.offsetParent && !e.closest("#terminal"))
            .map((e) => [e.id || e.textContent, e.getBoundingClientRect().height]).filter((pair) => pair[1] < 40)"""
    )
    assert sizes == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system(room: Room, guest: Any, scheme: str) -> None:
    desk = room.open(color_scheme=scheme)
    body, terminal = desk.page.evaluate(
        "() => [getComputedStyle(document.body).backgroundColor,"
        " BerthConsole.page.screen.terminal.options.theme.background]"
    )
    assert body == {"light": "rgb(251, 251, 249)", "dark": "rgb(17, 21, 26)"}[scheme]
    assert terminal == {"light": "#fbfbf9", "dark": "#11151a"}[scheme]
