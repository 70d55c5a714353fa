"""Servers: what is wanted, what was seen, and the verbs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.ids import new_id
from accounts.models import Right, Tenant, User
from accounts.models.quota import release
from vps.middleware import request_id
from vps.models.conflict import Conflict
from vps.models.direct_approval import as_approved, not_approved, refusal_of
from vps.models.dom0 import Dom0
from vps.models.event import Event
from vps.models.operation import Operation, State
from vps.xen.description import Boot, BootMethod, Description, DomainType, GuestOS
from vps.xen.messages import Generation, Verb
from vps.xen.reconcile import Observed, Phase, Seen, Status, Wanted, status_word

# In which states of the status word a verb is offered and taken. Destroy also supersedes an open operation.
ALLOWED: dict[Verb, frozenset[Status]] = {
    Verb.PREPARE: frozenset(set(Status) - {Status.DELETING}),
    Verb.START: frozenset(
        {
            Status.STOPPED,
            Status.CRASHED,
            Status.UNKNOWN,
            Status.UNFINISHED,
            Status.GONE_WRONG,
            Status.NOT_HEARD,
        }
    ),
    Verb.SHUTDOWN: frozenset(
        {Status.RUNNING, Status.TRYING, Status.REBOOTING, Status.UNKNOWN, Status.NOT_HEARD}
    ),
    Verb.REBOOT: frozenset({Status.RUNNING, Status.TRYING, Status.UNKNOWN, Status.NOT_HEARD}),
    Verb.DESTROY: frozenset(set(Status) - {Status.DELETING}),
    Verb.PAUSE: frozenset({Status.RUNNING}),
    Verb.UNPAUSE: frozenset({Status.PAUSED}),
    Verb.DELETE: frozenset(set(Status) - {Status.DELETING}),
    Verb.TRY: frozenset({Status.RUNNING, Status.STOPPED, Status.CRASHED, Status.GONE_WRONG}),
    Verb.ARM: frozenset(
        {Status.RUNNING, Status.STOPPED, Status.CRASHED, Status.GONE_WRONG, Status.PAUSED, Status.NOT_HEARD}
    ),
}
# What each verb makes of `wanted`.
WANTS: dict[Verb, Wanted] = {
    Verb.START: Wanted.RUNNING,
    Verb.REBOOT: Wanted.RUNNING,
    Verb.TRY: Wanted.RUNNING,
    Verb.SHUTDOWN: Wanted.STOPPED,
    Verb.DESTROY: Wanted.STOPPED,
    Verb.DELETE: Wanted.STOPPED,
}
# What an event says of a verb that somebody wants done.
ASKED: dict[Verb, Any] = {
    Verb.PREPARE: gettext_lazy("%(name)s is to be prepared"),
    Verb.START: gettext_lazy("%(name)s is to be started"),
    Verb.SHUTDOWN: gettext_lazy("%(name)s is to be shut down"),
    Verb.REBOOT: gettext_lazy("%(name)s is to be rebooted"),
    Verb.DESTROY: gettext_lazy("%(name)s is to be destroyed"),
    Verb.PAUSE: gettext_lazy("%(name)s is to be paused"),
    Verb.UNPAUSE: gettext_lazy("%(name)s is to go on"),
    Verb.DELETE: gettext_lazy("The disks of %(name)s are to be wiped"),
    Verb.TRY: gettext_lazy("%(name)s is to try an entry once"),
    Verb.ARM: gettext_lazy("The next boot of %(name)s is to be chosen, or to be the default's again"),
}
SUPERSEDES = frozenset({Verb.DESTROY, Verb.DELETE})


class DomuQuerySet(models.QuerySet["Domu"]):
    def visible_to(self, user: User) -> DomuQuerySet:
        """Operators see all, members their tenants'."""
        return self if user.is_operator else self.filter(tenant__memberships__user=user)

    def live(self) -> DomuQuerySet:
        """Those that nobody deleted."""
        return self.filter(deleted_at=None)

    def kept(self) -> DomuQuerySet:
        """Deleted, and their disks are still there."""
        return self.exclude(deleted_at=None).filter(purged_at=None)

    def present(self) -> DomuQuerySet:
        """Those of which something is on a dom0: live and kept ones."""
        return self.filter(purged_at=None)

    def with_open_operation(self) -> DomuQuerySet:
        """Each with `open_operations`, a list of none or one: a constant number of queries.

        Servers of one dom0 share it: its inventory is long, and read once.
        """
        return self.prefetch_related("dom0", "tenant", Domu.OPEN_OPERATION)


