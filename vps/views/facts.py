"""What helps an operator to decide on a request: the quota, every dom0's room, the customer's history."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models.quota import Resource, sums, used_by
from vps.models import Dom0, Event, Request
from vps.models.dom0 import BOOT_DISK_MIB
from vps.models.size import more_than_held

HISTORY = 10
CRASHES_OF = timedelta(days=30)
SUSPENSIONS = ("tenant.suspended", "domu.locked")


def deciding_facts(asked: Request) -> dict[str, Any]:
    """All of it, before and after."""
    tenant = asked.tenant
    crashes = Event.objects.filter(
        tenant=tenant, kind="domu.ended", after__reason="crash", at__gt=timezone.now() - CRASHES_OF
    )
    past = tenant.requests.exclude(pk=asked.pk).order_by("-asked_at")
    return {
        "quota": _limits(asked) if asked.kind == Request.Kind.QUOTA else _quota(asked),
        "rooms": rooms(asked),
        "domus": tenant.domus.live().with_open_operation().order_by("-created_at")[:HISTORY],
        "kept": tenant.domus.kept().count(),
        "history": past[:HISTORY],
        "outcomes": [
            (word, count)
            for state, word in Request.State.choices
            if (count := past.filter(state=state).count())
        ],
        "crashes": crashes.count(),
        "suspensions": Event.objects.filter(tenant=tenant, kind__in=SUSPENSIONS).order_by("-id")[:3],
        "members": tenant.memberships.select_related("user").order_by("created_at"),
        "warnings": _warnings(asked),
    }


def _quota(asked: Request) -> list[dict[str, Any]]:
    """Used before and after. A waiting request is booked already: "before" is what is used without it."""
    quota, booked = sums(asked.tenant), used_by(asked.subject)
    names = [Resource.SERVERS.value, *("memory_mib", "vcpus", "disk_mib")]
    if asked.kind == Request.Kind.RESIZE:
        names = ["memory_mib", "vcpus"]
    lines = []
    for name in names:
        want = booked.get(name, 0)
        after, limit = quota[name]["used"], quota[name]["limit"]
        lines.append({"resource": name, "limit": limit, "before": after - want, "want": want, "after": after})
    return lines


def _limits(asked: Request) -> list[dict[str, Any]]:
    """The limits before and after, beside what is used."""
    quota, waits = sums(asked.tenant), asked.state == Request.State.WAITING
    return [
        {
            "resource": name,
            "used": quota[name]["used"],
            "before": quota[name]["limit"],
            "want": want if waits else 0,
            "after": quota[name]["limit"] + (want if waits else 0),
        }
        for name, want in asked.amounts.items()
    ]


def rooms(asked: Request) -> list[dict[str, Any]]:
    """Each dom0 with its room before and after; of a larger size the one that the server is on."""
    if asked.kind == Request.Kind.RESIZE:
        assert asked.domu is not None
        found = [_room_for_more(asked, asked.domu.dom0)]
    elif asked.kind == Request.Kind.SERVER:
        found = [_room(asked, dom0) for dom0 in Dom0.objects.all()]
    else:
        found = [_as_is(dom0) for dom0 in Dom0.objects.all()]
    return sorted(found, key=lambda room: (bool(room["why_not"]), -room["capacity"]["memory_mib"]["free"]))


def _room(asked: Request, dom0: Dom0) -> dict[str, Any]:
    disk = asked.disk_mib + BOOT_DISK_MIB
    why_not = dom0.why_not(asked.memory_mib, asked.vcpus, asked.disk_mib)
    return _with(dom0, asked.memory_mib, disk, asked.vcpus, why_not)


def _room_for_more(asked: Request, dom0: Dom0) -> dict[str, Any]:
    assert asked.domu is not None
    held = dom0.promised_to(asked.domu.subject).get("memory_mib", 0)
    more = max(0, asked.memory_mib - held)
    return _with(dom0, more, 0, asked.vcpus, dom0.why_not_larger(more, asked.vcpus))


def _as_is(dom0: Dom0) -> dict[str, Any]:
    return _with(dom0, 0, 0, 0, "")


def _with(dom0: Dom0, memory: int, disk: int, vcpus: int, why_not: str) -> dict[str, Any]:
    capacity = dom0.capacity()
    warning = ""
    if vcpus and vcpus == dom0.cpus:
        warning = _("It would have as many cpus as %(dom0)s itself; fewer leave some for the others.") % {
            "dom0": dom0
        }
    return {
        "dom0": dom0,
        "capacity": capacity,
        "memory_want": memory,
        "disk_want": disk,
        "memory_after": max(0, capacity["memory_mib"]["free"] - memory),
        "disk_after": max(0, capacity["disk_mib"]["free"] - disk),
        "why_not": why_not,
        "warning": warning,
    }


def _warnings(asked: Request) -> list[str]:
    """Sentences about what one might overlook."""
    found = []
    if asked.tenant.suspended:
        found.append(_("The customer is suspended: %(why)s") % {"why": asked.tenant.suspended})
    if asked.guest_os == "netbsd" and asked.vcpus > 1:
        found.append(_("NetBSD before release 6 uses one cpu only."))
    if asked.kind == Request.Kind.RESIZE and asked.domu is not None:
        if asked.domu.deleted_at:
            found.append(_("The server was deleted meanwhile."))
        elif asked.state == Request.State.WAITING and not more_than_held(
            asked.domu, asked.memory_mib, asked.vcpus
        ):
            found.append(_("The server holds as much already; nothing more would be booked."))
    if not asked.tenant.memberships.filter(user__is_active=True).exists():
        found.append(_("Nobody of the customer's can log in."))
    return found
