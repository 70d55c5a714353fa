"""The kombu transport of the web's worker: kombu's own for Redis, which begins anew where an acknowledgement failed.

Of an acknowledgement that does not reach Redis kombu writes a line and keeps the message as one that is not
acknowledged. Nothing is asked of Redis while there are as many of these as may be taken at a time, so that not even
the lost connection is noticed: the worker would take no task any more (chaos, the short storm). The same of a dom0's
orders is in vps/agent/transport.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from kombu.transport import redis as stock


class QoS(stock.QoS):
    """Raises redis.ConnectionError in the loop that takes messages, once an acknowledgement has failed."""

    failed: BaseException | None = None

    def ack(self, delivery_tag: str) -> None:
        with self._noticed():
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        with self._noticed():
            super().reject(delivery_tag, requeue)

    @contextmanager
    def _noticed(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            self.failed = error
            raise

    def can_consume(self) -> Any:
        if self.failed is not None:
            raise redis.ConnectionError("An acknowledgement failed; begin anew.") from self.failed
        return super().can_consume()


class Channel(stock.Channel):
    QoS = QoS


class Transport(stock.Transport):
    Channel = Channel
