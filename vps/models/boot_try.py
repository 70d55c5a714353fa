"""Tries: one boot of something else, and what came of it. The dom0 decides alone; a row keeps what it told."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.ids import new_id
from accounts.mail import send
from accounts.models import User
from vps.models.boot import BootMenu, menu_type
from vps.models.boot_record import BootRecord
from vps.models.conflict import Conflict
from vps.models.domu import Domu
from vps.models.event import Event
from vps.models.operation import Operation
from vps.xen.description import Boot, BootMethod, DomainType
from vps.xen.messages import Generation, Verb
from vps.xen.trying import MIN_SECONDS, Sign, Try, TryOutcome


class State(models.TextChoices):
    ASKED = "asked", gettext_lazy("asked for")
    ARMED = "armed", gettext_lazy("for the next boot only")
    TRYING = "trying", gettext_lazy("being tried")
    HEALTHY = "healthy", gettext_lazy("well")
    BACK = "back", gettext_lazy("taken back")
    GIVEN_UP = "given_up", gettext_lazy("given up")
    FAILED = "failed", gettext_lazy("not tried")


OPEN = frozenset({State.ASKED, State.ARMED, State.TRYING})
WATCHED = frozenset({State.ASKED, State.TRYING})  # that may be said to be well
_ENDS = {
    TryOutcome.HEALTHY: State.HEALTHY,
    TryOutcome.BACK: State.BACK,
    TryOutcome.GIVEN_UP: State.GIVEN_UP,
}
MAX_TAIL = 8000  # characters of the console's end


class BootTry(models.Model):
    """One try. `menu` is what was tried: its default entry; `back` what one goes back to, in words."""

    State = State

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    domu = models.ForeignKey(Domu, models.PROTECT, related_name="tries")
    operation = models.OneToOneField(Operation, models.PROTECT, related_name="tried")
    menu = models.ForeignKey(BootMenu, models.PROTECT, related_name="tries")
    title = models.CharField(max_length=60)
    label = models.CharField(max_length=200, blank=True)
    back = models.CharField(max_length=200, blank=True)
    seconds = models.PositiveIntegerField()
    signs = models.JSONField(default=list)
    keep = models.BooleanField(default=False)
    by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    call_sha256 = models.CharField(
        max_length=64, blank=True, db_index=True
    )  # "" when there is no call, or it came
    said_well_at = models.DateTimeField(
        null=True, blank=True
    )  # a call or a click; told to the dom0 until it answers
    state = models.CharField(max_length=10, choices=State.choices, default=State.ASKED)
    until = models.DateTimeField(null=True, blank=True)
    why = models.CharField(max_length=20, blank=True)
    text = models.CharField(max_length=500, blank=True)
    tail = models.TextField(blank=True)
    default = models.BooleanField(default=False)  # it became the default
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.domu}: {self.title}"

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    @property
    def left(self) -> float | None:
        """Seconds until it is taken back; None while its time has not begun."""
        if self.until is None or self.state != State.TRYING:
            return None
        return max(0.0, (self.until - timezone.now()).total_seconds())

    @property
    def is_armed(self) -> bool:
        """Whether it is, or is about to be, the next boot only."""
        return self.is_open and self.operation.verb == Verb.ARM

    @property
    def may_become_default(self) -> bool:
        """Whether the page offers to make it the default."""
        return (
            self.state == State.HEALTHY or self.why == "once"
        ) and self.domu.menu_serial != self.menu.serial

    # What the dom0 tells.

    def heard(self, told: Mapping[str, Any], at: datetime) -> None:
        """Its operation is done: the domain runs. With `told` (result, `tried`) it has ended, which is final."""
        if told:
            self._ended(told, at)
        elif self.operation.verb == Verb.ARM:
            if self._move({State.ASKED}, State.ARMED):
                self._event("try.armed", _("The next boot of %(name)s, and no other, is %(what)s"))
        elif self._move({State.ASKED}, State.TRYING, until=at + timedelta(seconds=self.seconds)):
            self._event("try.began", _("%(name)s tries %(what)s"))

    def disarmed(self, at: datetime) -> None:
        """The dom0 has nothing armed any more. Its own word may never come: its journal may have been lost."""
        if self._move({State.ARMED}, State.GIVEN_UP, why="disarmed", ended_at=at):
            self._event("try.given_up", _("The next boot of %(name)s is not %(what)s any more"))

    def failed(self, text: str, at: datetime) -> None:
        """Its operation came to nothing."""
        self._move({State.ASKED}, State.FAILED, text=text[:500], ended_at=at)

    def _ended(self, told: Mapping[str, Any], at: datetime) -> None:
        outcome = TryOutcome(told["outcome"])
        fields = {
            "why": str(told.get("why") or "")[:20],
            "text": str(told.get("text") or "")[:500],
            "tail": str(told.get("tail") or "")[:MAX_TAIL],
            "default": told.get("default") is True and self._is_newest(),
            "ended_at": at,
            "call_sha256": "",
        }
        # Also of one that was ended here: its order had reached the dom0 all the same.
        if not self._move(OPEN | {State.FAILED}, _ENDS[outcome], **fields):
            return
        texts = {
            TryOutcome.HEALTHY: _("%(name)s is well with %(what)s"),
            TryOutcome.BACK: _("%(what)s was taken back on %(name)s"),
            TryOutcome.GIVEN_UP: _("Trying %(what)s on %(name)s was given up"),
        }
        text = _("%(name)s booted %(what)s once") if self.why == "once" else texts[outcome]
        if self.why == "disarmed":
            text = _("The next boot of %(name)s is not %(what)s any more")
        self._event(f"try.{outcome.value}", text)
        if outcome is TryOutcome.HEALTHY and (run := told.get("run")):
            record = BootRecord.of(self.domu, UUID(str(run)))
            if record is not None:
                record.seen_well(self.why)
        if self.default:
            # It is the dom0's default already, whatever may be chosen here by now.
            kind = DomainType(self.operation.body["try"]["type"])
            put_in_use(self.domu, self.menu, None, _("It was well when it was tried."), kind)
        if outcome is not TryOutcome.GIVEN_UP:
            self._tell()

    def _is_newest(self) -> bool:
        """Whether no other menu was put in use since it was asked for; the dom0 has the order for that one."""
        fresh = Domu.objects.select_for_update().get(pk=self.domu_id)
        return bool(fresh.menu_serial == self.operation.body["domu"]["boot"]["serial"])

    def _move(self, before: set[State] | frozenset[State], state: State, **fields: Any) -> bool:
        moved = BootTry.objects.filter(pk=self.pk, state__in=before).update(state=state, **fields)
        if moved:
            self.refresh_from_db()
        return bool(moved)

    def _event(self, kind: str, text: str) -> None:
        Event.record(
            kind,
            text % {"name": self.domu.name, "what": self.label or self.title},
            actor=None,
            tenant=self.domu.tenant,
            domu=self.domu,
            dom0=self.domu.dom0,
            reason=self.text,
            after={"menu_serial": self.menu.serial, "default": self.default},
        )

    def _tell(self) -> None:
        """Mail to who tried it; to the tenant's people where nobody is known."""
        people = [self.by] if self.by else list(self.domu.tenant.members.all())
        send(people, "boot_try", {"tried": self, "domu": self.domu})

    # What people, and the guest itself, say.

    def say_well(self, by: User | None) -> None:
        """The owner's click, or the guest's call. Raises Conflict when it is too late."""
        from vps import dispatch

        with transaction.atomic():
            said = (
                BootTry.objects.filter(pk=self.pk, state__in=WATCHED)
                .exclude(operation__verb=Verb.ARM.value)
                .update(said_well_at=timezone.now(), call_sha256="")
            )
            if not said:
                raise Conflict(
                    _("It is not being tried any more: %(state)s.") % {"state": self.get_state_display()}
                )
            self.refresh_from_db()
            Event.record(
                "try.said_well",
                _("%(name)s was said to be well with %(what)s")
                % {"name": self.domu.name, "what": self.title},
                actor=by,
                tenant=self.domu.tenant,
                domu=self.domu,
                dom0=self.domu.dom0,
            )
            transaction.on_commit(lambda: dispatch.say_well(self.domu, self.operation_id))


