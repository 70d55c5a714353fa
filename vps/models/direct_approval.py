"""Direct boot of an upload: libxenguest parses it in the dom0, so that an operator's approval is needed.

An approval is bound to a tenant and to the content: the sums of kernel and ramdisk. What is approved is known by sums
alone, so that a version that is made again of the same files needs no second one, and another ramdisk needs its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.db import IntegrityError, models, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.ids import new_id
from accounts.models import Tenant, User
from vps.models.conflict import Conflict
from vps.models.event import Event
from vps.models.kernel import KernelVersion
from vps.xen.description import Boot, BootEntry, BootMethod


class DirectApprovalQuerySet(models.QuerySet["DirectApproval"]):
    def visible_to(self, user: User) -> DirectApprovalQuerySet:
        """Operators see all, members their tenants'."""
        return self if user.is_operator else self.filter(tenant__memberships__user=user)

    def waiting(self) -> DirectApprovalQuerySet:
        return self.filter(state=DirectApproval.State.WAITING)

    def holding(self) -> DirectApprovalQuerySet:
        return self.filter(state=DirectApproval.State.APPROVED)


class DirectApproval(models.Model):
    """One question whether a tenant may boot a kernel and ramdisk directly, and its answer."""

    class State(models.TextChoices):
        WAITING = "waiting", gettext_lazy("waiting")
        APPROVED = "approved", gettext_lazy("approved")
        REFUSED = "refused", gettext_lazy("refused")
        REVOKED = "revoked", gettext_lazy("taken back")

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="direct_approvals")
    version = models.ForeignKey(KernelVersion, models.PROTECT, related_name="direct_approvals")
    original_sha256 = models.CharField(max_length=64)
    plain_sha256 = models.CharField(max_length=64, blank=True)
    ramdisk_sha256 = models.CharField(max_length=64, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    words = models.CharField(gettext_lazy("what for"), max_length=500, blank=True)
    asked_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    asked_at = models.DateTimeField(auto_now_add=True)
    answer = models.CharField(gettext_lazy("words to the customer"), max_length=500, blank=True)
    decided_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    decided_at = models.DateTimeField(null=True, blank=True)
    revoked_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_why = models.CharField(max_length=500, blank=True)

    objects = DirectApprovalQuerySet.as_manager()

    class Meta:
        ordering = ["-asked_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "original_sha256", "ramdisk_sha256"],
                condition=models.Q(state__in=["waiting", "approved"]),
                name="one_direct_approval",
            )
        ]

    def __str__(self) -> str:
        return f"{self.version} for {self.tenant}: {self.state}"

    @classmethod
    def ask(cls, version: KernelVersion, by: User, words: str) -> DirectApproval:
        """Ask that the tenant of `version` may boot it directly. Raises Conflict."""
        tenant, original = version.kernel.tenant, version.original
        if tenant is None or original is None or version.deleted_at:
            raise Conflict(_("%(version)s needs no approval.") % {"version": version})
        if "ok" not in (version.path("direct_pv"), version.path("direct_pvh")):
            raise Conflict(
                _("%(version)s cannot boot directly: %(why)s")
                % {"version": version, "why": version.path("direct_pv")}
            )
        try:
            with transaction.atomic():
                made = cls.objects.create(
                    tenant=tenant,
                    version=version,
                    original_sha256=original.pk,
                    plain_sha256=version.plain_id or "",
                    ramdisk_sha256=version.ramdisk_id or "",
                    words=words,
                    asked_by=by,
                )
                made._record("direct.asked", _("Direct boot of %(version)s was asked for"), by, words)
        except IntegrityError as error:
            raise Conflict(_("It was asked for already; look at what stands there.")) from error
        return made

    def decide(self, by: User, approved: bool, answer: str = "") -> None:
        """Raises Conflict for a member of the tenant, and when somebody else was first."""
        self._check_decider(by)
        state = self.State.APPROVED if approved else self.State.REFUSED
        text = (
            _("Direct boot of %(version)s was approved")
            if approved
            else _("Direct boot of %(version)s was refused")
        )
        with transaction.atomic():
            self._move(
                self.State.WAITING, state, decided_by=by, decided_at=timezone.now(), answer=answer[:500]
            )
            self._record(f"direct.{state.value}", text, by, answer)

    def revoke(self, by: User, why: str) -> None:
        """What runs goes on; it is not started again. Raises Conflict."""
        self._check_decider(by)
        with transaction.atomic():
            self._move(
                self.State.APPROVED,
                self.State.REVOKED,
                revoked_by=by,
                revoked_at=timezone.now(),
                revoked_why=why[:500],
            )
            self._record(
                "direct.revoked", _("The approval of direct boot of %(version)s was taken back"), by, why
            )

    def _check_decider(self, by: User) -> None:
        if self.tenant.role_of(by) is not None or by.pk == self.asked_by_id:
            raise Conflict(_("Nobody decides for their own tenant; ask another operator."))

    def _move(self, before: str, state: str, **fields: object) -> None:
        moved = DirectApproval.objects.filter(pk=self.pk, state=before).update(state=state, **fields)
        self.refresh_from_db()
        if not moved:
            raise Conflict(
                _("%(who)s was first: it is %(state)s already.")
                % {
                    "who": self.revoked_by or self.decided_by or _("Somebody"),
                    "state": self.get_state_display(),
                }
            )

    def _record(self, kind: str, text: str, by: User, reason: str) -> None:
        Event.record(
            kind,
            text % {"version": self.version},
            actor=by,
            tenant=self.tenant,
            reason=reason[:500],
            after={"kernel": self.original_sha256, "ramdisk": self.ramdisk_sha256},
        )


