"""Asks over HTTP until all has answered, beside the thread that looks after the processes.

`python -m vps.quickstart.readiness PORT PATH` asks once, for containers: exit 0 when it said 200.
"""

from __future__ import annotations

import http.client
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """A page on 127.0.0.1 that says 200 when `what` works; `host` is the name to ask it by.

    `enough` judges the body of that answer, where the status alone does not tell.
    """

    what: str
    port: int
    path: str
    host: str
    enough: Callable[[bytes], bool] = lambda body: True

    def headers(self) -> dict[str, str]:
        # As a proxy would say it: a production web sends plain HTTP on to https otherwise.
        return {"Host": self.host, "X-Forwarded-Proto": "https", "Connection": "close"}

    def passes(self, timeout: float = 5.0) -> bool:
        """Whether it said so within `timeout` seconds."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", self.path, headers=self.headers())
            answer = connection.getresponse()
            return answer.status == 200 and self.enough(answer.read(65536))
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class Waiting(threading.Thread):
    """Asks one check after the other until each has passed once; `over` then."""

    def __init__(self, checks: Sequence[Check], pause: float = 0.1) -> None:
        super().__init__(name="waiting", daemon=True)
        self.checks = checks
        self.pause = pause
        self.waits_for = checks[0].what
        self.over = False

    def run(self) -> None:
        for check in self.checks:
            self.waits_for = check.what
            while not check.passes():
                time.sleep(self.pause)
        self.over = True


def main(arguments: list[str]) -> int:
    """One question on the command line; the exit status is the answer."""
    if len(arguments) != 2 or not arguments[0].isdigit():
        print("python -m vps.quickstart.readiness PORT PATH", file=sys.stderr)
        return 2
    return 0 if Check("it", int(arguments[0]), arguments[1], "localhost").passes() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
