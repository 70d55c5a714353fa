"""Kernels: files by content, their versions and verdicts, uploads that resume, loaders."""

from __future__ import annotations

from typing import Any

from django.db import models, transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Least
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.ids import new_id
from accounts.models import Resource, Tenant, User
from accounts.models.quota import release, use
from vps.models.conflict import Conflict
from vps.models.event import Event
from vps.xen.description import BlobRef, GuestOS
from vps.xen.loaders import PVGRUB_PVH, LoaderKind, pv_kind, why_not_pvh
from vps.xen.reconcile import Observed


class Blob(models.Model):
    """A file by its content, in the storage under `name`. Shared by all that have the same bytes."""

    sha256 = models.CharField(primary_key=True, max_length=64)
    size = models.PositiveBigIntegerField()
    name = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)
    unneeded_since = models.DateTimeField(null=True, blank=True)  # vps.unneeded

    def __str__(self) -> str:
        return f"{self.sha256[:12]} ({self.size} bytes)"

    def ref(self) -> BlobRef:
        return BlobRef(self.sha256, self.size)


class Purpose(models.TextChoices):
    """What a kernel of the catalogue is for."""

    RUN = "run", gettext_lazy("to run servers")
    INSTALL = "install", gettext_lazy("to install a system")
    RESCUE = "rescue", gettext_lazy("to rescue a system")


class KernelQuerySet(models.QuerySet["Kernel"]):
    def visible_to(self, user: User) -> KernelQuerySet:
        """A tenant's own, and what the catalogue offers."""
        offered = models.Q(tenant=None, in_catalogue=True)
        mine = self.filter(offered | models.Q(tenant__memberships__user=user))
        return self if user.is_operator else mine.distinct()

    def usable_by(self, tenant: Tenant) -> KernelQuerySet:
        return self.filter(models.Q(tenant=tenant) | models.Q(tenant=None, in_catalogue=True))


class Kernel(models.Model):
    """A named line of kernel versions: a tenant's, or (without tenant) one of the catalogue."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(Tenant, models.PROTECT, null=True, blank=True, related_name="kernels")
    name = models.CharField(gettext_lazy("name"), max_length=63)
    in_catalogue = models.BooleanField(gettext_lazy("in the catalogue"), default=False)
    description = models.TextField(gettext_lazy("description"), max_length=2000, blank=True)
    guest_os = models.CharField(
        gettext_lazy("guest system"),
        max_length=8,
        choices=[(os.value, os.value) for os in GuestOS],
        blank=True,
    )
    purpose = models.CharField(
        gettext_lazy("purpose"), max_length=8, choices=Purpose.choices, default=Purpose.RUN
    )
    default_arguments = models.CharField(gettext_lazy("usual arguments"), max_length=1024, blank=True)
    deprecated = models.CharField(gettext_lazy("out of date because"), max_length=200, blank=True)
    successor = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=gettext_lazy("successor"),
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = KernelQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name"], name="one_kernel_name"),
            models.UniqueConstraint(
                fields=["name"], condition=models.Q(tenant=None), name="one_catalogue_name"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def change(self, by: User, **fields: Any) -> None:
        """Description, guest system, purpose, arguments, out of date and for what: with the event of it."""
        before = {name: _told(getattr(self, name)) for name in fields}
        after = {name: _told(value) for name, value in fields.items()}
        changed = [name for name in fields if before[name] != after[name]]
        if not changed:
            return
        with transaction.atomic():
            Kernel.objects.filter(pk=self.pk).update(**{name: fields[name] for name in changed})
            Event.record(
                "kernel.changed",
                _("%(kernel)s was described anew") % {"kernel": self},
                actor=by,
                tenant=self.tenant,
                before={name: before[name] for name in changed},
                after={name: after[name] for name in changed},
            )
        self.refresh_from_db()

    def offer(self, offered: bool, by: User) -> None:
        """Offer a kernel of the catalogue to everybody, or stop offering it."""
        with transaction.atomic():
            if not Kernel.objects.filter(pk=self.pk, in_catalogue=not offered).update(in_catalogue=offered):
                return
            self.in_catalogue = offered
            text = _("%(kernel)s is offered to everybody") if offered else _("%(kernel)s is offered no more")
            Event.record("kernel.catalogue", text % {"kernel": self}, actor=by, after={"offered": offered})


def _told(value: Any) -> str:
    return str(value.pk) if isinstance(value, models.Model) else str(value or "")


class KernelVersionQuerySet(models.QuerySet["KernelVersion"]):
    def installers(self) -> KernelVersionQuerySet:
        """The catalogue's installers that can boot, with their kernels."""
        offered = self.filter(
            kernel__tenant=None,
            kernel__in_catalogue=True,
            state=KernelVersion.State.OK,
            deleted_at=None,
            report__role="installer",
        )
        return offered.select_related("kernel").order_by("kernel__name", "-number")


