"""Uploads of build machines: one PUT with a token, answered with JSON; and the pages of the tokens."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from accounts.models import QuotaExceeded, Right
from accounts.models.quota import size_text
from vps import uploads
from vps.forms.kernel import TokenForm
from vps.models import Conflict, KernelVersion, Upload, UploadToken
from vps.views.kernel import body_of, kernel_page
from vps.views.scope import get_kernel_or_404

_SHA256 = re.compile(r"[0-9a-f]{64}")


@login_required
@require_POST
def kernel_token(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Make a token; its secret is shown this once."""
    kernel = get_kernel_or_404(request, pk, Right.OPERATE)
    form = TokenForm(request.POST)
    if not form.is_valid():
        return kernel_page(request, kernel, token_form=form, status=422)
    data = form.cleaned_data
    try:
        token, secret = UploadToken.make(kernel, request.user, data["name"], data["days"])
    except Conflict as conflict:
        return kernel_page(request, kernel, problem=str(conflict), status=409)
    where = settings.BERTH_BASE_URL + reverse("api_kernel_versions", args=[kernel.pk])
    context = {"kernel": kernel, "token": token, "secret": secret, "where": where}
    response = render(request, "kernels/token.html", context)
    response["Cache-Control"] = "no-store"
    return response


@login_required
@require_POST
def kernel_token_revoke(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Take a token back."""
    token = get_object_or_404(UploadToken.objects.select_related("kernel"), pk=pk)
    get_kernel_or_404(request, token.kernel_id, Right.OPERATE)
    token.revoke(request.user)
    messages.success(request, _("The token %(name)s holds no more.") % {"name": token.name})
    return redirect("kernel", token.kernel_id)


@csrf_exempt
def api_kernel_versions(request: HttpRequest, pk: UUID) -> JsonResponse:
    """PUT the whole file, with `?sha256=` and a token of this line of kernels."""
    if request.method not in ("PUT", "POST"):
        return _no(_("Send the file with PUT, as curl -T does."), 405, Allow="PUT, POST")
    token = _token(request)
    if token is None:
        return _unknown()
    if token.kernel_id != pk:
        return _no(_("This token is for another kernel."), 404)
    sha256, length = request.GET.get("sha256", "").lower(), request.headers.get("Content-Length", "")
    if not _SHA256.fullmatch(sha256):
        return _no(_("Add ?sha256= with the file's SHA-256, 64 hexadecimal digits."), 400)
    if not (length.isascii() and length.isdigit() and len(length) < 20):
        return _no(_("Say how long the file is (Content-Length); send a file, not a pipe."), 411)
    if int(length) > settings.BERTH_KERNEL_LIMIT:
        told = {"size": size_text(int(length)), "limit": size_text(settings.BERTH_KERNEL_LIMIT)}
        return _no(_("The file is %(size)s; the limit is %(limit)s.") % told, 413)
    if (wait := _wait(token)) is not None:
        return _no(
            _("This token sent %(n)d files in the last hour; wait.") % {"n": settings.BERTH_TOKEN_UPLOADS},
            429,
            **{"Retry-After": str(wait)},
        )
    return _receive(request, token, sha256, int(length))


def _receive(request: HttpRequest, token: UploadToken, sha256: str, length: int) -> JsonResponse:
    kernel = token.kernel
    try:
        upload = uploads.begin(
            tenant=kernel.tenant,
            user=token.made_by,
            kernel_name=kernel.name,
            filename=request.GET.get("filename", "")[:255] or kernel.name,
            size=length,
            sha256=sha256,
            token=token,
        )
    except (uploads.UploadRefused, QuotaExceeded) as error:
        return _no(str(error), 422)
    try:
        uploads.receive(upload, 0, _checked(body_of(request, length), length, sha256))
    except (uploads.UploadRefused, Conflict) as error:
        uploads.abandon(upload, str(error))
        return _no(str(error), 422)
    except OSError as error:
        uploads.abandon(upload, _("It could not be stored."))
        return _no(_("It could not be stored (%(why)s); send it again later.") % {"why": error.strerror}, 507)
    if upload.version is None:
        why = _("The file broke off; send it again, whole.")
        uploads.abandon(upload, why)
        return _no(why, 400)
    return JsonResponse(_verdict(upload.version), status=201)


def _checked(pieces: Iterator[bytes], length: int, sha256: str) -> Iterator[bytes]:
    """The pieces; the last one is held back until all of them have the sum. Raises UploadRefused."""
    digest, left = hashlib.sha256(), length
    for piece in pieces:
        digest.update(piece)
        left -= len(piece)
        if left == 0 and digest.hexdigest() != sha256:
            raise uploads.UploadRefused(
                _("The file's SHA-256 is %(is)s, not the announced %(told)s; send it again.")
                % {"is": digest.hexdigest(), "told": sha256}
            )
        yield piece


@csrf_exempt
def api_kernel_verdict(request: HttpRequest, pk: UUID) -> JsonResponse:
    """The verdict on a version, for the token of its line of kernels."""
    if request.method not in ("GET", "HEAD"):
        return _no(_("The verdict is read with GET."), 405, Allow="GET, HEAD")
    token = _token(request)
    if token is None:
        return _unknown()
    version = KernelVersion.objects.filter(pk=pk, kernel=token.kernel_id).select_related("kernel").first()
    if version is None:
        return _no(_("There is no such version of this token's kernel."), 404)
    return JsonResponse(_verdict(version))


def _verdict(version: KernelVersion) -> dict[str, object]:
    base = settings.BERTH_BASE_URL
    return {
        "version": str(version),
        "number": version.number,
        "state": version.state,
        "summary": version.summary,
        "reason": version.reason or None,
        "paths": version.report.get("paths") or {},
        "verdict": base + reverse("api_kernel_verdict", args=[version.pk]),
        "page": base + reverse("kernel_version", args=[version.pk]),
    }


def _token(request: HttpRequest) -> UploadToken | None:
    scheme, _space, secret = request.headers.get("Authorization", "").partition(" ")
    return UploadToken.of_secret(secret.strip()) if scheme == "Bearer" else None


def _wait(token: UploadToken) -> int | None:
    """Seconds until the token may send again; None when it may now."""
    hour = timedelta(hours=1)
    sent = Upload.objects.filter(token=token, created_at__gt=timezone.now() - hour).order_by("-created_at")
    over = sent[settings.BERTH_TOKEN_UPLOADS - 1 :].first()
    return None if over is None else max(1, int((over.created_at + hour - timezone.now()).total_seconds()))


def _unknown() -> JsonResponse:
    return _no(
        _("The token is not known or holds no more; make a new one on the kernel's page."),
        401,
        **{"WWW-Authenticate": "Bearer"},
    )


def _no(text: str, status: int, **headers: str) -> JsonResponse:
    return JsonResponse({"error": text}, status=status, headers=headers)
