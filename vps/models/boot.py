"""What a server boots: entries, saved menus and their history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import models, transaction
from django.utils.translation import gettext as _

from accounts.ids import new_id
from accounts.models import User
from vps.models.conflict import Conflict
from vps.models.direct_approval import why_not_directly
from vps.models.domu import Domu
from vps.models.event import Event
from vps.models.kernel import KernelVersion, Loader
from vps.models.operation import Operation
from vps.models.trial import untried
from vps.xen.description import Boot, BootEntry, BootMethod, DomainType, GuestOS
from vps.xen.lint import Finding, Guest, Host, lint
from vps.xen.menu import grub_cfg, menu_lst
from vps.xen.messages import Verb
from vps.xen.names import NameRefused, check_arguments, check_title


@dataclass(frozen=True)
class EntryDraft:
    """A line of a menu that somebody wants: not checked yet."""

    version: KernelVersion
    title: str
    arguments: str = ""


class BootMenu(models.Model):
    """A menu as it was saved: `boot` is vps.xen.description.Boot as JSON. Rows are never changed."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    domu = models.ForeignKey(Domu, models.PROTECT, related_name="menus")
    serial = models.PositiveBigIntegerField()
    boot = models.JSONField()
    menu_lst = models.TextField(blank=True)
    grub_cfg = models.TextField(blank=True)
    by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-serial"]
        constraints = [models.UniqueConstraint(fields=["domu", "serial"], name="one_menu_serial")]

    def __str__(self) -> str:
        return f"{self.domu} menu {self.serial}"


def next_serial(domu: Domu) -> int:
    """The number of the next menu: menus that were tried only have numbers too."""
    last = domu.menus.aggregate(last=models.Max("serial"))["last"] or 0
    return max(last, domu.menu_serial) + 1


def menu_type(domu: Domu, menu: BootMenu) -> DomainType:
    """What type of domain a saved menu needs. Raises Conflict when it cannot be booted any more."""
    method = BootMethod(menu.boot["method"])
    if method is BootMethod.OWN_DISK:
        return DomainType(domu.type)
    rows = menu.entries.select_related("version__kernel", "version__original", "version__plain")
    return _domain_type(domu, [row.version for row in rows], method)


class BootEntryRow(models.Model):
    """A line of a saved menu, so that one can ask where a kernel version is used."""

    menu = models.ForeignKey(BootMenu, models.CASCADE, related_name="entries")
    position = models.PositiveSmallIntegerField()
    version = models.ForeignKey(KernelVersion, models.PROTECT, related_name="boot_entries")
    title = models.CharField(max_length=60)
    arguments = models.CharField(max_length=1024, blank=True)

    class Meta:
        ordering = ["position"]

    def __str__(self) -> str:
        return self.title


def draft_boot(
    domu: Domu, drafts: Sequence[EntryDraft], method: BootMethod, default: int = 0, timeout: int = 5
) -> tuple[DomainType, Boot]:
    """The domain type and the boot of a menu, not saved. Raises Conflict with the reason."""
    if method is BootMethod.OWN_DISK:
        return _own_disk(domu, timeout)
    if not drafts:
        raise Conflict(_("The menu is empty; add a kernel."))
    if not 0 <= default < len(drafts):
        raise Conflict(_("The default entry is not in the menu."))
    versions = [draft.version for draft in drafts]
    kind = _domain_type(domu, versions, method)
    entries = tuple(_entry(domu, draft, kind, method) for draft in drafts)
    loader = None
    if method is BootMethod.PVGRUB:
        loader = _loader(domu, versions, kind)
    boot = Boot(
        method=method,
        serial=next_serial(domu),
        entries=entries,
        default=default,
        timeout=timeout,
        loader=loader.blob.ref() if loader else None,
    )
    return kind, boot


def lint_of(domu: Domu, kind: DomainType, boot: Boot, architectures: Sequence[str]) -> list[Finding]:
    """What there is to say of a boot on this server's dom0."""
    xen = domu.dom0.xen or {}
    disks = sorted(domu.disks.filter(purged_at=None).values_list("index", flat=True))
    return lint(
        boot,
        Guest(GuestOS(domu.guest_os), kind, disks, domu.memory_mib),
        Host(domu.dom0.name, tuple(xen.get("caps", ())), tuple(xen.get("virt_caps", ()))),
        architectures,
    )


def _refuse(domu: Domu, kind: DomainType, boot: Boot, drafts: Sequence[EntryDraft]) -> None:
    """Raises Conflict for what cannot boot on this server's dom0."""
    for finding in lint_of(domu, kind, boot, [draft.version.architecture for draft in drafts]):
        if finding.refused:
            raise Conflict(finding.text)


def save_menu(
    domu: Domu,
    drafts: Sequence[EntryDraft],
    by: User | None,
    *,
    method: BootMethod = BootMethod.PVGRUB,
    default: int = 0,
    timeout: int = 5,
    seen_serial: int | None = None,
) -> Operation:
    """Save a menu and have the dom0 prepare it. Raises Conflict; nothing is saved then.

    `seen_serial` is the serial of the menu that the person saw while editing.
    """
    with transaction.atomic():
        fresh = Domu.objects.select_for_update().get(pk=domu.pk)
        if seen_serial is not None and seen_serial != fresh.menu_serial:
            raise Conflict(_("Somebody else saved the menu meanwhile; look at it and save again."))
        kind, boot = draft_boot(fresh, drafts, method, default, timeout)
        _refuse(fresh, kind, boot, drafts)
        _write(fresh, drafts, boot, by)
        before = {"menu_serial": fresh.menu_serial, "type": fresh.type, "boot_method": fresh.boot_method}
        fresh.menu_serial, fresh.type, fresh.boot_method = boot.serial, kind.value, method.value
        fresh.save(update_fields=["menu_serial", "type", "boot_method"])
        Event.record(
            "boot.saved",
            _("The boot menu of %(name)s was saved") % {"name": fresh.name},
            actor=by,
            tenant=fresh.tenant,
            domu=fresh,
            dom0=fresh.dom0,
            before=before,
            after={"menu_serial": boot.serial, "type": kind.value, "boot_method": method.value},
        )
        operation = fresh.order(Verb.PREPARE, by)
    domu.refresh_from_db()
    return operation


