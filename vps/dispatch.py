"""THE door out: operation -> signed order -> the dom0's queue, after the commit.

Nothing is lost when Redis is away: the row stays queued, and the sweep sends it. Sending twice is harmless: the
envelope is the same, and the dom0's journal has the operation's id as its key.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import cache
from typing import Any
from uuid import UUID

import redis
from celery import Celery
from django.conf import settings
from django.db.models import F
from django.utils import timezone
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

from vps.chain import head
from vps.models.conflict import Conflict
from vps.models.direct_approval import refusal_of, wanted_unapproved
from vps.models.dom0 import Dom0
from vps.models.domu import Domu
from vps.models.operation import OPEN, Operation, State
from vps.redis import client, now_ms
from vps.signing import signing_key
from vps.xen.messages import Channels, Generation, Note, NoteKind, Order, Verb

log = logging.getLogger(__name__)
_BUILDING = frozenset({Verb.PREPARE, Verb.START, Verb.REBOOT, Verb.TRY})  # what has a dom0 build something


@cache
def _bell() -> Celery:
    """The app that publishes to every dom0's queue; no prefix, no results."""
    app = Celery("berth-orders", broker=settings.BERTH_REDIS_URL, set_as_current=False)
    app.conf.update(
        broker_use_ssl=settings.BERTH_BROKER_TLS,
        broker_transport_options={"socket_timeout": 5, "socket_connect_timeout": 2},
        broker_connection_retry=False,
        task_ignore_result=True,
        task_serializer="json",
    )
    return app


def ring(dom0_id: UUID, envelope: str) -> None:
    """Put an envelope on a dom0's queue. Raises redis.RedisError or kombu's OperationalError.

    Without the Queue object Celery would send it to its default queue, silently (STACK-FACTS).
    """
    name = Channels(dom0_id).orders
    queue = Queue(name, Exchange(""), routing_key=name, no_declare=True)
    _bell().send_task("order", args=[envelope], queue=queue, ignore_result=True, retry=False)


def not_after() -> int | None:
    """Until when a dom0 may take an order of now (Redis TIME, ms); None when Redis is away."""
    try:
        return now_ms() + settings.BERTH_ORDER_LIFETIME * 1000
    except redis.RedisError as error:
        log.warning("an order waits for the sweep, Redis is away: %s", error)
        return None


def seal_new(row: Operation, until: int) -> None:
    """Seal an operation that is about to be written, so that it is written once: as sent.

    Should this process die between the commit and `send_new`, the sweep sends it: nobody accepted it.
    """
    row.envelope, row.not_after = signing_key().seal(row.order(until, head())), until
    row.state, row.sent_at, row.tries = State.SENT, timezone.now(), 1


def send_new(row: Operation) -> None:
    """Put on its dom0's queue what was sealed before its commit; queued again when Redis is away."""
    try:
        ring(row.dom0_id, row.envelope)
    except (redis.RedisError, OperationalError, OSError) as error:
        log.warning("operation %s stays queued, Redis is away: %s", row.pk, error)
        Operation.objects.filter(pk=row.pk, state=State.SENT).update(state=State.QUEUED)
        return
    log.info("sent %s %s to %s, request %s", row.verb, row.pk, row.dom0_id, row.request_id)


def send(operation: Operation) -> bool:
    """Send an operation that is queued, or send it again; False when Redis is away (the sweep tries again)."""
    row = Operation.objects.filter(pk=operation.pk).first()
    if row is None or not (row.is_open or row.state == State.LOST):
        return False
    if row.cancel_asked_at:
        return send_cancel(row)  # its order may have been lost, and shall not come now
    if row.state in (State.QUEUED, State.SENT) and _take_back_unapproved(row):
        return False
    try:
        if not row.envelope:
            row = _seal(row)
            if not row.envelope:
                return False  # it was cancelled, or given up, just now
        ring(row.dom0_id, row.envelope)
    except (redis.RedisError, OperationalError, OSError) as error:
        log.warning("operation %s stays queued, Redis is away: %s", row.pk, error)
        return False
    sent = {"sent_at": timezone.now(), "tries": row.tries + 1}
    if row.state != State.QUEUED or not row.move(State.SENT, **sent):
        Operation.objects.filter(pk=row.pk).update(**sent)
    log.info("sent %s %s to %s, request %s", row.verb, row.pk, row.dom0_id, row.request_id)
    return True


def _take_back_unapproved(row: Operation) -> bool:
    """Whether an order that no dom0 has taken yet would boot directly what may not any more: it is cancelled then."""
    if (
        row.domu is None
        or row.verb not in _BUILDING
        or not (wanting := wanted_unapproved(row.domu.tenant, row.body))
    ):
        return False
    with suppress(Conflict):  # it ended just now
        row.domu.cancel(row, None, refusal_of(wanting))
    return True


def _seal(row: Operation) -> Operation:
    """Make the envelope; whoever comes second takes the first one's."""
    until = now_ms() + settings.BERTH_ORDER_LIFETIME * 1000
    envelope = signing_key().seal(row.order(until, head()))
    # Whoever ends one that has no envelope yet says that nothing was done: then nothing may be.
    rows = Operation.objects.filter(pk=row.pk, envelope="", state__in=OPEN)
    if rows.update(envelope=envelope, not_after=until):
        row.envelope, row.not_after = envelope, until
    else:
        row.refresh_from_db()
    return row


def send_cancel(operation: Operation) -> bool:
    """Ask the dom0 to stop an operation, or not to begin it should its order come later; it reports what remains.

    False when Redis is away: the sweep asks again.
    """
    try:
        order = Order(
            operation=operation.pk,
            dom0=operation.dom0_id,
            domu=operation.domu_id,
            verb=Verb.CANCEL,
            generation=Generation(operation.epoch, operation.n),
            not_after=now_ms() + settings.BERTH_ORDER_LIFETIME * 1000,
            body={"operation": str(operation.pk)},
            request_id=operation.request_id,
        )
        ring(operation.dom0_id, signing_key().seal(order))
    except (redis.RedisError, OperationalError, OSError) as error:
        log.warning("cancelling %s waits, Redis is away: %s", operation.pk, error)
        return False
    Operation.objects.filter(pk=operation.pk).update(sent_at=timezone.now(), tries=F("tries") + 1)
    operation.move(State.SENT)
    return True


def note(dom0: Dom0 | UUID, kind: NoteKind, body: dict[str, Any], seconds: int = 30) -> None:
    """Send a short-lived note. Raises redis.RedisError."""
    dom0_id = dom0.pk if isinstance(dom0, Dom0) else dom0
    sealed = signing_key().seal(Note(dom0_id, kind, now_ms() + seconds * 1000, body))
    client().lpush(Channels(dom0_id).line, sealed)


def say_well(domu: Domu, operation: UUID) -> None:
    """Tell the dom0 that what is tried is well; said again with each inventory until it answers."""
    try:
        note(domu.dom0_id, NoteKind.HEALTHY, {"domu": str(domu.pk), "operation": str(operation)})
    except redis.RedisError as error:
        log.warning("%s could not be said to be well, Redis is away: %s", domu, error)
