"""The web's side of the queue, for tests."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID, uuid4

from celery import Celery
from kombu import Exchange, Queue

from vps.xen.messages import Channels, Generation, Order, SigningKey, Verb


class Web:
    """Signs orders and puts them on a dom0's queue as vps/dispatch.py does."""

    def __init__(self, redis_url: str, dom0: UUID, key: SigningKey) -> None:
        self.dom0, self.key = dom0, key
        self.queue = Channels(dom0).orders
        self.app = Celery("web", broker=redis_url, set_as_current=False)
        self.n = 0

    def order(self, verb: Verb, domu: UUID | None = None, **values: Any) -> Order:
        self.n += 1
        values.setdefault("generation", Generation(1, self.n))
        values.setdefault("not_after", int(time.time() * 1000) + 60_000)
        values.setdefault("body", {})
        return Order(
            operation=values.pop("operation", uuid4()), dom0=self.dom0, domu=domu, verb=verb, **values
        )

    def send(self, *envelopes: str) -> None:
        queue = Queue(self.queue, Exchange(""), routing_key=self.queue, no_declare=True)
        with self.app.producer_pool.acquire() as producer:
            for envelope in envelopes:
                self.app.send_task("order", [envelope], producer=producer, ignore_result=True, queue=queue)

    def give(self, order: Order) -> Order:
        self.send(self.key.seal(order))
        return order
