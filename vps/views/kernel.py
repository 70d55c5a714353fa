"""Kernels: list, upload by offset, verdict, versions, the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Prefetch, Q
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import QuotaExceeded, Right
from vps import uploads
from vps.forms.direct_approval import AskForm
from vps.forms.kernel import KernelForm, TokenForm, UploadForm, VersionForm
from vps.models import Conflict, DirectApproval, Kernel, KernelVersion, Upload
from vps.views.kernel_facts import boots_of, entries_of, options_that_differ, side_by_side, with_counts
from vps.views.scope import get_kernel_or_404, get_version_or_404, operator_required

_READ = 256 * 1024
BOOTS = 10  # of a version, that its page lists


@login_required
@require_safe
def kernels(request: HttpRequest) -> HttpResponse:
    """All kernels that this person can see, their newest versions, and the place to drop a new one."""
    words = request.GET.get("q", "").strip()
    rows = Kernel.objects.visible_to(request.user).select_related("tenant")
    if words:
        rows = rows.filter(Q(name__icontains=words) | Q(versions__summary__icontains=words)).distinct()
    live = KernelVersion.objects.filter(deleted_at=None)
    rows = rows.filter(Q(versions__in=live) | Q(tenant=None)).distinct()
    rows = rows.prefetch_related(Prefetch("versions", live, to_attr="live_versions"))
    page = Paginator(rows.order_by("name"), 50).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "q": words,
        "form": UploadForm(request.user),
        "piece": settings.BERTH_UPLOAD_PIECE,
        "limit": settings.BERTH_KERNEL_LIMIT,
        "unfinished": Upload.objects.filter(user=request.user, state=Upload.State.OPEN, offset__gt=0),
    }
    return render(request, "kernels/list.html", context)


@login_required
@require_safe
def kernel(request: HttpRequest, pk: UUID) -> HttpResponse:
    """One kernel with all its versions."""
    return kernel_page(request, get_kernel_or_404(request, pk))


def kernel_page(request: HttpRequest, row: Kernel, *, status: int = 200, **more: Any) -> HttpResponse:
    may_change = _may(request, row)
    context = {
        "kernel": row,
        "versions": with_counts(row.versions.select_related("uploaded_by", "kernel")),
        "may_change": may_change,
        "form": KernelForm(instance=row) if may_change else None,
        "tokens": row.tokens.select_related("kernel__tenant", "made_by") if may_change else None,
        "token_form": TokenForm(),
        **more,
    }
    return render(request, "kernels/kernel.html", context, status=status)


@login_required
@require_safe
def kernel_compare(request: HttpRequest) -> HttpResponse:
    """Two versions side by side: `?a=` and `?b=`."""
    pair = []
    for name in ("a", "b"):
        try:
            pair.append(get_version_or_404(request, UUID(request.GET.get(name, ""))))
        except ValueError as error:
            raise Http404 from error
    left, right = pair
    context = {
        "left": left,
        "right": right,
        "lines": side_by_side(left, right),
        "options": options_that_differ(left, right),
    }
    return render(request, "kernels/compare.html", context)


@login_required
@require_safe
def kernel_version(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The verdict, then the facts."""
    version = get_version_or_404(request, pk)
    return version_page(request, version)


def version_page(
    request: HttpRequest, version: KernelVersion, *, status: int = 200, **more: Any
) -> HttpResponse:
    """The page of a version, or what of it is asked for again and again."""
    template = "kernels/_verdict.html" if request.htmx else "kernels/version.html"
    return render(request, template, {**_context(request, version), **more}, status=status)


