"""Another size for a server: a smaller one at once, a larger one as a request."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from accounts.models import QuotaExceeded, Right, User
from accounts.models.quota import sums, used_by
from vps.forms.size import ResizeForm
from vps.models import Conflict, Domu, NoRoom, Request
from vps.models.size import more_than_held, shrink
from vps.views.page import show
from vps.views.scope import get_domu_or_404


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def server_resize(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Change memory and cpus from the next boot on."""
    domu = get_domu_or_404(request, pk, Right.REQUEST)
    form = ResizeForm(request.POST or None, initial={"memory_mib": domu.memory_mib, "vcpus": domu.vcpus})
    status = 200
    if request.method == "POST":
        if form.is_valid():
            try:
                asked = _change(domu, request.user, form)
            except (Conflict, QuotaExceeded, NoRoom) as error:
                form.add_error(None, str(error))
            else:
                messages.success(request, _said(domu, asked))
                return redirect("request", asked.pk) if asked else redirect("server", pk)
        status = 422
    booked, quota = used_by(domu.subject), sums(domu.tenant)
    context = {
        "domu": domu,
        "form": form,
        "waiting": Request.objects.waiting().filter(domu=domu, kind=Request.Kind.RESIZE).first(),
        "lines": [
            {"resource": name, "held": booked.get(name, 0), **quota[name]} for name in ("memory_mib", "vcpus")
        ],
    }
    return show(request, "domu/resize.html", context, status=status)


def _change(domu: Domu, by: User, form: ResizeForm) -> Request | None:
    """Do it, or ask for it where more would be booked than the server holds."""
    size = form.size()
    if size == {"memory_mib": domu.memory_mib, "vcpus": domu.vcpus}:
        raise Conflict(_("%(name)s has this size already.") % {"name": domu.name})
    if more_than_held(domu, **size):
        return Request.ask_size(domu, by, why=form.cleaned_data["why"], **size)
    shrink(domu, by, **size)
    return None


def _said(domu: Domu, asked: Request | None) -> str:
    if asked:
        return _("A larger size was asked for %(name)s.") % {"name": domu.name}
    return _("%(name)s has the new size from its next boot on.") % {"name": domu.name}
