"""The kombu transport of a dom0: at least once, with five commands and without scripts or pub/sub.

Take: BLMOVE from `orders` into `taken`. Acknowledge: RPOP of `taken`. When consuming begins, at start and after
each reconnection, what is still in `taken` goes back to the head of the queue. One worker, one queue, one order
at a time (prefetch 1). The stock Redis transport needs EVAL and PUBLISH, and lost an order between BRPOP and HSET
when it was killed (STACK-FACTS.md). kombu is pinned, for this leans on `kombu.transport.virtual`.
"""

from __future__ import annotations

import json
import logging
import time
from queue import Empty
from typing import Any

import redis
from kombu.transport import virtual

logger = logging.getLogger(__name__)

_BLOCK = 1  # seconds that one BLMOVE waits
_PAUSE = 1.0  # seconds between two attempts to reach Redis


class QoS(virtual.QoS):
    """What is taken is in Redis, not in here: there is nothing to restore at the end."""

    restore_at_shutdown = False

    def ack(self, delivery_tag: str) -> None:
        self.channel.acknowledge()
        super().ack(delivery_tag)  # type: ignore[no-untyped-call]

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if requeue:
            self.channel.put_back()
        else:
            self.channel.acknowledge()
        self._quick_ack(delivery_tag)


class Channel(virtual.Channel):
    """`transport_options`: `connect` (a function that gives a redis.Redis), `orders`, `taken` (the keys),
    `stopping` (a threading.Event)."""

    QoS = QoS
    do_restore = False

    def __init__(self, connection: Transport, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)  # type: ignore[no-untyped-call]
        options = _options(connection)
        self._orders: str = options["orders"]
        self._taken: str = options["taken"]
        self._redis: redis.Redis = options["connect"]()
        self._stopping = options["stopping"]
        self._broken = False

    def ping(self) -> None:
        self._redis.ping()

    def basic_consume(self, queue: str, *args: Any, **kwargs: Any) -> Any:
        self.put_back()
        return super().basic_consume(queue, *args, **kwargs)  # type: ignore[no-untyped-call]

    def put_back(self) -> None:
        """Give what was taken and not acknowledged to the queue's head again, oldest first.

        A failure breaks the channel, as one of `acknowledge` does.
        """
        try:
            while self._redis.lmove(self._taken, self._orders, "LEFT", "RIGHT") is not None:
                logger.info("an order that was taken and not written down goes back into the queue")
        except redis.RedisError:
            self._broken = True
            raise

    def acknowledge(self) -> None:
        """Drop what was taken. A failure breaks the channel, so that the next connection puts it back."""
        try:
            self._redis.rpop(self._taken)
        except redis.RedisError:
            self._broken = True
            raise

    def drain_events(self, timeout: float | None = None, callback: Any = None) -> Any:
        # Here, for kombu asks `_get` for nothing while an order is not acknowledged, and it says nothing
        # of an acknowledgement that failed: this channel would wait for ever.
        if self._broken:
            raise redis.ConnectionError("What became of an order was not taken by Redis.")
        return super().drain_events(timeout, callback)  # type: ignore[no-untyped-call]

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        if self._stopping.is_set():
            raise TimeoutError  # which ends the worker's turn at once
        try:
            raw: Any = self._redis.blmove(self._orders, self._taken, _BLOCK, "RIGHT", "LEFT")
        except redis.RedisError:
            # The answer may be lost and the order moved: this channel must not take another one.
            self._broken = True
            self._stopping.wait(_PAUSE)
            raise
        if raw is None:
            raise Empty
        message = _message(raw)
        if message is None:
            logger.error("dropped what is no message from the queue: %r", bytes(raw)[:200])
            self.acknowledge()
            raise Empty
        return message

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        raise NotImplementedError("A dom0 sends no orders.")

    def _purge(self, queue: str) -> int:
        raise NotImplementedError("A dom0 throws no orders away.")

    def _size(self, queue: str) -> int:
        return int(self._redis.llen(self._orders))

    def close(self) -> None:
        super().close()  # type: ignore[no-untyped-call]
        self._redis.close()


class Transport(virtual.Transport):
    """One connection to Redis, which is waited for without end, until `stopping` is set."""

    Channel = Channel
    can_parse_url = True
    driver_type = "redis"
    driver_name = "redis"
    polling_interval = 0.005  # _get itself waits
    connection_errors = (  # type: ignore[assignment]
        *virtual.Transport.connection_errors,
        redis.RedisError,
        OSError,
    )
    channel_errors = virtual.Transport.channel_errors

    def driver_version(self) -> str:
        return str(redis.__version__)

    def establish_connection(self) -> Transport:
        """Wait until Redis answers, for ever: kombu's own waiting grows to half a minute."""
        stopping = _options(self)["stopping"]
        channel = self.create_channel(self)  # type: ignore[no-untyped-call]
        said = 0.0
        while True:
            try:
                channel.ping()
                break
            except redis.RedisError as error:
                if time.monotonic() - said > 60:
                    logger.warning("Redis cannot be reached (%s); orders wait there", error)
                    said = time.monotonic()
                if stopping.wait(_PAUSE):
                    raise
        self._avail_channels.append(channel)
        return self


def _options(transport: Transport) -> dict[str, Any]:
    options: dict[str, Any] = transport.client.transport_options  # type: ignore[union-attr]
    return options


def _message(raw: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or not isinstance(message.get("properties"), dict):
        return None
    if not isinstance(message["properties"].get("delivery_tag"), str):
        return None
    return message
