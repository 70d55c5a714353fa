"""How a kernel's report is shown."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import Right, Tenant
from accounts.models.quota import size_text
from vps.models import DirectApproval, Domu, KernelVersion
from vps.xen.devices import BOOT_DISK_VDEV
from vps.xen.loaders import PVGRUB_PVH
from vps.xen.menu import modules_path

register = template.Library()

_PATHS = {
    "pvgrub": gettext_lazy("With a boot menu (pvgrub)"),
    PVGRUB_PVH: gettext_lazy("With a boot menu, PVH"),
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
_PARTS = {"ramdisk": gettext_lazy("Ramdisk"), "modules": gettext_lazy("Modules")}
_PART_FACTS = {
    "filename": gettext_lazy("File"),
    "holds": gettext_lazy("Holds"),
    "compression": gettext_lazy("Compression"),
    "files": gettext_lazy("Files"),
    "size": gettext_lazy("Size"),
    "unpacked_size": gettext_lazy("Unpacked"),
    "sha256": gettext_lazy("SHA-256"),
}
_COUNTED = frozenset({"files", "unpacked_size"})  # of an archive; a ramdisk's are not known
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


@register.filter
def beside(version: KernelVersion) -> list[tuple[str, str, list[tuple[str, str]], list[str]]]:
    """(part, its name, its facts, warnings) for what stands beside the kernel."""
    found = []
    for part, name in _PARTS.items():
        told = version.parts.get(part)
        if told and getattr(version, f"{part}_id"):
            rows = [
                (str(label), _value(key, told.get(key)))
                for key, label in _PART_FACTS.items()
                if key not in _COUNTED or told.get(key)
            ]
            if part == "modules":
                rows.insert(1, (_("Releases"), ", ".join(told.get("releases") or [])))
            found.append((part, str(name), [r for r in rows if r[1]], _part_warnings(version, part, told)))
    return found


def _part_warnings(version: KernelVersion, part: str, told: dict[str, Any]) -> list[str]:
    warnings = [str(text) for text in told.get("warnings") or []]
    release = str(version.report.get("release") or "")
    if part == "modules" and release and not any(name in release for name in told.get("releases") or []):
        warnings.append(
            _("The kernel is %(kernel)s, the modules are of %(modules)s: it will not load them.")
            % {"kernel": release, "modules": ", ".join(told.get("releases") or [])}
        )
    return warnings


@register.inclusion_tag("direct/_waiting.html")
def waiting_approvals() -> dict[str, Any]:
    """The questions of direct boot that wait for an operator, oldest first."""
    rows = DirectApproval.objects.waiting().select_related("version__kernel", "tenant", "asked_by")
    return {"approvals": list(rows.order_by("asked_at")[:50])}


@register.inclusion_tag("kernels/_next.html", takes_context=True)
def next_steps(context: dict[str, Any], version: KernelVersion) -> dict[str, Any]:
    """The servers into whose boot menus the person who looks may put a version that can boot."""
    user = context["user"]
    if version.state != KernelVersion.State.OK or version.deleted_at or not user.is_authenticated:
        return {"version": version, "domus": None}
    mine = [tenant for tenant in Tenant.objects.of(user) if tenant.allows(user, Right.OPERATE)]
    if version.kernel.tenant_id is not None:
        mine = [tenant for tenant in mine if tenant.pk == version.kernel.tenant_id]
    rows = Domu.objects.live().filter(tenant__in=mine).order_by("-created_at")
    return {"version": version, "domus": list(rows[:8]) if mine else None}


@register.filter
def modules_lines(version: KernelVersion) -> str:
    """What is typed in the server to take the modules from the boot disk."""
    if version.modules is None:
        return ""
    told = version.parts.get("modules") or {}
    netbsd = version.report.get("guest_os") == "NetBSD"
    mount = "mount -t ext2fs -o ro /dev/xbd1d /mnt" if netbsd else f"mount -o ro /dev/{BOOT_DISK_VDEV} /mnt"
    # An entry for lib itself would take the place of the link lib -> usr/lib; only GNU tar can be told not to.
    keep = " --keep-directory-symlink" if told.get("own_lib") and not netbsd else ""
    unpack = {"gzip": "-xzf", "xz": "-xJf", "zstd": "--zstd -xf"}.get(str(told.get("compression")), "-xf")
    lines = [mount, f"tar -C /{keep} {unpack} /mnt{modules_path(version.modules.ref())}", "umount /mnt"]
    if not netbsd:
        lines += [f"depmod -a {release}" for release in told.get("releases") or []]
    return "\n".join(lines)


def _value(key: str, value: object) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if key in _SIZES and isinstance(value, int):
        return size_text(value)
    return str(value)
