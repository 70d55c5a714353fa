"""What does not go on by itself, and why: for an operator's page."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Q
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext as _

from vps.models import Alarm, Dom0, ForeignDomain, Operation
from vps.models.operation import OPEN, State

UNSUCCESSFUL = (State.FAILED, State.REFUSED, State.LOST)
LATELY = timedelta(days=7)  # of failures
DIFFERS_AFTER = timedelta(minutes=3)
MOST = 100  # lines of each kind; a page that is longer helps nobody


def operations(now: datetime | None = None) -> list[tuple[Operation, str]]:
    """(operation, why): open ones of which nothing was heard for BERTH_STUCK_AFTER seconds."""
    limit = (now or timezone.now()) - timedelta(seconds=settings.BERTH_STUCK_AFTER)
    rows = (
        Operation.objects.filter(state__in=OPEN)
        .annotate(news=Coalesce("heard_at", "sent_at", "created_at"))
        .filter(news__lt=limit)
        .select_related("domu__tenant", "dom0", "by")
        .order_by("news")
    )
    return [(row, _why(row)) for row in rows[:MOST]]


def _why(row: Operation) -> str:
    dom0 = row.dom0
    if row.state == State.QUEUED:
        return _("It was never sent: Redis does not answer, or the sweep does not run.")
    if not dom0.heard_lately:
        return _("%(dom0)s is not heard; it is done, or answered, when its agent is there again.") % {
            "dom0": dom0
        }
    if row.state == State.SENT:
        return _("%(dom0)s is heard, and did not take the order, which was sent %(n)s times.") % {
            "dom0": dom0,
            "n": row.tries,
        }
    return _("%(dom0)s took it and tells nothing more. Its last step: %(step)s.") % {
        "dom0": dom0,
        "step": row.step or _("none"),
    }


def failures(now: datetime | None = None) -> list[tuple[Operation, int]]:
    """(the last one, how many) where the same was tried for a server and failed twice or more, and not done since."""
    since = (now or timezone.now()) - LATELY
    tried = Operation.objects.filter(created_at__gt=since, set_aside_at=None).exclude(domu=None)
    groups = (
        tried.filter(state__in=UNSUCCESSFUL, domu__deleted_at=None)
        .order_by()
        .values("domu", "verb")
        .annotate(n=Count("pk"))
        .filter(n__gt=1)[:MOST]
    )
    wanted = {(group["domu"], group["verb"]): 0 for group in groups}
    last: dict[tuple[Any, str], Operation] = {}
    rows = tried.filter(domu__in={domu for domu, _verb in wanted}).select_related(
        "domu__tenant", "dom0", "by"
    )
    for row in rows.order_by("pk"):
        key = (row.domu_id, row.verb)
        if key not in wanted:
            continue
        if row.state in UNSUCCESSFUL:
            wanted[key] += 1
            last[key] = row
        elif row.state == State.DONE:
            wanted[key] = 0
    return [(last[key], n) for key, n in wanted.items() if n > 1]


def lost(now: datetime | None = None) -> list[Operation]:
    """Not heard of again in the last days, and nothing was tried for the server since."""
    since = (now or timezone.now()) - LATELY
    rows = Operation.objects.filter(state=State.LOST, created_at__gt=since, set_aside_at=None)
    return list(rows.select_related("domu__tenant", "dom0", "by").order_by("-pk")[:MOST])


def alarms(now: datetime | None = None) -> list[Alarm]:
    """Open alarms; that a server is not as it should be counts after some minutes only."""
    limit = (now or timezone.now()) - DIFFERS_AFTER
    rows = Alarm.objects.open().exclude(Q(kind=Alarm.Kind.DIFFERS) & Q(opened_at__gt=limit))
    return list(rows.select_related("dom0", "domu__tenant")[:MOST])


def unknown_domains(dom0s: Iterable[Dom0] | None = None) -> list[tuple[Dom0, dict[str, Any]]]:
    """(dom0, domain) for which nobody has decided what it is."""
    rows = list(Dom0.objects.exclude(foreign=[]).only("name", "foreign") if dom0s is None else dom0s)
    decided = set(ForeignDomain.objects.filter(dom0__in=rows).values_list("dom0", "uuid"))
    known = {(dom0, str(uuid)) for dom0, uuid in decided}
    return [(dom0, row) for dom0 in rows for row in dom0.foreign if (dom0.pk, row["uuid"]) not in known][
        :MOST
    ]


def everything() -> dict[str, Any]:
    """All of it, and how much it is."""
    failed = failures()
    again = {row.pk for row, _n in failed}
    found: dict[str, Any] = {
        "operations": operations(),
        "failures": failed,
        "lost": [row for row in lost() if row.pk not in again],
        "alarms": alarms(),
        "domains": unknown_domains(),
    }
    found["count"] = sum(len(rows) for rows in found.values())
    return found
