"""Servers: the list, the page of one, its verbs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.db.models import Exists, OuterRef, Prefetch, Q, QuerySet, Subquery, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import Right, Tenant, User
from accounts.models.quota import Resource, sums
from vps.forms.domu import NameAgainForm
from vps.forms.request import askable
from vps.models import BootEntryRow, BootMenu, Conflict, Disk, Domu, Event, Nic, Operation, Request
from vps.models.operation import State
from vps.rendering import next_boot
from vps.templatetags.berth import moving
from vps.views.lines import lines
from vps.views.page import paged, show, sought
from vps.views.scope import get_domu_or_404
from vps.xen.description import Boot, GuestOS
from vps.xen.devices import disk_device
from vps.xen.messages import Generation, MessageRefused, Verb
from vps.xen.reconcile import Phase, Status

METERS = (Resource.MEMORY, Resource.VCPUS, Resource.DISK)
# What stands as a button beside the name; all other verbs are in the menu.
LIKELY = {
    Status.UNFINISHED: Verb.PREPARE,
    Status.STOPPED: Verb.START,
    Status.CRASHED: Verb.START,
    Status.GONE_WRONG: Verb.START,
    Status.RUNNING: Verb.SHUTDOWN,
    Status.PAUSED: Verb.UNPAUSE,
}
IN_MENU = (Verb.START, Verb.SHUTDOWN, Verb.REBOOT, Verb.PAUSE, Verb.UNPAUSE)
# Verbs that are asked for with one click; destroy and delete have pages of their own.
CLICKED: dict[Verb, Callable[..., Operation]] = {
    Verb.START: Domu.start,
    **{
        verb: (lambda domu, by, verb=verb, **seen: domu.order(verb, by, **seen))
        for verb in (Verb.PREPARE, Verb.SHUTDOWN, Verb.REBOOT, Verb.PAUSE, Verb.UNPAUSE)
    },
}
CONSOLE_FIRST = frozenset({Status.RUNNING, Status.STARTING, Status.REBOOTING})
# The columns of a server that its line in the list shows, and those that its state is computed from.
SHOWN = (
    *("name", "tenant", "dom0", "guest_os", "memory_mib", "vcpus", "locked", "booted_label"),
    *("wanted", "observed", "observed_ms", "absent_ms", "phase", "made", "deleted_at", "purged_at"),
    *("boot_method", "menu_serial", "prepared_serial"),
)
FAILED = frozenset({State.FAILED, State.REFUSED, State.LOST})
ACTIVITY = 12


@require_safe
@login_required
def servers(request: HttpRequest) -> HttpResponse:
    """A customer's servers, waiting requests and quota; an operator's view of all servers."""
    rows = Domu.objects.live().visible_to(request.user)
    if q := sought(request):
        rows = rows.filter(
            Q(name__icontains=q)
            | Q(booted_label__icontains=q)
            | Q(tenant__name__icontains=q)
            | Q(guest_os__icontains=q)
        )
    # The keys alone first: what a line shows would else be put together for all pages before this one, too.
    page = paged(request, rows.order_by("name", "pk").values_list("pk", flat=True))
    domus = list(listed(Domu.objects.filter(pk__in=list(page.object_list))).only(*SHOWN))
    mine = Tenant.objects.of(request.user).order_by("name")
    waiting = Request.objects.waiting().filter(tenant__in=mine).select_related("by", "tenant")
    many_tenants = request.user.is_operator or len(mine) > 1
    drawn, busy = lines(domus, with_tenants=many_tenants)
    context = {
        "page": page,
        "lines": drawn,
        "q": q,
        "waiting": [] if q or page.number > 1 else _placed(waiting),
        "refused": _lately_refused(mine),
        "kept": [] if q or page.number > 1 else kept_ones(request.user),
        "quotas": [(tenant, _meters(tenant)) for tenant in mine],
        "may_ask": askable(request.user).exists(),
        "may_withdraw": set(askable(request.user).values_list("pk", flat=True)),
        "many_tenants": many_tenants,
        "nothing": not domus and not q and not waiting,
    }
    return show(request, "domu/list.html", context, part="domu/_list.html", moving=busy)


def listed(rows: QuerySet[Domu]) -> QuerySet[Domu]:
    """With all that a row of the list shows, in a constant number of queries."""
    event = Event.objects.filter(domu=OuterRef("pk")).order_by("-id")
    menu = BootMenu.objects.filter(domu=OuterRef("pk"), serial=OuterRef("menu_serial"))
    disks = Disk.objects.filter(domu=OuterRef("pk"), purged_at=None).order_by().values("domu")
    return (
        rows.with_open_operation()
        .annotate(
            last_text=Subquery(event.values("text")[:1]),
            last_at=Subquery(event.values("at")[:1]),
            boot_json=Subquery(menu.values("boot")[:1]),
            disk_mib=Subquery(disks.annotate(total=Sum("size_mib")).values("total")),
        )
        .order_by("name", "pk")
    )


def kept_ones(user: User) -> QuerySet[Domu]:
    """Deleted servers whose disks are still there."""
    return Domu.objects.kept().visible_to(user).with_open_operation().order_by("keep_until")[:20]


def _placed(waiting: Iterable[Request]) -> list[tuple[Request, int]]:
    """Each with its place among all that wait, from 1."""
    queue = list(Request.objects.waiting().order_by("asked_at").values_list("pk", flat=True))
    return [(asked, queue.index(asked.pk) + 1) for asked in waiting if asked.pk in queue]


def _lately_refused(tenants: QuerySet[Tenant]) -> QuerySet[Request]:
    """Refused and not asked for again: their words are to be read."""
    again = Request.objects.filter(
        tenant=OuterRef("tenant"),
        kind=OuterRef("kind"),
        name=OuterRef("name"),
        asked_at__gt=OuterRef("asked_at"),
    )
    rows = Request.objects.filter(~Exists(again), tenant__in=tenants, state=Request.State.REFUSED)
    return rows.select_related("decided_by").order_by("-decided_at")[:3]


def _meters(tenant: Tenant) -> list[dict[str, Any]]:
    now = sums(tenant)
    return [{"resource": name, **now[name]} for name in METERS]


@require_safe
@login_required
def server(request: HttpRequest, pk: UUID) -> HttpResponse:
    """All about one server."""
    return page_of(request, pk)


def page_of(request: HttpRequest, pk: UUID, *, problem: str = "", status: int = 200) -> HttpResponse:
    """The page of a server, with a sentence about what went wrong where something did."""
    nics = Prefetch("nics", Nic.objects.select_related("mac"))
    domu = listed(Domu.objects.visible_to(request.user)).filter(pk=pk).prefetch_related(nics).first()
    if domu is None:
        raise Http404
    context = {"domu": domu, "problem": problem, **_of(domu, request.user)}
    busy = bool(domu.open_operation) or moving(domu)
    return show(request, "domu/page.html", context, part="domu/_live.html", moving=busy, status=status)


def _of(domu: Domu, user: User) -> dict[str, Any]:
    operate = domu.allows(user, Right.OPERATE) and not domu.deleted_at
    status = domu.status
    likely = LIKELY.get(status)
    boot = domu.boot()
    offered = [verb for verb in IN_MENU if operate and domu.may(verb)]
    tries = list(domu.tries.select_related("menu", "by", "operation")[:ACTIVITY])
    return {
        "status": status.value,
        "console_first": status in CONSOLE_FIRST,
        "seen": f"{domu.epoch}.{domu.n}",
        "operate": operate,
        "likely": likely if likely in offered and (likely is not Verb.START or boot.bootable) else None,
        "in_menu": [v for v in offered if v is not likely and (v is not Verb.START or boot.bootable)],
        "may_destroy": operate and domu.may(Verb.DESTROY) and domu.made,
        "may_delete": not domu.deleted_at and domu.allows(user, Right.REQUEST) and domu.may(Verb.DELETE),
        "may_boot": not domu.deleted_at and domu.tenant.allows(user, Right.OPERATE),
        "boot": boot,
        "next": next_boot(domu, boot),
        "tried": tries[0] if tries else None,
        # What is armed stays so when what was asked for after it came to nothing.
        "armed": next((one for one in tries if one.is_armed), None),
        "may_try": operate and boot.bootable and domu.may(Verb.TRY),
        **_records(domu),
        "verdict": _verdict(domu, boot),
        "disks": [_named(disk) for disk in domu.disks.filter(purged_at=None)],
        "domain": _domain(domu),
        "ended_at": _moment(domu.last_end.get("at")),
        "operations": domu.operations.select_related("by")[:ACTIVITY],
        # What belongs to an operation is told by its own line.
        "events": domu.events.filter(operation=None)[:ACTIVITY],
        "crashed": domu.phase == Phase.LIMIT.value and status is Status.CRASHED and not domu.deleted_at,
        "failed": _failed(domu),
        "asked": domu.requests.filter(kind=Request.Kind.SERVER).first(),
        "resizing": domu.requests.waiting().filter(kind=Request.Kind.RESIZE).first(),
        "may_resize": not domu.deleted_at and domu.tenant.allows(user, Right.REQUEST),
        "may_undelete": domu.is_kept and domu.tenant.allows(user, Right.REQUEST),
    }


def _failed(domu: Domu) -> Operation | None:
    """The last operation, where it came to nothing and nothing is under way: the page says its words."""
    last = domu.operations.order_by("-id").first()
    shown = last and last.state in FAILED and not last.set_aside_at and not domu.purged_at
    return last if shown else None


def _domain(domu: Domu) -> dict[str, Any] | None:
    """What its dom0's last inventory says of it."""
    rows = domu.dom0.inventory.get("domains", [])
    return next((row for row in rows if str(row.get("uuid")) == str(domu.pk)), None)


