"""Stand-ins for the children of the quick start: `stand_in.py KIND [FD]`."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import time


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/environment"):
            body = json.dumps(dict(os.environ)).encode()
        else:
            body = json.dumps({"dom0s_heard": 1}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve(descriptor: int) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=descriptor)
    server.serve_forever()


def main(kind: str, descriptor: str = "") -> None:
    if kind in ("serve", "deaf"):
        if kind == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        serve(int(descriptor))
    elif kind == "agent":  # leaves a domain behind that outlives it
        subprocess.Popen([sys.executable, __file__, "simulated"], start_new_session=True)
        time.sleep(3600)
    elif kind in ("simulated", "idle"):
        time.sleep(3600)
    elif kind == "broken":
        sys.exit("this one is broken")


main(*sys.argv[1:])
