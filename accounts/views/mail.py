"""What went out by mail, for operators; in the quick start with its text, for nothing is sent there."""

from __future__ import annotations

from django.conf import settings
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from accounts.access import operator_required
from accounts.models import Mail
from accounts.pages import paged, show, sought


@require_safe
@operator_required
def outbox(request: HttpRequest) -> HttpResponse:
    """Every mail of the last 30 days, the newest first."""
    rows = Mail.objects.order_by("-created_at")
    if q := sought(request):
        rows = rows.filter(Q(to__icontains=q) | Q(subject__icontains=q))
    page = paged(request, rows)
    moving = any(mail.state == Mail.State.WAITING for mail in page.object_list)
    context = {"page": page, "q": q, "kept_here": settings.BERTH_QUICKSTART}
    return show(request, "mail/outbox.html", context, part="mail/_outbox.html", moving=moving)
