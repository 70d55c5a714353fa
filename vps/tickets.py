"""Tickets for consoles: one use, 60 s, for one person, one log-in and one server.

The page gets one by a POST and sends it as the first message over its WebSocket, so that it stands in no address
and no log. Redis has it under its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from uuid import UUID

from vps.redis import client

LIFETIME = 60  # seconds


@dataclass(frozen=True)
class Ticket:
    """Who may sit down at which console. `origin` is the page's, as `https://host:port`."""

    user_id: UUID
    session_key: str
    domu_id: UUID
    origin: str


def issue(user_id: UUID, session_key: str, domu_id: UUID, origin: str = "") -> str:
    """Make a ticket. Raises redis.RedisError."""
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
