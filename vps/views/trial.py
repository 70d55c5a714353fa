"""Trial boots: have a kernel version tried, look at what came of it, end it; and which dom0s are for that."""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts.models import Right
from vps.models import Conflict, Dom0, Event, TrialBoot
from vps.views.page import show
from vps.views.scope import get_version_or_404, operator_required


@require_POST
@login_required
def begin(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Try a version."""
    version = get_version_or_404(request, pk, Right.OPERATE)
    arguments = request.POST.get("arguments", "")[:4000]
    try:
        row = TrialBoot.begin(version, request.user, arguments)
    except Conflict as conflict:
        context = {
            "version": version,
            "kernel": version.kernel,
            "problem": str(conflict),
            "arguments": arguments,
        }
        return show(request, "trial/refused.html", context, status=409)
    return redirect("trial", row.pk)


@require_safe
@login_required
def trial(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The verdict as a sentence, then the transcript."""
    return _page(request, pk)


def _page(request: HttpRequest, pk: UUID, *, problem: str = "", status: int = 200) -> HttpResponse:
    row = _get(request, pk)
    context = {
        "trial": row,
        "version": row.version,
        "problem": problem,
        "may_cancel": row.is_open and _may(request, row),
    }
    return show(
        request, "trial/page.html", context, part="trial/_live.html", moving=row.is_open, status=status
    )


@require_POST
@login_required
def cancel(request: HttpRequest, pk: UUID) -> HttpResponse:
    """End it before its time."""
    row = _get(request, pk)
    if not _may(request, row):
        raise PermissionDenied(_("Your role may look at trials but not end them."))
    try:
        row.cancel(request.user)
    except Conflict as conflict:
        return _page(request, pk, problem=str(conflict), status=409)
    return redirect("trial", pk)


@require_POST
@operator_required
def set_aside(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Whether kernels are tried on a dom0."""
    row = get_object_or_404(Dom0, pk=pk)
    wanted = request.POST.get("trials") == "yes"
    with transaction.atomic():
        if Dom0.objects.filter(pk=pk, trials=not wanted).update(trials=wanted):
            text = _("%(dom0)s boots kernels on trial") if wanted else _("%(dom0)s boots no kernels on trial")
            Event.record("dom0.trials", text % {"dom0": row}, actor=request.user, dom0=row)
    return redirect("dom0", pk)


def _get(request: HttpRequest, pk: UUID) -> TrialBoot:
    rows = TrialBoot.objects.visible_to(request.user)
    return get_object_or_404(rows.select_related("version__kernel__tenant", "operation", "dom0", "by"), pk=pk)


def _may(request: HttpRequest, row: TrialBoot) -> bool:
    if row.tenant is None:
        return bool(request.user.is_operator)
    return request.user.is_operator or row.tenant.allows(request.user, Right.OPERATE)
