"""Tickets for consoles: one use, 60 s, for one person, one log-in and one server.

The page gets one by a POST and sends it as the first message over its WebSocket, so that it stands in no address
and no log. Redis has it under its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from dataclasses import dataclass
from uuid import UUID

from vps.redis import client

LIFETIME = 60  # seconds
PER_MINUTE = 60  # tickets for one person; a browser that reconnects takes one each time


class TooManyTickets(Exception):
    """This person has asked for PER_MINUTE tickets within a minute."""


@dataclass(frozen=True)
class Ticket:
    """Who may sit down at which console. `origin` is the page's, as `https://host:port`."""

    user_id: UUID
    session_key: str
    domu_id: UUID
    origin: str


def issue(user_id: UUID, session_key: str, domu_id: UUID, origin: str = "") -> str:
    """Make a ticket. Raises TooManyTickets, and redis.RedisError."""
    count = f"console:tickets:{user_id}:{int(time.time()) // 60}"
    pipe = client().pipeline()
    pipe.incr(count)
    pipe.expire(count, 120)
    if pipe.execute()[0] > PER_MINUTE:
        raise TooManyTickets
    ticket = secrets.token_urlsafe(32)
    value = {"user": str(user_id), "session": session_key, "domu": str(domu_id), "origin": origin}
    client().set(_key(ticket), json.dumps(value), ex=LIFETIME)
    return ticket


def redeem(ticket: str) -> Ticket | None:
    """Take a ticket; None when it was taken before, is too old or never was. Raises redis.RedisError."""
    value = client().getdel(_key(ticket))
    if value is None:
        return None
    told = json.loads(value)
    return Ticket(UUID(told["user"]), told["session"], UUID(told["domu"]), told["origin"])


def _key(ticket: str) -> str:
    return "console:ticket:" + hashlib.sha256(ticket.encode()).hexdigest()
