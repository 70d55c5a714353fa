"""What agents fetch: files by content, and only those that one of their domUs needs."""

from __future__ import annotations

import re
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.views.decorators.http import require_safe

from vps.models import Blob, BootMenu, Dom0
from vps.storage import pieces_of
from vps.xen.description import Boot
from vps.xen.messages import Verb

_RANGE = re.compile(r"bytes=(\d+)-")


def dom0_of(request: HttpRequest) -> Dom0 | None:
    """The dom0 whose credential the request carries: `Authorization: Bearer <dom0 id>:<secret>`."""
    scheme, _, credential = request.headers.get("Authorization", "").partition(" ")
    name, _, secret = credential.partition(":")
    try:
        dom0 = Dom0.objects.filter(pk=UUID(name)).first() if scheme == "Bearer" else None
    except ValueError:
        return None
    if dom0 is None or not dom0.knows(secret):
        return None
    return dom0


@require_safe
def blob(request: HttpRequest, sha256: str) -> HttpResponse | StreamingHttpResponse:
    """The bytes of a blob, from an offset where Range asks for it."""
    dom0 = dom0_of(request)
    if dom0 is None:
        return HttpResponse(
            "The credential of this dom0 is not known.\n", status=401, content_type="text/plain"
        )
    row = Blob.objects.filter(pk=sha256).first()
    if row is None or sha256 not in needed_by(dom0):
        raise Http404
    start = 0
    if given := _RANGE.fullmatch(request.headers.get("Range", "")):
        start = min(int(given.group(1)), row.size)
    response = StreamingHttpResponse(
        pieces_of(row, start), status=206 if start else 200, content_type="application/octet-stream"
    )
    response["Content-Length"] = str(row.size - start)
    if start:
        response["Content-Range"] = f"bytes {start}-{row.size - 1}/{row.size}"
    return response


def needed_by(dom0: Dom0) -> set[str]:
    """The sums of all files in the saved menus, present and last, of the servers on a dom0, and of its trials."""
    needed = set()
    menus = BootMenu.objects.filter(domu__dom0=dom0, domu__deleted_at=None).select_related("domu")
    for menu in menus:
        if menu.serial >= min(menu.domu.menu_serial, menu.domu.prepared_serial):
            needed |= {ref.sha256 for ref in Boot.of(menu.boot).blobs()}
    for operation in dom0.operations.open().filter(verb=Verb.TRIAL.value):
        needed |= {ref.sha256 for ref in Boot.of(operation.body["trial"]["boot"]).blobs()}
    return needed
