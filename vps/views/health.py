"""For supervisors, load balancers and Prometheus: alive, ready, and figures."""

from __future__ import annotations

from datetime import UTC, datetime

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_safe

from vps.metrics import exposition
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


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Figures for Prometheus: with the token, or without one set from this machine itself."""
    if not _may_read(request):
        raise Http404
    return HttpResponse(exposition(), content_type="text/plain; version=0.0.4; charset=utf-8")


def _may_read(request: HttpRequest) -> bool:
    if token := settings.BERTH_METRICS_TOKEN:
        return constant_time_compare(request.headers.get("Authorization", ""), f"Bearer {token}")
    # What a proxy on this machine hands on comes from loopback too, and says from whom.
    forwarded = any(request.headers.get(name) for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP"))
    return request.META.get("REMOTE_ADDR") in ("127.0.0.1", "::1") and not forwarded
