"""The agent's connections to Redis."""

from __future__ import annotations

import time
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from vps.agent.clock import Clock
from vps.agent.config import Config
from vps.xen.messages import redis_user

RedisError = redis.RedisError


def connect(config: Config, *, patience: float = 10.0) -> redis.Redis:
    """A client of its own connections; `patience` in seconds for one answer. Connects when it is first used.

    Only commands of the dom0's ACL are given: RESP2 and no `driver_info`, for HELLO and CLIENT are refused.
    Nothing is tried twice in here: a BLMOVE whose answer was lost has moved an order all the same.
    """
    tls: dict[str, Any] = {"ssl_ca_certs": str(config.redis_ca)} if config.redis_ca else {}
    return redis.Redis.from_url(
        config.redis,
        **tls,
        username=redis_user(config.dom0),
        password=config.secret,
        protocol=2,
        driver_info=None,
        retry=Retry(NoBackoff(), 0),
        socket_connect_timeout=5,
        socket_timeout=patience,
        socket_keepalive=True,
        health_check_interval=0,
    )


def hear_time(client: redis.Redis, clock: Clock) -> None:
    """Ask Redis for the time and tell the clock. Raises RedisError."""
    sent_at = time.monotonic()
    seconds, micros = client.time()
    clock.heard(int(seconds) * 1000 + int(micros) // 1000, sent_at, time.monotonic())
