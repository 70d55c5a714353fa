"""Asking for servers; deciding on what was asked."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import QuotaExceeded, Right, Tenant
from accounts.models.quota import Resource, sums
from vps.forms.request import SIZE_FIELDS, ApproveForm, AskForm, RefuseForm
from vps.models import Conflict, Dom0, NoRoom, Request
from vps.models.dom0 import BOOT_DISK_MIB
from vps.views.page import paged, show, sought
from vps.views.scope import get_request_or_404, operator_required


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def ask(request: HttpRequest) -> HttpResponse:
    """The form for a new server."""
    form = AskForm(request.user, request.POST or None)
    if not form.tenants:
        raise PermissionDenied(_("Only an owner or an admin can ask for servers; ask one of them."))
    status = 200
    if request.method == "POST":
        if form.is_valid() and (asked := _ask(request, form)):
            messages.success(request, _("%(name)s was asked for.") % {"name": asked.name})
            return redirect("request", asked.pk)
        status = 422
    tenant, size = _meant(request, form)
    context = {"form": form, "for_tenant": tenant, "quota": _before_and_after(tenant, {"servers": 1, **size})}
    return show(request, "request/ask.html", context, part="request/_left.html", status=status)


def _meant(request: HttpRequest, form: AskForm) -> tuple[Tenant, dict[str, int]]:
    """The tenant and the size that the form stands at: what was typed so far, or what it begins with."""
    typed = request.POST or request.GET
    named = typed.get("tenant", "")
    tenant = next((tenant for tenant in form.tenants if str(tenant.pk) == named), form.tenants[0])
    offer = typed.get("offer") or form.fields["offer"].initial
    for size in form.sizes:
        if str(size.pk) == offer:
            return tenant, {name: getattr(size, name) for name in SIZE_FIELDS}
    return tenant, {name: _number(typed.get(name, "")) for name in SIZE_FIELDS}


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0


def _before_and_after(tenant: Tenant, wanted: dict[str, int]) -> list[dict[str, Any]]:
    now = sums(tenant)
    return [
        {"resource": name, **now[name], "want": want, "after": now[name]["left"] - want}
        for name, want in wanted.items()
    ]


def _ask(request: HttpRequest, form: AskForm) -> Request | None:
    try:
        return Request.ask(tenant=form.cleaned_data["tenant"], by=request.user, **form.fields_of_request())
    except (Conflict, QuotaExceeded) as error:
        form.add_error("name" if isinstance(error, Conflict) else None, str(error))
    return None


@require_safe
@operator_required
def requests(request: HttpRequest) -> HttpResponse:
    """All requests: the waiting ones, or with `?state=` others."""
    state = request.GET.get("state", Request.State.WAITING)
    rows = Request.objects.select_related("tenant", "by", "decided_by", "domu")
    rows = rows.filter(state=state) if state in Request.State.values else rows
    if q := sought(request):
        rows = rows.filter(Q(name__icontains=q) | Q(tenant__name__icontains=q) | Q(why__icontains=q))
    rows = rows.order_by("asked_at" if state == Request.State.WAITING else "-asked_at")
    context = {"page": paged(request, rows), "q": q, "shown": state, "states": Request.State.choices}
    return show(request, "request/list.html", context, part="request/_list.html")


@require_safe
@login_required
def one(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What was asked for; for operators with what helps to decide."""
    return _page(request, get_request_or_404(request, pk))


