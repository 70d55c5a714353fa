"""One box for everything."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from vps import search as finder
from vps.views.page import paged, show, sought


@require_safe
@login_required
def search(request: HttpRequest) -> HttpResponse:
    """A few of each kind, or with `?in=` all of one kind by pages."""
    q = sought(request)
    kinds = finder.kinds(request.user)
    one = next((kind for kind in kinds if kind.name == request.GET.get("in")), None)
    context: dict[str, Any] = {"q": q, "kinds": kinds, "one": one, "short": len(q) < finder.LEAST}
    if context["short"]:
        pass
    elif one is None:
        context["found"] = finder.everywhere(request.user, q)
    else:
        page = paged(request, one.rows(request.user, q))
        context |= {"page": page, "hits": [one.hit(row) for row in page.object_list]}
    return show(request, "search/page.html", context)
