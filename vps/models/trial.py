"""Trial boots: a version booted once in a throw-away domain, its transcript and the verdict (vps.xen.judging)."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.ids import new_id
from accounts.models import Tenant, User
from vps.middleware import request_id
from vps.models.conflict import Conflict
from vps.models.dom0 import BOOT_DISK_MIB, Dom0
from vps.models.event import Event
from vps.models.kernel import KernelVersion, Loader
from vps.models.operation import Operation, State
from vps.xen import trial
from vps.xen.description import BootEntry, DomainType, GuestOS
from vps.xen.judging import GOOD
from vps.xen.lint import Host
from vps.xen.loaders import PVGRUB_PVH
from vps.xen.messages import Verb
from vps.xen.names import NameRefused, check_arguments, check_title


class TrialQuerySet(models.QuerySet["TrialBoot"]):
    def visible_to(self, user: User) -> TrialQuerySet:
        return self if user.is_operator else self.filter(tenant__memberships__user=user)


class TrialBoot(models.Model):
    """One trial. Its domain's uuid is the operation's id; open while `ended_at` is empty."""

    class Verdict(models.TextChoices):
        LOGIN = "login", gettext_lazy("It reached a login.")
        ROOT_PROMPT = "root_prompt", gettext_lazy("It came as far as its root, which a trial has none of.")
        PANICKED = "panicked", gettext_lazy("It panicked.")
        REFUSED = "refused", gettext_lazy("It was refused.")
        EXITED = "exited", gettext_lazy("It ended by itself.")
        SILENT = "silent", gettext_lazy("It said nothing.")
        UNDECIDED = "undecided", gettext_lazy("It said nothing that decides before the time was over.")

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    version = models.ForeignKey(KernelVersion, models.PROTECT, related_name="trials")
    tenant = models.ForeignKey(Tenant, models.PROTECT, null=True, blank=True, related_name="trials")
    dom0 = models.ForeignKey(Dom0, models.PROTECT, related_name="trials_there")
    operation = models.OneToOneField(Operation, models.PROTECT, related_name="trial")
    arguments = models.CharField(max_length=1024, blank=True)
    memory_mib = models.PositiveIntegerField()
    limit = models.PositiveIntegerField()  # seconds
    verdict = models.CharField(max_length=12, choices=Verdict.choices, blank=True)
    line = models.CharField(max_length=300, blank=True)
    transcript = models.TextField(blank=True)
    seconds = models.FloatField(null=True, blank=True)
    by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = TrialQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant"], condition=models.Q(ended_at=None), name="one_open_trial"
            )
        ]

    def __str__(self) -> str:
        return f"{self.version}: {self.verdict or self.operation.state}"

    @property
    def subject(self) -> str:
        """Its name in the ledger of its dom0's room."""
        return f"trial:{self.pk}"

    @property
    def is_open(self) -> bool:
        return self.ended_at is None

    @property
    def good(self) -> bool:
        return self.verdict in GOOD

    @property
    def sentence(self) -> str:
        """How it went, for people."""
        if self.is_open:
            return _("It is under way.")
        if not self.verdict:
            return self.operation.error_text or _("It came to nothing: %(state)s.") % {
                "state": self.operation.get_state_display()
            }
        return str(self.get_verdict_display())

    @classmethod
    def begin(cls, version: KernelVersion, by: User, arguments: str) -> TrialBoot:
        """Have a version tried. Raises Conflict with the reason why not."""
        from vps import dispatch

        tenant = version.kernel.tenant
        kind, guest_os = _fitting(version)
        try:
            arguments = check_arguments(arguments)
            title = check_title(str(version)[:60])
        except NameRefused as error:
            raise Conflict(str(error)) from error
        with transaction.atomic():
            if tenant is not None:
                _may_try(Tenant.objects.select_for_update().get(pk=tenant.pk))
            dom0, loader = _place(version, kind)
            blob = version.blob_for(version.loader_path)
            assert blob is not None
            ramdisk = version.ramdisk.ref() if version.ramdisk else None
            operation_id = new_id()
            made = trial.make(
                operation_id,
                kind=kind,
                guest_os=guest_os,
                loader=loader.blob.ref(),
                entry=BootEntry(title, blob.ref(), ramdisk, arguments, str(version)),
                memory_mib=settings.BERTH_TRIAL_MEMORY,
                seconds=settings.BERTH_TRIAL_SECONDS,
            )
            operation = Operation.objects.create(
                id=operation_id,
                dom0=dom0,
                lane=Operation.Lane.TRIAL,
                verb=Verb.TRIAL.value,
                body=made.as_body(),
                by=by,
                request_id=request_id.get(),
            )
            row = cls.objects.create(
                version=version,
                tenant=tenant,
                dom0=dom0,
                operation=operation,
                arguments=arguments,
                memory_mib=settings.BERTH_TRIAL_MEMORY,
                limit=settings.BERTH_TRIAL_SECONDS,
                by=by,
            )
            room = {"memory_mib": row.memory_mib, "disk_mib": BOOT_DISK_MIB}
            dom0.promise(room, row.subject, _("trial boot"))
            Event.record(
                "trial.begun",
                _("A trial boot of %(version)s was asked for") % {"version": version},
                actor=by,
                tenant=tenant,
                dom0=dom0,
                operation=operation,
            )
            transaction.on_commit(lambda: dispatch.send(operation))
        return row

    @classmethod
    def conclude(cls, operation: Operation) -> None:
        """Its operation has ended (also later than it was given up): keep what came of it, give the room back."""
        with transaction.atomic():
            row = (
                cls.objects.select_for_update().select_related("version").filter(operation=operation).first()
            )
            if row is None or operation.state not in _ENDED:
                return
            result = operation.result if isinstance(operation.result, dict) else {}
            row._take(result)
            first = row.ended_at is None
            row.ended_at = row.ended_at or timezone.now()
            row.save()
            # The transcript is kept once.
            Operation.objects.filter(pk=operation.pk).update(
                result={key: value for key, value in result.items() if key != "transcript"}
            )
            row.dom0.give_back(row.subject, _("the trial is over"))
            operation.result = {}
            row.operation = operation
            if first or row.verdict:
                Event.record(
                    "trial.ended",
                    _("Trial boot of %(version)s: %(sentence)s")
                    % {"version": row.version, "sentence": row.sentence},
                    tenant=row.tenant,
                    dom0=row.dom0,
                    operation=operation,
                    reason=row.line,
                )

    def _take(self, result: dict[str, Any]) -> None:
        """What a dom0 told, believed only in its form."""
        verdict = result.get("verdict")
        if verdict not in set(self.Verdict.values):
            return
        self.verdict = str(verdict)
        self.line = str(result.get("line") or "")[:300]
        self.transcript = str(result.get("transcript") or "")[: trial.TRANSCRIPT + 1000]
        seconds = result.get("seconds")
        self.seconds = float(seconds) if isinstance(seconds, (int, float)) else None

    def cancel(self, by: User) -> None:
        """Take it back, or ask the dom0 to end it. Raises Conflict when it has ended."""
        with transaction.atomic():
            operation = Operation.objects.select_for_update().get(pk=self.operation_id)
            if not operation.is_open:
                raise Conflict(_("The trial has ended already."))
            if operation.state == State.QUEUED and not operation.envelope:
                operation.move(State.CANCELLED, remains=_("Nothing was done."))
                TrialBoot.conclude(operation)
            else:
                operation.ask_to_leave()
            Event.record(
                "trial.cancel",
                _("The trial boot of %(version)s was cancelled") % {"version": self.version},
                actor=by,
                tenant=self.tenant,
                dom0=self.dom0,
                operation=operation,
            )