class KernelVersion(models.Model):
    """One upload of a kernel, and what inspection said of it (`report`: vps.xen.inspect's JSON).

    It may carry a ramdisk and an archive of modules. Once it stood in a menu it is never changed: what comes later
    makes another version with the same kernel.
    """

    class State(models.TextChoices):
        INSPECTING = "inspecting", gettext_lazy("being inspected")
        OK = "ok", gettext_lazy("can boot")
        REFUSED = "refused", gettext_lazy("cannot boot")

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    kernel = models.ForeignKey(Kernel, models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=12, choices=State.choices, default=State.INSPECTING)
    filename = models.CharField(max_length=255)
    original = models.ForeignKey(Blob, models.PROTECT, null=True, blank=True, related_name="+")
    plain = models.ForeignKey(Blob, models.PROTECT, null=True, blank=True, related_name="+")
    ramdisk = models.ForeignKey(Blob, models.PROTECT, null=True, blank=True, related_name="+")
    modules = models.ForeignKey(Blob, models.PROTECT, null=True, blank=True, related_name="+")
    # For each part beside the kernel: its file name, and vps.xen.inspect.parts' report.
    parts = models.JSONField(default=dict, blank=True)
    made_from = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="+")
    report = models.JSONField(default=dict, blank=True)
    summary = models.CharField(max_length=500, blank=True)
    note = models.TextField(gettext_lazy("notes"), max_length=4000, blank=True)
    deprecated = models.CharField(gettext_lazy("out of date because"), max_length=200, blank=True)
    uploaded_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects = KernelVersionQuerySet.as_manager()

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["kernel", "number"], name="one_version_number")]

    def __str__(self) -> str:
        return f"{self.kernel.name} {self.number}"

    @property
    def subject(self) -> str:
        """Its name in the quota ledger."""
        return f"kernel-version:{self.pk}"

    @property
    def reason(self) -> str:
        """Why it was refused."""
        return str(self.report.get("reason") or "")

    def path(self, name: str) -> str:
        """`ok`, or why the path (pvgrub, pvgrub_pvh, direct_pv, direct_pvh) cannot boot it."""
        if name == PVGRUB_PVH:
            return why_not_pvh(self.report) or "ok"
        return str(self.report.get("paths", {}).get(name, _("It has not been inspected yet.")))

    def blob_for(self, path: str) -> Blob | None:
        """The file with which this path boots: the original, the plain ELF, or None."""
        if self.state != self.State.OK or self.path(path) != "ok":
            return None
        which = self.report.get("path_files", {}).get(path, "original")
        return self.plain if which == "plain" else self.original

    @property
    def loader_path(self) -> str:
        """The path through a loader, PV before PVH; "" when no loader starts it."""
        paths = ("pvgrub", PVGRUB_PVH) if self.pv else (PVGRUB_PVH,)
        return next((path for path in paths if self.path(path) == "ok"), "")

    @property
    def in_use(self) -> str:
        """Why it cannot be deleted, with the server that needs it; "" when none does.

        What a saved menu names that a server has or will get, what runs, what is tried or armed, and what a server
        booted well last: the way back.
        """
        from vps.models.boot_try import OPEN

        entry = self.boot_entries.filter(
            menu__domu__purged_at=None,
            menu__serial__gte=Least("menu__domu__menu_serial", "menu__domu__prepared_serial"),
        ).first()
        if entry is not None:
            return _("it stands in the boot menu of %(name)s; take it out there first.") % {
                "name": entry.menu.domu.name
            }
        runs = self.boot_records.filter(domu__purged_at=None)
        if (
            run := runs.filter(ended_at=None).exclude(domu__observed=Observed.GONE.value).first()
        ) is not None:
            return _("%(name)s runs it.") % {"name": run.domu.name}
        tried = self.boot_entries.filter(menu__tries__state__in=OPEN).first()
        if tried is not None:
            return _("%(name)s tries it, or boots it next.") % {"name": tried.menu.domu.name}
        newer = self.boot_records.model.objects.filter(
            domu=OuterRef("domu"), well=True, booted_at__gt=OuterRef("booted_at")
        )
        last_good = runs.filter(~Exists(newer), well=True, domu__deleted_at=None).first()
        if last_good is not None:
            return _("it is what %(name)s booted well last, and its way back.") % {
                "name": last_good.domu.name
            }
        return ""

    def change(self, by: User, *, note: str, deprecated: str) -> None:
        """Notes, and why it is out of date ("" when it is not)."""
        before = {"note": self.note, "deprecated": self.deprecated}
        after = {"note": note, "deprecated": deprecated}
        if before == after:
            return
        with transaction.atomic():
            KernelVersion.objects.filter(pk=self.pk).update(**after)
            Event.record(
                "kernel.changed",
                _("%(version)s was described anew") % {"version": self},
                actor=by,
                tenant=self.kernel.tenant,
                before=before,
                after=after,
            )
        self.refresh_from_db()

    @property
    def out_of_date(self) -> str:
        """Why it should not be taken for anything new; "" when it may."""
        return self.deprecated or self.kernel.deprecated

    @property
    def fixed(self) -> bool:
        """Whether it stood in a menu, so that its name must go on meaning what it meant there."""
        return self.boot_entries.exists()

    @property
    def blobs(self) -> list[Blob]:
        """The files that it is made of."""
        return [blob for blob in (self.original, self.plain, self.ramdisk, self.modules) if blob]

    def with_part(
        self, part: str, blob: Blob, filename: str, report: dict[str, Any], by: User
    ) -> KernelVersion:
        """Put a ramdisk or modules beside it; gives itself, or the new version where it may not be changed.

        Inside the transaction of the caller. Raises Conflict when it was deleted, or cannot boot.
        """
        kernel = Kernel.objects.select_for_update().get(pk=self.kernel_id)
        fresh = KernelVersion.objects.select_for_update().get(pk=self.pk)
        if fresh.deleted_at:
            raise Conflict(_("%(version)s was deleted; choose another version.") % {"version": fresh})
        if fresh.state != self.State.OK:
            raise Conflict(_("%(version)s cannot boot, so nothing can stand beside it.") % {"version": fresh})
        tenant = fresh.kernel.tenant
        if fresh.fixed or getattr(fresh, f"{part}_id"):
            old, kept = fresh.pk, [blob for blob in fresh.blobs if blob.pk != getattr(fresh, f"{part}_id")]
            last = kernel.versions.order_by("-number").values_list("number", flat=True).first() or 0
            fresh.pk, fresh._state.adding = new_id(), True
            fresh.number, fresh.made_from_id, fresh.uploaded_by = last + 1, old, by
            if tenant is not None:
                stored = sum(blob.size for blob in kept)
                # Both versions count what they hold: it stays when the other is deleted.
                use(tenant, {Resource.KERNELS: stored}, fresh.subject, str(fresh), by, over=True)
        setattr(fresh, part, blob)
        fresh.parts = {**fresh.parts, part: {"filename": filename, **report}}
        fresh.save()
        if tenant is not None:
            use(tenant, {Resource.KERNELS: blob.size}, fresh.subject, str(fresh), by, over=True)
        return fresh

    def delete_content(self, by: User) -> None:
        """Forget the files of this version; the row stays for what names it. Raises Conflict when in use."""
        with transaction.atomic():
            fresh = KernelVersion.objects.select_for_update().get(pk=self.pk)
            if fresh.deleted_at:
                return
            if why := fresh.in_use:
                raise Conflict(_("%(version)s cannot be deleted: %(why)s") % {"version": fresh, "why": why})
            fresh.deleted_at = timezone.now()
            fresh.save(update_fields=["deleted_at"])
            if fresh.kernel.tenant is not None:
                release(fresh.kernel.tenant, fresh.subject, "deleted", by)
            Event.record(
                "kernel.deleted",
                _("%(version)s was deleted") % {"version": fresh},
                actor=by,
                tenant=fresh.kernel.tenant,
            )
        self.refresh_from_db()

    @property
    def purpose(self) -> str:
        """`install` or `rescue` where that is what it is for, else "": an operator's word, or inspection's."""
        if self.kernel.purpose != Purpose.RUN:
            return str(self.kernel.purpose)
        return Purpose.INSTALL.value if self.report.get("role") == "installer" else ""

    @property
    def architecture(self) -> str:
        return str(self.report.get("architecture") or "")

    @property
    def pv(self) -> bool:
        return bool(self.report.get("pv"))

    @property
    def pvh(self) -> bool:
        return bool(self.report.get("pvh"))


