"""What befalls the parts of a product: killed (-9), stopped for some seconds, and a Redis that forgets everything."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time

import redis

from tests.chaos.meddler import Reports
from tests.chaos.tally import Tally
from tests.product import Product
from vps.quickstart import redis_server


class Havoc(threading.Thread):
    """Strikes each time some more buttons were pressed. The supervisor starts again what was killed."""

    def __init__(self, product: Product, tally: Tally, reports: Reports, seed: str, every: int) -> None:
        super().__init__(name=f"havoc {seed}", daemon=True)
        self.product, self.tally, self.reports, self.every = product, tally, reports, every
        self.random = random.Random(seed)
        self.stopping = threading.Event()
        self.agents = sorted(name for name in product.running()["children"] if name.startswith("agent"))
        self.strikes: list[str] = []

    def run(self) -> None:
        at = self.every
        while not self.stopping.wait(0.1):
            if self.tally.pressed.total() >= at:
                self.strike(self._next())
                at += self.random.randint(1, 2 * self.every - 1)

    def _next(self) -> str:
        """Each once in a random order, then all of them again: a short storm has everything, too."""
        if not self.strikes:
            agents = [f"kill {name}" for name in self.agents]
            parts = ["kill web", "kill gateway", "kill worker", "kill collector", "kill redis"]
            self.strikes = [
                *agents,
                *parts,
                "flush",
                "forget users",
                "stop collector",
                "stop agent",
                "kill pair",
            ]
            self.random.shuffle(self.strikes)
        return self.strikes.pop()

    def strike(self, what: str) -> None:
        verb, _, name = what.partition(" ")
        with contextlib.suppress(
            KeyError, ProcessLookupError, FileNotFoundError, redis.RedisError, ValueError
        ):
            if what == "flush":
                with redis.Redis.from_url(self.product.redis_url, socket_timeout=5) as client:
                    client.flushall()
            elif what == "forget users":
                self._forget_users()
            elif what == "kill pair":
                # Nobody who could tell the other what it missed.
                self.product.kill(self.random.choice(self.agents))
                self.product.kill(self.random.choice(("collector", "redis", "web")))
            elif what == "stop agent":
                self._hang(self.random.choice(self.agents), self.random.uniform(2, 5))
            elif what == "stop collector":
                self._hang("collector", self.random.uniform(1, 3))
            else:
                assert verb == "kill"
                self.product.kill(name)
            self.tally.add(self.tally.struck, what)

    def _forget_users(self) -> None:
        """Redis comes back as on its first day: without keys, and without the users of the dom0s."""
        password = self.product.redis_url.partition("://:")[2].partition("@")[0]
        folder = self.product.data / "redis"
        (folder / redis_server.ACL_FILE).write_text(redis_server.users(password))
        self.product.kill("redis")

    def _hang(self, name: str, seconds: float) -> None:
        """A part that hangs, while what it does not take piles up; the reports are put into another order then."""
        pid = self.product.child(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
            if name == "collector":
                for dom0 in self.reports.dom0s:
                    self.reports.shuffle(dom0)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
