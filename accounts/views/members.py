"""The people of a tenant: roles, invitations, leaving, removing."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.conflict import Conflict
from accounts.forms.people import InviteForm
from accounts.models import Invitation, Membership, Right, Role, Tenant
from accounts.models.tenant import GIVES
from accounts.pages import show


@require_safe
@login_required
def people(request: HttpRequest) -> HttpResponse:
    """To the people of my tenant; with several, which one."""
    mine = Tenant.objects.of(request.user).order_by("name")
    if len(mine) == 1:
        return redirect("members", mine[0].pk)
    rows = request.user.memberships.select_related("tenant").order_by("tenant__name")
    return show(request, "people/tenants.html", {"memberships": rows})


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def members(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Who is in it and as what; POST invites somebody."""
    tenant = _tenant_or_404(request, pk)
    if request.method != "POST":
        return page_of(request, tenant)
    _demand_govern(request, tenant)
    form = InviteForm(_gives(request, tenant), request.POST)
    if not form.is_valid():
        return page_of(request, tenant, form=form, status=422)
    try:
        made = Invitation.invite(form.cleaned_data["email"], request.user, tenant, form.cleaned_data["role"])
    except Conflict as conflict:
        form.add_error("email", str(conflict))
        return page_of(request, tenant, form=form, status=409)
    messages.success(request, _("An invitation goes to %(who)s.") % {"who": made.email})
    return redirect("members", tenant.pk)


def page_of(
    request: HttpRequest,
    tenant: Tenant,
    *,
    form: InviteForm | None = None,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    gives = _gives(request, tenant)
    rows = tenant.memberships.select_related("user").order_by("user__name", "user__email")
    context: dict[str, Any] = {
        "tenant": tenant,
        "members": [(row, row.role in gives) for row in rows],
        "roles": [(value, label) for value, label in Role.choices if value in gives],
        "waiting": tenant.invitations.waiting().select_related("by"),
        "form": form or (InviteForm(gives) if gives else None),
        "problem": problem,
        "many_tenants": request.user.memberships.count() > 1,
    }
    return show(request, "people/members.html", context, status=status)


@require_POST
@login_required
def member_role(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Give a member another role."""
    row = _membership_or_404(request, pk)
    _demand_govern(request, row.tenant)
    role = request.POST.get("role", "")
    if role not in Role.values:
        return page_of(request, row.tenant, problem=_("Choose one of the roles."), status=422)
    try:
        row.change_role(role, request.user)
    except Conflict as conflict:
        return page_of(request, row.tenant, problem=str(conflict), status=409)
    messages.success(
        request, _("%(who)s is %(role)s now.") % {"who": row.user, "role": row.get_role_display()}
    )
    return redirect("members", row.tenant_id)


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def member_remove(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Leave, or take somebody out: a page that says what it means, then its button."""
    row = _membership_or_404(request, pk)
    leaves = row.user_id == request.user.pk
    if not leaves:
        _demand_govern(request, row.tenant)
    if request.method != "POST":
        return show(request, "people/remove.html", {"row": row, "leaves": leaves})
    try:
        row.remove(request.user)
    except Conflict as conflict:
        return page_of(request, row.tenant, problem=str(conflict), status=409)
    if leaves:
        messages.success(request, _("You left %(tenant)s.") % {"tenant": row.tenant})
        return redirect("people")
    messages.success(request, _("%(who)s was removed.") % {"who": row.user})
    return redirect("members", row.tenant_id)


@require_POST
@login_required
def invitation_revoke(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Take an invitation back that nobody used yet."""
    rows = Invitation.objects.select_related("tenant").filter(tenant__memberships__user=request.user)
    row = get_object_or_404(rows, pk=pk)
    _demand_govern(request, row.tenant)
    try:
        row.tenant.check_gives(request.user, row.role)
        row.revoke(request.user)
    except Conflict as conflict:
        return page_of(request, row.tenant, problem=str(conflict), status=409)
    messages.success(request, _("The invitation of %(who)s was taken back.") % {"who": row.email})
    return redirect("members", row.tenant_id)


def _tenant_or_404(request: HttpRequest, pk: UUID) -> Tenant:
    return get_object_or_404(Tenant.objects.of(request.user), pk=pk)


def _membership_or_404(request: HttpRequest, pk: UUID) -> Membership:
    rows = Membership.objects.filter(tenant__in=Tenant.objects.of(request.user))
    return get_object_or_404(rows.select_related("tenant", "user"), pk=pk)


def _gives(request: HttpRequest, tenant: Tenant) -> frozenset[str]:
    """The roles that this person may give and take here."""
    return GIVES.get(tenant.role_of(request.user) or "", frozenset())


def _demand_govern(request: HttpRequest, tenant: Tenant) -> None:
    if not tenant.allows(request.user, Right.GOVERN):
        raise PermissionDenied(
            _("Only an owner or an admin decides who is in %(tenant)s.") % {"tenant": tenant}
        )
