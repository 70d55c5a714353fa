"""What waits for an operator."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, models, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.ids import new_id
from accounts.models import Tenant, User
from accounts.models.quota import release, use
from vps.models.conflict import Conflict
from vps.models.disk import Disk
from vps.models.dom0 import Dom0
from vps.models.domu import Domu
from vps.models.event import Event
from vps.models.network import MacAddress, Nic
from vps.xen.description import GuestOS
from vps.xen.messages import Verb


class Size(models.Model):
    """A size that is offered. Changing one changes no server."""

    name = models.CharField(gettext_lazy("name"), max_length=40, unique=True)
    memory_mib = models.PositiveIntegerField(gettext_lazy("memory in MiB"))
    vcpus = models.PositiveSmallIntegerField(gettext_lazy("virtual cpus"))
    disk_mib = models.PositiveIntegerField(gettext_lazy("disk in MiB"))
    offered = models.BooleanField(default=True)

    class Meta:
        ordering = ["memory_mib", "disk_mib"]

    def __str__(self) -> str:
        return self.name


class RequestQuerySet(models.QuerySet["Request"]):
    def visible_to(self, user: User) -> RequestQuerySet:
        return self if user.is_operator else self.filter(tenant__memberships__user=user)

    def waiting(self) -> RequestQuerySet:
        return self.filter(state=Request.State.WAITING)


class Request(models.Model):
    """A customer asks for a server; an operator decides. While it waits it uses quota already."""

    class Kind(models.TextChoices):
        SERVER = "server", gettext_lazy("new server")

    class State(models.TextChoices):
        WAITING = "waiting", gettext_lazy("waiting for approval")
        APPROVED = "approved", gettext_lazy("approved")
        REFUSED = "refused", gettext_lazy("refused")
        WITHDRAWN = "withdrawn", gettext_lazy("withdrawn")
        EXPIRED = "expired", gettext_lazy("expired")

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    kind = models.CharField(max_length=12, choices=Kind.choices, default=Kind.SERVER)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="requests")
    by = models.ForeignKey(User, models.PROTECT, related_name="+")
    state = models.CharField(max_length=12, choices=State.choices, default=State.WAITING, db_index=True)
    name = models.CharField(gettext_lazy("name"), max_length=63)
    guest_os = models.CharField(
        gettext_lazy("guest system"), max_length=8, choices=[(os.value, os.value) for os in GuestOS]
    )
    memory_mib = models.PositiveIntegerField(gettext_lazy("memory in MiB"))
    vcpus = models.PositiveSmallIntegerField(gettext_lazy("virtual cpus"))
    disk_mib = models.PositiveIntegerField(gettext_lazy("disk in MiB"))
    why = models.CharField(gettext_lazy("what it is for"), max_length=500, blank=True)
    asked_at = models.DateTimeField(auto_now_add=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    words = models.CharField(gettext_lazy("words to the customer"), max_length=500, blank=True)
    domu = models.OneToOneField(Domu, models.PROTECT, null=True, blank=True, related_name="request")
    asked_size = models.JSONField(default=dict, blank=True)  # before an operator changed it

    objects = RequestQuerySet.as_manager()

    class Meta:
        ordering = ["asked_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["name"], condition=models.Q(state="waiting"), name="one_waiting_name"
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} for {self.tenant}: {self.state}"

    @property
    def subject(self) -> str:
        return f"request:{self.pk}"

    @property
    def size(self) -> dict[str, int]:
        return {"memory_mib": self.memory_mib, "vcpus": self.vcpus, "disk_mib": self.disk_mib}

    @classmethod
    def ask(cls, *, tenant: Tenant, by: User, **fields: Any) -> Request:
        """Ask for a server. Raises Conflict for a name that is taken, QuotaExceeded without room."""
        try:
            with transaction.atomic():
                if Domu.objects.live().filter(name=fields["name"]).exists():
                    raise Conflict(_taken(fields["name"]))
                request = cls.objects.create(tenant=tenant, by=by, **fields)
                use(tenant, request.use, request.subject, f"asked for {request.name}", by)
                Event.record(
                    "request.asked",
                    _("%(name)s was asked for") % {"name": request.name},
                    actor=by,
                    tenant=tenant,
                    reason=request.why,
                    after={**request.size, "guest_os": request.guest_os},
                )
        except IntegrityError as error:
            raise Conflict(_taken(fields["name"])) from error
        return request

    @property
    def use(self) -> dict[str, int]:
        """What it takes of the quota."""
        return {"servers": 1, **self.size}

    def approve(self, by: User, dom0: Dom0, *, words: str = "", size: dict[str, int] | None = None) -> Domu:
        """Make the server on `dom0`. Raises Conflict (already decided, own request), NoRoom, QuotaExceeded."""
        with transaction.atomic():
            self._decide(by, self.State.APPROVED, words)
            release(self.tenant, self.subject, "approved", by)
            if size is not None and size != self.size:
                self.asked_size = self.size
                self.memory_mib, self.vcpus = size["memory_mib"], size["vcpus"]
                self.disk_mib = size["disk_mib"]
            domu = Domu.objects.create(
                tenant=self.tenant,
                dom0=dom0,
                name=self.name,
                guest_os=self.guest_os,
                memory_mib=self.memory_mib,
                vcpus=self.vcpus,
            )
            use(self.tenant, self.use, domu.subject, f"{domu.name} was approved", by)
            dom0.place(self.memory_mib, self.vcpus, self.disk_mib, domu.subject, f"{domu.name} was placed")
            Disk.objects.create(domu=domu, index=0, size_mib=self.disk_mib)
            Nic.objects.create(domu=domu, mac=MacAddress.give(domu.pk), bridge=dom0.bridge)
            self.domu = domu
            self.save()
            Event.record(
                "request.approved",
                _("%(name)s was approved on %(dom0)s") % {"name": self.name, "dom0": dom0},
                actor=by,
                tenant=self.tenant,
                domu=domu,
                dom0=dom0,
                reason=words,
                before=self.asked_size,
                after=self.size,
            )
            domu.order(Verb.PREPARE, by)
        return domu

    def refuse(self, by: User, words: str) -> None:
        """Say no, with words. Raises Conflict when it was decided already."""
        with transaction.atomic():
            self._decide(by, self.State.REFUSED, words)
            self._close("request.refused", _("%(name)s was refused") % {"name": self.name}, by, words)

    def withdraw(self, by: User) -> None:
        """The customer changed their mind. Raises Conflict when it was decided already."""
        with transaction.atomic():
            self._move(by, self.State.WITHDRAWN, "")
            self._close("request.withdrawn", _("%(name)s was withdrawn") % {"name": self.name}, by, "")

    def _close(self, kind: str, text: str, by: User, words: str) -> None:
        release(self.tenant, self.subject, self.state, by)
        Event.record(kind, text, actor=by, tenant=self.tenant, reason=words)

    def _decide(self, by: User, state: str, words: str) -> None:
        if by.pk == self.by_id or self.tenant.role_of(by) is not None:
            raise Conflict(_("Nobody decides on a request of their own tenant; ask another operator."))
        self._move(by, state, words)

    def _move(self, by: User, state: str, words: str) -> None:
        moved = Request.objects.filter(pk=self.pk, state=self.State.WAITING).update(
            state=state, decided_by=by, decided_at=timezone.now(), words=words
        )
        self.refresh_from_db()
        if not moved:
            raise Conflict(
                _("%(who)s was first: the request was %(state)s already.")
                % {"who": self.decided_by or _("Somebody"), "state": self.get_state_display()}
            )


def _taken(name: str) -> str:
    return _("The name %(name)s is taken; choose another one.") % {"name": name}
