"""For supervisors and load balancers: alive, and ready."""

from __future__ import annotations

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
    """Database and Redis answer; how many dom0s were heard lately. 503 when one does not answer."""
    found: dict[str, object] = {"database": True, "redis": True}
    try:
        connection.ensure_connection()
        dom0s = list(Dom0.objects.all())
        found |= {"dom0s": len(dom0s), "dom0s_heard": sum(dom0.heard_lately for dom0 in dom0s)}
    except DatabaseError:
        found["database"] = False
    try:
        client().ping()
    except redis.RedisError:
        found["redis"] = False
    return JsonResponse(found, status=200 if found["database"] and found["redis"] else 503)
