"""Asking for servers; deciding on what was asked, of each kind."""

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

from accounts.models import QuotaExceeded, Right, Tenant, User
from accounts.models.quota import sums
from vps.forms.quota import ApproveQuotaForm, in_fields
from vps.forms.request import ApproveForm, AskForm, RefuseForm
from vps.forms.size import SIZE_FIELDS, ApproveSizeForm
from vps.models import Conflict, NoRoom, Request
from vps.views.facts import deciding_facts
from vps.views.page import paged, show, sought
from vps.views.scope import get_request_or_404, operator_required

Approval = ApproveForm | ApproveSizeForm | ApproveQuotaForm
FORMS: dict[str, type[Approval]] = {
    Request.Kind.SERVER: ApproveForm,
    Request.Kind.RESIZE: ApproveSizeForm,
    Request.Kind.QUOTA: ApproveQuotaForm,
}


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
    approve: Approval | None = None,
    refuse: RefuseForm | None = None,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    context: dict[str, Any] = {
        "asked": asked,
        "problem": problem,
        "place": asked.place,
        "expires_at": asked.expires_at,
        "may_withdraw": asked.tenant.allows(request.user, Right.REQUEST),
        "own": asked.tenant.role_of(request.user) is not None,
        "os_name": dict(AskForm.base_fields["guest_os"].choices).get(asked.guest_os, ""),
    }
    if request.user.is_operator:
        context |= deciding_facts(asked)
        context["approve"] = approve or _approval(asked, context["rooms"])
        context["refuse"] = refuse or RefuseForm(auto_id="refuse_%s")
    return show(request, "request/page.html", context, part="request/_page.html", status=status)


def _approval(asked: Request, rooms: list[dict[str, Any]]) -> Approval:
    """The form that approves it as it was asked."""
    if asked.kind == Request.Kind.RESIZE:
        return ApproveSizeForm(initial=asked.amounts)
    if asked.kind == Request.Kind.QUOTA:
        return ApproveQuotaForm(initial=in_fields(asked.amounts))
    first = next((room["dom0"].pk for room in rooms if not room["why_not"]), None)
    return ApproveForm(initial={**asked.size, "dom0": first})


@require_POST
@operator_required
def approve(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Say yes: as asked, or changed."""
    asked = get_request_or_404(request, pk)
    form = FORMS[asked.kind](request.POST)
    if not form.is_valid():
        return _page(request, asked, approve=form, status=422)
    try:
        done = _approve(asked, request.user, form)
    except Conflict as conflict:
        return _page(request, get_request_or_404(request, pk), problem=str(conflict), status=409)
    except (NoRoom, QuotaExceeded) as error:
        on_dom0 = isinstance(error, NoRoom) and "dom0" in form.fields
        form.add_error("dom0" if on_dom0 else None, str(error))
        return _page(request, get_request_or_404(request, pk), approve=form, status=422)
    messages.success(request, done)
    return redirect("request", pk)


def _approve(asked: Request, by: User, form: Approval) -> str:
    """Do it; a sentence that says what happens now."""
    given = {"words": form.cleaned_data["words"], "size": form.size()}
    if asked.kind == Request.Kind.RESIZE:
        asked.approve_size(by, **given)
        return _("%(name)s has the new size from its next boot on.") % {"name": asked.name}
    if asked.kind == Request.Kind.QUOTA:
        asked.approve_quota(by, **given)
        return _("%(tenant)s may have more from now on.") % {"tenant": asked.tenant}
    domu = asked.approve(by, form.cleaned_data["dom0"], **given)
    return _("%(name)s was approved and is being made on %(dom0)s.") % {"name": domu, "dom0": domu.dom0}


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
    messages.success(request, _("%(name)s was refused; the customer reads why.") % {"name": asked.title})
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
    messages.success(request, _("%(name)s was withdrawn.") % {"name": asked.title})
    return redirect("servers")
