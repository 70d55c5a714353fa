"""What is sent to the production layout: limited in front, refused in words that arrive, waited for by no thread."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.kernels import linux_bzimage
from tests.production.layout import Layout
from tests.production.people import Sending
from tests.story.browser import Browser

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]
MIB = 1024 * 1024
THREADS = 2 * 2 * 8  # of both web nodes


def test_a_form_that_is_too_large(owner: Browser) -> None:
    in_front = owner.http.post("/kernels/uploads/", content=b"x" * (10 * MIB))
    assert in_front.status_code == 413
    behind = owner.http.post("/kernels/uploads/", content=b"x" * (3 * MIB // 2))
    assert behind.status_code == 413
    assert "A form takes at most" in behind.text


def test_a_build_machine_sends_a_large_file_in_one(site: Layout, owner: Browser, tmp_path: Path) -> None:
    """Larger than a piece, which is what nginx lets through elsewhere."""
    kernel, secret = build_token(owner)
    file = tmp_path / "vmlinuz"
    file.write_bytes(linux_bzimage() + bytes(40 * MIB))
    status, told = curl(site, kernel, secret, file)
    assert (status, told["state"]) == (201, "inspecting")
    assert told["version"].endswith(" 2")


def test_a_refusal_arrives_while_the_file_is_sent(site: Layout, owner: Browser, tmp_path: Path) -> None:
    kernel, _ = build_token(owner)
    file = tmp_path / "vmlinuz"
    file.write_bytes(bytes(40 * MIB))
    for _ in range(20):
        status, told = curl(site, kernel, "berth_nobody_gave_this", file)
        assert (status, "token" in told["error"]) == (401, True)
    sending = Sending(owner, f"late-{secrets.token_hex(3)}", bytes(8 * MIB))
    # After a refusal nginx ends the connection; httpx would take it again.
    headers = {**sending.headers, "Upload-Offset": "1", "Connection": "close"}
    for _ in range(20):
        late = owner.http.put(sending.url, content=bytes(8 * MIB - 1), headers=headers)
        assert (late.status_code, late.json()["offset"]) == (409, 0)


@pytest.mark.parametrize("path", ["/log-in/", "/kernels/uploads/9af74e62-5d15-4049-9f01-2fab4a5691f7/"])
def test_who_sends_slowly_keeps_nobody_waiting(site: Layout, owner: Browser, path: str) -> None:
    url = httpx.URL(site.url)
    with ExitStack() as stack:
        # What Django asks for before it reads a form.
        asked = f"Cookie: csrftoken={'a' * 32}\r\nReferer: {site.url}/log-in/\r\n"
        for _ in range(THREADS + 8):
            plain = stack.enter_context(socket.create_connection((url.host, url.port), timeout=20))
            slow = stack.enter_context(site.tls.wrap_socket(plain, server_hostname=url.host))
            slow.sendall(
                f"POST {path} HTTP/1.1\r\nHost: {url.netloc.decode()}\r\nContent-Length: 100000\r\n"
                f"{asked}Content-Type: application/x-www-form-urlencoded\r\n\r\nlogin=".encode()
            )
        began = time.monotonic()
        assert owner.get("/kernels/").address.endswith("/kernels/")
        assert time.monotonic() - began < 10


def build_token(owner: Browser) -> tuple[str, str]:
    """A line of kernels with one version, and the secret of a token for it."""
    content = linux_bzimage()
    sending = Sending(owner, f"built-{secrets.token_hex(3)}", content)
    sending.send(0, len(content))
    page = owner.get(owner.get(sending.version).link(r"/kernels/[-0-9a-f]{36}/$"))
    made = owner.submit(page.form(action="/tokens/"), name="ci", days="30")
    found = re.search(r"TOKEN=(\S+)", made.html)
    assert found, made.text[:600]
    return httpx.URL(page.address).path, found[1]


def curl(site: Layout, kernel: str, secret: str, file: Path) -> tuple[int, dict[str, str]]:
    """As the page tells it; gives the status and the answer."""
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    done = subprocess.run(
        ["curl", "-sS", "--cacert", str(site.secrets / "ca.crt"), "-w", "\n%{http_code}", "-T", str(file),
         "-H", f"Authorization: Bearer {secret}", f"{site.url}/api{kernel}versions?filename=vmlinuz&sha256={sha256}"],
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + site.words("nginx")
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)
