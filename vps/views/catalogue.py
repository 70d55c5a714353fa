"""The catalogue as customers see it, and what is said of kernels and versions."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Prefetch
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts.models import Right
from vps.forms.kernel import KernelForm, VersionForm
from vps.models import Domu, Kernel, KernelVersion
from vps.models.kernel import Purpose
from vps.views.kernel import kernel_page, version_page
from vps.views.scope import get_kernel_or_404, get_version_or_404

SERVERS = 20  # of which one can be chosen at once


@login_required
@require_safe
def catalogue(request: HttpRequest) -> HttpResponse:
    """What is offered to everybody, by purpose, with the servers that it can be put onto."""
    ready = KernelVersion.objects.filter(deleted_at=None, state=KernelVersion.State.OK)
    kernels = (
        Kernel.objects.filter(tenant=None, in_catalogue=True)
        .select_related("successor")
        .prefetch_related(Prefetch("versions", ready.order_by("-number"), to_attr="ready"))
        .order_by("name")
    )
    offered = [kernel for kernel in kernels if kernel.ready]
    groups = [
        (label, [kernel for kernel in offered if kernel.purpose == name]) for name, label in Purpose.choices
    ]
    servers = [
        domu
        for domu in Domu.objects.live()
        .filter(tenant__memberships__user=request.user)
        .select_related("tenant")
        .order_by("name")[:SERVERS]
        if domu.tenant.allows(request.user, Right.OPERATE)
    ]
    return render(
        request, "kernels/catalogue.html", {"groups": [g for g in groups if g[1]], "servers": servers}
    )


@login_required
@require_POST
def kernel_change(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Description, usual arguments, out of date and what comes after it."""
    kernel = get_kernel_or_404(request, pk, Right.OPERATE)
    form = KernelForm(request.POST, instance=kernel)
    if not form.is_valid():
        kernel.refresh_from_db()
        return kernel_page(request, kernel, form=form, status=422)
    Kernel.objects.get(pk=pk).change(request.user, **form.cleaned_data)
    messages.success(request, _("What is said of %(kernel)s was saved.") % {"kernel": kernel.name})
    return redirect("kernel", pk)


@login_required
@require_POST
def kernel_version_change(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Notes, and out of date."""
    version = get_version_or_404(request, pk, Right.OPERATE)
    form = VersionForm(request.POST, instance=version)
    if not form.is_valid():
        version.refresh_from_db()
        return version_page(request, version, form=form, status=422)
    KernelVersion.objects.select_related("kernel__tenant").get(pk=pk).change(
        request.user, **form.cleaned_data
    )
    messages.success(request, _("What is said of %(version)s was saved.") % {"version": version})
    return redirect("kernel_version", pk)
