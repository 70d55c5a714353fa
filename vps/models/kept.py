"""Deleting a server in two steps: destroyed and kept for some days, then wiped.

In between it can be undeleted, when quota, room and name still allow it. Its memory, its cpus and its place among
the servers count no more; its disks do, until they are wiped.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from accounts.models.quota import use, used_by
from vps.models.conflict import Conflict
from vps.models.dom0 import Dom0
from vps.models.domu import Domu
from vps.models.event import Event
from vps.models.holding import quota_of, settle
from vps.models.operation import Operation
from vps.models.request import Request
from vps.xen.messages import Verb
from vps.xen.reconcile import Wanted


def delete(domu: Domu, by: User, reason: str = "") -> Operation:
    """Destroy it and keep its disks for settings.BERTH_KEEP_DAYS days. Raises Conflict."""
    with transaction.atomic():
        fresh = Domu.objects.select_for_update().get(pk=domu.pk)
        if fresh.deleted_at:
            raise Conflict(_("%(name)s was deleted.") % {"name": fresh.name})
        fresh.check_verb(Verb.DELETE)
        for asked in Request.objects.waiting().filter(domu=fresh):
            asked.withdraw(by)
        fresh.deleted_at = timezone.now()
        fresh.keep_until = fresh.deleted_at + timedelta(days=settings.BERTH_KEEP_DAYS)
        fresh.save(update_fields=["deleted_at", "keep_until"])
        settle(fresh, _("%(name)s was deleted") % {"name": fresh.name})
        Event.record(
            "domu.deleted",
            _("%(name)s was deleted; its disks are kept until %(day)s")
            % {"name": fresh.name, "day": f"{fresh.keep_until:%Y-%m-%d}"},
            actor=by,
            tenant=fresh.tenant,
            domu=fresh,
            dom0=fresh.dom0,
            reason=reason,
        )
        # The dom0 puts the configuration away, so that another server may have the name.
        operation = fresh.order(Verb.DESTROY, by, reason, put_away=True)
    domu.refresh_from_db()
    return operation


def undelete(domu: Domu, by: User) -> Operation:
    """Take it back as it was, stopped. Raises Conflict, QuotaExceeded, NoRoom; then nothing changes."""
    with transaction.atomic():
        Dom0.lock(domu.dom0_id)
        fresh = Domu.objects.select_for_update().get(pk=domu.pk)
        if not fresh.is_kept:
            raise Conflict(
                _("%(name)s was wiped already; nothing can be brought back.") % {"name": fresh.name}
                if fresh.purged_at
                else _("%(name)s is not deleted.") % {"name": fresh.name}
            )
        if Request.name_is_taken(fresh.name):
            raise Conflict(
                _("Another server has or waits for the name %(name)s; it has to go first.")
                % {"name": fresh.name}
            )
        fresh.deleted_at = fresh.keep_until = None
        why = _("%(name)s was undeleted") % {"name": fresh.name}
        held = used_by(fresh.subject)
        more = {name: amount - held.get(name, 0) for name, amount in quota_of(fresh).items()}
        use(fresh.tenant, more, fresh.subject, why, by)
        room = fresh.dom0.promised_to(fresh.subject).get("memory_mib", 0)
        fresh.dom0.extend(max(0, fresh.memory_mib - room), fresh.vcpus, fresh.subject, why)
        if not fresh.runs:
            fresh.wanted = Wanted.STOPPED.value
        fresh.save(update_fields=["deleted_at", "keep_until", "wanted"])
        Event.record("domu.undeleted", why, actor=by, tenant=fresh.tenant, domu=fresh, dom0=fresh.dom0)
        operation = fresh.order(Verb.PREPARE, by)
    domu.refresh_from_db()
    return operation


def purge(domu: Domu, by: User | None, reason: str = "") -> Operation:
    """Have the disks of a deleted one wiped now. Raises Conflict."""
    with transaction.atomic():
        fresh = Domu.objects.select_for_update().get(pk=domu.pk)
        if not fresh.deleted_at:
            raise Conflict(_("%(name)s is not deleted.") % {"name": fresh.name})
        operation = fresh.order(Verb.DELETE, by, reason)
    domu.refresh_from_db()
    return operation


def purge_due() -> int:
    """What the sweep does with deleted servers: wipe those whose days are over, and end what still runs."""
    count, now = 0, timezone.now()
    idle = Domu.objects.kept().with_open_operation().filter(dom0__heard_at__gt=now - timedelta(minutes=5))
    for domu in idle:
        if domu.open_operation or _lately(domu):
            continue
        try:
            if domu.keep_until and domu.keep_until <= now:
                purge(domu, None, _("Its days are over."))
            elif domu.runs:
                domu.order(Verb.DESTROY, None, _("It was deleted and still runs."), put_away=True)
            else:
                continue
            count += 1
        except Conflict:
            continue  # locked by an operator, who wants it kept
    return count


def _lately(domu: Domu) -> bool:
    """Whether something was tried with it in the last minutes; a dom0 that cannot is not asked all the time."""
    last = domu.operations.order_by("-id").first()
    return last is not None and last.created_at > timezone.now() - timedelta(
        seconds=5 * settings.BERTH_ASK_AFTER
    )
