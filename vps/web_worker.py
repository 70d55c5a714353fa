"""The gunicorn worker of the web: threads, and refusals that arrive."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

_PATIENCE = 2.0  # seconds for the sender to read the answer; nginx needs a millisecond


class WebWorker(ThreadWorker):
    """gunicorn's threads. What is left of a body that was refused is thrown away until its sender has the answer.

    gunicorn throws away 64 KiB and closes with the rest unread. The system then resets the connection, and who was
    still sending sees that instead of the answer: nginx makes "502 Bad Gateway" of it. See RFC 9112, 9.6.

    Head and body of an answer leave together: curl stops sending at the head of a refusal, and by HTTP/2 nginx would
    then give up the body.
    """

    def handle(self, conn: Any) -> Any:
        """Answer one request; False: the connection ends. Runs in a thread of the pool."""
        _cork(conn.sock, True)
        goes_on = super().handle(conn)
        _cork(conn.sock, False)
        if goes_on is False and _unread(conn.parser):
            _throw_away(conn.sock)
        return goes_on


def _cork(sock: socket.socket, on: bool) -> None:
    """Hold back what is less than a packet, for 200 ms at most (tcp(7)), or let it go. Linux alone can."""
    with contextlib.suppress(OSError, AttributeError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)


def _unread(parser: Any) -> bool:
    """Whether the last request has a body that may not have been read to its end."""
    reader = getattr(getattr(getattr(parser, "mesg", None), "body", None), "reader", None)
    # Only a reader of a Content-Length knows how much is left.
    return reader is not None and getattr(reader, "length", 1) > 0


def _throw_away(sock: socket.socket) -> None:
    end = time.monotonic() + _PATIENCE
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        while (left := end - time.monotonic()) > 0:
            sock.settimeout(left)
            if not sock.recv(65536):
                return