class Domu(models.Model):
    """A server. `id` is the Xen uuid; `wanted` is ours, `observed` the dom0's word of `observed_at`."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="domus")
    dom0 = models.ForeignKey(Dom0, models.PROTECT, related_name="domus")
    name = models.CharField(gettext_lazy("name"), max_length=63)
    guest_os = models.CharField(
        gettext_lazy("guest system"), max_length=8, choices=[(os.value, os.value) for os in GuestOS]
    )
    type = models.CharField(max_length=4, choices=[(t.value, t.value) for t in DomainType], default="pv")
    memory_mib = models.PositiveIntegerField(gettext_lazy("memory in MiB"))
    vcpus = models.PositiveSmallIntegerField(gettext_lazy("virtual cpus"))
    autostart = models.BooleanField(default=True)
    crash_limit = models.PositiveSmallIntegerField(default=5)
    wanted = models.CharField(
        max_length=8, choices=[(w.value, w.value) for w in Wanted], default=Wanted.STOPPED.value
    )
    epoch = models.PositiveIntegerField(default=1)
    n = models.PositiveBigIntegerField(default=0)
    boot_method = models.CharField(
        max_length=10, choices=[(m.value, m.value) for m in BootMethod], default=BootMethod.PVGRUB.value
    )
    menu_serial = models.PositiveBigIntegerField(default=0)

    # What its dom0 last saw of it (vps.xen.reconcile.Seen; Redis TIME, ms); "" before the first inventory.
    observed = models.CharField(
        max_length=8, choices=[(o.value, o.value) for o in Observed], blank=True, default=""
    )
    observed_ms = models.BigIntegerField(default=0)
    absent_ms = models.BigIntegerField(null=True, blank=True)
    phase = models.CharField(max_length=12, blank=True)  # the agent's: idle, starting, restarting, limit...
    domid = models.PositiveIntegerField(null=True, blank=True)
    run = models.UUIDField(null=True, blank=True)
    boots = models.PositiveIntegerField(default=0)
    made = models.BooleanField(default=False)  # its first prepare is done
    prepared_serial = models.PositiveBigIntegerField(default=0)
    booted_at = models.DateTimeField(null=True, blank=True)
    booted_label = models.CharField(max_length=200, blank=True)
    last_end = models.JSONField(default=dict, blank=True)  # reason, code, next, restart_in, at, tail
    # What its domain was built with; None while none runs, or its agent is too old to tell.
    running_memory_mib = models.PositiveIntegerField(null=True, blank=True)
    running_vcpus = models.PositiveSmallIntegerField(null=True, blank=True)

    locked = models.CharField(gettext_lazy("locked because"), max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    # Deleted: it is destroyed, its name is free, and its disks are kept until `keep_until`; purged: wiped.
    deleted_at = models.DateTimeField(null=True, blank=True)
    keep_until = models.DateTimeField(null=True, blank=True)
    purged_at = models.DateTimeField(null=True, blank=True)

    objects = DomuQuerySet.as_manager()
    OPEN_OPERATION = models.Prefetch("operations", Operation.objects.open(), to_attr="open_operations")
    open_operations: list[Operation]
    _boot: Boot | None = None  # read once; rows of menus are never changed

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["name"], condition=models.Q(deleted_at=None), name="one_live_domu_name"
            )
        ]
        indexes = [models.Index(fields=["tenant", "deleted_at"]), models.Index(fields=["dom0", "deleted_at"])]

    def __str__(self) -> str:
        return self.name

    @property
    def subject(self) -> str:
        """Its name in the ledgers."""
        return f"domu:{self.pk}"

    @property
    def open_operation(self) -> Operation | None:
        if hasattr(self, "open_operations"):
            return self.open_operations[0] if self.open_operations else None
        return self.operations.open().filter(lane=Operation.Lane.LIFE).first()

    @property
    def status(self) -> Status:
        """The one word that pages show; computed, never stored."""
        operation = self.open_operation
        return status_word(
            wanted=Wanted(self.wanted),
            seen=self.seen,
            heard=self.dom0.heard_lately,
            operation=Verb(operation.verb) if operation else None,
            phase=Phase(self.phase) if self.phase in set(Phase) else Phase.IDLE,
            xen=bool(self.dom0.xen),
            prepared=self.made,
        )

    @property
    def seen(self) -> Seen | None:
        """The last observation, as the rules of reconciliation take it."""
        return Seen(Observed(self.observed), self.observed_ms, self.absent_ms) if self.observed else None

    @seen.setter
    def seen(self, seen: Seen | None) -> None:
        self.observed = seen.state.value if seen else ""
        self.observed_ms = seen.at if seen else 0
        self.absent_ms = seen.absent_at if seen else None

    @property
    def runs(self) -> bool:
        """Whether its dom0 last saw a domain of it."""
        return self.observed not in ("", Observed.GONE.value)

    @property
    def is_kept(self) -> bool:
        return self.deleted_at is not None and self.purged_at is None

    @property
    def pending_size(self) -> bool:
        """Whether it runs with another size than it will have at its next boot."""
        return self.running_memory_mib is not None and (
            (self.running_memory_mib, self.running_vcpus) != (self.memory_mib, self.vcpus)
        )

    @property
    def pending_change(self) -> bool:
        """Whether what is on the dom0 is older than the saved menu, or not there at all."""
        return not self.made or self.prepared_serial != self.menu_serial

    def may(self, verb: Verb) -> bool:
        """Whether the page offers the verb now."""
        if self.deleted_at or (verb not in SUPERSEDES and self.open_operation):
            return False
        if verb in (Verb.TRY, Verb.ARM) and verb.value not in self.dom0.verbs:
            return False  # an agent that does not know it yet
        return self.status in ALLOWED[verb]

    def allows(self, user: User, right: Right) -> bool:
        """Whether this person may; operators may do what keeps a server alive, not what is inside it."""
        if user.is_operator and right in (Right.SEE, Right.OPERATE):
            return True
        return self.tenant.allows(user, right)

    def description(self) -> Description:
        """Everything the dom0 must know, as of now."""
        return Description(
            id=self.id,
            name=self.name,
            type=DomainType(self.type),
            guest_os=GuestOS(self.guest_os),
            memory_mib=self.memory_mib,
            vcpus=self.vcpus,
            disks=tuple(disk.spec() for disk in self.disks.filter(purged_at=None)),
            nics=tuple(nic.spec() for nic in self.nics.select_related("mac")),
            boot=as_approved(self.tenant, self.boot()),
            autostart=self.autostart and self.deleted_at is None,
            crash_limit=self.crash_limit,
        )

    def boot(self) -> Boot:
        """The saved menu, as it will be written."""
        if self._boot is not None and self._boot.serial == self.menu_serial:
            return self._boot
        menu = self.menus.filter(serial=self.menu_serial).first()
        if menu is None:
            return Boot(method=BootMethod(self.boot_method), serial=0)
        self._boot = Boot.of(menu.boot)
        return self._boot

    # The verbs. Each checks, raises the generation, writes operation and event, and rings after the commit.

    def start(self, by: User | None, reason: str = "", *, seen: Generation | None = None) -> Operation:
        """Raises Conflict when there is nothing to boot or no approval of it, or it is not stopped."""
        if not self.boot().bootable:
            raise Conflict(
                _("%(name)s has nothing to boot yet; choose a kernel first.") % {"name": self.name}
            )
        return self.order(Verb.START, by, reason, seen=seen)

    def order(
        self,
        verb: Verb,
        by: User | None,
        reason: str = "",
        *,
        seen: Generation | None = None,
        **extra: Any,
    ) -> Operation:
        """Want `verb` done. Raises Conflict for a stale click, a locked server or an open operation.

        `seen` is the generation that the person's page showed.
        """
        from vps import dispatch

        until = dispatch.not_after()  # asked before anything is locked
        with transaction.atomic():
            fresh = Domu._locked(self.pk)
            open_one = fresh._open_for_update()
            fresh.open_operations = [open_one] if open_one else []
            fresh._check(verb, open_one)
            fresh._check_seen(seen)
            if open_one is not None:
                open_one.move(State.SUPERSEDED, remains=_("%(verb)s came after it.") % {"verb": verb.value})
                open_one.end_try()
                Event.record(
                    "operation.superseded",
                    _("%(old)s was superseded by %(new)s") % {"old": open_one.verb, "new": verb.value},
                    actor=by,
                    tenant=fresh.tenant,
                    domu=fresh,
                    dom0=fresh.dom0,
                    operation=open_one,
                )
            before = {"wanted": fresh.wanted}
            fresh.n += 1
            if verb in WANTS:
                fresh.wanted = WANTS[verb].value
            fresh.save(update_fields=["n", "wanted"])
            operation = Operation(
                domu=fresh,
                dom0=fresh.dom0,
                verb=verb.value,
                epoch=fresh.epoch,
                n=fresh.n,
                body={"domu": fresh.description().as_dict(), "reason": reason, **extra},
                wanted_before=before["wanted"],
                by=by,
                reason=reason,
                request_id=request_id.get(),
            )
            if until is not None:
                dispatch.seal_new(operation, until)
            operation.save(force_insert=True)
            Event.record(
                f"domu.{verb.value}",
                str(ASKED[verb]) % {"name": fresh.name},
                actor=by,
                tenant=fresh.tenant,
                domu=fresh,
                dom0=fresh.dom0,
                operation=operation,
                reason=reason,
                before=before,
                after={"wanted": fresh.wanted},
            )
            send = dispatch.send if until is None else dispatch.send_new
            transaction.on_commit(lambda: send(operation))
        for field in self._meta.concrete_fields:  # as it was written, and not read once more
            setattr(self, field.attname, getattr(fresh, field.attname))
        return operation

    @classmethod
    def _locked(cls, pk: UUID) -> Domu:
        """The row, locked until the transaction ends; its tenant and dom0 with it, but not locked."""
        rows = cls.objects.select_related("tenant", "dom0")
        return rows.select_for_update(of=("self",)).get(pk=pk)

    def check_verb(self, verb: Verb) -> None:
        """Raises Conflict when the verb would not be taken now; the row is locked."""
        self._check(verb, self._open_for_update())

    def _open_for_update(self) -> Operation | None:
        return self.operations.select_for_update().open().filter(lane=Operation.Lane.LIFE).first()

    def _check(self, verb: Verb, open_one: Operation | None) -> None:
        if self.purged_at:
            raise Conflict(_("%(name)s was deleted.") % {"name": self.name})
        if self.deleted_at and verb not in SUPERSEDES:
            raise Conflict(_("%(name)s was deleted; undelete it first.") % {"name": self.name})
        wanting = not_approved(self.tenant, self.boot())
        # A dom0 is told to forget what is approved no more, whatever else holds.
        if (
            self.locked
            and verb not in (Verb.SHUTDOWN, Verb.DESTROY)
            and not (verb is Verb.PREPARE and wanting)
        ):
            raise Conflict(
                _("%(name)s was locked by an operator: %(why)s") % {"name": self.name, "why": self.locked}
            )
        if self.tenant.suspended and verb in (Verb.START, Verb.REBOOT, Verb.TRY):
            raise Conflict(
                _("%(tenant)s is suspended: %(why)s") % {"tenant": self.tenant, "why": self.tenant.suspended}
            )
        if verb in (Verb.START, Verb.REBOOT) and wanting:
            raise Conflict(refusal_of(wanting))
        if verb.value not in (self.dom0.verbs or [verb.value]):
            raise Conflict(
                _("The agent of %(dom0)s does not know %(verb)s; update it.")
                % {"dom0": self.dom0, "verb": verb.value}
            )
        if open_one is not None:
            if verb not in SUPERSEDES or open_one.verb == Verb.DELETE.value:
                raise Conflict(open_one.explain_open())
            return
        if self.status not in ALLOWED[verb]:
            raise Conflict(
                _("%(name)s is %(status)s; %(verb)s cannot be done now. The page was out of date.")
                % {"name": self.name, "status": self.status.value.replace("_", " "), "verb": verb.value}
            )

    def _check_seen(self, seen: Generation | None) -> None:
        if seen is None or seen == Generation(self.epoch, self.n):
            return
        last = self.operations.order_by("-id").first()
        raise Conflict(
            _("%(who)s was first: %(verb)s was asked for meanwhile. Look how it is now, and click again.")
            % {
                "who": (last and last.by) or _("Somebody"),
                "verb": last.verb if last else _("something else"),
            }
        )

    def cancel(self, operation: Operation, by: User | None, reason: str = "") -> None:
        """Take back an operation: at once if it was not accepted, else the dom0 is asked to stop it."""
        with transaction.atomic():
            fresh = Domu.objects.select_for_update().get(pk=self.pk)
            row = Operation.objects.select_for_update().get(pk=operation.pk)
            if not row.is_open:
                raise Conflict(_("It has ended already: %(state)s.") % {"state": row.get_state_display()})
            if row.state == State.QUEUED and not row.envelope:
                row.move(State.CANCELLED, remains=_("Nothing was done."))
                row.end_try()
                fresh.after_unsuccessful(row)
            else:
                row.ask_to_leave()
            Event.record(
                "operation.cancel",
                _("%(verb)s was cancelled") % {"verb": row.verb.capitalize()},
                actor=by,
                tenant=fresh.tenant,
                domu=fresh,
                dom0=fresh.dom0,
                operation=row,
                reason=reason,
            )

    def after_unsuccessful(self, operation: Operation) -> None:
        """An operation of the present generation came to nothing: want again what was wanted before."""
        if (self.epoch, self.n) == (operation.epoch, operation.n) and operation.wanted_before:
            self.wanted = operation.wanted_before
            self.save(update_fields=["wanted"])

    def lock(self, by: User, why: str) -> None:
        """Leave nothing but shutting down and destroying; its people see `why`. Raises Conflict."""
        self._move_locked(by, "", why, _("%(name)s was locked"), "domu.locked", why)

    def unlock(self, by: User, reason: str = "") -> None:
        """Raises Conflict."""
        said = type(self).objects.values_list("locked", flat=True).get(pk=self.pk)
        if not said:
            raise Conflict(_("%(name)s is not locked.") % {"name": self.name})
        self._move_locked(by, said, "", _("%(name)s was unlocked"), "domu.unlocked", reason)

    def _move_locked(self, by: User, before: str, after: str, text: str, kind: str, reason: str) -> None:
        with transaction.atomic():
            if not type(self).objects.live().filter(pk=self.pk, locked=before).update(locked=after):
                raise Conflict(_("%(name)s is locked already.") % {"name": self.name})
            Event.record(
                kind,
                text % {"name": self.name},
                actor=by,
                tenant=self.tenant,
                domu=self,
                dom0=self.dom0,
                reason=reason,
                before={"locked": before},
                after={"locked": after},
            )
        self.locked = after

    def retire(self) -> None:
        """The dom0 has wiped it: free all that is left to free. A second call changes nothing."""
        if self.purged_at:
            return
        self.purged_at = timezone.now()
        self.deleted_at = self.deleted_at or self.purged_at
        self.observed, self.domid = Observed.GONE.value, None
        self.running_memory_mib = self.running_vcpus = None
        gone = ("purged_at", "deleted_at", "observed", "domid", "running_memory_mib", "running_vcpus")
        self.save(update_fields=gone)
        self.disks.filter(purged_at=None).update(purged_at=self.purged_at)
        release(self.tenant, self.subject, f"{self.name} was wiped")
        self.dom0.give_back(self.subject, f"{self.name} was wiped")
        Event.record(
            "domu.purged",
            _("The disks of %(name)s were wiped; nothing of it is left on %(dom0)s")
            % {"name": self.name, "dom0": self.dom0},
            tenant=self.tenant,
            domu=self,
            dom0=self.dom0,
        )
