"""What servers and dom0s used over the last day, as plots; without scripts as tables."""

from __future__ import annotations

import time
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_safe

from vps import plots
from vps.models import Dom0
from vps.views.page import show
from vps.views.scope import get_domu_or_404, operator_required


@require_safe
@login_required
def server_samples(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Cpu, memory, disks and network of a server."""
    domu = get_domu_or_404(request, pk)
    drawn = plots.of_domu(domu, int(time.time() * 1000))
    return _page(request, domu.name, reverse("server", args=[pk]), drawn)


@require_safe
@operator_required
def dom0_samples(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Cpu, memory and disk pool of a dom0."""
    row = get_object_or_404(Dom0, pk=pk)
    drawn = plots.of_dom0(row, int(time.time() * 1000))
    return _page(request, row.name, reverse("dom0", args=[pk]), drawn)


def _page(request: HttpRequest, name: str, back: str, drawn: list[plots.Plot]) -> HttpResponse:
    nothing = not any(plot.known for plot in drawn)
    context = {"name": name, "back": back, "plots": drawn, "nothing": nothing}
    return show(request, "sample/page.html", context, part="sample/_plots.html")
