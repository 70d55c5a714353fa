"""The section on trial boots of a version's page."""

from __future__ import annotations

from typing import Any

from django import template

from vps.models import KernelVersion
from vps.models.trial import trial_rooms, untried
from vps.xen.description import GuestOS
from vps.xen.devices import default_arguments

register = template.Library()


@register.inclusion_tag("trial/_of_version.html", takes_context=True)
def trials_of(context: dict[str, Any], version: KernelVersion) -> dict[str, Any]:
    """A version's trials, and the button for another one where a dom0 is set aside."""
    name = str(version.report.get("guest_os") or "").lower()
    guest_os = GuestOS(name) if name in set(GuestOS) else GuestOS.OTHER
    bootable = version.state == KernelVersion.State.OK and bool(version.loader_path)
    return {
        "csrf_token": context.get("csrf_token"),
        "version": version,
        "trials": version.trials.select_related("operation", "by")[:10],
        "offered": bool(context.get("may_change"))
        and bootable
        and not version.deleted_at
        and trial_rooms().exists(),
        "demanded": untried(version) if bootable else "",
        "arguments": default_arguments(guest_os),
    }
