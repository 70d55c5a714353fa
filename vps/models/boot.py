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
from vps.xen.description import Boot, BootEntry, BootMethod, DomainType, GuestOS, OwnMenu
from vps.xen.lint import Finding, Guest, Host, lint
from vps.xen.loaders import PVGRUB_PVH, LoaderKind
from vps.xen.menu import grub_cfg, menu_lst
from vps.xen.messages import Verb
from vps.xen.names import NameRefused, check_arguments, check_title

OWN_MENU_TITLE = "Own menu on the first disk"


@dataclass(frozen=True)
class EntryDraft:
    """A line of a menu that somebody wants: not checked yet."""

    version: KernelVersion
    title: str
    arguments: str = ""


@dataclass(frozen=True)
class OwnMenuDraft:
    """A line that hands over to the menu on the server's own disk."""

    title: str = ""


Draft = EntryDraft | OwnMenuDraft


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

    @property
    def saved(self) -> Boot:
        return Boot.of(self.boot)


def next_serial(domu: Domu) -> int:
    """The number of the next menu: menus that were tried only have numbers too."""
    last = domu.menus.aggregate(last=models.Max("serial"))["last"] or 0
    return max(last, domu.menu_serial) + 1


def menu_type(domu: Domu, menu: BootMenu) -> DomainType:
    """What type of domain a saved menu needs. Raises Conflict when it cannot be booted any more."""
    method = BootMethod(menu.boot["method"])
    if method is BootMethod.OWN_DISK:
        return own_type(own_kind_of(menu.saved))
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


def kernels_of(drafts: Sequence[Draft]) -> list[EntryDraft]:
    """The lines that boot a kernel of Berth's."""
    return [draft for draft in drafts if isinstance(draft, EntryDraft)]


def draft_boot(
    domu: Domu,
    drafts: Sequence[Draft],
    method: BootMethod,
    default: int = 0,
    timeout: int = 5,
    own_kind: LoaderKind = LoaderKind.PV64,
) -> tuple[DomainType, Boot]:
    """The domain type and the boot of a menu, not saved. Raises Conflict with the reason.

    `own_kind` is the loader for the method OWN_DISK: nobody but the owner knows what stands on the disk.
    """
    if method is BootMethod.OWN_DISK:
        return _own_disk(domu, timeout, own_kind)
    if not drafts:
        raise Conflict(_("The menu is empty; add a kernel."))
    if not 0 <= default < len(drafts):
        raise Conflict(_("The default entry is not in the menu."))
    kernels = kernels_of(drafts)
    own_menu = _own_menu(domu, drafts, default)
    versions = [draft.version for draft in kernels]
    kind = _domain_type(domu, versions, method)
    entries = tuple(_entry(domu, draft, kind, method) for draft in kernels)
    if own_menu:
        default = 0 if own_menu.default else default - (own_menu.place < default)
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
        own_menu=own_menu,
    )
    return kind, boot


def _own_menu(domu: Domu, drafts: Sequence[Draft], default: int) -> OwnMenu | None:
    """The line that hands over. Raises Conflict for two, for one alone, and where the agent does not know it."""
    places = [place for place, draft in enumerate(drafts) if isinstance(draft, OwnMenuDraft)]
    if not places:
        return None
    if len(places) > 1:
        raise Conflict(_("The menu hands over to the server's own disk twice; once is enough."))
    if len(drafts) == 1:
        raise Conflict(
            _(
                "Handing over is all that this menu does; choose “I, inside the server” for that, or add a kernel."
            )
        )
    if not domu.dom0.can("own_menu"):
        raise Conflict(
            _("The agent of %(dom0)s cannot put a hand-over into a menu yet; update it.")
            % {"dom0": domu.dom0}
        )
    try:
        title = check_title(drafts[places[0]].title or OWN_MENU_TITLE)
    except NameRefused as error:
        raise Conflict(str(error)) from error
    return OwnMenu(title, places[0], default == places[0])


def lint_of(domu: Domu, kind: DomainType, boot: Boot, drafts: Sequence[Draft]) -> list[Finding]:
    """What there is to say of a boot on this server's dom0."""
    kernels = kernels_of(drafts) if boot.entries else []
    architectures = [draft.version.architecture for draft in kernels]
    if boot.method is BootMethod.OWN_DISK:
        architectures = ["x86_32" if own_kind_of(boot) is LoaderKind.PV32 else "x86_64"]
    disks = sorted(domu.disks.filter(purged_at=None).values_list("index", flat=True))
    return lint(
        boot,
        Guest(GuestOS(domu.guest_os), kind, disks, domu.memory_mib),
        Host.told(domu.dom0.name, domu.dom0.xen),
        architectures,
        [draft.version.purpose for draft in kernels],
    )


def _refuse(domu: Domu, kind: DomainType, boot: Boot, drafts: Sequence[Draft]) -> None:
    """Raises Conflict for what cannot boot on this server's dom0."""
    for finding in lint_of(domu, kind, boot, drafts):
        if finding.refused:
            raise Conflict(finding.text)


