"""The first page: for a visitor, a customer, an operator."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.models import Installation
from vps import stuck
from vps.models import CapacityEntry, Dom0, Domu, Event, ForeignDomain, Operation, Request
from vps.models.operation import OPEN, State
from vps.views.page import show
from vps.views.scope import operator_required
from vps.xen.reconcile import Phase
from vps.xen.trial import is_trial

STUCK_AFTER = 120  # seconds without news
LAST_DAY = timedelta(hours=24)
DOM0S = 20  # that the first page shows


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """To the page that one comes for; visitors read what this is."""
    if not request.user.is_authenticated:
        is_open = Installation.current().sign_up == Installation.SignUp.OPEN
        return show(request, "home/visitor.html", {"open": is_open})
    return redirect("today" if request.user.is_operator else "servers")


@require_safe
@operator_required
def today(request: HttpRequest) -> HttpResponse:
    """What waits for an operator, the dom0s, what happened since yesterday."""
    now = timezone.now()
    waiting = Request.objects.waiting().select_related("tenant", "by").order_by("asked_at")
    rows = Operation.objects.select_related("domu", "dom0", "by").order_by("-id")
    failed = rows.filter(state__in=[State.FAILED, State.REFUSED, State.LOST], created_at__gt=now - LAST_DAY)
    dom0s = in_trouble_first(Dom0.objects.all())
    under_way = list(rows.filter(state__in=OPEN)[:20])
    context = {
        "waiting": waiting[:20],
        "waiting_count": waiting.count(),
        "under_way": [(row, _stuck(row)) for row in under_way],
        "failed": failed[:8],
        "stuck": stuck.everything(),
        "strips": strips(dom0s[:DOM0S]),
        "more_dom0s": max(0, len(dom0s) - DOM0S),
        # What came about is told by what was asked for; what failed is told.
        "events": Event.objects.filter(at__gt=now - LAST_DAY)
        .exclude(kind="operation.done")
        .select_related("domu", "dom0", "tenant")[:20],
        "crashed": Domu.objects.live().filter(phase=Phase.LIMIT.value).with_open_operation()[:10],
    }
    return show(request, "home/today.html", context, part="home/_today.html", moving=bool(under_way))


def _stuck(row: Operation) -> bool:
    last = row.heard_at or row.sent_at or row.created_at
    return (timezone.now() - last).total_seconds() > STUCK_AFTER


def strips(rows: Iterable[Dom0]) -> list[dict[str, Any]]:
    """What the strip of each dom0 shows; two queries for all of them."""
    dom0s = list(rows)
    promised: dict[tuple[UUID, str], int] = {
        (line["dom0"], line["resource"]): line["total"]
        for line in CapacityEntry.objects.filter(dom0__in=dom0s)
        .order_by()
        .values("dom0", "resource")
        .annotate(total=Sum("amount"))
    }
    own: dict[UUID, set[str]] = {dom0.pk: set() for dom0 in dom0s}
    for dom0_id, pk in Domu.objects.present().filter(dom0__in=dom0s).order_by().values_list("dom0", "pk"):
        own[dom0_id].add(str(pk))
    decided: dict[UUID, set[str]] = {dom0.pk: set() for dom0 in dom0s}
    for dom0_id, uuid in ForeignDomain.objects.filter(dom0__in=dom0s).values_list("dom0", "uuid"):
        decided[dom0_id].add(str(uuid))
    return [_strip(dom0, own[dom0.pk], decided[dom0.pk], promised) for dom0 in dom0s]


def _strip(
    dom0: Dom0, own: set[str], decided: set[str], promised: dict[tuple[UUID, str], int]
) -> dict[str, Any]:
    domains = [row for row in dom0.inventory.get("domains", []) if row.get("domid") != 0]
    ours = [row for row in domains if str(row.get("uuid")) in own]
    return {
        "dom0": dom0,
        "memory": promised.get((dom0.pk, "memory_mib"), 0),
        "disk": promised.get((dom0.pk, "disk_mib"), 0),
        "servers": len(own),
        "running": sum(row.get("state") == "running" for row in ours),
        "unknown": [
            row for row in domains if str(row.get("uuid")) not in own | decided and not _on_trial(row)
        ],
        "used": _used(dom0, domains),
    }


def _used(dom0: Dom0, domains: list[dict[str, Any]]) -> dict[str, int]:
    """What is in use at the moment, as the last inventory tells it: memory of guests and disk, in MiB, and cpus."""
    return {
        "memory": sum(int(row.get("memory_mib") or 0) for row in domains),
        "disk": max(0, dom0.disk_mib - int(dom0.inventory.get("free_disk_mib") or 0)),
        "vcpus": sum(int(row.get("vcpus") or 0) for row in domains),
    }


def _on_trial(domain: dict[str, Any]) -> bool:
    return is_trial(str(domain.get("uuid")), str(domain.get("name")))


def in_trouble_first(rows: QuerySet[Dom0]) -> list[Dom0]:
    """The dom0s that an operator should look at come first."""
    return sorted(
        rows, key=lambda dom0: (dom0.heard_lately and bool(dom0.xen) and not dom0.alarms, dom0.name)
    )
