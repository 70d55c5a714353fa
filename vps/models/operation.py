"""Operations: one thing being done on a dom0, as a row (DESIGN.md 5)."""

from __future__ import annotations

from typing import Any

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.ids import new_id
from accounts.models import User
from vps.middleware import request_id
from vps.models.conflict import Conflict
from vps.models.dom0 import Dom0
from vps.models.event import Event
from vps.xen.messages import Generation, Head, Order, Verb
from vps.xen.names import NameRefused, check_log_name


class State(models.TextChoices):
    QUEUED = "queued", gettext_lazy("queued")
    SENT = "sent", gettext_lazy("sent")
    ACCEPTED = "accepted", gettext_lazy("accepted by the dom0")
    RUNNING = "running", gettext_lazy("running")
    DONE = "done", gettext_lazy("done")
    FAILED = "failed", gettext_lazy("failed")
    REFUSED = "refused", gettext_lazy("refused by the dom0")
    SUPERSEDED = "superseded", gettext_lazy("superseded")
    CANCELLED = "cancelled", gettext_lazy("cancelled")
    LOST = "lost", gettext_lazy("not heard of again")


OPEN = frozenset({State.QUEUED, State.SENT, State.ACCEPTED, State.RUNNING})
ENDED = frozenset(set(State) - OPEN)

# What one click may ask for again. Destroying and deleting have pages that want the name.
RETRIED = frozenset({Verb.PREPARE, Verb.START, Verb.SHUTDOWN, Verb.REBOOT, Verb.PAUSE, Verb.UNPAUSE})

# From which states a report or the sweep may move a row to which. A late report may end what was given up.
MOVES: dict[str, frozenset[str]] = {
    State.SENT: frozenset({State.QUEUED}),
    State.ACCEPTED: frozenset({State.QUEUED, State.SENT, State.LOST}),
    State.RUNNING: frozenset({State.QUEUED, State.SENT, State.ACCEPTED, State.LOST}),
    State.DONE: frozenset(OPEN | {State.LOST}),
    State.FAILED: frozenset(OPEN | {State.LOST}),
    State.REFUSED: frozenset(OPEN | {State.LOST}),
    State.SUPERSEDED: frozenset(OPEN | {State.LOST}),
    State.CANCELLED: frozenset(OPEN | {State.LOST}),
    State.LOST: frozenset(OPEN),
}


class Lane(models.TextChoices):
    LIFE = "life", gettext_lazy("life of a server")
    DOM0 = "dom0", gettext_lazy("care of a dom0")
    TRIAL = "trial", gettext_lazy("trial of a kernel")


class OperationQuerySet(models.QuerySet["Operation"]):
    def open(self) -> OperationQuerySet:
        return self.filter(state__in=OPEN)

    def visible_to(self, user: User) -> OperationQuerySet:
        if user.is_operator:
            return self
        theirs = models.Q(domu__tenant__memberships__user=user) | models.Q(
            trial__tenant__memberships__user=user
        )
        return self.filter(theirs)


