"""An operator's pages of tenants: people, quota and servers; suspending them; locking a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db.models import Count, OuterRef, Q, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from accounts.forms.people import WhyForm
from accounts.models import Resource, Tenant
from accounts.models.quota import sums
from vps.models import Conflict, Domu
from vps.views.domu import page_of as page_of_domu
from vps.views.page import paged, show, sought
from vps.views.scope import operator_required

SEEN_BY_PEOPLE = gettext_lazy("Its people read these words.")
KEPT = gettext_lazy("It is kept with the event.")
SHOWN = 50  # servers on a tenant's page


@require_safe
@operator_required
def tenants(request: HttpRequest) -> HttpResponse:
    """All tenants with how many people and servers they have."""
    servers = Domu.objects.live().filter(tenant=OuterRef("pk")).order_by().values("tenant")
    rows = Tenant.objects.annotate(
        people=Count("memberships", distinct=True),
        servers=Subquery(servers.annotate(n=Count("pk")).values("n")),
    ).order_by("name", "pk")
    if q := sought(request):
        rows = rows.filter(
            Q(name__icontains=q)
            | Q(pk__in=Tenant.objects.filter(members__email__icontains=q).values("pk"))
            | Q(pk__in=Domu.objects.live().filter(name__icontains=q).values("tenant"))
        )
    if request.GET.get("which") == "suspended":
        rows = rows.exclude(suspended="")
    return show(request, "tenant/list.html", {"page": paged(request, rows), "q": q})


@require_safe
@operator_required
def tenant(request: HttpRequest, pk: UUID) -> HttpResponse:
    return page_of(request, get_object_or_404(Tenant, pk=pk))


def page_of(request: HttpRequest, row: Tenant, problem: str = "", status: int = 200) -> HttpResponse:
    now = sums(row)
    servers = row.domus.live().with_open_operation().order_by("name")
    context = {
        "tenant": row,
        "problem": problem,
        "members": row.memberships.select_related("user").order_by("user__name", "user__email"),
        "quota": [{"resource": name, **now[name]} for name in Resource.values],
        "servers": servers[:SHOWN],
        "more_servers": max(0, servers.count() - SHOWN),
        "events": row.events.order_by("-id")[:12],
    }
    return show(request, "tenant/page.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def suspend(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Say why, and nothing of the tenant is started any more."""
    row = get_object_or_404(Tenant, pk=pk)
    texts = {
        "title": _("Suspend %(tenant)s") % {"tenant": row},
        "means": _("Its servers run on, but are neither started nor rebooted, and nobody types on consoles."),
        "danger": True,
    }
    return _with_words(request, row, texts, row.suspend, page_of, SEEN_BY_PEOPLE)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def lift(request: HttpRequest, pk: UUID) -> HttpResponse:
    """End a suspension."""
    row = get_object_or_404(Tenant, pk=pk)
    texts = {
        "title": _("End the suspension of %(tenant)s") % {"tenant": row},
        "means": _("Its people can start servers again. It was suspended because: %(why)s")
        % {"why": row.suspended or _("it is not suspended")},
    }
    return _with_words(request, row, texts, row.lift, page_of, KEPT, required=False)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def lock_server(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Say why, and the server is only shut down or destroyed any more."""
    row = get_object_or_404(Domu.objects.live(), pk=pk)
    texts = {
        "title": _("Lock %(server)s") % {"server": row},
        "means": _(
            "It runs on, and can be shut down or destroyed; nothing else. Nobody types on its console."
        ),
        "danger": True,
    }
    return _with_words(request, row, texts, row.lock, _server_page, SEEN_BY_PEOPLE)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def unlock_server(request: HttpRequest, pk: UUID) -> HttpResponse:
    """End a lock."""
    row = get_object_or_404(Domu.objects.live(), pk=pk)
    texts = {
        "title": _("Unlock %(server)s") % {"server": row},
        "means": _("It was locked because: %(why)s") % {"why": row.locked or _("it is not locked")},
    }
    return _with_words(request, row, texts, row.unlock, _server_page, KEPT, required=False)


def _server_page(request: HttpRequest, row: Domu, problem: str, status: int) -> HttpResponse:
    return page_of_domu(request, row.pk, problem=problem, status=status)


def _with_words(
    request: HttpRequest,
    row: Tenant | Domu,
    texts: dict[str, Any],
    move: Callable[..., None],
    again: Callable[..., HttpResponse],
    help_text: Any,
    required: bool = True,
) -> HttpResponse:
    """The page that asks for words; then `move`, or the page `again` with what was in the way."""
    form = WhyForm(request.POST if request.method == "POST" else None, required=required, help_text=help_text)
    back = "tenant" if isinstance(row, Tenant) else "server"
    if request.method == "POST" and form.is_valid():
        try:
            move(request.user, form.cleaned_data["why"])
        except Conflict as conflict:
            return again(request, row, str(conflict), 409)
        return redirect(back, row.pk)
    context = {**texts, "form": form, "row": row, "back": back}
    return show(request, "tenant/words.html", context, status=422 if form.errors else 200)
