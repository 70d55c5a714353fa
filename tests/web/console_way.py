"""The whole way of a console with everything real but the guest, xl, and who may do what.

Browser's WebSocket - gateway (uvicorn) - Redis - agent's consoles - pty - `guests.py` - the test as the guest.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import redis
import uvicorn
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.agent.guests import XL, Guest, until
from vps.agent.console import Consoles
from vps.console import Gateway, GatewaySettings
from vps.xen.messages import Channels, SigningKey, TrustedKeys

ORIGIN = "http://berth.test"


@dataclass(frozen=True)
class Access:
    """As vps.access.ConsoleAccess; that one needs Django."""

    domu_id: UUID
    dom0_id: UUID
    server_name: str
    person_name: str
    state_word: str
    may_watch: bool
    may_type: bool


@dataclass(frozen=True)
class Seat:
    user_id: UUID
    session_key: str
    domu_id: UUID


class FakeRights:
    """Tickets are made by `admit`; rights are what `change` last said."""

    def __init__(self) -> None:
        self.tickets: dict[str, Seat] = {}
        self.access: dict[Seat, Access] = {}
        self.fails = False
        self.answers = threading.Event()
        self.answers.set()
        self.origins = {ORIGIN}

    def origin_is_ours(self, origin: str, host: str) -> bool:
        return origin in self.origins

    def admit(self, dom0: UUID, domu: UUID, name: str = "Ana", *, may_type: bool = True) -> tuple[str, Seat]:
        seat = Seat(uuid4(), f"session of {name}", domu)
        self.access[seat] = Access(domu, dom0, "web1", name, "running", True, may_type)
        return self.again(seat), seat

    def again(self, seat: Seat) -> str:
        ticket = uuid4().hex
        self.tickets[ticket] = seat
        return ticket

    def change(self, seat: Seat, **changes: Any) -> None:
        self.access[seat] = replace(self.access[seat], **changes)

    def redeem(self, text: str, origin: str) -> tuple[Seat, Access | None] | None:
        seat = self.tickets.pop(text, None)
        return (seat, self.access.get(seat)) if seat else None

    def check(self, seats: Collection[Seat]) -> Mapping[Seat, Access]:
        self.answers.wait(30)
        if self.fails:
            raise OSError("The database is away")
        return {seat: self.access[seat] for seat in seats if seat in self.access}


class Agent:
    """The part of an agent that has to do with consoles."""

    def __init__(self, url: str, folder: Path, dom0: UUID, keys: TrustedKeys) -> None:
        self.dom0 = dom0
        self.state = folder / "guests"
        self.state.mkdir(exist_ok=True)
        self._channels = Channels(dom0)
        self.keys = keys
        self._out = redis.Redis.from_url(url, protocol=2)
        self._in = redis.Redis.from_url(url, protocol=2)
        self._stop = threading.Event()
        self.endings: list[tuple[UUID, UUID]] = []
        self.consoles = Consoles(
            folder / "consoles",
            [*XL, "--state", str(self.state)],
            self._send,
            lambda domu, run: self.endings.append((domu, run)),
        )
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _send(self, entry: Mapping[str, bytes]) -> None:
        self._out.xadd(self._channels.console, dict(entry), maxlen=512, approximate=True)

    def _listen(self) -> None:
        while not self._stop.is_set():
            found = self._in.brpop(self._channels.line, timeout=0.1)
            if found:
                self.consoles.note(self.keys.note(found[1].decode(), self.dom0))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.consoles.close()
        self._out.close()
        self._in.close()


class Browser:
    """A WebSocket client as the page is one: acknowledges what it got, keeps words and bytes."""

    def __init__(self, port: int, ticket: str | None, *, origin: str = ORIGIN, first: object = None) -> None:
        self._stack = ExitStack()
        self.socket: ClientConnection = self._stack.enter_context(
            connect(f"ws://127.0.0.1:{port}/ws/console", origin=origin, compression=None, max_size=None)  # type: ignore[arg-type]
        )
        self.words: list[dict[str, Any]] = []
        self.data = b""
        self.took = True
        self.code: int | None = None
        if first is None and ticket is not None:
            first = {"ticket": ticket}
        if first is not None:
            with suppress(ConnectionClosed):  # `read` says with which code
                self.socket.send(first if isinstance(first, (str, bytes)) else json.dumps(first))

    def read(self, seconds: float = 0.02) -> None:
        """Take what has come, waiting for it a little."""
        give_up = time.monotonic() + seconds
        try:
            while (left := give_up - time.monotonic()) > 0:
                message = self.socket.recv(timeout=left)
                if isinstance(message, bytes):
                    self.data += message
                    if self.took:
                        self.socket.send(json.dumps({"type": "took", "bytes": len(self.data)}))
                else:
                    self.words.append(json.loads(message))
        except TimeoutError:
            return
        except ConnectionClosed as error:
            self.code = error.rcvd.code if error.rcvd else 1006

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [word for word in self.words if word["type"] == kind]

    def wait(self, kind: str, count: int = 1) -> dict[str, Any]:
        """The `count`th word of a kind."""

        def look() -> bool:
            self.read()
            return len(self.of(kind)) >= count

        until(look)
        return self.of(kind)[count - 1]

    def wait_for(self, data: bytes) -> None:
        def look() -> bool:
            self.read()
            return data in self.data

        until(look)

    def wait_closed(self) -> int:
        def look() -> bool:
            self.read()
            return self.code is not None

        until(look)
        assert self.code is not None
        return self.code

    def say(self, **word: object) -> None:
        self.socket.send(json.dumps(word))

    def type(self, data: bytes) -> None:
        self.socket.send(data)

    def close(self) -> None:
        self._stack.close()


@dataclass
class Way:
    """The whole of it."""

    url: str
    folder: Path
    rights: FakeRights
    key: SigningKey
    port: int
    dom0: UUID = field(default_factory=uuid4)
    agent: Agent = None  # type: ignore[assignment]
    browsers: list[Browser] = field(default_factory=list)
    guests: list[Guest] = field(default_factory=list)

    def roll_key(self) -> None:
        """As `roll_signing_key` does to its end: the agent trusts the new key, and the old one no more."""
        self.key = SigningKey.generate()
        self.agent.keys = TrustedKeys([self.key.public_text()])

    def start_agent(self) -> Agent:
        self.agent = Agent(self.url, self.folder, self.dom0, TrustedKeys([self.key.public_text()]))
        return self.agent

    def boot(self, domid: int, domu: UUID, run: UUID | None = None) -> Guest:
        guest = Guest(self.agent.state, domid)
        self.guests.append(guest)
        waiting = threading.Thread(target=guest.accept)
        waiting.start()
        self.agent.consoles.attach(domu, "web1", run or uuid4(), domid)
        waiting.join()
        return guest

    def browse(self, domu: UUID, name: str = "Ana", *, may_type: bool = True, port: int = 0) -> Browser:
        """Somebody at the console of `domu`, whose replay is over."""
        ticket, _ = self.rights.admit(self.dom0, domu, name, may_type=may_type)
        browser = self.open(ticket, port=port)
        browser.wait("replayed")
        return browser

    def open(self, ticket: str | None, port: int = 0, **more: Any) -> Browser:
        browser = Browser(port or self.port, ticket, **more)
        self.browsers.append(browser)
        return browser

    def close(self) -> None:
        for browser in self.browsers:
            browser.close()
        if self.agent is not None:
            self.agent.close()
        for guest in self.guests:
            guest.die()


@contextmanager
def serving(gateway: Gateway, port: int = 0) -> Iterator[int]:
    """Serve a gateway on a port of loopback, in a thread; gives the port."""
    config = uvicorn.Config(
        gateway, host="127.0.0.1", port=port, ws="websockets-sansio", loop="asyncio", http="h11", log_config=None,
        ws_per_message_deflate=False, lifespan="on",
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@contextmanager
def whole_way(url: str, folder: Path, settings: GatewaySettings | None = None) -> Iterator[Way]:
    way = Way(url, folder, FakeRights(), SigningKey.generate(), 0)
    with serving(Gateway(url, lambda: way.key, way.rights, settings)) as port:
        way.port = port
        way.start_agent()
        try:
            yield way
        finally:
            way.close()
