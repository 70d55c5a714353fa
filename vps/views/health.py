"""For supervisors and load balancers: alive, and ready."""

from __future__ import annotations

from datetime import UTC, datetime

import redis
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from vps.models import Dom0
from vps.redis import client


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """This process answers."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Database and Redis answer; how many dom0s were heard lately. 503 when one does not answer.

    `?since=` (Unix time in seconds): only dom0s heard from then on count, whatever came before a restart.
    """
    since = _since(request)
    found: dict[str, object] = {"database": True, "redis": True}
    try:
        connection.ensure_connection()
        dom0s = list(Dom0.objects.all())
        heard = [dom0 for dom0 in dom0s if dom0.heard_lately and dom0.heard_at and dom0.heard_at >= since]
        found |= {"dom0s": len(dom0s), "dom0s_heard": len(heard)}
    except DatabaseError:
        found["database"] = False
    try:
        client().ping()
    except redis.RedisError:
        found["redis"] = False
    return JsonResponse(found, status=200 if found["database"] and found["redis"] else 503)


def _since(request: HttpRequest) -> datetime:
    try:
        return datetime.fromtimestamp(float(request.GET.get("since", 0)), tz=UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, tz=UTC)
