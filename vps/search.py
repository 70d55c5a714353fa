"""Search over everything that a person may see: one list for each kind of thing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import Tenant, User
from vps.models import Dom0, Domu, Kernel, KernelVersion, MacAddress, Operation, Request
from vps.templatetags.berth import verb_name

SHOWN = 6  # of each kind, on the page of all kinds
LEAST = 2  # characters that are searched for
_SUM = re.compile(r"[0-9a-f]{8,64}", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){2,5}", re.ASCII)


@dataclass(frozen=True)
class Hit:
    """Something found: what it is called, where it is, a few words about it. `thing` has a state to be drawn."""

    name: str
    url: str
    about: str
    thing: object = None


@dataclass(frozen=True)
class Kind:
    """A kind of thing: `rows` are those of a person that fit, `hit` draws one."""

    name: str
    title: Any
    rows: Callable[[User, str], QuerySet[Any]]
    hit: Callable[[Any], Hit]
    operators_only: bool = False


@dataclass(frozen=True)
class Found:
    """What was found of one kind; `more` says that there are others."""

    kind: Kind
    hits: list[Hit]
    more: bool


def everywhere(user: User, q: str) -> list[Found]:
    """The first few of each kind of which there are any."""
    found = []
    for kind in kinds(user):
        rows = list(kind.rows(user, q)[: SHOWN + 1])
        if rows:
            found.append(Found(kind, [kind.hit(row) for row in rows[:SHOWN]], len(rows) > SHOWN))
    return found


def kinds(user: User) -> list[Kind]:
    return [kind for kind in KINDS if user.is_operator or not kind.operators_only]


def _id(q: str) -> UUID | None:
    try:
        return UUID(q)
    except ValueError:
        return None


def _any(parts: Iterable[Q | None]) -> Q:
    joined = Q(pk__in=[])
    for part in parts:
        if part is not None:
            joined |= part
    return joined


def _servers(user: User, q: str) -> QuerySet[Domu]:
    by_id = _id(q)
    named = Q(name__icontains=q) | Q(booted_label__icontains=q)
    mac = q.lower().replace("-", ":")
    macs = Q(nics__mac__in=_macs(mac)) if _MAC.fullmatch(mac) else None
    fits = _any([named, Q(pk=by_id) if by_id else None, macs])
    rows = Domu.objects.visible_to(user).filter(fits).with_open_operation().order_by("name", "pk")
    return rows.distinct() if macs is not None else rows


def _macs(text: str) -> QuerySet[MacAddress]:
    """The addresses that begin or end with some of their bytes."""
    digits = text.replace(":", "")
    left = 48 - 4 * len(digits)
    low = int(digits, 16) << left
    whole = Q(number__gte=low, number__lt=low + (1 << left))
    if len(digits) == 6 and left:  # the half that tells one from another
        whole |= Q(number=(0x00163E << 24) | int(digits, 16))
    return MacAddress.objects.filter(whole)


def _kernels(user: User, q: str) -> QuerySet[Kernel]:
    version = Q(versions__filename__icontains=q) | Q(versions__summary__icontains=q)
    if _SUM.fullmatch(q.lower()):
        version |= Q(versions__original__sha256__startswith=q.lower()) | Q(
            versions__plain__sha256__startswith=q.lower()
        )
    by_id = _id(q)
    fits = _any([Q(name__icontains=q), version, Q(versions__pk=by_id) if by_id else None])
    return (
        Kernel.objects.visible_to(user)
        .filter(fits)
        .select_related("tenant")
        .distinct()
        .order_by("name", "pk")
    )


def _requests(user: User, q: str) -> QuerySet[Request]:
    by_id = _id(q)
    fits = _any([Q(name__icontains=q), Q(why__icontains=q), Q(pk=by_id) if by_id else None])
    return Request.objects.visible_to(user).filter(fits).select_related("tenant", "by").order_by("-asked_at")


def _operations(user: User, q: str) -> QuerySet[Operation]:
    by_id = _id(q)
    fits = _any([Q(request_id=q), Q(pk=by_id) if by_id else None, Q(domu__name=q)])
    rows = Operation.objects.visible_to(user).filter(fits)
    return rows.select_related("domu", "dom0", "by").order_by("-pk")


def _dom0s(user: User, q: str) -> QuerySet[Dom0]:
    by_id = _id(q)
    return Dom0.objects.filter(_any([Q(name__icontains=q), Q(pk=by_id) if by_id else None])).order_by("name")


def _tenants(user: User, q: str) -> QuerySet[Tenant]:
    by_id = _id(q)
    rows = Tenant.objects.filter(_any([Q(name__icontains=q), Q(pk=by_id) if by_id else None]))
    return rows.order_by("name", "pk")


def _people(user: User, q: str) -> QuerySet[User]:
    fits = Q(name__icontains=q) | Q(email__icontains=q)
    return User.objects.filter(fits).prefetch_related("tenants").order_by("email")


def _server(row: Domu) -> Hit:
    return Hit(row.name, reverse("server", args=[row.pk]), f"{row.tenant}, {row.dom0}", row)


def _kernel(row: Kernel) -> Hit:
    version = KernelVersion.objects.filter(kernel=row, deleted_at=None).first()
    about = [str(row.tenant) if row.tenant else _("catalogue"), version.summary if version else ""]
    return Hit(row.name, reverse("kernel", args=[row.pk]), ", ".join(filter(None, about)))


def _request(row: Request) -> Hit:
    return Hit(row.title, reverse("request", args=[row.pk]), f"{row.tenant}, {row.by}", row)


def _operation(row: Operation) -> Hit:
    name = f"{verb_name(row.verb)} {row.domu or row.dom0}"
    return Hit(name, reverse("operation", args=[row.pk]), str(row.by or "Berth"), row)


def _dom0(row: Dom0) -> Hit:
    return Hit(row.name, reverse("dom0", args=[row.pk]), f"Xen {row.xen['version']}" if row.xen else "", row)


def _tenant(row: Tenant) -> Hit:
    return Hit(row.name, reverse("quota", args=[row.pk]), _("suspended") if row.suspended else "")


def _person(row: User) -> Hit:
    about = ", ".join(tenant.name for tenant in row.tenants.all()) or (
        _("operator") if row.is_operator else ""
    )
    return Hit(f"{row.name} {row.email}".strip(), f"{reverse('events')}?who={row.email}", about)


KINDS = (
    Kind("servers", gettext_lazy("Servers"), _servers, _server),
    Kind("kernels", gettext_lazy("Kernels"), _kernels, _kernel),
    Kind("requests", gettext_lazy("Requests"), _requests, _request),
    Kind("operations", gettext_lazy("Operations"), _operations, _operation),
    Kind("dom0s", gettext_lazy("dom0s"), _dom0s, _dom0, operators_only=True),
    Kind("tenants", gettext_lazy("Tenants"), _tenants, _tenant, operators_only=True),
    Kind("people", gettext_lazy("People"), _people, _person, operators_only=True),
)