class KernelConfiguration(models.Model):
    """The configuration that a kernel carries in itself, one option a line: large, and read seldom."""

    version = models.OneToOneField(
        KernelVersion, models.CASCADE, primary_key=True, related_name="configuration"
    )
    lines = models.TextField()

    def __str__(self) -> str:
        return f"configuration of {self.version}"


class Upload(models.Model):
    """A file on its way in, piece by piece; `offset` bytes are safe, in the staging file or in `pieces`.

    A kernel becomes a version when it is complete. Any other `part` goes `onto` a version once it was inspected.
    """

    class State(models.TextChoices):
        OPEN = "open", gettext_lazy("in progress")
        INSPECTING = "inspecting", gettext_lazy("being inspected")
        DONE = "done", gettext_lazy("complete")
        FAILED = "failed", gettext_lazy("failed")

    class Part(models.TextChoices):
        KERNEL = "kernel", gettext_lazy("kernel")
        RAMDISK = "ramdisk", gettext_lazy("ramdisk")
        MODULES = "modules", gettext_lazy("modules")

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(Tenant, models.PROTECT, null=True, blank=True, related_name="uploads")
    user = models.ForeignKey(User, models.CASCADE, related_name="+")
    part = models.CharField(max_length=8, choices=Part.choices, default=Part.KERNEL)
    onto = models.ForeignKey(
        KernelVersion, models.CASCADE, null=True, blank=True, related_name="part_uploads"
    )
    token = models.ForeignKey(
        "vps.UploadToken", models.SET_NULL, null=True, blank=True, related_name="uploads"
    )
    kernel_name = models.CharField(max_length=63)
    filename = models.CharField(max_length=255)
    size = models.PositiveBigIntegerField()
    offset = models.PositiveBigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True)  # as the sender said, if they did
    state = models.CharField(max_length=12, choices=State.choices, default=State.OPEN)
    error = models.CharField(max_length=500, blank=True)
    version = models.ForeignKey(KernelVersion, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    touched_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.filename}: {self.offset} of {self.size} bytes"