_ENDED = frozenset({State.DONE, State.FAILED, State.REFUSED, State.SUPERSEDED, State.CANCELLED, State.LOST})


def untried(version: KernelVersion) -> str:
    """Why a version may not be booted before it was tried; "" when it may. Only where the installation demands it.

    What no loader takes cannot be tried, and boots directly only with an operator's approval; what a server booted
    well has shown more than a trial shows.
    """
    if not settings.BERTH_TRIAL_DEMANDED or version.kernel.tenant_id is None or not version.loader_path:
        return ""
    if (
        version.trials.filter(verdict__in=sorted(GOOD)).exists()
        or version.boot_records.filter(well=True).exists()
    ):
        return ""
    return _("%(version)s was not tried yet, which this installation demands; its page has the button.") % {
        "version": version
    }


def trial_rooms() -> models.QuerySet[Dom0]:
    """The dom0s that operators have set aside for trials."""
    return Dom0.objects.filter(trials=True)


def _fitting(version: KernelVersion) -> tuple[DomainType, GuestOS]:
    if version.deleted_at:
        raise Conflict(_("The files of %(version)s were deleted.") % {"version": version})
    if version.state != KernelVersion.State.OK or not version.loader_path:
        why = version.reason or version.path("pvgrub" if version.pv else PVGRUB_PVH)
        raise Conflict(
            _("%(version)s cannot be tried, for the loader does not take it: %(why)s")
            % {"version": version, "why": why}
        )
    name = str(version.report.get("guest_os") or "").lower()
    guest_os = GuestOS(name) if name in set(GuestOS) else GuestOS.OTHER
    return DomainType.PVH if version.loader_path == PVGRUB_PVH else DomainType.PV, guest_os