def keep_menu(
    domu: Domu,
    drafts: Sequence[EntryDraft],
    by: User | None,
    *,
    method: BootMethod = BootMethod.PVGRUB,
    default: int = 0,
    timeout: int = 5,
) -> BootMenu:
    """Keep a menu that is not in use, to be tried. Raises Conflict; nothing is saved then."""
    with transaction.atomic():
        fresh = Domu.objects.select_for_update().get(pk=domu.pk)
        kind, boot = draft_boot(fresh, drafts, method, default, timeout)
        _refuse(fresh, kind, boot, drafts)
        return _write(fresh, drafts, boot, by)


def _write(domu: Domu, drafts: Sequence[EntryDraft], boot: Boot, by: User | None) -> BootMenu:
    direct = boot.method is BootMethod.DIRECT
    menu = BootMenu.objects.create(
        domu=domu,
        serial=boot.serial,
        boot=boot.as_dict(),
        menu_lst="" if direct else menu_lst(boot),
        grub_cfg="" if direct else grub_cfg(boot),
        by=by,
    )
    BootEntryRow.objects.bulk_create(
        BootEntryRow(
            menu=menu, position=i, version=draft.version, title=entry.title, arguments=entry.arguments
        )
        for i, (draft, entry) in enumerate(zip(drafts, boot.entries, strict=False))
    )
    return menu


def drafts_of(menu: BootMenu) -> list[EntryDraft]:
    """The lines of a saved menu, to be drafted again."""
    rows = menu.entries.select_related(
        "version__kernel", "version__original", "version__plain", "version__ramdisk"
    )
    return [EntryDraft(row.version, row.title, row.arguments) for row in rows]


def _domain_type(domu: Domu, versions: Sequence[KernelVersion], method: BootMethod) -> DomainType:
    for version in versions:
        if version.state != KernelVersion.State.OK:
            raise Conflict(
                _("%(version)s cannot be booted: %(why)s")
                % {"version": version, "why": version.reason or version.get_state_display()}
            )
        if version.deleted_at or not _usable(domu, version):
            raise Conflict(_("%(version)s is not among your kernels.") % {"version": version})
        if why := untried(version):
            raise Conflict(why)
    if method is BootMethod.DIRECT:
        for version in versions:
            if why := why_not_directly(version):
                raise Conflict(why)
        pv = all(version.path("direct_pv") == "ok" for version in versions)
        pvh = all(version.path("direct_pvh") == "ok" for version in versions)
    else:
        pv = all(version.pv and version.path("pvgrub") == "ok" for version in versions)
        pvh = all(version.pvh and version.path("pvgrub") == "ok" for version in versions)
    if len({version.architecture for version in versions}) > 1 and method is BootMethod.PVGRUB:
        raise Conflict(
            _("The menu mixes 32-bit and 64-bit kernels; a loader reads one kind only. Keep one of them.")
        )
    if pv:
        return DomainType.PV
    if pvh:
        return DomainType.PVH
    raise Conflict(
        _("These kernels cannot stand in one menu: %(why)s")
        % {"why": "; ".join(f"{version}: {version.path('pvgrub')}" for version in versions)}
    )


def _usable(domu: Domu, version: KernelVersion) -> bool:
    kernel = version.kernel
    return kernel.tenant_id == domu.tenant_id or (kernel.tenant_id is None and kernel.in_catalogue)


def _entry(domu: Domu, draft: EntryDraft, kind: DomainType, method: BootMethod) -> BootEntry:
    path = "pvgrub" if method is BootMethod.PVGRUB else f"direct_{kind.value}"
    blob = draft.version.blob_for(path)
    if blob is None:
        raise Conflict(f"{draft.version}: {draft.version.path(path)}")
    try:
        return BootEntry(
            title=check_title(draft.title or str(draft.version)),
            kernel=blob.ref(),
            ramdisk=draft.version.ramdisk.ref() if draft.version.ramdisk else None,
            arguments=check_arguments(draft.arguments),
            label=str(draft.version),
            modules=draft.version.modules.ref() if draft.version.modules else None,
        )
    except NameRefused as error:
        raise Conflict(str(error)) from error


def _loader(domu: Domu, versions: Sequence[KernelVersion], kind: DomainType) -> Loader:
    loader = Loader.for_kernel(
        pvh=kind is DomainType.PVH,
        architecture=versions[0].architecture,
        simulated=domu.dom0.simulated,
    )
    if loader is None:
        raise Conflict(
            _("There is no loader for %(arch)s kernels of this kind yet; an operator can add one.")
            % {"arch": versions[0].architecture}
        )
    return loader


def _own_disk(domu: Domu, timeout: int) -> tuple[DomainType, Boot]:
    loader = Loader.for_kernel(
        pvh=domu.type == DomainType.PVH, architecture="x86_64", simulated=domu.dom0.simulated
    )
    if loader is None:
        raise Conflict(_("There is no loader on this installation yet; an operator can add one."))
    return DomainType(domu.type), Boot(
        method=BootMethod.OWN_DISK, serial=next_serial(domu), timeout=timeout, loader=loader.blob.ref()
    )
