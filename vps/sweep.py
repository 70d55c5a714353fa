"""What nobody clicks: send what stayed queued, ask again, give up, admit dom0s again, forget old uploads, mail,
end requests that wait too long, wipe what was deleted long ago, forget who never confirmed the address.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

import redis
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.mail import sweep_mail
from accounts.models import User
from vps import alarms, dispatch
from vps.chain import seal_events
from vps.enrolment import end_old_credentials
from vps.models import Conflict, DirectApproval, Dom0, Event, KernelVersion, Operation, Request, Upload
from vps.models.boot_record import judge_running
from vps.models.direct_approval import not_approved
from vps.models.domu import Domu
from vps.models.kept import purge_due
from vps.models.operation import State
from vps.models.sample import Sample
from vps.models.trial import TrialBoot
from vps.redis import admit_missing, now_ms
from vps.tasks import inspect_part, inspect_version
from vps.trust import tell_keys
from vps.unneeded import collect
from vps.uploads import forget_abandoned
from vps.xen.description import BootMethod
from vps.xen.messages import Verb

log = logging.getLogger(__name__)
_TOLD_AGAIN = timedelta(minutes=1)  # after an order came to nothing that takes a direct boot from a dom0
INSPECTION_AGAIN = timedelta(seconds=60)


def sweep() -> dict[str, int]:
    """One round; gives how many rows each part touched. Raises redis.RedisError when Redis is away."""
    now = now_ms()  # Redis answers, or there is nothing to be done in this round
    return {
        "admitted": len(admit_missing(Dom0.objects.all())),
        "lost": _give_up(),
        "sent": _send_again(),
        "well": judge_running(),
        "revoked": _tell_of_revoked(),
        "inspections": _ring_inspections(),
        "uploads": forget_abandoned(),
        "files": collect(),
        "mail": sweep_mail(),
        "sealed": seal_events(),
        "keys": tell_keys(),
        "credentials": end_old_credentials(),
        "expired": _expire(),
        "deleted": purge_due(),
        "unconfirmed": User.objects.forget_unconfirmed(),
        "alarms": alarms.watch(),
        "samples": Sample.objects.trim(now // 60_000),
    }


def _send_again() -> int:
    """Queued ones, sent ones that nobody accepted, and accepted ones without news: each once more.

    A dom0 answers an order that its journal knows with where it stands.
    """
    now = timezone.now()
    resend = now - timedelta(seconds=settings.BERTH_RESEND_AFTER)
    ask = now - timedelta(seconds=settings.BERTH_ASK_AFTER)
    rows = Operation.objects.filter(
        Q(state=State.QUEUED)
        | Q(state=State.SENT, sent_at__lt=resend)
        | Q(state__in=[State.ACCEPTED, State.RUNNING], heard_at__lt=ask, sent_at__lt=ask)
        # What was given up is asked about now and then, while its dom0 is heard.
        | Q(state=State.LOST, sent_at__lt=ask, tries__lt=100, dom0__heard_at__gt=resend)
    ).order_by("pk")
    return sum(dispatch.send(row) for row in rows[:500])


def _give_up() -> int:
    """Sent, and the time for accepting it is over: lost, said so, and wanted is what it was."""
    try:
        clock = now_ms()
    except redis.RedisError:
        return 0
    count = 0
    grace = 30_000
    for row in Operation.objects.filter(state=State.SENT, not_after__lt=clock - grace)[:500]:
        with transaction.atomic():
            if not row.move(
                State.LOST,
                error={
                    "code": "not_accepted",
                    "text": _(
                        "%(dom0)s did not take the order in time; it will refuse it should it come late."
                    )
                    % {"dom0": row.dom0},
                    "output": "",
                },
            ):
                continue
            count += 1
            TrialBoot.conclude(row)
            domu = Domu.objects.select_for_update().filter(pk=row.domu_id).first()
            if domu is not None:
                domu.after_unsuccessful(row)
            Event.record(
                "operation.lost",
                _("%(verb)s was not heard of again") % {"verb": row.verb},
                tenant=domu.tenant if domu else None,
                domu=domu,
                dom0=row.dom0,
                operation=row,
            )
    return count


def _knows_nothing_to_boot(last: Operation) -> bool:
    """Whether the dom0 did an order with nothing to boot, or came to nothing with one too lately to be asked again."""
    if last.body.get("domu", {}).get("boot", {}).get("entries"):
        return False
    lately = timezone.now() - _TOLD_AGAIN
    return last.state == State.DONE or (last.ended_at is not None and last.ended_at > lately)


def _tell_of_revoked() -> int:
    """Servers whose dom0 still could build what is approved no more: the dom0 is told to prepare nothing to boot.

    What runs goes on. An open operation, or an agent that is away, is waited for.
    """
    count = 0
    revoked = DirectApproval.objects.filter(state=DirectApproval.State.REVOKED).values("tenant")
    rows = Domu.objects.live().filter(boot_method=BootMethod.DIRECT.value, tenant__in=revoked)
    for domu in rows.with_open_operation():
        if domu.open_operation or not not_approved(domu.tenant, domu.boot()):
            continue
        told = domu.operations.exclude(verb=Verb.DELETE.value).order_by("-id").first()
        if told is None or _knows_nothing_to_boot(told):
            continue
        try:
            domu.order(Verb.PREPARE, None, _("The approval of direct boot was taken back."))
            count += 1
        except Conflict as error:
            log.info("%s is not told yet that an approval was taken back: %s", domu, error)
    return count


def _expire() -> int:
    """Requests that nobody decided for long end by themselves."""
    count = 0
    for asked in Request.objects.overdue().select_related("tenant", "by")[:100]:
        try:
            asked.expire()
            count += 1
        except Conflict:
            continue  # somebody decided just now
    return count


_rung: dict[UUID, datetime] = {}  # version or upload -> when its inspection was last rung for


def _ring_inspections() -> int:
    """What waits for inspection since long: the bell was lost, or the worker died."""
    late = timezone.now() - timedelta(seconds=20)
    versions = KernelVersion.objects.filter(state=KernelVersion.State.INSPECTING, created_at__lt=late)
    parts = Upload.objects.filter(state=Upload.State.INSPECTING, touched_at__lt=late)
    due = _due(versions.values_list("pk", flat=True)[:50])
    due_parts = _due(parts.values_list("pk", flat=True)[:50])
    for pk in due:
        inspect_version.ring(pk)
    for pk in due_parts:
        inspect_part.ring(pk)
    return len(due) + len(due_parts)


def _due(waiting: Iterable[UUID]) -> list[UUID]:
    now = timezone.now()
    due = [pk for pk in waiting if _rung.get(pk, now - INSPECTION_AGAIN) <= now - INSPECTION_AGAIN]
    _rung.update(dict.fromkeys(due, now))
    return due