def _records(domu: Domu) -> dict[str, Any]:
    """What booted last, and what booted well last."""
    good = domu.boot_records.well().first()
    return {
        "last_boot": domu.boot_records.first(),
        "good_boot": good,
        "good_kept": good is not None and domu.menus.filter(serial=good.menu_serial).exists(),
    }


def _verdict(domu: Domu, boot: Boot) -> str:
    """What inspection said of the kernel that boots next."""
    if boot.default_entry is None:
        return ""
    row = BootEntryRow.objects.filter(
        menu__domu=domu, menu__serial=boot.serial, position=boot.default
    ).select_related("version")
    return row[0].version.summary if row else ""


def _named(disk: Disk) -> Disk:
    """A disk with what the guest calls it."""
    disk.guest_name = disk_device(GuestOS(disk.domu.guest_os), disk.index).guest
    return disk


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _seen(request: HttpRequest) -> Generation | None:
    """The generation that the page showed, as its form sends it back."""
    epoch, _stop, n = request.POST.get("seen", "").partition(".")
    try:
        return Generation.of([int(epoch), int(n)])
    except (ValueError, MessageRefused):
        return None


@require_POST
@login_required
def do(request: HttpRequest, pk: UUID, verb: str) -> HttpResponse:
    """One of the verbs that need one click."""
    domu = get_domu_or_404(request, pk, Right.OPERATE)
    try:
        CLICKED[Verb(verb)](domu, request.user, seen=_seen(request))
    except (KeyError, ValueError) as error:
        raise Http404 from error
    except Conflict as conflict:
        return page_of(request, pk, problem=str(conflict), status=409)
    # "Start with console": the agent attaches before the guest runs, so that the page has its first byte.
    return redirect("console" if request.POST.get("to") == "console" else "server", pk)


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def destroy(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Take the power away, after the name was typed."""
    domu = get_domu_or_404(request, pk, Right.OPERATE)
    form = NameAgainForm(domu.name, request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            domu.order(Verb.DESTROY, request.user, form.cleaned_data["reason"])
        except Conflict as conflict:
            return page_of(request, pk, problem=str(conflict), status=409)
        return redirect("server", pk)
    status = 422 if request.method == "POST" else 200
    return show(request, "domu/destroy.html", {"domu": domu, "form": form}, status=status)


@require_safe
@login_required
def configuration(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What the dom0 gets: menu, domain configuration, each with the difference from the last."""
    domu = get_domu_or_404(request, pk)
    return show(request, "domu/configuration.html", {"domu": domu, "next": next_boot(domu, domu.boot())})
