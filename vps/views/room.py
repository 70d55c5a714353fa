"""The lines behind what is promised of a dom0's room."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe

from vps.models import Dom0
from vps.views.page import paged, show
from vps.views.quota import with_subjects
from vps.views.scope import operator_required


@require_safe
@operator_required
def dom0_room(request: HttpRequest, pk: UUID, resource: str) -> HttpResponse:
    """Each promise of memory or disk, and what came back, newest first."""
    dom0 = get_object_or_404(Dom0, pk=pk)
    line = dom0.capacity().get(resource)
    if line is None:
        raise Http404
    page = paged(request, dom0.capacity_entries.filter(resource=resource).order_by("-id"))
    page.object_list = with_subjects(page.object_list)
    context = {"dom0": dom0, "resource": resource, "line": line, "page": page}
    return show(request, "dom0/room.html", context)
