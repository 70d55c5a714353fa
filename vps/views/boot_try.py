"""Trying once: the page before it, the click and the call that say it is well, making a menu the default."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from accounts.models import Right
from vps.forms.boot_try import TryForm
from vps.models import BootMenu, Conflict, Domu
from vps.models.boot import drafts_of, keep_menu, own_kind_of
from vps.models.boot_try import arm, call_key, called, disarm, name_of, try_once, use_menu
from vps.views.domu import page_of
from vps.views.page import show
from vps.views.scope import get_domu_or_404
from vps.xen.description import Boot
from vps.xen.messages import Verb


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def try_menu(request: HttpRequest, pk: UUID, serial: int) -> HttpResponse:
    """Try the default entry of a saved menu, or the one that `entry` names, once."""
    domu = get_domu_or_404(request, pk, Right.OPERATE)
    menu = get_object_or_404(domu.menus, serial=serial)
    boot = Boot.of(menu.boot)
    position = _position(request, boot)
    back = domu.boot()
    form = TryForm(domu, request.POST or None)
    problem, status = "", 200
    if request.method == "POST" and request.POST.get("do") == "arm":
        try:
            return _arm(request, domu, menu, position)
        except Conflict as conflict:
            problem, status = str(conflict), 409
    elif request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                return _begin(request, domu, menu, position, form)
            except Conflict as conflict:
                problem, status = str(conflict), 409
    good_boots = domu.boot_records.well()
    context = {
        "domu": domu,
        "form": form,
        "menu": menu,
        "position": position,
        "entry": boot.lines[position] if boot.lines else None,
        "boot": boot,
        "back": back,
        "goes_back_to": name_of(back)[0],
        "back_was_well": good_boots.filter(menu_serial=domu.menu_serial).exists(),
        "good_boot": good_boots.first(),
        "may": domu.may(Verb.TRY),
        "may_arm": Verb.ARM.value in domu.dom0.verbs and back.bootable,
        "known": Verb.TRY.value in domu.dom0.verbs,
        "problem": problem,
    }
    return show(request, "boot/try.html", context, status=status)


def _position(request: HttpRequest, boot: Boot) -> int:
    text = request.POST.get("entry") or request.GET.get("entry", "")
    if not text:
        return boot.default_line
    if not (text.isascii() and text.isdigit() and len(text) < 4 and int(text) < len(boot.lines)):
        raise Http404
    return int(text)


def _with_default(request: HttpRequest, domu: Domu, menu: BootMenu, position: int) -> BootMenu:
    """The menu, or one like it that is kept beside, of which the line at `position` is the default."""
    boot = menu.saved
    if position == boot.default_line and menu.serial != domu.menu_serial:
        return menu
    return keep_menu(
        domu,
        drafts_of(menu),
        request.user,
        method=boot.method,
        default=position,
        timeout=boot.timeout,
        own_kind=own_kind_of(boot),
    )


def _arm(request: HttpRequest, domu: Domu, menu: BootMenu, position: int) -> HttpResponse:
    with transaction.atomic():
        armed = arm(domu, _with_default(request, domu, menu, position), request.user)
    messages.success(request, _("%(what)s is put down as the next boot, once.") % {"what": armed.title})
    return redirect("server", domu.pk)


@require_POST
@login_required
def disarm_next(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Take back what was put down for the next boot only."""
    domu = get_domu_or_404(request, pk, Right.OPERATE)
    try:
        disarm(domu, request.user)
    except Conflict as conflict:
        return page_of(request, pk, problem=str(conflict), status=409)
    return redirect("server", pk)


def _begin(request: HttpRequest, domu: Domu, menu: BootMenu, position: int, form: TryForm) -> HttpResponse:
    values: dict[str, Any] = form.cleaned_data
    key, digest = call_key() if values["call"] else ("", "")
    with transaction.atomic():
        menu = _with_default(request, domu, menu, position)
        try_once(
            domu,
            menu,
            request.user,
            seconds=values["seconds"],
            signs=form.signs(),
            keep=values["keep"],
            once=values["once"],
            call_sha256=digest,
        )
    if key:
        address = settings.BERTH_BASE_URL.rstrip("/") + reverse("well", args=[key])
        messages.success(
            request, _("The guest says that it is well by calling %(address)s once.") % {"address": address}
        )
    return redirect("server", domu.pk)


@require_POST
@login_required
def say_well(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The owner says that what is tried is well."""
    domu = get_domu_or_404(request, pk, Right.OPERATE)
    tried = domu.tries.first()
    try:
        if tried is None:
            raise Conflict(_("Nothing is being tried."))
        tried.say_well(request.user)
    except Conflict as conflict:
        return page_of(request, pk, problem=str(conflict), status=409)
    return redirect("server", pk)


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def well(request: HttpRequest, key: str) -> HttpResponse:
    """A guest's call, once: what it runs is well. Whoever knows the address may."""
    tried = called(key)
    if tried is None:
        return HttpResponse(
            "Nothing is being tried under this address.\n", status=404, content_type="text/plain"
        )
    if request.method != "HEAD":  # that is what looks for broken links
        try:
            tried.say_well(None)
        except Conflict as conflict:
            return HttpResponse(f"{conflict}\n", status=409, content_type="text/plain")
    return HttpResponse("Noted: it is well.\n", content_type="text/plain")


@require_POST
@login_required
def make_default(request: HttpRequest, pk: UUID, serial: int) -> HttpResponse:
    """Put a menu that was saved or tried in use, as it was, and have the dom0 make it ready."""
    domu = get_domu_or_404(request, pk, Right.OPERATE)
    menu = get_object_or_404(domu.menus, serial=serial)
    try:
        use_menu(domu, menu, request.user)
    except Conflict as conflict:
        return page_of(request, pk, problem=str(conflict), status=409)
    messages.success(request, _("Menu %(n)d is in use and is being put on the dom0.") % {"n": serial})
    return redirect("server", pk)
