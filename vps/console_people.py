"""Who is at which console, over all gateways: a hash in Redis for each server, a sorted set for each person.

What a gateway that was killed has left there is too old after STALE seconds, and counts no more.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

import redis.asyncio as redis

from vps.console_line import Clock

REFRESH = 5.0  # seconds
STALE = 15.0


class TooMany(Exception):
    """A person or a server has as many consoles open as may be. The text is "user" or "server"."""


@dataclass(frozen=True)
class Person:
    """Somebody at a console. `id` is the connection's, `user` the person's."""

    id: str
    name: str
    mode: str
    user: str


@dataclass(frozen=True)
class Limits:
    """How many consoles may be open at once."""

    per_user: int = 10
    per_server: int = 20


class People:
    """Presence of this gateway's connections, and of the others'."""

    def __init__(self, client: redis.Redis, clock: Clock, limits: Limits) -> None:
        self._redis = client
        self._clock = clock
        self._limits = limits

    async def enter(self, domu: UUID, user: UUID, person: Person) -> None:
        """Note that somebody is there. Raises TooMany, and RedisError."""
        now = await self._clock.now_ms() / 1000
        server, own = _server(domu), _user(user)
        pipe = self._redis.pipeline(transaction=True)
        pipe.zremrangebyscore(own, "-inf", now)
        pipe.zadd(own, {person.id: now + STALE})
        pipe.zcard(own)
        pipe.expire(own, int(STALE) * 2)
        pipe.hset(server, person.id, _entry(person, now))
        pipe.hgetall(server)
        pipe.expire(server, int(STALE) * 2)
        answers = await pipe.execute()
        there = _read(answers[5], now)
        gone = [field for field in answers[5] if field.decode() not in {one.id for one in there}]
        if gone:
            await self._redis.hdel(server, *gone)
        for count, limit, who in (
            (answers[2], self._limits.per_user, "user"),
            (len(there), self._limits.per_server, "server"),
        ):
            if count > limit:
                await self.leave(domu, user, person.id)
                raise TooMany(who)

    async def stay(self, present: Collection[tuple[UUID, UUID, Person]]) -> None:
        """Say again who is there, or that a mode has changed. Raises RedisError."""
        now = await self._clock.now_ms() / 1000
        pipe = self._redis.pipeline(transaction=False)
        for domu, user, person in present:
            pipe.hset(_server(domu), person.id, _entry(person, now))
            pipe.expire(_server(domu), int(STALE) * 2)
            pipe.zadd(_user(user), {person.id: now + STALE})
            pipe.expire(_user(user), int(STALE) * 2)
        await pipe.execute()

    async def leave(self, domu: UUID, user: UUID, id: str) -> None:
        """Somebody went. Raises RedisError."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hdel(_server(domu), id)
        pipe.zrem(_user(user), id)
        await pipe.execute()

    async def at(self, domus: Collection[UUID]) -> dict[UUID, list[Person]]:
        """Who is at these consoles, in the order of their coming. Raises RedisError."""
        order = list(domus)
        pipe = self._redis.pipeline(transaction=False)
        for domu in order:
            pipe.hgetall(_server(domu))
        answers = await pipe.execute() if order else []
        now = await self._clock.now_ms() / 1000
        return {domu: _read(answer, now) for domu, answer in zip(order, answers, strict=True)}


def _server(domu: UUID) -> str:
    return f"console:people:{domu}"


def _user(user: UUID) -> str:
    return f"console:user:{user}"


def _entry(person: Person, now: float) -> str:
    return json.dumps({"name": person.name, "mode": person.mode, "user": person.user, "until": now + STALE})


def _read(answer: dict[bytes, bytes], now: float) -> list[Person]:
    people = []
    for field, value in sorted(answer.items()):
        told = json.loads(value)
        if told["until"] > now:
            people.append(Person(field.decode(), told["name"], told["mode"], told.get("user", "")))
    return people
