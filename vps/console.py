"""The WebSocket gateway: from a browser to a dom0's consoles and back. A plain ASGI application.

What passes in both directions stands in docs/design.md, Consoles. Rights are asked of `Rights`, outside the event
loop; who has lost them is shut out within a second. Keys of somebody who only watches go nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import redis.asyncio as redis
from redis.exceptions import RedisError

from vps.console_line import Clock, Dom0Line, Entry
from vps.console_people import REFRESH, Limits, People, Person, TooMany
from vps.console_seat import Close, Connection, ProtocolBroken, Resume
from vps.xen.messages import NoteKind, SigningKey

if TYPE_CHECKING:
    from vps.access import ConsoleAccess
    from vps.console_rights import Seat

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

FIRST_WITHIN = 5.0  # seconds for the ticket
STRANGERS = 200  # connections at once that have not shown a ticket yet
CHECK_EVERY = 0.6  # seconds; with the query's own time within the second that is promised
CHECK_FAILS_FOR = 10.0  # seconds without an answer about rights, after which all are shut out
TICK = 0.5  # seconds
PEOPLE_EVERY = 1.0

log = logging.getLogger(__name__)


class Rights(Protocol):
    """Who may come and who may stay. Called in threads."""

    def origin_is_ours(self, origin: str, host: str) -> bool: ...

    def redeem(self, text: str, origin: str) -> tuple[Seat, ConsoleAccess | None] | None: ...

    def check(self, seats: Collection[Seat]) -> Mapping[Seat, ConsoleAccess]: ...


@dataclass(frozen=True)
class GatewaySettings:
    """What may be set. `idle` in seconds without a key."""

    limits: Limits = field(default_factory=Limits)
    idle: float = 3600.0
    connections: int = 500


class Gateway:
    """The application. Everything of a process: connections, one line for each dom0, the loops."""

    def __init__(
        self,
        redis_url: str,
        key: Callable[[], SigningKey],
        rights: Rights,
        settings: GatewaySettings | None = None,
    ) -> None:
        self._url = redis_url
        self._key = key
        self._rights = rights
        self._settings = settings or GatewaySettings()
        self._connections: dict[str, Connection] = {}
        self._lines: dict[UUID, Dom0Line] = {}
        self._strangers = 0
        self._checked = time.monotonic()
        self._asking: asyncio.Task[Mapping[Seat, ConsoleAccess]] | None = None  # about rights
        self._said_present = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _start(self) -> None:
        if self._tasks:
            return
        self._redis = redis.Redis.from_url(
            self._url, protocol=2, socket_connect_timeout=2, socket_timeout=15, health_check_interval=30
        )
        self._clock = Clock(self._redis)
        self._people = People(self._redis, self._clock, self._settings.limits)
        loops = ((self._check_rights, CHECK_EVERY), (self._tick, TICK), (self._show_people, PEOPLE_EVERY))
        self._tasks = [asyncio.create_task(_forever(turn, pause)) for turn, pause in loops]

    async def _stop(self) -> None:
        for line in self._lines.values():
            line.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._redis.aclose()

    async def _http(self, scope: Scope, send: Send) -> None:
        """`/healthz` says whether Redis answers; there is nothing else."""
        status, body = 404, b"There are only consoles here.\n"
        if scope["path"] == "/healthz":
            self._start()
            status, body = 200, b"ok\n"
            try:
                await asyncio.wait_for(self._redis.ping(), 2)
            except (RedisError, OSError, TimeoutError):
                status, body = 503, b"Redis does not answer.\n"
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._start()
        await receive()  # websocket.connect
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        origin, host = headers.get(b"origin", ""), headers.get(b"host", "")
        if scope["path"] != "/ws/console" or not self._rights.origin_is_ours(origin, host):
            log.info("A console was refused to the origin %r at %r.", origin, host)
            await send({"type": "websocket.close", "code": 4403})
            return
        await send({"type": "websocket.accept"})
        try:
            await self._serve(origin, receive, send)
        except (Close, ProtocolBroken) as error:
            await _say_bye(send, error.code, error.why)
        except OSError:  # the browser went while something was on its way to it
            log.debug("A browser went away.")

    async def _serve(self, origin: str, receive: Receive, send: Send) -> None:
        if len(self._connections) >= self._settings.connections or self._strangers >= STRANGERS:
            raise Close(4429, "gateway")
        self._strangers += 1
        try:
            seat, access, resume = await self._admit(origin, receive)
        finally:
            self._strangers -= 1
        connection = Connection(seat, access, send, resume)
        try:
            await self._enter(connection)
            log.info("%s opened the console of %s.", access.person_name, access.server_name)
            await connection.serve(receive)
        finally:
            await self._leave(connection)
            log.info("%s left the console of %s.", access.person_name, access.server_name)

    async def _admit(self, origin: str, receive: Receive) -> tuple[Seat, ConsoleAccess, Resume | None]:
        """Who comes with a good ticket. Raises Close."""
        ticket, resume = await _first(receive)
        try:
            found = await asyncio.to_thread(self._rights.redeem, ticket, origin)
        except Exception as error:  # Redis or database are away; the browser comes again
            log.warning("A ticket cannot be redeemed: %s", error)
            raise Close(1012, "later") from error
        if found is None:
            raise Close(4401, "ticket")
        seat, access = found
        if access is None or not access.may_watch:
            raise Close(4403, "rights")
        return seat, access, resume

    async def _enter(self, connection: Connection) -> None:
        seat, access = connection.seat, connection.access
        try:
            there = (await self._people.at([seat.domu_id]))[seat.domu_id]
            me = str(seat.user_id)
            if any(person.mode == "typing" and person.user != me for person in there):
                connection.mode = "watching"  # nobody else is disturbed by opening a page
            await self._people.enter(seat.domu_id, seat.user_id, _person(connection))
            line = self._lines.get(access.dom0_id)
            if line is None:
                line = self._lines[access.dom0_id] = Dom0Line(
                    self._redis, self._clock, self._key, access.dom0_id, self._hand_on
                )
            # Before anything is waited for: whoever leaves now must see that the line is used.
            self._connections[connection.id] = connection
            connection.line = line
            await line.open()
        except TooMany as error:
            raise Close(4429, str(error)) from error
        except (RedisError, OSError) as error:
            raise Close(1012, "later") from error
        connection.welcome()
        await connection.ask()
        with contextlib.suppress(RedisError, OSError):
            await self._tell_people([connection.seat.domu_id])

    async def _leave(self, connection: Connection) -> None:
        self._connections.pop(connection.id, None)
        seat, line = connection.seat, connection.line
        if line is not None:
            await line.say(NoteKind.UNWATCH, {"watch": connection.id}, seconds=5)
            if not any(other.line is line for other in self._connections.values()):
                line.close()
                self._lines.pop(line.dom0, None)
                await line.trim()
        with contextlib.suppress(RedisError, OSError):
            await self._people.leave(seat.domu_id, seat.user_id, connection.id)
            await self._tell_people([seat.domu_id])

    def _hand_on(self, entry: Entry) -> None:
        for connection in self._connections.values():
            if connection.domu == entry.domu:
                connection.take(entry)

    async def _check_rights(self) -> None:
        """Shut out who has lost their rights; and all, when nobody can say for long who has."""
        connections = list(self._connections.values())
        if not connections:
            self._checked = time.monotonic()
            return
        try:
            found = await self._ask_rights({one.seat for one in connections})
        except Exception as error:
            log.warning("Rights cannot be asked: %s", error)
            if time.monotonic() - self._checked > CHECK_FAILS_FOR:
                for connection in connections:
                    connection.end(Close(1012, "later"))
            return
        self._checked = time.monotonic()
        for connection in connections:
            connection.heed(found.get(connection.seat))

    async def _ask_rights(self, seats: set[Seat]) -> Mapping[Seat, ConsoleAccess]:
        """One question at a time. Raises TimeoutError for a database that hangs, and what the question raises."""
        async with asyncio.timeout(CHECK_FAILS_FOR):
            if self._asking is not None:  # it hung: its answer is of another time
                await asyncio.wait([self._asking])
            self._asking = asyncio.create_task(asyncio.to_thread(self._rights.check, seats))
            await asyncio.wait([self._asking])
        asked, self._asking = self._asking, None
        return asked.result()

    async def _tick(self) -> None:
        """Renew watches, notice silence and idleness."""
        for connection in list(self._connections.values()):
            if connection.idle > self._settings.idle:
                connection.end(Close(4408, "idle"))
            else:
                await connection.tick()

    async def _show_people(self) -> None:
        connections = list(self._connections.values())
        if not connections:
            return
        changed = [one for one in connections if one.mode_changed()]
        if time.monotonic() - self._said_present > REFRESH:
            changed, self._said_present = connections, time.monotonic()
        with contextlib.suppress(RedisError, OSError):
            if changed:
                await self._say_present(changed)
            await self._tell_people({one.seat.domu_id for one in connections})

    async def _say_present(self, connections: Collection[Connection]) -> None:
        await self._people.stay([(one.seat.domu_id, one.seat.user_id, _person(one)) for one in connections])

    async def _tell_people(self, domus: Collection[UUID]) -> None:
        found = await self._people.at(domus)
        for connection in list(self._connections.values()):
            if (people := found.get(connection.seat.domu_id)) is not None:
                connection.show_people(
                    [{"name": one.name, "mode": one.mode, "you": one.id == connection.id} for one in people]
                )


async def _forever(turn: Callable[[], Awaitable[None]], pause: float) -> None:
    """Call again and again: what fails once must not end the checks for good."""
    while True:
        await asyncio.sleep(pause)
        try:
            await turn()
        except Exception:
            log.exception("A turn of %s failed.", turn)


def _person(connection: Connection) -> Person:
    seat, access = connection.seat, connection.access
    return Person(connection.id, access.person_name, connection.mode, str(seat.user_id))


async def _first(receive: Receive) -> tuple[str, Resume | None]:
    """The first message: the ticket, and where a browser that comes again stopped."""
    try:
        message = await asyncio.wait_for(receive(), FIRST_WITHIN)
    except TimeoutError as error:
        raise Close(4401, "late") from error
    if message["type"] == "websocket.disconnect":
        raise Close(1000, "gone")
    text = message.get("text")
    try:
        if text is None or len(text) > 2048:
            raise ValueError("The first message is the ticket.")
        value = json.loads(text)
        ticket = value["ticket"]
        if not isinstance(ticket, str) or not 1 <= len(ticket) <= 128:
            raise ValueError("A ticket is a short text.")
        resume = Resume.of(value) if "run" in value else None
    except (ValueError, KeyError, TypeError) as error:
        raise Close(4401, "ticket") from error
    return ticket, resume


async def _say_bye(send: Send, code: int, why: str) -> None:
    """Say why, then close. A browser that takes nothing any more is not waited for."""
    with contextlib.suppress(OSError, RuntimeError, TimeoutError):
        text = json.dumps({"type": "bye", "why": why})
        await asyncio.wait_for(send({"type": "websocket.send", "text": text}), 1)
    with contextlib.suppress(OSError, RuntimeError, TimeoutError):
        await asyncio.wait_for(send({"type": "websocket.close", "code": code, "reason": why}), 1)
