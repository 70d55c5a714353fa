"""Between the web and the dom0s: messages are repeated, delayed, swapped, lost and replayed, in Redis itself.

An order or a note is taken out of the dom0's list by a second consumer beside the agent; Redis serves who waits
longest, so that about half of them fall into its hands. Reports are copied from the streams, and taken out of them.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import redis

from tests.chaos.tally import Tally
from vps.xen.messages import Channels


@dataclass
class Held:
    """A message that is given back later."""

    due: float
    raw: Any


@dataclass(eq=False)
class Meddler(threading.Thread):
    """What all have in common: a connection, and messages that are held."""

    url: str
    dom0s: list[str]
    tally: Tally
    seed: str
    held: list[Held] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(name=f"meddler {self.seed}", daemon=True)
        self.random = random.Random(self.seed)
        self.stopping = threading.Event()
        self.redis = redis.Redis.from_url(self.url, socket_timeout=5, socket_connect_timeout=2)

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self.give_back()
                self.turn()
            except redis.RedisError:
                time.sleep(0.2)
        end = time.monotonic() + 30
        for held in self.held:
            held.due = 0  # at last all of it, late as it is
        while self.held and time.monotonic() < end:
            try:
                self.give_back()
            except redis.RedisError:
                time.sleep(0.2)
        self.redis.close()

    def give_back(self) -> None:
        for held in [held for held in self.held if held.due <= time.monotonic()]:
            self.put(held.raw)
            self.held.remove(held)

    def hold(self, raw: Any, seconds: float) -> None:
        self.held.append(Held(time.monotonic() + seconds, raw))

    def did(self, what: str) -> None:
        self.tally.add(self.tally.meddled, what)

    def turn(self) -> None:
        raise NotImplementedError

    def put(self, raw: Any) -> None:
        raise NotImplementedError


class Orders(Meddler):
    """Of one dom0. The right end of its list is what is taken next."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.name = f"orders {self.seed}"
        self.key = Channels(self.dom0s[0]).orders
        self.others = [Channels(dom0).orders for dom0 in self.dom0s[1:]]
        self.seen: deque[bytes] = deque(maxlen=60)
        self.swapped: bytes | None = None
        self.let_through: deque[bytes] = deque(maxlen=40)

    def put(self, raw: Any) -> None:
        self.redis.rpush(self.key, raw)

    def turn(self) -> None:
        got: Any = self.redis.brpop([self.key], timeout=1)
        if not got:
            if self.swapped is not None:
                self.put(self.swapped)
                self.swapped = None
            return
        raw = bytes(got[1])
        if raw in self.let_through:  # its agent is away; leave it where it is
            self.put(raw)
            self.stopping.wait(0.3)
            return
        self.let_through.append(raw)
        self.seen.append(raw)
        if self.swapped is not None:
            self.redis.rpush(self.key, self.swapped, raw)
            self.swapped = None
            self.did("orders swapped")
            return
        getattr(
            self, self.random.choice(("_pass", "_repeat", "_repeat", "_delay", "_delay", "_swap", "_replay"))
        )(raw)

    def _pass(self, raw: bytes) -> None:
        self.put(raw)

    def _repeat(self, raw: bytes) -> None:
        self.redis.rpush(self.key, raw, raw)
        self.hold(raw, self.random.uniform(0.5, 10))
        self.did("orders repeated")

    def _delay(self, raw: bytes) -> None:
        self.hold(raw, self.random.uniform(0.5, 8))
        self.did("orders delayed")

    def _swap(self, raw: bytes) -> None:
        self.swapped = raw

    def _replay(self, raw: bytes) -> None:
        """An old one first, and this one to another dom0 as well."""
        self.redis.rpush(self.key, raw, self.random.choice(self.seen))
        self.did("orders replayed")
        if self.others:
            self.redis.rpush(self.random.choice(self.others), raw)
            self.did("orders misled")


class Notes(Meddler):
    """Of one dom0: acknowledgements, who watches, keys. They may be lost."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.name = f"notes {self.seed}"
        self.key = Channels(self.dom0s[0]).line
        self.let_through: deque[bytes] = deque(maxlen=40)

    def put(self, raw: Any) -> None:
        self.redis.rpush(self.key, raw)

    def turn(self) -> None:
        got: Any = self.redis.brpop([self.key], timeout=1)
        if not got:
            return
        raw = bytes(got[1])
        if raw in self.let_through:
            self.put(raw)
            self.stopping.wait(0.3)
            return
        self.let_through.append(raw)
        fate = self.random.random()
        if fate < 0.15:
            self.did("notes lost")
            return
        if fate < 0.3:
            self.hold(raw, self.random.uniform(0.5, 5))
            self.did("notes delayed")
            return
        self.put(raw)
        if fate < 0.4:
            self.hold(raw, self.random.uniform(0.5, 20))
            self.did("notes repeated")


class Reports(Meddler):
    """Of all dom0s: copies come later, some are taken away, some come in another order."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.name = f"reports {self.seed}"
        self.position = {Channels(dom0).out: f"{int(time.time() * 1000)}-0" for dom0 in self.dom0s}
        self.mine: deque[bytes] = deque(maxlen=500)

    def put(self, raw: Any) -> None:
        key, fields = raw
        self.mine.append(self.redis.xadd(key, fields))

    def turn(self) -> None:
        answer: Any = self.redis.xread(self.position, count=50, block=500)
        pairs = answer.items() if isinstance(answer, dict) else answer or []
        for key, entries in pairs:
            name = key.decode()
            if entries and isinstance(entries[0], list):  # RESP3 wraps them once more
                entries = entries[0]
            for number, fields in entries:
                self.position[name] = number.decode()
                if number not in self.mine:
                    self._meddle(name, number, fields)

    def _meddle(self, key: str, number: bytes, fields: dict[bytes, bytes]) -> None:
        fate = self.random.random()
        if fate < 0.08:
            self.put((key, fields))
            self.did("reports repeated")
        elif fate < 0.2:
            self.hold((key, fields), self.random.uniform(0.5, 12))
            self.did("reports repeated late")
        elif fate < 0.4 and self.redis.xdel(key, number):
            # It was not read yet: now it really comes late, or not at all.
            if fate < 0.33:
                self.hold((key, fields), self.random.uniform(0.2, 6))
                self.did("reports delayed")
            else:
                self.did("reports lost")

    def shuffle(self, dom0: str) -> None:
        """What lies in a stream, while nobody reads it, in another order. Of another thread, with its own numbers."""
        key = Channels(dom0).out
        entries: Any = self.redis.xrange(key)
        entries = [entry for entry in entries if self.redis.xdel(key, entry[0])]
        self.random.shuffle(entries)
        for _, fields in entries:
            self.put((key, fields))
        if len(entries) > 1:
            self.did("reports shuffled")
