"""Invitations: a letter to one address, good for 7 days and for one person."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.db import models, transaction
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import events
from accounts.conflict import Conflict
from accounts.ids import new_id
from accounts.models.tenant import Membership, Role, Tenant
from accounts.models.user import User

GOOD_FOR = timedelta(days=7)
IN_SESSION = "invitation"  # the token of the letter that a visitor came with


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def waiting(self) -> InvitationQuerySet:
        """Those that can still be accepted."""
        return self.filter(state=Invitation.State.WAITING, expires_at__gt=timezone.now())

    def by_token(self, token: str) -> Invitation | None:
        return self.select_related("tenant", "by").filter(token_sha256=digest(token)).first()


class Invitation(models.Model):
    """Into a tenant with a role, or, without a tenant, to sign up as a new customer."""

    class State(models.TextChoices):
        WAITING = "waiting", gettext_lazy("waiting")
        ACCEPTED = "accepted", gettext_lazy("accepted")
        REVOKED = "revoked", gettext_lazy("taken back")

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(Tenant, models.CASCADE, null=True, blank=True, related_name="invitations")
    email = models.EmailField(gettext_lazy("e-mail address"))
    role = models.CharField(max_length=12, choices=Role.choices, default=Role.OWNER)
    token_sha256 = models.CharField(max_length=64, unique=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    accepted_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "email"],
                condition=models.Q(state="waiting"),
                name="one_waiting_invitation",
            )
        ]

    def __str__(self) -> str:
        return f"{self.email} to {self.tenant or 'sign up'}"

    @property
    def is_waiting(self) -> bool:
        return self.state == self.State.WAITING and self.expires_at > timezone.now()

    @classmethod
    def invite(cls, email: str, by: User, tenant: Tenant | None = None, role: str = Role.OWNER) -> Invitation:
        """Write a letter to `email`; one that waits there already is taken back. Raises Conflict."""
        from accounts import mail

        email = email.lower()
        with transaction.atomic():
            if tenant is not None:
                tenant = Tenant.objects.select_for_update().get(pk=tenant.pk)
                tenant.check_gives(by, role)
                if tenant.memberships.filter(user__email__iexact=email).exists():
                    raise Conflict(_("%(who)s is a member already.") % {"who": email})
            elif User.objects.filter(email__iexact=email).exists():
                raise Conflict(_("%(who)s has an account already.") % {"who": email})
            cls.objects.filter(tenant=tenant, email=email, state=cls.State.WAITING).update(
                state=cls.State.REVOKED
            )
            token = secrets.token_urlsafe(32)
            made = cls.objects.create(
                tenant=tenant,
                email=email,
                role=role,
                by=by,
                token_sha256=digest(token),
                expires_at=timezone.now() + GOOD_FOR,
            )
            events.record(
                "member.invited",
                _("%(who)s was invited as %(role)s") % {"who": email, "role": made.get_role_display()}
                if tenant
                else _("%(who)s was invited to sign up") % {"who": email},
                actor=by,
                tenant=tenant,
            )
            mail.send(email, "invitation", {"invitation": made, "path": reverse("invitation", args=[token])})
        return made

    def revoke(self, by: User) -> None:
        """Take it back. Raises Conflict when it was accepted or taken back before."""
        with transaction.atomic():
            rows = type(self).objects.filter(pk=self.pk, state=self.State.WAITING)
            if not rows.update(state=self.State.REVOKED):
                raise Conflict(_("The invitation of %(who)s does not wait any more.") % {"who": self.email})
            events.record(
                "member.uninvited",
                _("The invitation of %(who)s was taken back") % {"who": self.email},
                actor=by,
                tenant=self.tenant,
            )

    def accept(self, user: User) -> None:
        """`user` joins. Raises Conflict when it is used up, taken back, too old, or another's."""
        with transaction.atomic():
            if user.email.lower() != self.email:
                raise Conflict(
                    _("This invitation is for %(who)s; you are logged in as %(you)s.")
                    % {"who": self.email, "you": user.email}
                )
            rows = type(self).objects.waiting().filter(pk=self.pk)
            if not rows.update(state=self.State.ACCEPTED, accepted_by=user):
                raise Conflict(self.why_not())
            if self.tenant is None:
                return
            _row, new = Membership.objects.get_or_create(
                tenant=self.tenant, user=user, defaults={"role": self.role}
            )
            if not new:
                raise Conflict(_("You are a member of %(tenant)s already.") % {"tenant": self.tenant})
            events.record(
                "member.joined",
                _("%(who)s joined as %(role)s") % {"who": user, "role": self.get_role_display()},
                actor=user,
                tenant=self.tenant,
            )

    def why_not(self) -> str:
        """Why it cannot be accepted, in words."""
        fresh = type(self).objects.get(pk=self.pk)
        if fresh.state == self.State.ACCEPTED:
            return _("This invitation was used already.")
        if fresh.state == self.State.REVOKED:
            return _("This invitation was taken back. Ask %(by)s for another one.") % {
                "by": self.by or _("who invited you")
            }
        return _("This invitation is older than 7 days. Ask %(by)s for another one.") % {
            "by": self.by or _("who invited you")
        }


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def invitation_of(request: HttpRequest) -> Invitation | None:
    """The waiting invitation whose letter this visitor came with."""
    token = request.session.get(IN_SESSION, "")
    found = Invitation.objects.by_token(token) if token else None
    return found if found is not None and found.is_waiting else None
