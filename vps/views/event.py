"""What happened."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from vps.models import Event
from vps.views.page import paged, show, sought


@require_safe
@login_required
def events(request: HttpRequest) -> HttpResponse:
    """All that this person may know of; `?server=` and `?dom0=` narrow it to one."""
    rows = Event.objects.visible_to(request.user).select_related("domu", "dom0", "tenant", "operation")
    for name, field in (("server", "domu__name"), ("dom0", "dom0__name")):
        if value := request.GET.get(name, "")[:63]:
            rows = rows.filter(**{field: value})
    if q := sought(request):
        rows = rows.filter(
            Q(text__icontains=q)
            | Q(actor_name__icontains=q)
            | Q(reason__icontains=q)
            | Q(kind__icontains=q)
            | Q(domu__name__icontains=q)
        )
    context = {"page": paged(request, rows.order_by("-id")), "q": q}
    return show(request, "event/list.html", context)