def may_boot_directly(tenant: Tenant, kernel: str, ramdisk: str) -> bool:
    """Whether these contents (sums; "" for no ramdisk) may be built by a dom0 for a tenant.

    Those of the catalogue may, also when they are offered no more: what boots them goes on.
    """
    of_kernel = models.Q(original_id=kernel) | models.Q(plain_id=kernel)
    catalogue = KernelVersion.objects.filter(
        of_kernel, kernel__tenant=None, state=KernelVersion.State.OK, ramdisk_id=ramdisk or None
    )
    approved = DirectApproval.objects.holding().filter(
        models.Q(original_sha256=kernel) | models.Q(plain_sha256=kernel),
        tenant=tenant,
        ramdisk_sha256=ramdisk,
    )
    return approved.exists() or catalogue.exists()


def not_approved(tenant: Tenant, boot: Boot) -> list[BootEntry]:
    """The entries of a direct boot that may not be booted so, for want of an approval."""
    if boot.method is not BootMethod.DIRECT:
        return []
    return [
        entry
        for entry in boot.entries
        if not may_boot_directly(tenant, entry.kernel.sha256, entry.ramdisk.sha256 if entry.ramdisk else "")
    ]


def wanted_unapproved(tenant: Tenant, body: Mapping[str, Any]) -> list[BootEntry]:
    """As `not_approved`, of what an order would have a dom0 build: its description, and what it tries."""
    asked = [body.get("domu") or {}, body.get("try") or {}]
    return [
        entry for part in asked if "boot" in part for entry in not_approved(tenant, Boot.of(part["boot"]))
    ]


def refusal_of(wanting: list[BootEntry]) -> str:
    """What is said of entries that `not_approved` found."""
    return _("%(kernel)s may not boot directly: an operator has to approve it. Ask for it on its page.") % {
        "kernel": wanting[0].label or wanting[0].title
    }


def as_approved(tenant: Tenant, boot: Boot) -> Boot:
    """The boot as a dom0 may be told: with nothing to boot where an approval is wanting."""
    return replace(boot, entries=(), default=0) if not_approved(tenant, boot) else boot


def why_not_directly(version: KernelVersion) -> str:
    """Why a version may not be booted directly; "" when it may. For menus that are being made."""
    tenant = version.kernel.tenant
    if tenant is None:
        if version.kernel.in_catalogue:
            return ""
        return _("%(version)s is offered no more.") % {"version": version}
    if may_boot_directly(tenant, version.original_id or "", version.ramdisk_id or ""):
        return ""
    return _(
        "%(version)s is an upload; an operator has to approve that it boots directly. Ask for it on its page."
    ) % {"version": version}