@login_required
@require_safe
def kernel_parts(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What stands beside a version's kernel, as a fragment that asks again while something is being inspected."""
    return render(request, "kernels/_parts.html", _context(request, get_version_or_404(request, pk)))


@login_required
@require_POST
def kernel_version_delete(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Forget the files of a version that nothing boots."""
    version = get_version_or_404(request, pk, Right.OPERATE)
    try:
        version.delete_content(request.user)
    except Conflict as error:
        return version_page(request, version, conflict=str(error), status=409)
    return redirect("kernel", pk=version.kernel_id)


@operator_required
@require_POST
def kernel_catalogue(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Offer a kernel of the catalogue, or stop offering it. What boots it goes on."""
    row = get_object_or_404(Kernel, pk=pk, tenant=None)
    row.offer(request.POST.get("offered") == "yes", request.user)
    return redirect("kernel", pk=row.pk)


@login_required
@require_POST
def kernel_upload(request: HttpRequest) -> HttpResponse:
    """Begin an upload: answers where its pieces go, how large they may be, and from which offset."""
    begun = Upload.objects.filter(
        user=request.user, token=None, created_at__gt=timezone.now() - timedelta(hours=1)
    )
    if begun.count() >= settings.BERTH_PERSON_UPLOADS:
        most = settings.BERTH_PERSON_UPLOADS
        return _no(
            _("You began %(n)d uploads in the last hour; wait before the next one.") % {"n": most}, 429
        )
    form = UploadForm(request.user, request.POST)
    if not form.is_valid():
        return _no(" ".join(message for errors in form.errors.values() for message in errors), 422)
    data = form.cleaned_data
    try:
        upload = uploads.begin(
            tenant=data["tenant"],
            user=request.user,
            kernel_name=data["kernel"],
            filename=data["filename"],
            size=data["size"],
            sha256=data["sha256"],
            part=data["part"],
            onto=data["version"],
        )
    except (uploads.UploadRefused, QuotaExceeded) as error:
        return _no(str(error), 422)
    return JsonResponse(_where(upload), status=201)


@login_required
@require_http_methods(["GET", "HEAD", "PUT"])
def kernel_upload_piece(request: HttpRequest, pk: UUID) -> HttpResponse:
    """GET: how far it is. PUT with `Upload-Offset`: the bytes from there; answers how far it is now."""
    upload = get_object_or_404(Upload.objects.select_related("tenant", "version"), pk=pk, user=request.user)
    if request.method != "PUT":
        return JsonResponse(_where(upload))
    may = upload.tenant.allows(request.user, Right.OPERATE) if upload.tenant else request.user.is_operator
    if not may:
        raise PermissionDenied
    try:
        offset = int(request.headers["Upload-Offset"])
        length = int(request.headers["Content-Length"])
    except (KeyError, ValueError):
        return _no(_("A piece needs the headers Upload-Offset and Content-Length, in bytes."), 400)
    if not 0 < length <= settings.BERTH_UPLOAD_PIECE:
        return _no(
            _("A piece has 1 to %(limit)s bytes, not %(length)s.")
            % {"limit": settings.BERTH_UPLOAD_PIECE, "length": length},
            413,
        )
    try:
        uploads.receive(upload, offset, body_of(request, length))
    except uploads.WrongOffset as error:
        return JsonResponse({"error": str(error), "offset": error.offset}, status=409)
    except (uploads.UploadRefused, Conflict) as error:
        return _no(str(error), 422)
    return JsonResponse(_where(upload))


def body_of(request: HttpRequest, length: int) -> Iterator[bytes]:
    """The request's body in small pieces; ends early where the sender breaks off."""
    left = length
    while left > 0:
        try:
            piece = request.read(min(_READ, left))
        except OSError:
            return
        if not piece:
            return
        left -= len(piece)
        yield piece


def _where(upload: Upload) -> dict[str, object]:
    version = upload.version or upload.onto
    return {
        "url": reverse("kernel_upload_piece", args=[upload.pk]),
        "offset": upload.offset,
        "size": upload.size,
        "state": upload.state,
        "piece": settings.BERTH_UPLOAD_PIECE,
        "part": upload.part,
        "version": reverse("kernel_version", args=[version.pk]) if version else None,
        "version_id": str(version.pk) if version else None,
        "error": upload.error or None,
    }


def _no(text: str, status: int) -> JsonResponse:
    return JsonResponse({"error": text}, status=status)


def _context(request: HttpRequest, version: KernelVersion) -> dict[str, Any]:
    """What a version's page shows."""
    recent = timezone.now() - timedelta(days=1)
    parts = version.part_uploads.exclude(state=Upload.State.OPEN).filter(touched_at__gt=recent)
    return {
        "version": version,
        "kernel": version.kernel,
        "may_change": _may(request, version.kernel),
        "part_uploads": parts.select_related("version__kernel").order_by("created_at"),
        "parts_move": any(part.state == Upload.State.INSPECTING for part in parts),
        "limit": settings.BERTH_KERNEL_LIMIT,
        "entries": entries_of(version, request.user),
        "boots": boots_of(version, request.user)[:BOOTS],
        "well_on": version.boot_records.filter(well=True).values("domu").distinct().count(),
        "form": VersionForm(instance=version),
        "others": version.kernel.versions.exclude(pk=version.pk).filter(report__isnull=False)[:50],
        **_direct(request, version),
    }


def _direct(request: HttpRequest, version: KernelVersion) -> dict[str, Any]:
    """What stands of direct boot: the newest question for these contents, and whether one can be asked."""
    tenant = version.kernel.tenant
    able = "ok" in (version.path("direct_pv"), version.path("direct_pvh"))
    if tenant is None or not able or version.deleted_at:
        return {}
    asked = DirectApproval.objects.filter(
        tenant=tenant, original_sha256=version.original_id, ramdisk_sha256=version.ramdisk_id or ""
    ).first()
    closed = asked is None or asked.state in (DirectApproval.State.REFUSED, DirectApproval.State.REVOKED)
    may_ask = closed and tenant.allows(request.user, Right.OPERATE)
    return {"direct": asked, "direct_able": True, "direct_form": AskForm() if may_ask else None}


def _may(request: HttpRequest, kernel: Kernel) -> bool:
    if kernel.tenant is None:
        return bool(request.user.is_operator)
    return kernel.tenant.allows(request.user, Right.OPERATE)