def call_key() -> tuple[str, str]:
    """A new word for the guest's call, and what is kept of it."""
    key = secrets.token_urlsafe(24)
    return key, hashlib.sha256(key.encode()).hexdigest()


def called(key: str) -> BootTry | None:
    """The open try that a call names."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    rows = BootTry.objects.filter(call_sha256=digest, state__in=OPEN).select_related(
        "domu__tenant", "domu__dom0"
    )
    return rows.first()


def try_once(
    domu: Domu,
    menu: BootMenu,
    by: User | None,
    *,
    seconds: int,
    signs: list[Sign],
    keep: bool = False,
    once: bool = False,
    call_sha256: str = "",
    seen: Generation | None = None,
) -> BootTry:
    """Have the default entry of `menu` booted once. Raises Conflict, TryRefused."""
    with transaction.atomic():
        fresh = Domu.objects.select_for_update().get(pk=domu.pk)
        saved = fresh.boot()
        if not saved.bootable:
            raise Conflict(_("There is nothing to go back to yet; save this menu, it is the first one."))
        boot = Boot.of(menu.boot)
        what = Try(menu_type(fresh, menu), boot, seconds, tuple(signs), keep, once)
        Try.of(what.as_dict())  # as the dom0 will read it
        operation = fresh.order(Verb.TRY, by, seen=seen, **{"try": what.as_dict()})
        tried = _put_down(operation, what, menu, saved, by, keep=keep, call_sha256=call_sha256)
    domu.refresh_from_db()
    return tried


def arm(domu: Domu, menu: BootMenu, by: User | None, *, seen: Generation | None = None) -> BootTry:
    """Have the next boot, whenever it comes, be the default entry of `menu`, and no boot after it.

    Nothing that runs changes. Raises Conflict.
    """
    with transaction.atomic():
        fresh = Domu.objects.select_for_update().get(pk=domu.pk)
        saved = fresh.boot()
        if not saved.bootable:
            raise Conflict(
                _("There is nothing that boots after it yet; save this menu, it is the first one.")
            )
        boot = menu.saved
        uploads = menu.entries.exclude(version__kernel__tenant=None)
        if boot.method is BootMethod.DIRECT and uploads.exists():
            raise Conflict(
                _(
                    "An upload that boots directly cannot wait for a boot: its approval could be taken back before."
                )
            )
        what = Try(menu_type(fresh, menu), boot, MIN_SECONDS, once=True)
        operation = fresh.order(Verb.ARM, by, seen=seen, **{"try": what.as_dict()})
        tried = _put_down(operation, what, menu, saved, by)
    domu.refresh_from_db()
    return tried


def _put_down(
    operation: Operation, what: Try, menu: BootMenu, saved: Boot, by: User | None, **fields: Any
) -> BootTry:
    title, label = name_of(what.boot)
    return BootTry.objects.create(
        domu=operation.domu,
        operation=operation,
        menu=menu,
        title=title,
        label=label,
        back=name_of(saved)[0],
        seconds=what.seconds,
        signs=[sign.as_dict() for sign in what.signs],
        by=by,
        **fields,
    )


def disarm(domu: Domu, by: User | None) -> Operation:
    """Take back what is armed for the next boot only. Raises Conflict when nothing is."""
    with transaction.atomic():
        fresh = Domu.objects.select_for_update().get(pk=domu.pk)
        if not fresh.tries.filter(state=State.ARMED).exists():
            raise Conflict(_("Nothing is armed for the next boot; it is the default's."))
        operation = fresh.order(Verb.ARM, by, **{"try": None})
    domu.refresh_from_db()
    return operation


def name_of(boot: Boot) -> tuple[str, str]:
    """Title and label of what boots."""
    entry = boot.default_entry
    if entry is None:
        return _("the menu on its own disk"), ""
    return entry.title, entry.label


def put_in_use(
    domu: Domu, menu: BootMenu, by: User | None, reason: str = "", kind: DomainType | None = None
) -> None:
    """Make a saved menu the one in use; the dom0 has it, or is asked for it by the caller.

    `kind` is the type that the dom0 boots it as; without one the menu is judged, as one that is chosen now.
    Raises Conflict, where it is judged.
    """
    with transaction.atomic():
        fresh = Domu.objects.select_for_update().get(pk=domu.pk)
        kind, method = kind or menu_type(fresh, menu), menu.boot["method"]
        before = {"menu_serial": fresh.menu_serial, "type": fresh.type, "boot_method": fresh.boot_method}
        fresh.menu_serial, fresh.type, fresh.boot_method = menu.serial, kind.value, method
        fresh.save(update_fields=["menu_serial", "type", "boot_method"])
        Event.record(
            "boot.in_use",
            _("Menu %(n)d of %(name)s is in use") % {"n": menu.serial, "name": fresh.name},
            actor=by,
            tenant=fresh.tenant,
            domu=fresh,
            dom0=fresh.dom0,
            reason=reason,
            before=before,
            after={"menu_serial": menu.serial, "type": kind.value, "boot_method": method},
        )
    domu.refresh_from_db()


def use_menu(domu: Domu, menu: BootMenu, by: User | None) -> Operation:
    """Put a menu in use as it was kept, and have the dom0 make it ready. Raises Conflict; nothing changes then."""
    with transaction.atomic():
        if menu.serial == Domu.objects.select_for_update().get(pk=domu.pk).menu_serial:
            raise Conflict(_("Menu %(n)d is in use already.") % {"n": menu.serial})
        put_in_use(domu, menu, by)
        return domu.order(Verb.PREPARE, by)