class Operation(models.Model):
    """One thing being done. Written in the transaction of the change that wants it; sent after the commit."""

    State = State
    Lane = Lane

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    domu = models.ForeignKey("vps.Domu", models.PROTECT, null=True, blank=True, related_name="operations")
    dom0 = models.ForeignKey("vps.Dom0", models.PROTECT, related_name="operations")
    lane = models.CharField(max_length=8, choices=Lane.choices, default=Lane.LIFE)
    verb = models.CharField(max_length=12, choices=[(v.value, v.value) for v in Verb])
    state = models.CharField(max_length=12, choices=State.choices, default=State.QUEUED, db_index=True)
    epoch = models.PositiveIntegerField(default=0)
    n = models.PositiveBigIntegerField(default=0)
    body = models.JSONField(default=dict)
    envelope = models.TextField(blank=True)  # sealed at the first sending; a resend repeats it
    not_after = models.BigIntegerField(default=0)  # Redis TIME, ms
    wanted_before = models.CharField(max_length=8, blank=True)
    by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    reason = models.CharField(max_length=500, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    step = models.CharField(max_length=200, blank=True)
    steps = models.JSONField(default=list, blank=True)
    error = models.JSONField(default=dict, blank=True)  # code, text, output
    remains = models.CharField(max_length=500, blank=True)
    result = models.JSONField(default=dict, blank=True)
    tries = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    heard_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    cancel_asked_at = models.DateTimeField(
        null=True, blank=True
    )  # the dom0 is asked to leave it, until it answers
    set_aside_at = models.DateTimeField(null=True, blank=True)  # an operator wants no more to hear of it

    objects = OperationQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["domu"],
                condition=models.Q(lane="life", state__in=sorted(OPEN)),
                name="one_open_life_operation",
            )
        ]
        indexes = [models.Index(fields=["dom0", "state"])]

    def __str__(self) -> str:
        return f"{self.verb} {self.domu or self.dom0}: {self.state}"

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    @property
    def error_text(self) -> str:
        return str(self.error.get("text") or "")

    @property
    def seconds(self) -> float:
        """How long it has taken so far, or took."""
        return ((self.ended_at or timezone.now()) - self.created_at).total_seconds()

    def order(self, not_after: int, head: Head | None = None) -> Order:
        """The order that asks a dom0 for it; `head` is of the chain of events."""
        return Order(
            operation=self.id,
            dom0=self.dom0_id,
            domu=self.domu_id,
            verb=Verb(self.verb),
            generation=Generation(self.epoch, self.n),
            not_after=not_after,
            body=self.body,
            request_id=self.request_id,
            head=head,
        )

    def move(self, state: str, **fields: Any) -> bool:
        """Move to `state` if a row in its state may; say whether it did. One conditional UPDATE.

        `heard_at` and `ended_at` are set as the state demands.
        """
        now = timezone.now()
        if state in ENDED:
            fields.setdefault("ended_at", now)
        allowed = MOVES.get(state, frozenset())
        moved = Operation.objects.filter(pk=self.pk, state__in=allowed).update(state=state, **fields)
        if moved:
            self.state = state
            for name, value in fields.items():
                setattr(self, name, value)
        return bool(moved)

    @classmethod
    def look(cls, dom0: Dom0, what: str, name: str, by: User) -> Operation:
        """Have a dom0 read Xen's messages (`what` "dmesg") or one of its logs ("log", `name`). Raises Conflict."""
        from vps import dispatch

        if Verb.LOOK.value not in dom0.verbs:
            raise Conflict(_("The agent of %(dom0)s cannot read logs yet; update it.") % {"dom0": dom0})
        if what not in ("dmesg", "log"):
            raise Conflict(_("Only xl dmesg and the logs of the list can be read."))
        try:
            body = {"what": what} if what == "dmesg" else {"what": what, "name": check_log_name(name)}
        except NameRefused as error:
            raise Conflict(str(error)) from error
        with transaction.atomic():
            locked = Dom0.objects.select_for_update().get(pk=dom0.pk)
            if cls.objects.open().filter(dom0=locked, verb=Verb.LOOK.value).exists():
                raise Conflict(_("%(dom0)s is being read already; wait for it.") % {"dom0": dom0})
            operation = cls.objects.create(
                dom0=locked,
                lane=Lane.DOM0,
                verb=Verb.LOOK.value,
                body=body,
                by=by,
                request_id=request_id.get(),
            )
            Event.record(
                "dom0.look",
                _("%(what)s of %(dom0)s was asked for") % {"what": name or "xl dmesg", "dom0": dom0},
                actor=by,
                dom0=locked,
                operation=operation,
            )
            transaction.on_commit(lambda: dispatch.send(operation))
        return operation

    def end_try(self) -> None:
        """Where it is a try, that has come to nothing: the dom0 may never say so, for it may never hear of it."""
        if self.verb in (Verb.TRY, Verb.ARM) and hasattr(self, "tried"):
            self.tried.failed(self.remains or self.error_text, timezone.now())

    def ask_to_leave(self) -> None:
        """Have the dom0 stop it, or not begin it. From now on that is what it is sent, and sent again."""
        from vps import dispatch

        self.cancel_asked_at = timezone.now()
        Operation.objects.filter(pk=self.pk).update(cancel_asked_at=self.cancel_asked_at)
        transaction.on_commit(lambda: dispatch.send_cancel(self))

    def give_up(self, by: User, words: str) -> None:
        """An operator waits for it no longer: lost, wanted is what it was, and the dom0 is told to leave it.

        Should the dom0 have done it after all, its report still says so. Raises Conflict when it has ended.
        """
        with transaction.atomic():
            text = _("%(who)s gave it up.") % {"who": by}
            error = {"code": "given_up", "text": f"{text} {words}".strip()[:500], "output": ""}
            domu = self.domu and type(self.domu).objects.select_for_update().get(pk=self.domu_id)
            if not self.move(State.LOST, error=error):
                self.refresh_from_db()
                raise Conflict(_("It has ended already: %(state)s.") % {"state": self.get_state_display()})
            if domu is not None:
                domu.after_unsuccessful(self)
            Event.record(
                "operation.given_up",
                _("%(verb)s of %(name)s was given up") % {"verb": self.verb, "name": domu or self.dom0},
                actor=by,
                tenant=domu.tenant if domu else None,
                domu=domu,
                dom0=self.dom0,
                operation=self,
                reason=words,
            )
            self.refresh_from_db(fields=["envelope"])
            if self.envelope:
                self.ask_to_leave()
            else:
                self.end_try()

    def set_aside(self, by: User) -> None:
        """It failed, and nothing more is to be done about it. Raises Conflict when it is under way."""
        rows = Operation.objects.filter(pk=self.pk, state__in=ENDED, set_aside_at=None)
        with transaction.atomic():
            if not rows.update(set_aside_at=timezone.now()):
                raise Conflict(_("It is under way, or was set aside already; look again."))
            Event.record(
                "operation.set_aside",
                _("%(verb)s of %(name)s was set aside") % {"verb": self.verb, "name": self.domu or self.dom0},
                actor=by,
                tenant=self.domu.tenant if self.domu else None,
                domu=self.domu,
                dom0=self.dom0,
                operation=self,
            )

    @property
    def may_retry(self) -> bool:
        """Whether it came to nothing, and is of a verb that one click may ask for again."""
        return (
            self.domu is not None
            and self.verb in RETRIED
            and self.state in ENDED - {State.DONE, State.SUPERSEDED}
        )

    def retry(self, by: User) -> Operation:
        """Want the same once more, as of now. Raises Conflict when that cannot be, or is not what is meant now."""
        if self.domu is None or not self.may_retry:
            raise Conflict(
                _("%(verb)s is %(state)s, and cannot be tried again from here.")
                % {"verb": self.verb.capitalize(), "state": self.get_state_display()}
            )
        if self.domu.operations.filter(pk__gt=self.pk).exists():
            raise Conflict(_("Something else was asked for since; look at the server how it is now."))
        if self.verb == Verb.START:
            return self.domu.start(by, self.reason)
        return self.domu.order(Verb(self.verb), by, self.reason)

    def explain_open(self) -> str:
        """A sentence for somebody whose click came second."""
        return _("%(verb)s is still under way (%(state)s); wait for it, or cancel it.") % {
            "verb": self.verb.capitalize(),
            "state": self.get_state_display(),
        }
