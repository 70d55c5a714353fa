"""What happened: filtered, by pages, and as files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from typing import Any

from django.contrib.auth.decorators import login_required
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from vps.models import Event
from vps.views.page import paged, show, sought

# What the address may say of each event, and the field that it is compared with.
FILTERS = {
    "server": "domu__name",
    "dom0": "dom0__name",
    "tenant": "tenant__name",
    "kind": "kind__startswith",
    "click": "request_id",
}
COLUMNS = ("id", "at", "kind", "who", "tenant", "server", "dom0", "what", "why", "before", "after", "click")


@require_safe
@login_required
def events(request: HttpRequest) -> HttpResponse:
    """All that this person may know of, narrowed to what the address says."""
    rows, chosen, problem = _narrowed(request)
    context = {
        "page": paged(request, rows.select_related("domu", "dom0", "tenant", "operation").order_by("-id")),
        "q": sought(request),
        "chosen": chosen,
        "problem": problem,
        "narrowed": any(chosen.values()),
        "kinds": _kinds(request),
    }
    return show(request, "event/list.html", context, status=422 if problem else 200)


@require_safe
@login_required
def export(request: HttpRequest, form: str) -> StreamingHttpResponse:
    """The same events as a file, CSV or JSON lines, sent while it is read."""
    writers = {"csv": (_csv, "text/csv"), "jsonl": (_jsonl, "application/x-ndjson")}
    if form not in writers:
        raise Http404
    write, kind = writers[form]
    rows, _chosen, problem = _narrowed(request)
    if problem:
        raise Http404(problem)
    rows = rows.select_related("domu", "dom0", "tenant").order_by("id")
    response = StreamingHttpResponse(write(rows), content_type=f"{kind}; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="events.{form}"'
    response["Cache-Control"] = "no-store"
    return response


def _narrowed(request: HttpRequest) -> tuple[QuerySet[Event], dict[str, str], str]:
    """(the events, what was chosen, what of it cannot be read)."""
    rows = Event.objects.visible_to(request.user)
    chosen = {name: request.GET.get(name, "").strip()[:120] for name in (*FILTERS, "who", "from", "until")}
    for name, field in FILTERS.items():
        if chosen[name]:
            rows = rows.filter(**{field: chosen[name]})
    if who := chosen["who"]:
        rows = rows.filter(Q(actor_name=who) | Q(actor__email=who))
    problem = ""
    for name, lookup, more in (("from", "at__gte", 0), ("until", "at__lt", 1)):
        if not chosen[name]:
            continue
        if (moment := _day(chosen[name], more)) is None:
            problem = _("%(text)s is no day; write it like 2026-11-30.") % {"text": chosen[name]}
        else:
            rows = rows.filter(**{lookup: moment})
    if q := sought(request):
        rows = rows.filter(
            Q(text__icontains=q)
            | Q(actor_name__icontains=q)
            | Q(reason__icontains=q)
            | Q(kind__icontains=q)
            | Q(domu__name__icontains=q)
        )
    return rows, chosen, problem


def _day(text: str, more: int) -> datetime | None:
    """Where a day begins, or the `more`th after it."""
    try:
        day = parse_date(text)
        return timezone.make_aware(datetime.combine(day + timedelta(days=more), time())) if day else None
    except (ValueError, OverflowError):
        return None


def _kinds(request: HttpRequest) -> list[str]:
    """What kinds there are, by their first word."""
    kinds = Event.objects.visible_to(request.user).order_by().values_list("kind", flat=True).distinct()
    return sorted({kind.partition(".")[0] for kind in kinds})


def _values(row: Event) -> dict[str, Any]:
    return {
        "id": row.pk,
        "at": row.at.isoformat(),
        "kind": row.kind,
        "who": row.actor_name,
        "tenant": str(row.tenant or ""),
        "server": str(row.domu or ""),
        "dom0": str(row.dom0 or ""),
        "what": row.text,
        "why": row.reason,
        "before": row.before,
        "after": row.after,
        "click": row.request_id,
    }


class _Line:
    """What csv writes into: it gives the line back."""

    def write(self, text: str) -> str:
        return text


def _csv(rows: QuerySet[Event]) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield writer.writerow(COLUMNS)
    for row in rows.iterator(chunk_size=500):
        values = _values(row) | {"before": json.dumps(row.before), "after": json.dumps(row.after)}
        yield writer.writerow([_harmless(str(values[name])) for name in COLUMNS])


def _harmless(text: str) -> str:
    """A table program takes what begins so for a formula, and people choose names and reasons."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _jsonl(rows: QuerySet[Event]) -> Iterator[str]:
    for row in rows.iterator(chunk_size=500):
        yield json.dumps(_values(row), ensure_ascii=False) + "\n"
