"""The first page: for a visitor, a customer, an operator."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_safe

from vps.models import Dom0, Domu, Event, Operation, Request
from vps.models.operation import OPEN, State
from vps.views.page import show
from vps.views.scope import operator_required

STUCK_AFTER = 120  # seconds without news
LAST_DAY = timedelta(hours=24)


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """To the page that one comes for; visitors read what this is."""
    if not request.user.is_authenticated:
        return show(request, "home/visitor.html", {})
    return redirect("today" if request.user.is_operator else "servers")


@require_safe
@operator_required
def today(request: HttpRequest) -> HttpResponse:
    """What waits for an operator, the dom0s, what happened since yesterday."""
    now = timezone.now()
    waiting = Request.objects.waiting().select_related("tenant", "by").order_by("asked_at")
    rows = Operation.objects.select_related("domu", "dom0", "by").order_by("-id")
    failed = rows.filter(state__in=[State.FAILED, State.REFUSED, State.LOST], created_at__gt=now - LAST_DAY)
    under_way = list(rows.filter(state__in=OPEN)[:20])
    context = {
        "waiting": waiting[:20],
        "waiting_count": waiting.count(),
        "under_way": [(row, _stuck(row)) for row in under_way],
        "failed": failed[:8],
        "strips": [strip(dom0) for dom0 in counted()],
        # What came about is told by what was asked for; what failed is told.
        "events": Event.objects.filter(at__gt=now - LAST_DAY)
        .exclude(kind="operation.done")
        .select_related("domu", "dom0", "tenant")[:20],
        "crashed": Domu.objects.live().filter(phase="limit").select_related("dom0", "tenant")[:10],
    }
    return show(request, "home/today.html", context, part="home/_today.html", moving=bool(under_way))


def _stuck(row: Operation) -> bool:
    last = row.heard_at or row.sent_at or row.created_at
    return (timezone.now() - last).total_seconds() > STUCK_AFTER


def counted() -> list[Dom0]:
    """All dom0s with `domu_count`."""
    live = Count("domus", filter=Q(domus__deleted_at=None))
    return list(Dom0.objects.annotate(domu_count=live).order_by("name"))


def strip(dom0: Dom0) -> dict[str, object]:
    """A dom0 with what its strip shows."""
    domains = dom0.inventory.get("domains", [])
    own = {str(pk) for pk in dom0.domus.values_list("pk", flat=True)}
    unknown = [d for d in domains if d.get("domid") != 0 and str(d.get("uuid")) not in own]
    running = [d for d in domains if str(d.get("uuid")) in own and d.get("state") == "running"]
    return {"dom0": dom0, "capacity": dom0.capacity(), "running": len(running), "unknown": unknown}
