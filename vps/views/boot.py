"""The boot menu: what a server boots, seen as its dom0 will get it, before it is saved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from accounts.models import Right
from vps.forms.boot import MenuForm
from vps.models import BootMenu, Conflict, Domu
from vps.models.boot import draft_boot, keep_menu, lint_of, save_menu
from vps.rendering import Text, compared, render_texts
from vps.views.page import show
from vps.views.scope import get_domu_or_404
from vps.xen.description import BootMethod
from vps.xen.lint import Finding
from vps.xen.messages import Verb
from vps.xen.refused import RenderRefused

HISTORY = 20


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def boot(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The editor. A POST with `do` = save saves; every other `do` only looks (preview, add, up, down, remove)."""
    domu = get_domu_or_404(request, pk)
    may = domu.tenant.allows(request.user, Right.OPERATE) and not domu.deleted_at
    if request.method != "POST":
        return _page(request, domu, _asked_for(request, domu), may)
    if not may:
        raise PermissionDenied(_("Your role may look at the boot menu but not change it."))
    form = MenuForm.of_post(domu, request.POST)
    command = request.POST.get("do", "preview")
    if command not in ("save", "try"):
        form.change(command)
        return _page(request, domu, form, may)
    if not form.is_valid():
        return _page(request, domu, form, may, status=422)
    if command == "try":
        return _to_try(request, domu, form, may)
    try:
        save_menu(domu, form.drafts(), request.user, seen_serial=form.seen_serial, **form.options())
    except Conflict as conflict:
        form.seen_serial = Domu.objects.get(pk=domu.pk).menu_serial
        return _page(request, domu, form, may, problem=str(conflict), status=409)
    messages.success(
        request, _("Menu %(n)d was saved and is being put on the dom0.") % {"n": domu.menu_serial}
    )
    return redirect("server", domu.pk)


def _to_try(request: HttpRequest, domu: Domu, form: MenuForm, may: bool) -> HttpResponse:
    """Keep the menu without putting it in use, and go to the page of trying it."""
    try:
        menu = keep_menu(domu, form.drafts(), request.user, **form.options())
    except Conflict as conflict:
        return _page(request, domu, form, may, problem=str(conflict), status=409)
    return redirect("boot_try", domu.pk, menu.serial)


@require_safe
@login_required
def compare(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What changed between any two saved menus: `left` and `right`, else the one in use and the one before it."""
    domu = get_domu_or_404(request, pk)
    serials = list(domu.menus.values_list("serial", flat=True))
    if not serials:
        raise Http404
    right = _chosen(request.GET.get("right", ""), serials, domu.menu_serial)
    before = next((serial for serial in serials if serial < right), right)
    left = _chosen(request.GET.get("left", ""), serials, before)
    menus = {menu.serial: menu for menu in domu.menus.filter(serial__in=[left, right]).select_related("by")}
    old, new = menus[left], menus[right]
    context = {
        "domu": domu,
        "serials": serials,
        "left": old,
        "right": new,
        "texts": compared(old.saved, new.saved),
        "may": domu.tenant.allows(request.user, Right.OPERATE) and not domu.deleted_at,
    }
    return show(request, "boot/compare.html", context)


def _chosen(text: str, serials: list[int], usual: int) -> int:
    """One of the serials; 404 for what is none."""
    if not text:
        return usual if usual in serials else serials[0]
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) in serials):
        raise Http404
    return int(text)


def _asked_for(request: HttpRequest, domu: Domu) -> MenuForm:
    """The form of the saved menu, or of the old one that `?menu=` names, to be saved anew."""
    serial = request.GET.get("menu", "")
    if serial.isascii() and serial.isdigit() and len(serial) < 16:
        return MenuForm.of_menu(domu, get_object_or_404(domu.menus, serial=int(serial)))
    form = MenuForm.of_menu(domu, domu.menus.filter(serial=domu.menu_serial).first())
    form.put_in(request.GET.get("add", ""))
    return form


def _page(
    request: HttpRequest, domu: Domu, form: MenuForm, may: bool, *, problem: str = "", status: int = 200
) -> HttpResponse:
    saved = domu.menus.filter(serial=domu.menu_serial).first()
    texts, refused, same = _preview(domu, form, saved)
    restored = request.GET.get("menu", "") if request.method == "GET" else ""
    context: dict[str, Any] = {
        "domu": domu,
        "form": form,
        "may": may,
        "problem": problem,
        "tried": status == 422,
        "texts": texts,
        "refused": refused,
        "same": same,
        "findings": _lint(domu, form),
        "restored": restored if restored != str(domu.menu_serial) else "",
        "may_try": may and Verb.TRY.value in domu.dom0.verbs and domu.menu_serial > 0,
        "methods": [method.value for method in BootMethod],
        "menus": domu.menus.select_related("by").prefetch_related("entries")[:HISTORY],
    }
    return show(request, "boot/page.html", context, part="boot/_editor.html", status=status)


def _lint(domu: Domu, form: MenuForm) -> list[Finding]:
    """What there is to say of the menu as it stands in the form; nothing while it cannot be drafted."""
    try:
        kind, boot = draft_boot(domu, form.drafts(), **form.options())
    except (Conflict, ValueError):
        return []
    return lint_of(domu, kind, boot, form.drafts())


def _preview(domu: Domu, form: MenuForm, saved: BootMenu | None) -> tuple[list[Text], str, bool]:
    """The files as they would be written, against the saved ones; why they cannot be; whether nothing changed."""
    if not form.is_valid():
        return [], "", False
    try:
        kind, boot = draft_boot(domu, form.drafts(), **form.options())
        now = domu.description()
        description = replace(now, type=kind, boot=boot)
        last = {"menu_lst": saved.menu_lst, "grub_cfg": saved.grub_cfg} if saved else {}
        if saved and now.boot.bootable:
            texts = render_texts(now, {}, {})
            last["config"] = next(text.text for text in texts if text.name == domu.name)
        same = saved is not None and {**boot.as_dict(), "serial": saved.serial} == saved.boot
        return render_texts(description, {}, last), "", same
    except (Conflict, RenderRefused) as error:
        return [], str(error), False
