"""How views answer: whole pages, or for htmx the part that changes; lists by pages."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

PER_PAGE = 50
EVERY_MOVING = 2  # seconds between two looks while something moves
EVERY_STILL = 10


def show(
    request: HttpRequest,
    template: str,
    context: dict[str, Any],
    *,
    part: str = "",
    moving: bool = False,
    status: int = 200,
) -> HttpResponse:
    """Render `template`, or for htmx only `part`, which `template` includes.

    `moving` says that something passes by itself, so that the page looks again soon.
    """
    context = {**context, "every": EVERY_MOVING if moving else EVERY_STILL}
    name = part if part and request.headers.get("HX-Request") else template
    response = render(request, name, context, status=status)
    response["Cache-Control"] = "no-store"
    response["Vary"] = "HX-Request"
    return response


def paged(request: HttpRequest, rows: QuerySet[Any]) -> Page[Any]:
    """The page that `?page=` asks for; the nearest one there is."""
    return Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))


def sought(request: HttpRequest) -> str:
    """What the search field says."""
    return request.GET.get("q", "").strip()[:100]
