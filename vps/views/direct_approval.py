"""Direct boot of an upload: ask for it, decide on it, take it back."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts.access import fresh_login_required, operator_required
from accounts.models import Right
from vps.forms.direct_approval import AskForm, DecideForm, RevokeForm
from vps.models import Conflict, DirectApproval, Domu
from vps.views.kernel import version_page
from vps.views.scope import get_version_or_404
from vps.xen.description import BootMethod


@login_required
@require_POST
def direct_ask(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Ask that a version may boot directly."""
    version = get_version_or_404(request, pk, Right.OPERATE)
    form = AskForm(request.POST)
    if not form.is_valid():
        return version_page(request, version, direct_form=form, status=422)
    try:
        made = DirectApproval.ask(version, request.user, form.cleaned_data["words"])
    except Conflict as conflict:
        return version_page(request, version, conflict=str(conflict), status=409)
    messages.success(request, _("An operator decides on it; you see the answer here."))
    return redirect("direct_approval", made.pk)


@login_required
@require_safe
def direct_approval(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What was asked for, what it is bound to, how it was decided."""
    return _page(request, _get(request, pk))


@require_POST
@operator_required
@fresh_login_required
def direct_decide(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Approve or refuse."""
    row = _get(request, pk)
    form = DecideForm(request.POST)
    if not form.is_valid():
        return _page(request, row, decide=form, status=422)
    try:
        row.decide(request.user, form.cleaned_data["answer"] == "approve", form.cleaned_data["words"])
    except Conflict as conflict:
        return _page(request, row, problem=str(conflict), status=409)
    messages.success(request, _("Direct boot of %(version)s is %(state)s.") % _said(row))
    return redirect("direct_approval", pk)


@require_POST
@operator_required
@fresh_login_required
def direct_revoke(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Take an approval back: what runs goes on, and is not started again."""
    row = _get(request, pk)
    form = RevokeForm(request.POST)
    if not form.is_valid():
        return _page(request, row, revoke=form, status=422)
    try:
        row.revoke(request.user, form.cleaned_data["why"])
    except Conflict as conflict:
        return _page(request, row, problem=str(conflict), status=409)
    messages.success(request, _("The approval was taken back; what runs goes on until it ends."))
    return redirect("direct_approval", pk)


def _get(request: HttpRequest, pk: UUID) -> DirectApproval:
    rows = DirectApproval.objects.visible_to(request.user).select_related(
        "tenant", "version__kernel", "asked_by", "decided_by", "revoked_by"
    )
    return get_object_or_404(rows, pk=pk)


def _servers(row: DirectApproval) -> QuerySet[Domu]:
    """The servers that boot directly what it is for."""
    found = Domu.objects.live().filter(
        tenant=row.tenant,
        boot_method=BootMethod.DIRECT.value,
        menus__serial=F("menu_serial"),
        menus__entries__version__original_id=row.original_sha256,
    )
    return Domu.objects.filter(pk__in=found.values("pk")).with_open_operation()


def _said(row: DirectApproval) -> dict[str, Any]:
    return {"version": row.version, "state": row.get_state_display()}


def _page(request: HttpRequest, row: DirectApproval, *, status: int = 200, **more: Any) -> HttpResponse:
    context = {
        "approval": row,
        "own": row.tenant.role_of(request.user) is not None or row.asked_by == request.user,
        "servers": _servers(row),
        "decide": DecideForm(auto_id="decide_%s"),
        "revoke": RevokeForm(auto_id="revoke_%s"),
        **more,
    }
    return render(request, "direct/page.html", context, status=status)