def _may_try(tenant: Tenant) -> None:
    if tenant.suspended:
        raise Conflict(_("%(tenant)s is suspended: %(why)s") % {"tenant": tenant, "why": tenant.suspended})
    if not tenant.domus.filter(deleted_at=None).exists():
        raise Conflict(_("Kernels can be tried once you have a server; ask for one first."))
    if TrialBoot.objects.filter(tenant=tenant, ended_at=None).exists():
        raise Conflict(_("Another trial of yours is under way; wait until it has ended, or cancel it."))


def _place(version: KernelVersion, kind: DomainType) -> tuple[Dom0, Loader]:
    """The dom0 set aside that has most memory left, locked, and its loader. Raises Conflict."""
    set_aside = list(trial_rooms().select_for_update())
    if not set_aside:
        raise Conflict(_("No dom0 is set aside for trials; an operator can do that on a dom0's page."))
    why = ""
    found: list[tuple[int, Dom0, Loader]] = []
    for dom0 in set_aside:
        free = dom0.capacity()
        loader = Loader.for_kernel(
            pvh=kind is DomainType.PVH, architecture=version.architecture, simulated=dom0.simulated
        )
        if not dom0.heard_lately:
            why = _("%(dom0)s was not heard lately.")
        elif not dom0.xen:
            why = _("%(dom0)s runs without Xen at the moment.")
        elif kind is DomainType.PVH and not Host.told(dom0.name, dom0.xen).runs_pvh:
            why = _("%(dom0)s cannot run PVH guests.")
        elif Verb.TRIAL.value not in dom0.verbs:
            why = _("The agent of %(dom0)s does not know trials; update it.")
        elif loader is None:
            why = _("There is no loader for such kernels on %(dom0)s yet; an operator can add one.")
        elif free["memory_mib"]["free"] < settings.BERTH_TRIAL_MEMORY:
            why = _("%(dom0)s has no memory left for a trial; try again later.")
        elif free["disk_mib"]["free"] < BOOT_DISK_MIB:
            why = _("%(dom0)s has no disk left for a trial; try again later.")
        else:
            found.append((free["memory_mib"]["free"], dom0, loader))
            continue
        why = why % {"dom0": dom0.name}
    if not found:
        raise Conflict(why)
    _free, dom0, loader = max(found, key=lambda each: (each[0], each[1].name))
    return dom0, loader