def save_menu(
    domu: Domu,
    drafts: Sequence[Draft],
    by: User | None,
    *,
    method: BootMethod = BootMethod.PVGRUB,
    default: int = 0,
    timeout: int = 5,
    own_kind: LoaderKind = LoaderKind.PV64,
    seen_serial: int | None = None,
) -> Operation:
    """Save a menu and have the dom0 prepare it. Raises Conflict; nothing is saved then.

    `seen_serial` is the serial of the menu that the person saw while editing.
    """
    with transaction.atomic():
        fresh = Domu.objects.select_for_update().get(pk=domu.pk)
        if seen_serial is not None and seen_serial != fresh.menu_serial:
            raise Conflict(_("Somebody else saved the menu meanwhile; look at it and save again."))
        kind, boot = draft_boot(fresh, drafts, method, default, timeout, own_kind)
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
    drafts: Sequence[Draft],
    by: User | None,
    *,
    method: BootMethod = BootMethod.PVGRUB,
    default: int = 0,
    timeout: int = 5,
    own_kind: LoaderKind = LoaderKind.PV64,
) -> BootMenu:
    """Keep a menu that is not in use, to be tried. Raises Conflict; nothing is saved then."""
    with transaction.atomic():
        fresh = Domu.objects.select_for_update().get(pk=domu.pk)
        kind, boot = draft_boot(fresh, drafts, method, default, timeout, own_kind)
        _refuse(fresh, kind, boot, drafts)
        return _write(fresh, drafts, boot, by)


def _write(domu: Domu, drafts: Sequence[Draft], boot: Boot, by: User | None) -> BootMenu:
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
        for i, (draft, entry) in enumerate(zip(kernels_of(drafts), boot.entries, strict=False))
    )
    return menu


def drafts_of(menu: BootMenu) -> list[Draft]:
    """The lines of a saved menu, to be drafted again."""
    own = menu.saved.own_menu
    rows = menu.entries.select_related(
        "version__kernel", "version__original", "version__plain", "version__ramdisk"
    )
    drafts: list[Draft] = [EntryDraft(row.version, row.title, row.arguments) for row in rows]
    if own:
        drafts.insert(own.place, OwnMenuDraft(own.title))
    return drafts


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
        pvh = all(version.path(PVGRUB_PVH) == "ok" for version in versions)
        if pv and not pvh and len({version.architecture for version in versions}) > 1:
            raise Conflict(
                _("The menu mixes 32-bit and 64-bit kernels; a loader reads one kind only. Keep one of them.")
            )
        pv = pv and len({version.architecture for version in versions}) == 1
    if pv:
        return DomainType.PV
    if pvh:
        return DomainType.PVH
    raise Conflict(_why_none(versions, method))


def _why_none(versions: Sequence[KernelVersion], method: BootMethod) -> str:
    """Why no domain type takes these kernels, with the cure where another method would take one."""
    direct = method is BootMethod.DIRECT
    paths = ("direct_pv", "direct_pvh") if direct else ("pvgrub", PVGRUB_PVH)
    said = [
        f"{version}: {version.path(paths[0] if version.pv or version.path(paths[0]) == 'ok' else paths[1])}"
        for version in versions
    ]
    if len(versions) == 1:
        return said[0]
    one_each = all(any(version.path(path) == "ok" for path in paths) for version in versions)
    if one_each:
        named = ", ".join(str(v) for v in versions if v.path(paths[0]) != "ok")
        return _(
            "These kernels cannot stand in one menu: %(pvh)s can start as PVH only, and not all others can. "
            "Keep one kind."
        ) % {"pvh": named}
    return _("These kernels cannot stand in one menu: %(why)s") % {"why": "; ".join(said)}


def _usable(domu: Domu, version: KernelVersion) -> bool:
    kernel = version.kernel
    return kernel.tenant_id == domu.tenant_id or (kernel.tenant_id is None and kernel.in_catalogue)


def _entry(domu: Domu, draft: EntryDraft, kind: DomainType, method: BootMethod) -> BootEntry:
    path = f"direct_{kind.value}"
    if method is BootMethod.PVGRUB:
        path = PVGRUB_PVH if kind is DomainType.PVH else "pvgrub"
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


def own_type(kind: LoaderKind) -> DomainType:
    """What the domain is for a loader that reads the menu on its own disk."""
    return DomainType.PVH if kind is LoaderKind.PVH else DomainType.PV


def own_kind_of(boot: Boot) -> LoaderKind:
    """The kind of the loader of a saved menu; the usual one where it is not known any more."""
    kinds = Loader.objects.filter(blob_id=boot.loader.sha256 if boot.loader else "")
    return LoaderKind(kinds.values_list("kind", flat=True).first() or LoaderKind.PV64)


def _own_disk(domu: Domu, timeout: int, kind: LoaderKind) -> tuple[DomainType, Boot]:
    loader = Loader.of_kind(kind, domu.dom0.simulated)
    if loader is None:
        raise Conflict(
            _("There is no loader of the kind “%(kind)s” on this installation yet; an operator can add one.")
            % {"kind": Loader.Kind(kind.value).label}
        )
    return own_type(kind), Boot(
        method=BootMethod.OWN_DISK, serial=next_serial(domu), timeout=timeout, loader=loader.blob.ref()
    )
