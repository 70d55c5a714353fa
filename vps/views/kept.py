"""Deleting a server, taking that back, and wiping its disks."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from accounts.models import QuotaExceeded, Right
from vps.forms.domu import NameAgainForm
from vps.models import Conflict, Domu, NoRoom, kept
from vps.views.domu import page_of
from vps.views.page import show
from vps.views.scope import get_domu_or_404


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def delete(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Destroy it and keep its disks for some days, after the name was typed."""
    domu = get_domu_or_404(request, pk, Right.REQUEST)
    form = NameAgainForm(domu.name, request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            kept.delete(domu, request.user, form.cleaned_data["reason"])
        except Conflict as conflict:
            return page_of(request, pk, problem=str(conflict), status=409)
        messages.success(request, _("%(name)s was deleted; its disks are kept.") % {"name": domu})
        return redirect("server", pk)
    return _ask_name(request, "domu/delete.html", domu, form)


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def purge(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Wipe the disks of a deleted server now, after the name was typed."""
    domu = get_domu_or_404(request, pk, Right.REQUEST)
    if not domu.is_kept:
        return page_of(request, pk, problem=_("There is nothing of it to be wiped."), status=409)
    form = NameAgainForm(domu.name, request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            kept.purge(domu, request.user, form.cleaned_data["reason"])
        except Conflict as conflict:
            return page_of(request, pk, problem=str(conflict), status=409)
        messages.success(request, _("The disks of %(name)s are being wiped.") % {"name": domu})
        return redirect("server", pk)
    return _ask_name(request, "domu/purge.html", domu, form)


def _ask_name(request: HttpRequest, template: str, domu: Domu, form: NameAgainForm) -> HttpResponse:
    disks = domu.disks.filter(purged_at=None)
    context = {"domu": domu, "form": form, "disks": disks, "days": settings.BERTH_KEEP_DAYS}
    return show(request, template, context, status=422 if request.method == "POST" else 200)


@require_POST
@login_required
def undelete(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Take a deleted server back, stopped."""
    domu = get_domu_or_404(request, pk, Right.REQUEST)
    try:
        kept.undelete(domu, request.user)
    except (Conflict, QuotaExceeded, NoRoom) as error:
        return page_of(request, pk, problem=str(error), status=409)
    messages.success(request, _("%(name)s is back; it can be started.") % {"name": domu})
    return redirect("server", pk)