def _page(
    request: HttpRequest,
    asked: Request,
    *,
    approve: ApproveForm | None = None,
    refuse: RefuseForm | None = None,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    context: dict[str, Any] = {
        "asked": asked,
        "problem": problem,
        "place": _place(asked),
        "may_withdraw": asked.tenant.allows(request.user, Right.REQUEST),
        "own": asked.tenant.role_of(request.user) is not None,
        "os_name": dict(AskForm.base_fields["guest_os"].choices)[asked.guest_os],
    }
    if request.user.is_operator:
        context |= _facts(asked)
        first = next((room["dom0"].pk for room in context["rooms"] if not room["why_not"]), None)
        context["approve"] = approve or ApproveForm(initial={**asked.size, "dom0": first})
        context["refuse"] = refuse or RefuseForm(auto_id="refuse_%s")
    return show(request, "request/page.html", context, part="request/_page.html", status=status)


def _place(asked: Request) -> int:
    """Its place among all that wait, from 1."""
    return Request.objects.waiting().filter(asked_at__lt=asked.asked_at).count() + 1


def _facts(asked: Request) -> dict[str, Any]:
    """What an operator wants to know: the quota, every dom0's room, the customer's history."""
    quota = sums(asked.tenant)
    lines = []
    for name in (Resource.SERVERS, *SIZE_FIELDS):
        line, want = quota[name], asked.use[name]
        # A waiting request is booked already, so that "before" is what is used without it.
        booked = want if asked.state == Request.State.WAITING else 0
        before = line["used"] - booked
        after = before + want if asked.state == Request.State.WAITING else before
        lines.append(
            {"resource": name, "limit": line["limit"], "before": before, "want": want, "after": after}
        )
    rooms = []
    for dom0 in Dom0.objects.all():
        capacity = dom0.capacity()
        disk = asked.disk_mib + BOOT_DISK_MIB
        rooms.append(
            {
                "dom0": dom0,
                "capacity": capacity,
                "disk_want": disk,
                "memory_after": max(0, capacity["memory_mib"]["free"] - asked.memory_mib),
                "disk_after": max(0, capacity["disk_mib"]["free"] - disk),
                "why_not": dom0.why_not(asked.memory_mib, asked.vcpus, asked.disk_mib),
            }
        )
    rooms.sort(key=lambda room: (bool(room["why_not"]), -room["capacity"]["memory_mib"]["free"]))
    return {
        "quota": lines,
        "rooms": rooms,
        "domus": asked.tenant.domus.live().with_open_operation().order_by("-created_at")[:10],
        "history": asked.tenant.requests.exclude(pk=asked.pk).order_by("-asked_at")[:10],
        "members": asked.tenant.memberships.select_related("user").order_by("created_at"),
    }


@require_POST
@operator_required
def approve(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Make the server, as asked or changed."""
    asked = get_request_or_404(request, pk)
    form = ApproveForm(request.POST)
    if not form.is_valid():
        return _page(request, asked, approve=form, status=422)
    try:
        domu = asked.approve(
            request.user,
            form.cleaned_data["dom0"],
            words=form.cleaned_data["words"],
            size=form.size(),
        )
    except Conflict as conflict:
        return _page(request, get_request_or_404(request, pk), problem=str(conflict), status=409)
    except (NoRoom, QuotaExceeded) as error:
        form.add_error("dom0" if isinstance(error, NoRoom) else None, str(error))
        return _page(request, get_request_or_404(request, pk), approve=form, status=422)
    messages.success(
        request, _("%(name)s was approved and is being made on %(dom0)s.") % {"name": domu, "dom0": domu.dom0}
    )
    return redirect("request", pk)


@require_POST
@operator_required
def refuse(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Say no, with words."""
    asked = get_request_or_404(request, pk)
    form = RefuseForm(request.POST, auto_id="refuse_%s")
    if not form.is_valid():
        return _page(request, asked, refuse=form, status=422)
    try:
        asked.refuse(request.user, form.cleaned_data["words"])
    except Conflict as conflict:
        return _page(request, get_request_or_404(request, pk), problem=str(conflict), status=409)
    messages.success(request, _("%(name)s was refused; the customer reads why.") % {"name": asked.name})
    return redirect("request", pk)


@require_POST
@login_required
def withdraw(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The customer takes it back."""
    asked = get_request_or_404(request, pk)
    if not asked.tenant.allows(request.user, Right.REQUEST):
        raise PermissionDenied(_("Only an owner or an admin can withdraw it; ask one of them."))
    try:
        asked.withdraw(request.user)
    except Conflict as conflict:
        return _page(request, get_request_or_404(request, pk), problem=str(conflict), status=409)
    messages.success(request, _("%(name)s was withdrawn.") % {"name": asked.name})
    return redirect("servers")
