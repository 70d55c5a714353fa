"""Loading a row for a person: what is not theirs is not there (404)."""

from __future__ import annotations

from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.shortcuts import get_object_or_404

from accounts.access import View, operator_required
from accounts.models import Right, Tenant
from vps.models import Domu, Kernel, KernelVersion, Operation, Request

__all__ = [
    "View",
    "get_domu_or_404",
    "get_kernel_or_404",
    "get_operation_or_404",
    "get_request_or_404",
    "get_tenant_or_404",
    "get_version_or_404",
    "operator_required",
]


def get_domu_or_404(request: HttpRequest, pk: UUID, right: Right = Right.SEE) -> Domu:
    """The server, if this person may see it. Raises Http404, or PermissionDenied for too low a role."""
    domu = get_object_or_404(Domu.objects.visible_to(request.user).select_related("dom0", "tenant"), pk=pk)
    _demand(domu.allows(request.user, right))
    return domu


def get_tenant_or_404(request: HttpRequest, pk: UUID, right: Right = Right.SEE) -> Tenant:
    """The tenant, for its people and for operators, who may see it."""
    rows = Tenant.objects.all() if request.user.is_operator else Tenant.objects.of(request.user)
    tenant = get_object_or_404(rows, pk=pk)
    _demand(tenant.allows(request.user, right) or (right is Right.SEE and request.user.is_operator))
    return tenant


def get_operation_or_404(request: HttpRequest, pk: UUID) -> Operation:
    rows = Operation.objects.visible_to(request.user).select_related("domu__tenant", "domu__dom0", "dom0")
    return get_object_or_404(rows, pk=pk)


def get_request_or_404(request: HttpRequest, pk: UUID) -> Request:
    rows = Request.objects.visible_to(request.user).select_related("tenant", "by", "decided_by", "domu")
    return get_object_or_404(rows, pk=pk)


def get_kernel_or_404(request: HttpRequest, pk: UUID, right: Right = Right.SEE) -> Kernel:
    kernel = get_object_or_404(Kernel.objects.visible_to(request.user).select_related("tenant"), pk=pk)
    if right is not Right.SEE:
        mine = kernel.tenant is not None and kernel.tenant.allows(request.user, right)
        _demand(mine or (kernel.tenant is None and request.user.is_operator))
    return kernel


def get_version_or_404(request: HttpRequest, pk: UUID, right: Right = Right.SEE) -> KernelVersion:
    version = get_object_or_404(KernelVersion.objects.select_related("kernel__tenant", "original"), pk=pk)
    get_kernel_or_404(request, version.kernel_id, right)
    return version


def _demand(allowed: bool) -> None:
    if not allowed:
        raise PermissionDenied