class UploadPiece(models.Model):
    """A piece of an upload that waits in a storage of objects (vps.pieces)."""

    upload = models.ForeignKey(Upload, models.CASCADE, related_name="pieces")
    offset = models.PositiveBigIntegerField()
    size = models.PositiveBigIntegerField()
    name = models.CharField(max_length=100)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["upload", "offset"], name="one_piece_at_an_offset")]

    def __str__(self) -> str:
        return self.name


class Loader(models.Model):
    """A pvgrub image. `build` says what it was made of; a placeholder is taken by simulated dom0s only."""

    class Kind(models.TextChoices):
        PV64 = LoaderKind.PV64.value, "PV, 64 bit"
        PV32 = LoaderKind.PV32.value, "PV, 32 bit"
        PVH = LoaderKind.PVH.value, "PVH"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    kind = models.CharField(max_length=6, choices=Kind.choices)
    blob = models.ForeignKey(Blob, models.PROTECT, related_name="+")
    version = models.CharField(max_length=80)
    build: Any = models.JSONField(default=dict, blank=True)
    simulated = models.BooleanField(default=False)
    current = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "simulated"],
                condition=models.Q(current=True),
                name="one_current_loader",
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.version}"

    @classmethod
    def add(cls, kind: str, blob: Blob, version: str, build: dict[str, Any]) -> tuple[Loader, bool]:
        """Add a loader for real dom0s and make it the one in use; (it, False) when it is in use already.

        Servers get it with their next prepare; what they have goes on working.
        """
        with transaction.atomic():
            found = cls.objects.filter(kind=kind, simulated=False, current=True).first()
            if found and found.blob_id == blob.pk:
                return found, False
            cls.objects.filter(kind=kind, simulated=False, current=True).update(current=False)
            made = cls.objects.create(kind=kind, blob=blob, version=version[:80], build=build)
            Event.record("loader.added", _("The loader %(loader)s was added") % {"loader": made}, after=build)
        return made, True

    @classmethod
    def for_kernel(cls, *, pvh: bool, architecture: str, simulated: bool) -> Loader | None:
        """The loader in use for kernels of this kind."""
        return cls.of_kind(LoaderKind.PVH if pvh else pv_kind(architecture), simulated)

    @classmethod
    def of_kind(cls, kind: LoaderKind, simulated: bool) -> Loader | None:
        """The loader of a kind that is in use; a simulated dom0 takes a real one as well."""
        found = cls.objects.filter(kind=kind.value, current=True)
        if not simulated:
            found = found.filter(simulated=False)
        return found.order_by("simulated" if not simulated else "-simulated").first()
