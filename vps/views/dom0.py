"""The hosts, for operators."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import redis
from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from vps import stuck
from vps.enrolment import agent_toml, enrol
from vps.forms.dom0 import CredentialForm, EnrolForm
from vps.models import Conflict, Dom0, Event, Operation
from vps.models.operation import State
from vps.templatetags.berth import moving
from vps.views.domu import listed
from vps.views.home import strips
from vps.views.page import paged, show, sought
from vps.views.scope import operator_required
from vps.xen.messages import Verb


@require_safe
@operator_required
def dom0s(request: HttpRequest) -> HttpResponse:
    """All dom0s, as strips."""
    q = sought(request)
    page = paged(request, Dom0.objects.filter(name__icontains=q))
    context = {"page": page, "strips": strips(page.object_list), "q": q}
    return show(request, "dom0/list.html", context, part="dom0/_list.html")


@require_safe
@operator_required
def dom0(request: HttpRequest, pk: UUID) -> HttpResponse:
    """One dom0: what it is, what is promised on it, its servers, what it says is wrong, Xen's own words."""
    return _page(request, pk)


def _page(request: HttpRequest, pk: UUID, *, problem: str = "", status: int = 200) -> HttpResponse:
    row = get_object_or_404(Dom0, pk=pk)
    page = paged(request, listed(row.domus.present()))
    there = {domain["uuid"] for domain in row.foreign}
    context = {
        "dom0": row,
        "line": strips([row])[0],
        "page": page,
        "problem": problem,
        "events": row.events.select_related("domu", "actor")[:15],
        "operations": row.operations.open().select_related("domu", "by"),
        "agent": row.inventory.get("agent", {}),
        "domains": [domain for _dom0, domain in stuck.unknown_domains([row])],
        "decided": [(known, str(known.uuid) in there) for known in row.foreign_domains.select_related("by")],
        **_words(row),
    }
    busy = context["looking"] or any(moving(domu) for domu in page.object_list)
    return show(request, "dom0/page.html", context, part="dom0/_live.html", moving=busy, status=status)


def _words(row: Dom0) -> dict[str, Any]:
    """What was read of Xen's own words last, and what can be read."""
    looks = row.operations.filter(verb=Verb.LOOK.value)
    done = looks.filter(state=State.DONE).first()
    last = looks.first()
    return {
        "may_look": Verb.LOOK.value in row.verbs,
        "looking": bool(last and last.is_open),
        "looked": done,
        "failed_look": last if last and last.state in (State.FAILED, State.REFUSED, State.LOST) else None,
        "logs": (done.result.get("files") or [])[:50] if done else [],
    }


@require_POST
@operator_required
def look(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Have the dom0 read `xl dmesg` or one of its logs."""
    row = get_object_or_404(Dom0, pk=pk)
    what = request.POST.get("what", "")
    try:
        if what == "dmesg":
            Operation.look(row, "dmesg", "", request.user)
        else:
            Operation.look(row, "log", what, request.user)
    except Conflict as conflict:
        return _page(request, pk, problem=str(conflict), status=409)
    return redirect(f"{reverse('dom0', args=[pk])}#logs")


@require_POST
@operator_required
def accept(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Whether new servers may be placed on it."""
    row = get_object_or_404(Dom0, pk=pk)
    wanted = request.POST.get("accepts_new") == "yes"
    if row.accepts_new != wanted:
        with transaction.atomic():
            row.accepts_new = wanted
            row.save(update_fields=["accepts_new"])
            text = _("%(dom0)s takes new servers") if wanted else _("%(dom0)s takes no new servers")
            Event.record("dom0.accepts", text % {"dom0": row}, actor=request.user, dom0=row)
    return redirect("dom0", pk)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def enrol_dom0(request: HttpRequest) -> HttpResponse:
    """A new dom0; its agent's configuration is shown once."""
    form = EnrolForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        return _enrol(request, form, form.cleaned_data["name"], form.cleaned_data["bridge"])
    status = 422 if request.method == "POST" else 200
    return show(request, "dom0/enrol.html", {"form": form}, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def credential(request: HttpRequest, pk: UUID) -> HttpResponse:
    """A new credential for a dom0, after its name was typed; the old one ends when the new one is in use."""
    row = get_object_or_404(Dom0, pk=pk)
    form = CredentialForm(row.name, request.POST or None)
    if request.method == "POST" and form.is_valid():
        return _enrol(request, form, row.name, row.bridge, row)
    status = 422 if request.method == "POST" else 200
    return show(request, "dom0/credential.html", {"form": form, "dom0": row}, status=status)


def _enrol(
    request: HttpRequest, form: EnrolForm | CredentialForm, name: str, bridge: str, before: Dom0 | None = None
) -> HttpResponse:
    try:
        with transaction.atomic():
            at_once = bool(form.cleaned_data.get("at_once"))
            row, secret = enrol(name, bridge=bridge, by=request.user, at_once=at_once)
    except redis.RedisError:
        form.add_error(
            None, _("Redis does not answer, so that the dom0 could not log in there. Try again when it does.")
        )
        template = "dom0/credential.html" if before else "dom0/enrol.html"
        return show(request, template, {"form": form, "dom0": before}, status=503)
    messages.success(request, _("%(dom0)s is enrolled.") % {"dom0": row})
    text = agent_toml(row, secret, settings.BERTH_AGENT_REDIS_URL, settings.BERTH_AGENT_WEB_URL)
    return show(request, "dom0/enrolled.html", {"dom0": row, "toml": text, "again": before is not None})
