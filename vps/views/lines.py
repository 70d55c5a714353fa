"""The lines of the list of servers: drawn once for what they say, and kept until they say something else.

Pages look again every few seconds, and nearly all lines are as they were. The template of a line is given nothing
but the `Line`, so that a line that was kept cannot be out of date.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple
from uuid import UUID

from django.template.loader import get_template
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import get_language

from vps.models import Domu, Nic
from vps.models.network import mac_text
from vps.templatetags.berth import ago, default_entry, look_of, size, state_of
from vps.xen.description import BootMethod

KEPT = 4000  # lines in each process, about 1.5 kB each


class Line(NamedTuple):
    """All that the list says of a server."""

    href: str
    console: str
    name: str
    tenant: str  # "" where all are of one
    locked: bool
    simulated: bool
    state: SafeString
    booted: str | None  # what runs, None when it does not
    entry: str | None  # what boots next, None without a menu of entries
    own_disk: bool
    pending: bool
    size: SafeString
    addresses: tuple[str, ...]
    last: str
    last_ago: SafeString | str


def lines(domus: Sequence[Domu], *, with_tenants: bool) -> tuple[list[SafeString], bool]:
    """The line of each server (of `listed`), and whether the state of one is passing by itself."""
    addresses: dict[UUID, tuple[str, ...]] = {}
    rows = Nic.objects.filter(domu__in=[domu.pk for domu in domus]).order_by("index")
    for domu_id, mac in rows.values_list("domu", "mac"):
        addresses[domu_id] = (*addresses.get(domu_id, ()), mac_text(mac))
    language, drawn, busy = get_language() or "", [], False
    for domu in domus:
        look, since = look_of(domu)
        busy = busy or look.moving
        entry = default_entry(domu.boot_json)
        line = Line(
            href=_address("server", domu.pk),
            console=_address("console", domu.pk),
            name=domu.name,
            tenant=str(domu.tenant) if with_tenants else "",
            locked=bool(domu.locked),
            simulated=domu.dom0.simulated,
            state=state_of(look, since),
            booted=domu.booted_label if look.runs and domu.booted_label else None,
            entry=entry["label"] if entry else None,
            own_disk=domu.boot_method == BootMethod.OWN_DISK,
            pending=domu.pending_change,
            size=size(domu),
            addresses=addresses.get(domu.pk, ()),
            last=domu.last_text or "",
            last_ago=ago(domu.last_at) if domu.last_at else "",
        )
        drawn.append(_drawn(line, language))
    return drawn, busy


def _address(name: str, pk: UUID) -> str:
    before, after = _around(name)
    return f"{before}{pk}{after}"


@cache
def _around(name: str) -> tuple[str, str]:
    """What stands before and after the key in this address of a server: to ask for each anew takes long."""
    nobody = UUID(int=0)
    before, _key, after = reverse(name, args=[nobody]).partition(str(nobody))
    return before, after


@lru_cache(maxsize=KEPT)
def _drawn(line: Line, language: str) -> SafeString:
    return get_template("domu/_line.html").render(line._asdict())
