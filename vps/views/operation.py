"""Operations: what is and was done on the dom0s."""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts.models import Right, User
from vps.models import Conflict, Event, Operation
from vps.models.operation import OPEN
from vps.views.page import paged, show, sought
from vps.views.scope import get_operation_or_404

FILTERS = {"open": OPEN, "failed": {"failed", "refused", "lost"}}


@require_safe
@login_required
def operations(request: HttpRequest) -> HttpResponse:
    """All operations, or with `?state=` the open or failed ones."""
    rows = Operation.objects.visible_to(request.user).select_related("domu", "dom0", "by")
    state = request.GET.get("state", "")
    if state in FILTERS:
        rows = rows.filter(state__in=FILTERS[state])
    if q := sought(request):
        rows = rows.filter(
            Q(domu__name__icontains=q) | Q(dom0__name__icontains=q) | Q(verb__icontains=q) | Q(request_id=q)
        )
    page = paged(request, rows.order_by("-id"))
    moving = any(row.is_open for row in page.object_list)
    context = {"page": page, "q": q, "shown": state}
    return show(request, "operation/list.html", context, part="operation/_list.html", moving=moving)


@require_safe
@login_required
def operation(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What, who, why, where, its steps, and what remains."""
    return _page(request, pk)


def _page(request: HttpRequest, pk: UUID, *, problem: str = "", status: int = 200) -> HttpResponse:
    row = get_operation_or_404(request, pk)
    context = {
        "operation": row,
        "problem": problem,
        "may_cancel": row.is_open and _may(request.user, row),
        "may_retry": row.may_retry and _may(request.user, row),
        "events": Event.objects.visible_to(request.user).filter(operation=row).order_by("id"),
    }
    return show(
        request,
        "operation/page.html",
        context,
        part="operation/_live.html",
        moving=row.is_open,
        status=status,
    )


def _may(user: User, row: Operation) -> bool:
    trial = getattr(row, "trial", None)
    if trial is not None and trial.tenant is not None:
        return user.is_operator or trial.tenant.allows(user, Right.OPERATE)
    return row.domu.allows(user, Right.OPERATE) if row.domu else user.is_operator


@require_POST
@login_required
def retry(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The same verb once more, as a new operation, if it may be done now."""
    row = get_operation_or_404(request, pk)
    if not _may(request.user, row):
        raise PermissionDenied(_("Your role may look at operations but not try them again."))
    try:
        again = row.retry(request.user)
    except Conflict as conflict:
        return _page(request, pk, problem=str(conflict), status=409)
    return redirect("operation", again.pk)


@require_POST
@login_required
def cancel(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Take it back, or ask the dom0 to stop it."""
    row = get_operation_or_404(request, pk)
    if not _may(request.user, row):
        raise PermissionDenied(_("Your role may look at operations but not cancel them."))
    trial = getattr(row, "trial", None)
    if row.domu is None and trial is None:
        return _page(request, pk, problem=_("This operation cannot be cancelled."), status=409)
    try:
        if trial is not None:
            trial.cancel(request.user)
        else:
            row.domu.cancel(row, request.user)
    except Conflict as conflict:
        return _page(request, pk, problem=str(conflict), status=409)
    return redirect("operation", pk)
