"""How a kernel's report is shown."""

from __future__ import annotations

from django import template
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models.quota import size_text
from vps.models import KernelVersion

register = template.Library()

_PATHS = {
    "pvgrub": gettext_lazy("With a boot menu (pvgrub)"),
    "direct_pv": gettext_lazy("Directly, PV"),
    "direct_pvh": gettext_lazy("Directly, PVH"),
}
_FACTS = {
    "guest_os": gettext_lazy("Guest system"),
    "release": gettext_lazy("Release"),
    "configuration": gettext_lazy("Configuration"),
    "role": gettext_lazy("Made for"),
    "architecture": gettext_lazy("Architecture"),
    "format": gettext_lazy("Format"),
    "compression": gettext_lazy("Compression"),
    "guest_type": gettext_lazy("Xen's word for it"),
    "pae": gettext_lazy("PAE"),
    "pv": gettext_lazy("PV"),
    "pvh": gettext_lazy("PVH"),
    "size": gettext_lazy("Size"),
    "unpacked_size": gettext_lazy("Unpacked"),
    "sha256": gettext_lazy("SHA-256"),
}
_SIZES = frozenset({"size", "unpacked_size"})


@register.filter
def paths(version: KernelVersion) -> list[tuple[str, str, bool]]:
    """(name, word, whether it can) for each way to boot."""
    words = {key: version.path(key) for key in _PATHS}
    same = _("no, for the reason above")
    return [
        (str(name), same if words[key] == version.reason else words[key], words[key] == "ok")
        for key, name in _PATHS.items()
    ]


@register.filter
def facts(version: KernelVersion) -> list[tuple[str, str]]:
    """(name, value) of what inspection found; what is not known is left out."""
    rows = [(str(name), _value(key, version.report.get(key))) for key, name in _FACTS.items()]
    features = version.report.get("features") or {}
    if isinstance(features, dict):
        rows += [(key, _value(key, value)) for key, value in features.items()]
    return [(name, value) for name, value in rows if value]


def _value(key: str, value: object) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if key in _SIZES and isinstance(value, int):
        return size_text(value)
    return str(value)
