"""The console's page as Django renders it, with its policy, before a gateway and guests that a test plays.

Only log-in and database are left out: pages and tickets come from a small server of its own.
"""

from __future__ import annotations

import json
import mimetypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

from csp.utils import build_policy
from django.contrib.staticfiles import finders
from django.template.loader import render_to_string
from django.test import RequestFactory

from tests.web.console_way import FakeRights, Seat, Way
from vps.models import Dom0, Domu
from vps.views.console import page_settings, words
from vps.xen.reconcile import Status


class Pages:
    """What the page's server knows. `answers` overrides the status of the next tickets."""

    def __init__(self, rights: FakeRights, dom0: UUID, gateway: str) -> None:
        self.rights = rights
        self.dom0 = dom0
        self.gateway = gateway
        self.seats: dict[tuple[UUID, str], Seat] = {}
        self.may_type: dict[str, bool] = {}
        self.answers: list[int] = []
        self.posted: list[str] = []

    def ticket(self, domu: UUID, name: str) -> str:
        if (domu, name) in self.seats:
            return self.rights.again(self.seats[domu, name])
        ticket, seat = self.rights.admit(self.dom0, domu, name, may_type=self.may_type.get(name, True))
        self.seats[domu, name] = seat
        return ticket

    def page(self, domu_id: UUID) -> str:
        domu = Domu(id=domu_id, name="web1", dom0=Dom0(name="dom0-a", simulated=True))
        domu.open_operations = []  # type: ignore[attr-defined]
        told = {**page_settings(domu), "socket": self.gateway}
        context = {"domu": domu, "statuses": list(Status), "settings": told, "words": words()}
        return render_to_string("console/console.html", context, RequestFactory().get("/"))


def _handler(pages: Pages) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.startswith("/static/"):
                found = finders.find(self.path.removeprefix("/static/"))
                if found is None:
                    return self.answer(404, b"", "text/plain")
                kind = mimetypes.guess_type(str(found))[0] or "application/octet-stream"
                return self.answer(200, Path(str(found)).read_bytes(), kind)
            if self.path.startswith("/servers/") and self.path.endswith("/console/"):
                page = pages.page(UUID(self.path.split("/")[2]))
                return self.answer(200, page.encode(), "text/html; charset=utf-8")
            return self.answer(200, b"another page", "text/plain")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            pages.posted.append(self.path)
            status = pages.answers.pop(0) if pages.answers else 200
            if not self.path.endswith("/ticket/") or status != 200:
                return self.answer(status, b"{}", "application/json")
            name = self.headers.get("Cookie", "name=Ana").partition("name=")[2].split(";")[0] or "Ana"
            ticket = pages.ticket(UUID(self.path.split("/")[2]), name)
            return self.answer(200, json.dumps({"ticket": ticket}).encode(), "application/json")

        def answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if status == 302:
                self.send_header("Location", "/log-in/")
            policy = build_policy(update={"style-src": ["'unsafe-inline'"], "connect-src": [pages.gateway]})
            self.send_header("Content-Security-Policy", str(policy))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@contextmanager
def serving_pages(way: Way) -> Iterator[tuple[Pages, str]]:
    """Serve the pages on a free port; gives what they know, and their address."""
    pages = Pages(way.rights, way.dom0, f"ws://127.0.0.1:{way.port}/ws/console")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(pages))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    origin = f"http://localhost:{server.server_address[1]}"
    way.rights.origins.add(origin)
    try:
        yield pages, origin
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
