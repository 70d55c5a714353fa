"""The web side's own Celery: the worker that inspects kernels and sends mail (`celery -A vps.celery worker -Q web`).

The dom0s' queues are not of this worker: `vps.dispatch` publishes to them, their agents consume.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, bootsteps
from celery.signals import before_task_publish, task_postrun, task_prerun

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vps.settings")

from django.conf import settings

from vps.middleware import request_id
from vps.pulse import EVERY, beat

app = Celery("berth")
app.conf.update(
    broker_url=settings.BERTH_REDIS_URL,
    broker_transport="vps.broker:Transport",
    broker_use_ssl=settings.BERTH_BROKER_TLS,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "socket_timeout": 10,
        "socket_connect_timeout": 2,
        "global_keyprefix": "web:",
        # A click does not wait for a Redis that is away: the sweep rings again. Without these, six seconds.
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0.1,
        "interval_max": 0.2,
    },
    task_default_queue="web",
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    accept_content=["json"],
    task_serializer="json",
    timezone="UTC",
)
app.autodiscover_tasks(["vps", "accounts"])


class WorkerPulse(bootsteps.StartStopStep):
    """Beats while the worker takes tasks from its broker; Celery stops it when that connection is lost."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:
        self._entry: Any = None
        super().__init__(parent, **options)

    def start(self, parent: Any) -> None:
        beat("worker")
        self._entry = parent.timer.call_repeatedly(EVERY, beat, ("worker",))

    def stop(self, parent: Any) -> None:
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None


app.steps["consumer"].add(WorkerPulse)


# The id of the click goes with the task, so that the worker's log carries it too. An order has it in its envelope.
@before_task_publish.connect(weak=False)
def _take_along(sender: str | None = None, headers: dict[str, Any] | None = None, **more: Any) -> None:
    if headers is not None and sender != "order" and request_id.get():
        headers["request_id"] = request_id.get()


@task_prerun.connect(weak=False)
def _take_up(task: Any = None, **more: Any) -> None:
    request_id.set(str(task.request.get("request_id") or ""))


@task_postrun.connect(weak=False)
def _lay_down(**more: Any) -> None:
    request_id.set("")
