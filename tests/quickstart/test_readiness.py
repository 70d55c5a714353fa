from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from vps.quickstart.ports import free_port
from vps.quickstart.readiness import Check, Waiting, main


class Page(http.server.BaseHTTPRequestHandler):
    """404 until `asked` is three, as of something that starts slowly."""

    asked = 0
    headers_seen: dict[str, str]

    def do_GET(self) -> None:
        type(self).asked += 1
        type(self).headers_seen = dict(self.headers)
        self.send_response(200 if self.path == "/healthz" and self.asked >= 3 else 404)
        self.end_headers()
        self.wfile.write(b"%d" % self.asked)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def page() -> Iterator[tuple[type[Page], int]]:
    kind = type("Fresh", (Page,), {"asked": 0})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield kind, server.server_port
        server.shutdown()
        thread.join()


def test_it_is_asked_until_it_says_so(page: tuple[type[Page], int]) -> None:
    kind, port = page
    waiting = Waiting([Check("the page", port, "/healthz", "localhost:1")], pause=0.001)
    waiting.start()
    waiting.join(20)
    assert waiting.over
    assert kind.asked == 3
    assert kind.headers_seen["Host"] == "localhost:1"


def test_the_body_may_have_to_be_enough(page: tuple[type[Page], int]) -> None:
    _, port = page
    check = Check("the page", port, "/healthz", "localhost", lambda body: int(body) >= 5)
    assert [check.passes() for _ in range(6)] == [False] * 4 + [True] * 2


def test_a_container_asks_once(page: tuple[type[Page], int]) -> None:
    kind, port = page
    kind.asked = 5
    assert main([str(port), "/healthz"]) == 0
    assert main([str(port), "/other"]) == 1
    assert main([str(free_port()), "/healthz"]) == 1


@pytest.mark.parametrize("words", [[], ["8000"], ["http", "/healthz"], ["1", "2", "3"]])
def test_a_wrong_question(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "PORT PATH" in capsys.readouterr().err
