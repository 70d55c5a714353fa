"""The Celery worker of a dom0: one task, `order`, that writes an order into the journal and acknowledges it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.exceptions import Reject
from celery.worker import WorkController
from celery.worker import state as celery_state
from kombu.entity import Exchange, Queue

from vps.agent.config import Config
from vps.agent.link import connect
from vps.xen.messages import Channels

logger = logging.getLogger(__name__)

_PAUSE = 1.0  # seconds after the journal, or the worker, failed


class Worker:
    """Runs the worker in a thread. `accept` gets each envelope; when it returns, the order is acknowledged.

    `accept` raises when the order could not be written down: then it goes back into the queue.
    """

    def __init__(self, config: Config, accept: Callable[[str], None]) -> None:
        self._accept = accept
        self._stopping = threading.Event()
        self.app = self._app(config)
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)

    def start(self) -> None:
        celery_state.should_stop = None  # left so by a worker that was stopped in this process
        self._thread.start()

    def stop(self, patience: float) -> None:
        """End the worker; at most `patience` seconds are waited for it."""
        self._stopping.set()
        celery_state.should_stop = 0
        self._thread.join(patience)

    def _work(self) -> None:
        self.app.set_current()  # of this thread; where Celery looks the task up
        while not self._stopping.is_set():
            try:
                # solo: one order at a time, in this thread; nothing is prefetched behind it.
                controller = WorkController(
                    app=self.app,
                    hostname=f"agent@{self.app.main}",
                    pool="solo",
                    concurrency=1,
                    without_heartbeat=True,
                    without_mingle=True,
                    without_gossip=True,
                )
                controller.start()
            except SystemExit:
                continue
            except Exception:
                logger.exception("the worker failed; it starts again")
            self._stopping.wait(_PAUSE)

    def _app(self, config: Config) -> Celery:
        channels = Channels(config.dom0)
        app = Celery(str(config.dom0), set_as_current=False, fixups=[], loader="app")
        app.conf.update(
            broker_url=config.redis,
            broker_transport="vps.agent.transport:Transport",
            broker_transport_options={
                "connect": lambda: connect(config),
                "orders": channels.orders,
                "taken": channels.taken,
                "stopping": self._stopping,
            },
            broker_connection_retry_on_startup=True,
            broker_connection_max_retries=None,
            worker_cancel_long_running_tasks_on_connection_loss=True,
            task_queues=[
                Queue(  # type: ignore[no-untyped-call]
                    channels.orders,
                    Exchange(""),  # type: ignore[no-untyped-call]
                    routing_key=channels.orders,
                    no_declare=True,
                ),
            ],
            task_create_missing_queues=False,
            task_default_queue=channels.orders,
            task_acks_late=True,
            task_ignore_result=True,
            task_store_errors_even_if_ignored=False,
            accept_content=["json"],
            task_serializer="json",
            worker_prefetch_multiplier=1,
            worker_enable_remote_control=False,
            worker_send_task_events=False,
            worker_hijack_root_logger=False,
            worker_redirect_stdouts=False,
            worker_detect_quorum_queues=False,
        )
        accept, stopping = self._accept, self._stopping

        @app.task(name="order", acks_late=True, ignore_result=True, shared=False)  # type: ignore[untyped-decorator]
        def order(envelope: Any) -> None:
            try:
                accept(envelope)
            except Exception as error:
                logger.exception("an order could not be written into the journal; it waits in the queue")
                stopping.wait(_PAUSE)
                raise Reject(str(error), requeue=True) from error

        app.finalize()
        return app
