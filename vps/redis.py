"""The web's connection to Redis, and the users of the dom0s there."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import redis
from django.conf import settings

from vps.models import Dom0
from vps.xen.messages import Channels, redis_user


@cache
def client() -> redis.Redis:
    """One pool for each process. A Redis that is away raises redis.RedisError within two seconds."""
    return redis.Redis.from_url(
        settings.BERTH_REDIS_URL, socket_connect_timeout=2, socket_timeout=10, health_check_interval=30
    )


def now_ms() -> int:
    """Redis TIME in milliseconds: the one clock of all not-afters. Raises redis.RedisError."""
    seconds, microseconds = client().time()
    return int(seconds) * 1000 + int(microseconds) // 1000


def admit(dom0: Dom0) -> None:
    """Make or renew the Redis user and the report stream of a dom0. Raises redis.RedisError.

    The stream is made here, so that an agent cannot put another type of key in its place.
    """
    connection = client()
    channels = Channels(dom0.pk)
    connection.execute_command("ACL", "SETUSER", *channels.acl(redis_user(dom0.pk), *dom0.secrets))
    for key in (channels.out, channels.console):
        if connection.type(key) == b"none":
            # The one way to an empty stream: a group makes it, and goes again.
            connection.xgroup_create(key, "made", id="$", mkstream=True)
            connection.xgroup_destroy(key, "made")


def admit_missing(dom0s: Iterable[Dom0]) -> list[Dom0]:
    """Admit again those whom Redis has forgotten (it keeps ACLs in memory only); gives them."""
    known = {name.decode() if isinstance(name, bytes) else name for name in acl_users()}
    forgotten = [
        dom0
        for dom0 in dom0s
        if redis_user(dom0.pk) not in known or client().type(Channels(dom0.pk).out) != b"stream"
    ]
    for dom0 in forgotten:
        admit(dom0)
    return forgotten


def acl_users() -> list[Any]:
    return list(client().execute_command("ACL", "USERS"))
