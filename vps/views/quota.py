"""Quota: every limit with what is used of it, the lines behind each number, asking for more, setting limits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import DefaultLimit, QuotaEntry, Resource, Right, Tenant
from accounts.models.quota import default_limits, set_limits, sums
from vps.forms.quota import AskQuotaForm, DefaultForm, LimitsForm, in_fields
from vps.models import Conflict, Domu, Event, KernelVersion, Request
from vps.views.page import paged, show
from vps.views.scope import get_tenant_or_404, operator_required


@require_safe
@login_required
def quota(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What a tenant may use and uses."""
    return _page(request, get_tenant_or_404(request, pk))


def _page(
    request: HttpRequest, tenant: Tenant, *, form: LimitsForm | None = None, status: int = 200
) -> HttpResponse:
    now = sums(tenant)
    context = {
        "tenant": tenant,
        "lines": [{"resource": name, **now[name]} for name in Resource.values],
        "waiting": Request.objects.waiting().filter(tenant=tenant, kind=Request.Kind.QUOTA).first(),
        "may_ask": tenant.allows(request.user, Right.REQUEST),
    }
    if request.user.is_operator and tenant.role_of(request.user) is None:
        limits = {name: line["limit"] for name, line in now.items()}
        context["form"] = form or LimitsForm(initial=in_fields(limits))
    return show(request, "quota/quota.html", context, status=status)


@require_safe
@login_required
def quota_entries(request: HttpRequest, pk: UUID, resource: str) -> HttpResponse:
    """The lines of the ledger behind the two numbers of a resource, newest first."""
    tenant = get_tenant_or_404(request, pk)
    if resource not in Resource.values:
        raise Http404
    rows = QuotaEntry.objects.filter(tenant=tenant, resource=resource).select_related("by").order_by("-id")
    kind = request.GET.get("kind", "")
    if kind in QuotaEntry.Kind.values:
        rows = rows.filter(kind=kind)
    page = paged(request, rows)
    page.object_list = with_subjects(page.object_list)
    context = {
        "tenant": tenant,
        "resource": resource,
        "line": sums(tenant)[resource],
        "page": page,
        "shown": kind,
        "kinds": QuotaEntry.Kind.choices,
    }
    return show(request, "quota/entries.html", context)


def with_subjects(rows: Iterable[Any]) -> list[Any]:
    """Each line of a ledger with `about`: the row that it is booked on, three queries for all of them."""
    lines = list(rows)
    found: dict[str, Any] = {}
    for model in (Domu, Request, KernelVersion):
        prefix = {Domu: "domu", Request: "request", KernelVersion: "kernel-version"}[model]
        ids = [line.subject.partition(":")[2] for line in lines if line.subject.startswith(f"{prefix}:")]
        rows_of = model.objects.filter(pk__in=[pk for pk in ids if _is_uuid(pk)])  # type: ignore[attr-defined]
        found |= {f"{prefix}:{row.pk}": row for row in rows_of}
    for line in lines:
        line.about = found.get(line.subject)
        line.about_kind = line.subject.partition(":")[0]
    return lines


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def quota_ask(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Ask for higher limits."""
    tenant = get_tenant_or_404(request, pk, Right.REQUEST)
    form = AskQuotaForm(request.POST or None)
    status = 200
    if request.method == "POST":
        if form.is_valid():
            try:
                asked = Request.ask_quota(tenant, request.user, form.amounts(), form.cleaned_data["why"])
            except Conflict as conflict:
                form.add_error(None, str(conflict))
            else:
                messages.success(request, _("More quota was asked for."))
                return redirect("request", asked.pk)
        status = 422
    now = sums(tenant)
    context = {"tenant": tenant, "form": form, "lines": [{"resource": r, **now[r]} for r in Resource.values]}
    return show(request, "quota/ask.html", context, status=status)


@require_POST
@operator_required
def quota_limits(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Set the limits of a tenant, with the reason."""
    tenant = get_tenant_or_404(request, pk)
    if tenant.role_of(request.user) is not None:
        raise PermissionDenied(_("Nobody sets the limits of their own tenant; ask another operator."))
    form = LimitsForm(request.POST)
    if not form.is_valid():
        return _page(request, tenant, form=form, status=422)
    with transaction.atomic():
        reason = form.cleaned_data["reason"]
        changed = set_limits(tenant, form.amounts(), reason, request.user)
        if changed["after"]:
            Event.record(
                "quota.changed",
                _("The limits of %(tenant)s were changed") % {"tenant": tenant},
                actor=request.user,
                tenant=tenant,
                reason=reason,
                **changed,
            )
    messages.success(
        request,
        _("The limits of %(tenant)s were changed.") % {"tenant": tenant}
        if changed["after"]
        else _("These are its limits already; nothing was changed."),
    )
    return redirect("quota", pk)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def quota_default(request: HttpRequest) -> HttpResponse:
    """What new tenants begin with."""
    form = DefaultForm(request.POST or None, initial=in_fields(default_limits()))
    status = 200
    if request.method == "POST":
        if form.is_valid():
            _set_default(request, form.amounts())
            messages.success(request, _("New tenants begin with these limits from now on."))
            return redirect("quota_default")
        status = 422
    context = {"form": form, "tenants": Tenant.objects.order_by("name")[:200]}
    return show(request, "quota/default.html", context, status=status)


def _set_default(request: HttpRequest, amounts: dict[str, int]) -> None:
    with transaction.atomic():
        before = default_limits()
        for resource, amount in amounts.items():
            DefaultLimit.objects.update_or_create(resource=resource, defaults={"amount": amount})
        if before != amounts:
            Event.record(
                "quota.default",
                _("The limits that new tenants begin with were changed"),
                actor=request.user,
                before=before,
                after=amounts,
            )
