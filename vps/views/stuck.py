"""What is stuck, and what an operator can do about each."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts.models import User
from vps import dispatch, stuck
from vps.models import Conflict, Dom0, Domu, ForeignDomain, Operation
from vps.templatetags.berth import verb_name
from vps.views.page import show
from vps.views.scope import get_domu_or_404, operator_required
from vps.xen.messages import Verb
from vps.xen.reconcile import Wanted

_AGAIN = frozenset({Verb.PREPARE, Verb.START, Verb.SHUTDOWN, Verb.REBOOT, Verb.PAUSE, Verb.UNPAUSE})


@require_safe
@operator_required
def stuck_page(request: HttpRequest) -> HttpResponse:
    """All that does not go on by itself."""
    return _page(request)


def _page(request: HttpRequest, *, problem: str = "", status: int = 200) -> HttpResponse:
    context = {"problem": problem, **stuck.everything()}
    return show(request, "stuck/page.html", context, part="stuck/_live.html", status=status)


@require_POST
@operator_required
def stuck_operation(request: HttpRequest, pk: UUID, do: str) -> HttpResponse:
    """Ask for it again, give it up, or set it aside."""
    rows = Operation.objects.select_related("domu__tenant", "domu__dom0", "dom0")
    row = get_object_or_404(rows, pk=pk)
    if do not in _OPERATION:
        raise Http404
    try:
        said = _OPERATION[do](row, request.user, request.POST.get("words", "")[:300])
    except Conflict as conflict:
        return _page(request, problem=str(conflict), status=409)
    messages.success(request, said)
    return redirect("stuck")


def _retry(row: Operation, by: User, words: str) -> str:
    """An open one is asked about once more; an ended one is ordered anew. Raises Conflict."""
    if row.is_open:
        if not dispatch.send(row):
            raise Conflict(_("Redis does not answer, so that nothing was sent; it is sent when it does."))
        return _("It was sent once more; a dom0 that knows it says where it stands.")
    if row.domu is None or Verb(row.verb) not in _AGAIN:
        raise Conflict(_("This is not asked for again from here; see the server's own page."))
    if row.verb == Verb.START:
        row.domu.start(by, words)
    else:
        row.domu.order(Verb(row.verb), by, words)
    return _("%(verb)s was asked for again.") % {"verb": verb_name(row.verb)}


def _give_up(row: Operation, by: User, words: str) -> str:
    row.give_up(by, words)
    return _("It was given up; what the server was wanted to be is as before.")


def _set_aside(row: Operation, by: User, words: str) -> str:
    # All of the same kind: they are one line of the page.
    rows = Operation.objects.filter(domu=row.domu, verb=row.verb, state__in=stuck.UNSUCCESSFUL)
    for each in rows.filter(set_aside_at=None).exclude(pk=row.pk):
        each.set_aside(by)
    row.set_aside(by)
    return _("It was set aside.")


_OPERATION: dict[str, Callable[[Operation, User, str], str]] = {
    "retry": _retry,
    "give-up": _give_up,
    "set-aside": _set_aside,
}


@require_POST
@operator_required
def stuck_server(request: HttpRequest, pk: UUID, do: str) -> HttpResponse:
    """Make a server what it should be, or let what should not run be stopped for good."""
    domu = get_domu_or_404(request, pk)
    if do not in ("again", "stopped"):
        raise Http404
    try:
        _set_right(domu, request.user, do)
    except Conflict as conflict:
        return _page(request, problem=str(conflict), status=409)
    messages.success(request, _("It was asked for; %(name)s says how far it is.") % {"name": domu})
    return redirect("stuck")


def _set_right(domu: Domu, by: User, do: str) -> None:
    why = _("It was not as it should be.")
    if do == "stopped":
        # Nothing is there to be destroyed, or what is there should not be: the dom0's own wanted follows too.
        domu.order(Verb.DESTROY, by, why)
    elif domu.wanted == Wanted.RUNNING.value:
        domu.start(by, why)
    else:
        domu.order(Verb.SHUTDOWN, by, why)


@require_POST
@operator_required
def dom0_domain(request: HttpRequest, pk: UUID, uuid: UUID, do: str) -> HttpResponse:
    """Ignore a domain that is not Berth's, count it, or take that back."""
    dom0 = get_object_or_404(Dom0, pk=pk)
    standings = {"ignore": ForeignDomain.Standing.IGNORED, "count": ForeignDomain.Standing.KEPT}
    try:
        if do in standings:
            note = request.POST.get("note", "").strip()[:500]
            ForeignDomain.decide(dom0, uuid, standings[do], note, request.user)
        elif do == "take-back":
            get_object_or_404(ForeignDomain, dom0=dom0, uuid=uuid).take_back(request.user)
        else:
            raise Http404
    except Conflict as conflict:
        return _page(request, problem=str(conflict), status=409)
    return redirect("dom0", pk) if request.POST.get("back") == "dom0" else redirect("stuck")
