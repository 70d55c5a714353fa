"""The web side's own Celery: the worker that inspects kernels and sends mail (`celery -A vps.celery worker -Q web`).

The dom0s' queues are not of this worker: `vps.dispatch` publishes to them, their agents consume.
"""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vps.settings")

from django.conf import settings

app = Celery("berth")
app.conf.update(
    broker_url=settings.BERTH_REDIS_URL,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"socket_timeout": 10, "socket_connect_timeout": 2, "global_keyprefix": "web:"},
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
