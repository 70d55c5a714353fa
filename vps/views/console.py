"""The console's page, and the tickets for its WebSocket."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

import redis
from csp.constants import UNSAFE_INLINE
from csp.decorators import csp_update
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts.models import Right
from vps import tickets
from vps.models import Domu
from vps.views.scope import get_domu_or_404
from vps.xen.reconcile import Status

log = logging.getLogger(__name__)


# xterm's renderer writes style elements; scripts stay as strict as everywhere.
@csp_update({"style-src": [UNSAFE_INLINE]})
@require_safe
@login_required
def console(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The page that the terminal owns."""
    domu = _domu(request, pk)
    context = {
        "domu": domu,
        "statuses": list(Status),
        "settings": page_settings(domu),
        "words": words(),
    }
    response = render(request, "console/console.html", context)
    response["Cache-Control"] = "no-store"
    return response


@require_POST
@login_required
def console_ticket(request: HttpRequest, pk: UUID) -> HttpResponse:
    """A ticket for one console, good once within a minute: {"ticket"} or {"error"}."""
    domu = _domu(request, pk)
    origin = f"{request.scheme}://{request.get_host()}"
    try:
        ticket = tickets.issue(request.user.pk, request.session.session_key, domu.pk, origin)
    except tickets.TooManyTickets:
        return _no(_("That was too often; wait a minute."), 429)
    except redis.RedisError as error:
        log.warning("no ticket for a console, Redis is away: %s", error)
        return _no(_("Consoles cannot be opened just now; it is tried again."), 503)
    response = JsonResponse({"ticket": ticket})
    response["Cache-Control"] = "no-store"
    return response


def _domu(request: HttpRequest, pk: UUID) -> Domu:
    domu = get_domu_or_404(request, pk, Right.SEE)
    if domu.deleted_at:
        raise Http404
    return domu


def _no(text: str, status: int) -> JsonResponse:
    return JsonResponse({"error": text}, status=status)


def page_settings(domu: Domu) -> dict[str, Any]:
    """What the scripts must know of this server. `socket` is empty where the gateway has the page's origin."""
    return {
        "name": domu.name,
        "ticket": reverse("console_ticket", args=[domu.pk]),
        "start": reverse("server_do", args=[domu.pk, "start"]),
        "socket": f"{settings.BERTH_GATEWAY_URL}/ws/console" if settings.BERTH_GATEWAY_URL else "",
    }


def words() -> dict[str, str]:
    """The sentences that the scripts say; `{n}` is a number, `{name}` a name."""
    return {
        "connecting": _("Connecting …"),
        "lost": _("The connection was lost. It is tried again in {n} s."),
        "lost_now": _("The connection was lost. Trying again …"),
        "unreachable": _("The gateway of the consoles cannot be reached. It is tried again in {n} s."),
        "again": _("Connect again"),
        "now": _("Try now"),
        "loggedout": _("You are logged out."),
        "login": _("Log in"),
        "gone": _("This server is not there any more, or no longer yours."),
        "rights": _("You may no longer look at this console."),
        "idle": _("Closed, because no key was pressed for long."),
        "user": _("You have as many consoles open as may be. Close one of them."),
        "server": _("This console is open as often as may be."),
        "gateway": _("All places at the consoles are taken. Try again in a while."),
        "ticket": _("The console could not be opened."),
        "broken": _("The connection was closed because of something that this page sent."),
        "silent": _(
            "The dom0 has not answered for {n} s. The server may run all the same; keys may be lost meanwhile."
        ),
        "silent_now": _("The dom0 does not answer. The last keys were lost."),
        "skipped": _("{n} left out here"),
        "run": _("started again"),
        "absent": _("The server does not run. This is what its console showed last."),
        "never": _("The server does not run, and never has."),
        "poweroff": _("The guest has switched itself off."),
        "reboot": _("The guest has asked for a reboot."),
        "crash": _("The guest has crashed."),
        "destroy": _("The server was destroyed."),
        "unknown": _("The domain is gone, and nobody saw why."),
        "code": _("Xen's code for it is {n}."),
        "stopped": _("It stays off until somebody starts it."),
        "rebuild": _("It is built anew now, from what is set for it."),
        "restart": _("It is started again in {n} s."),
        "restart_now": _("It is started again."),
        "limit": _("It has crashed too often and is not started again by itself."),
        "starting": _("Asked for. The console goes on here when it boots."),
        "not_started": _("It could not be started. Its page says why."),
        "typing": _("typing"),
        "watching": _("watching"),
        "alone": _("nobody else is here"),
        "you": _("you"),
        "others": _("Also here: {names}"),
        "watch_only": _("You may watch this console, not type on it."),
        "not_typing": _("You are watching. Switch to typing to send keys."),
        "paste_one": _("Paste this text?"),
        "paste_lines": _("Paste {n} lines? Each line's end is an Enter."),
        "paste_long": _("{n} KiB are too much for a console; 32 KiB is the most."),
        "results": _("{i} of {n}"),
        "nothing": _("nothing found"),
        "link": _("The guest's output links to this address. Open it?"),
        "tell": _("The guest still thinks that the screen has 80 columns and 24 rows."),
        "tell_button": _("Type “{command}”"),
        "fill": _("Fill the page"),
        "fixed": _("80 × 24"),
        "kib": _("{n} KiB"),
        "mib": _("{n} MiB"),
        "bytes": _("{n} bytes"),
    }
