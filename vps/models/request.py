"""What waits for an operator: a new server, a larger size, more quota."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.ids import new_id
from accounts.mail import send
from accounts.models import Resource, Tenant, User
from accounts.models.quota import grant, named, release, use
from vps.models.boot import EntryDraft, save_menu
from vps.models.conflict import Conflict
from vps.models.disk import Disk
from vps.models.dom0 import Dom0
from vps.models.domu import Domu
from vps.models.event import Event
from vps.models.kernel import KernelVersion
from vps.models.network import MacAddress, Nic
from vps.models.operation import Operation
from vps.models.size import more_than_held, resize
from vps.xen.description import BootMethod, GuestOS
from vps.xen.devices import installer_arguments
from vps.xen.messages import Verb

# Which amounts a request of each kind has.
AMOUNTS: dict[str, tuple[str, ...]] = {
    "server": ("servers", "memory_mib", "vcpus", "disk_mib"),
    "resize": ("memory_mib", "vcpus"),
    "quota": tuple(Resource.values),
}


class RequestQuerySet(models.QuerySet["Request"]):
    def visible_to(self, user: User) -> RequestQuerySet:
        return self if user.is_operator else self.filter(tenant__memberships__user=user)

    def waiting(self) -> RequestQuerySet:
        return self.filter(state=Request.State.WAITING)

    def overdue(self) -> RequestQuerySet:
        """Those that wait for longer than settings.BERTH_REQUEST_DAYS."""
        limit = timezone.now() - timedelta(days=settings.BERTH_REQUEST_DAYS)
        return self.waiting().filter(asked_at__lte=limit)


class Request(models.Model):
    """A customer asks; an operator decides. While it waits, what it is for uses quota already.

    Of a new server the amounts are its size; of a larger one its memory and cpus as they would be; of quota, what
    is asked for on top of the limits.
    """

    class Kind(models.TextChoices):
        SERVER = "server", gettext_lazy("new server")
        RESIZE = "resize", gettext_lazy("larger size")
        QUOTA = "quota", gettext_lazy("more quota")

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
    name = models.CharField(gettext_lazy("name"), max_length=63, blank=True)  # "" of a request for quota
    guest_os = models.CharField(
        gettext_lazy("guest system"),
        max_length=8,
        blank=True,
        choices=[(os.value, os.value) for os in GuestOS],
    )
    servers = models.PositiveIntegerField(gettext_lazy("servers"), default=0)
    memory_mib = models.PositiveBigIntegerField(gettext_lazy("memory in MiB"), default=0)
    vcpus = models.PositiveIntegerField(gettext_lazy("virtual cpus"), default=0)
    disk_mib = models.PositiveBigIntegerField(gettext_lazy("disk in MiB"), default=0)
    kernel_bytes = models.PositiveBigIntegerField(gettext_lazy("kernels in bytes"), default=0)
    # Who looks after the kernel: Berth (a boot disk), or the owner, inside the server (its own disk).
    boot_method = models.CharField(
        max_length=10,
        choices=[(m.value, m.value) for m in (BootMethod.PVGRUB, BootMethod.OWN_DISK)],
        default=BootMethod.PVGRUB.value,
    )
    start_from = models.ForeignKey(KernelVersion, models.SET_NULL, null=True, blank=True, related_name="+")
    why = models.CharField(gettext_lazy("what it is for"), max_length=500, blank=True)
    asked_at = models.DateTimeField(auto_now_add=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    words = models.CharField(gettext_lazy("words to the customer"), max_length=500, blank=True)
    # The server that was made, or that is to be larger.
    domu = models.ForeignKey(Domu, models.PROTECT, null=True, blank=True, related_name="requests")
    size_before = models.JSONField(default=dict, blank=True)  # of the server that is to be larger
    asked_first = models.JSONField(default=dict, blank=True)  # the amounts before an operator changed them

    objects = RequestQuerySet.as_manager()

    class Meta:
        ordering = ["asked_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["name"],
                condition=models.Q(state="waiting", kind="server"),
                name="one_waiting_name",
            ),
            models.UniqueConstraint(
                fields=["domu"],
                condition=models.Q(state="waiting", kind="resize"),
                name="one_waiting_resize",
            ),
            models.UniqueConstraint(
                fields=["tenant"],
                condition=models.Q(state="waiting", kind="quota"),
                name="one_waiting_quota",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.title} for {self.tenant}: {self.state}"

    @property
    def subject(self) -> str:
        return f"request:{self.pk}"

    @property
    def title(self) -> str:
        """What it is called in lists: the server's name, or what is asked for."""
        return self.name or str(self.Kind(self.kind).label)

    @property
    def place(self) -> int:
        """Its place among all that wait, from 1."""
        return Request.objects.waiting().filter(asked_at__lt=self.asked_at).count() + 1

    @property
    def expires_at(self) -> datetime:
        """When it ends by itself if nobody decides."""
        return self.asked_at + timedelta(days=settings.BERTH_REQUEST_DAYS)

    @property
    def size(self) -> dict[str, int]:
        return {"memory_mib": self.memory_mib, "vcpus": self.vcpus, "disk_mib": self.disk_mib}

    @property
    def amounts(self) -> dict[str, int]:
        """What is asked for, by resource."""
        return {name: getattr(self, name) for name in AMOUNTS[self.kind]}

    @classmethod
    def name_is_taken(cls, name: str) -> bool:
        """Whether a server has the name, or will have it when its request is approved."""
        waiting = cls.objects.waiting().filter(kind=cls.Kind.SERVER, name=name)
        return Domu.objects.live().filter(name=name).exists() or waiting.exists()

    # Asking. Each raises Conflict, and QuotaExceeded without room in the quota.

    @classmethod
    def ask(cls, *, tenant: Tenant, by: User, **fields: Any) -> Request:
        """Ask for a server. Raises Conflict for a name that is taken."""
        taken = Conflict(_("The name %(name)s is taken; choose another one.") % {"name": fields["name"]})
        try:
            with transaction.atomic():
                if Domu.objects.live().filter(name=fields["name"]).exists():
                    raise taken
                request = cls.objects.create(tenant=tenant, by=by, servers=1, **fields)
                request._book(request.amounts)
        except IntegrityError as error:
            raise taken from error
        return request

    @classmethod
    def ask_size(cls, domu: Domu, by: User, memory_mib: int, vcpus: int, why: str = "") -> Request:
        """Ask for a larger size. What is above what the server holds uses quota from now on."""
        try:
            with transaction.atomic():
                fresh = Domu.objects.select_for_update().get(pk=domu.pk)
                if fresh.deleted_at:
                    raise Conflict(_("%(name)s was deleted.") % {"name": fresh.name})
                request = cls.objects.create(
                    kind=cls.Kind.RESIZE,
                    tenant=fresh.tenant,
                    by=by,
                    domu=fresh,
                    name=fresh.name,
                    guest_os=fresh.guest_os,
                    memory_mib=memory_mib,
                    vcpus=vcpus,
                    size_before={"memory_mib": fresh.memory_mib, "vcpus": fresh.vcpus},
                    why=why,
                )
                request._book(more_than_held(fresh, memory_mib, vcpus))
        except IntegrityError as error:
            raise Conflict(
                _("%(name)s waits for another size already; withdraw that request first.")
                % {"name": domu.name}
            ) from error
        return request

    @classmethod
    def ask_quota(cls, tenant: Tenant, by: User, amounts: Mapping[str, int], why: str = "") -> Request:
        """Ask for higher limits: `amounts` is what is to come on top."""
        try:
            with transaction.atomic():
                request = cls.objects.create(
                    kind=cls.Kind.QUOTA, tenant=tenant, by=by, why=why, **dict(amounts)
                )
                request._book({})
        except IntegrityError as error:
            raise Conflict(
                _("%(tenant)s waits for more quota already; withdraw that request first.")
                % {"tenant": tenant}
            ) from error
        return request

    def _book(self, amounts: Mapping[str, int]) -> None:
        """Book what it uses while it waits, and tell."""
        use(self.tenant, amounts, self.subject, f"asked for {self.title}", self.by)
        after = {**self.amounts, **({"guest_os": self.guest_os} if self.guest_os else {})}
        text = {
            self.Kind.SERVER: _("%(name)s was asked for"),
            self.Kind.RESIZE: _("A larger size was asked for %(name)s"),
            self.Kind.QUOTA: _("More quota was asked for"),
        }[self.Kind(self.kind)]
        self._tell("request.asked", text, self.by, self.why, before=self.size_before, after=after)
        self._mail(User.objects.filter(is_operator=True), "request_waiting")

    # Deciding. Each raises Conflict when it was decided already, or is of the decider's own tenant.

    def approve(
        self, by: User, dom0: Dom0, *, words: str = "", size: Mapping[str, int] | None = None
    ) -> Domu:
        """Make the server on `dom0`. Raises Conflict, NoRoom, QuotaExceeded."""
        with transaction.atomic():
            Dom0.lock(dom0.pk)
            self._take(by, words, size)
            domu = Domu.objects.create(
                tenant=self.tenant,
                dom0=dom0,
                name=self.name,
                guest_os=self.guest_os,
                memory_mib=self.memory_mib,
                vcpus=self.vcpus,
                boot_method=self.boot_method,
            )
            use(self.tenant, self.amounts, domu.subject, f"{domu.name} was approved", by)
            dom0.place(self.memory_mib, self.vcpus, self.disk_mib, domu.subject, f"{domu.name} was placed")
            Disk.objects.create(domu=domu, index=0, size_mib=self.disk_mib)
            Nic.objects.create(domu=domu, mac=MacAddress.give(domu.pk), bridge=dom0.bridge)
            self.domu = domu
            self._approved(by, dom0=dom0)
            self._first_order(domu, by)
        return domu

    def _first_order(self, domu: Domu, by: User) -> None:
        """Have it made: with the installer that it is to start from in its menu, where that can be."""
        if self.start_from is not None:
            draft = EntryDraft(
                self.start_from,
                _("Install %(kernel)s") % {"kernel": self.start_from.kernel.name},
                installer_arguments(GuestOS(self.guest_os)),
            )
            try:
                with transaction.atomic():
                    save_menu(domu, [draft], by)
                    return
            except Conflict as conflict:
                text = _("The installer was not put into the menu of %(name)s")
                self._tell("boot.not_saved", text, by, str(conflict), domu=domu)
        domu.refresh_from_db()
        domu.order(Verb.PREPARE, by)

    def approve_size(self, by: User, *, words: str = "", size: Mapping[str, int] | None = None) -> Operation:
        """Make the server larger at its next boot. Raises Conflict, NoRoom, QuotaExceeded."""
        assert self.domu is not None
        with transaction.atomic():
            Dom0.lock(self.domu.dom0_id)
            self._take(by, words, size)
            self._approved(by, domu=self.domu)
            return resize(self.domu, by, self.memory_mib, self.vcpus, words)

    def approve_quota(self, by: User, *, words: str = "", size: Mapping[str, int] | None = None) -> None:
        """Raise the limits, as asked or by other amounts."""
        with transaction.atomic():
            self._take(by, words, size)
            grant(self.tenant, self.amounts, words or str(_("asked for")), by, subject=self.subject)
            self._approved(by)

    def refuse(self, by: User, words: str) -> None:
        """Say no, with words."""
        with transaction.atomic():
            self._decide(by, self.State.REFUSED, words)
            self._close(_("%(name)s was refused"), by, words)

    def withdraw(self, by: User) -> None:
        """The customer changed their mind. Raises Conflict when it was decided already."""
        with transaction.atomic():
            self._move(by, self.State.WITHDRAWN, "")
            self._close(_("%(name)s was withdrawn"), by, "")

    def expire(self) -> None:
        """Nobody decided for long. Raises Conflict when somebody did meanwhile."""
        with transaction.atomic():
            self._move(None, self.State.EXPIRED, "")
            self._close(_("%(name)s was not decided in time"), None, "")

    def _take(self, by: User, words: str, amounts: Mapping[str, int] | None) -> None:
        """Mark it approved, by these amounts; what it used while it waited is free for what comes of it."""
        self._decide(by, self.State.APPROVED, words)
        release(self.tenant, self.subject, "approved", by)
        if amounts is not None and (changed := {**self.amounts, **amounts}) != self.amounts:
            self.asked_first = self.amounts
            for name, amount in changed.items():
                setattr(self, name, amount)

    def _approved(self, by: User, **about: Any) -> None:
        self.save()
        text = {
            self.Kind.SERVER: _("%(name)s was approved on %(dom0)s"),
            self.Kind.RESIZE: _("The larger size of %(name)s was approved"),
            self.Kind.QUOTA: _("More quota was approved"),
        }[self.Kind(self.kind)]
        before = self.asked_first or self.size_before
        about.setdefault("domu", self.domu)
        self._tell("request.approved", text, by, self.words, before=before, after=self.amounts, **about)
        self._mail(self.by, "request_decided")

    def _close(self, text: str, by: User | None, words: str) -> None:
        release(self.tenant, self.subject, self.state, by)
        self._tell(f"request.{self.state}", text, by, words)
        if self.state != self.State.WITHDRAWN:
            self._mail(self.by, "request_decided")

    def _mail(self, to: User | Iterable[User], template: str) -> None:
        amounts = ", ".join(named(name, amount) for name, amount in self.amounts.items() if amount)
        send(to, template, {"asked": self, "wanted": amounts})

    def _tell(self, kind: str, text: str, actor: User | None, reason: str, **about: Any) -> None:
        names = {"name": self.title, "dom0": about.get("dom0", "")}
        Event.record(kind, text % names, actor=actor, tenant=self.tenant, reason=reason, **about)

    def _decide(self, by: User, state: str, words: str) -> None:
        if by.pk == self.by_id or self.tenant.role_of(by) is not None:
            raise Conflict(_("Nobody decides on a request of their own tenant; ask another operator."))
        self._move(by, state, words)

    def _move(self, by: User | None, state: str, words: str) -> None:
        moved = Request.objects.filter(pk=self.pk, state=self.State.WAITING).update(
            state=state, decided_by=by, decided_at=timezone.now(), words=words
        )
        self.refresh_from_db()
        if not moved:
            raise Conflict(
                _("%(who)s was first: the request was %(state)s already.")
                % {"who": self.decided_by or _("Somebody"), "state": self.get_state_display()}
            )
