"""The web as an agent's blob fetching sees it: `GET /agent/blobs/<sha256>` with Range, and faults to inject."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from vps.xen.description import BlobRef


class BlobWeb:
    """`faults`: "break" (after half of it), "rubbish" (other bytes), "500", "404", "403", "norange"; one a request.

    `asked` has the path and the Range of each request.
    """

    def __init__(self, credential: str) -> None:
        self.blobs: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.asked: list[tuple[str, str]] = []
        web = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web._answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self._credential = f"Bearer {credential}"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def add(self, data: bytes) -> BlobRef:
        sha256 = hashlib.sha256(data).hexdigest()
        self.blobs[sha256] = data
        return BlobRef(sha256, len(data))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range", "")
        self.asked.append((request.path, wanted))
        fault = self.faults.pop(0) if self.faults else ""
        data = self.blobs.get(request.path.removeprefix("/agent/blobs/"))
        if request.headers.get("Authorization") != self._credential:
            fault = "403"
        if fault.isdigit() or data is None:
            request.send_error(int(fault or 404))
            return
        start = 0
        if wanted and fault != "norange":
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            request.send_response(200)
        body = data[start:]
        if fault == "rubbish":
            body = bytes(len(body))
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: len(body) // 2] if fault == "break" else body)
        if fault == "break":
            request.wfile.flush()
            request.connection.close()
