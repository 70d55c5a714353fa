"""Who is still sending when a body is refused gets the answer, and holds no thread for long."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LARGE = 16 * 1024 * 1024  # more than the system's buffers hold


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Of a web with one thread that refuses every body."""
    with socket.create_server(("127.0.0.1", 0)) as listening, (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--no-control-socket", "--worker-class", "vps.web_worker.WebWorker",
             "--threads", "1", "--bind", f"fd://{listening.fileno()}", "tests.web.refuses:application"],
            cwd=ROOT,
            pass_fds=[listening.fileno()],
            stdout=log,
            stderr=log,
        )  # fmt: skip
        try:
            yield listening.getsockname()[1]
        finally:
            worker.terminate()
            worker.wait(20)


def ask(port: int, headers: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    sock.sendall(b"PUT / HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n")
    return sock


def answer(sock: socket.socket) -> bytes:
    told = b""
    while piece := sock.recv(4096):
        told += piece
    return told


@pytest.mark.parametrize("connection", [b"Connection: close\r\n", b""], ids=["close", "keep-alive"])
def test_all_is_sent_and_the_answer_read(port: int, connection: bytes) -> None:
    with ask(port, connection + b"Content-Length: %d\r\n" % LARGE) as sock:
        sock.sendall(b"x" * LARGE)
        assert answer(sock).endswith(b"too large")


def test_in_chunks(port: int) -> None:
    with ask(port, b"Connection: close\r\nTransfer-Encoding: chunked\r\n") as sock:
        for _ in range(LARGE // 65536):
            sock.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        sock.sendall(b"0\r\n\r\n")
        assert answer(sock).endswith(b"too large")


def test_who_sends_slowly_holds_the_thread_for_seconds_only(port: int) -> None:
    with ask(port, b"Connection: close\r\nContent-Length: %d\r\n" % LARGE) as slow:
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - began < 60:
                slow.sendall(b"x")
                time.sleep(0.1)
    with ask(port, b"Connection: close\r\n") as sock:
        assert answer(sock).endswith(b"too large")
    assert time.monotonic() - began < 15
