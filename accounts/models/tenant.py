"""Tenants and the people in them."""

from __future__ import annotations

from django.db import models, transaction
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts import events
from accounts.conflict import Conflict
from accounts.ids import new_id
from accounts.models.user import User


class Role(models.TextChoices):
    OWNER = "owner", _("owner")
    ADMIN = "admin", _("admin")
    DEVELOPER = "developer", _("developer")
    VIEWER = "viewer", _("viewer")


class Right(models.TextChoices):
    """What a member may do; RIGHTS says who may."""

    SEE = "see", _("see servers, kernels and what happened")
    OPERATE = "operate", _("start and stop servers, upload kernels, change what boots, type on consoles")
    REQUEST = "request", _("ask for servers and delete them")
    GOVERN = "govern", _("invite and remove people")


RIGHTS: dict[str, frozenset[str]] = {
    Role.VIEWER: frozenset({Right.SEE}),
    Role.DEVELOPER: frozenset({Right.SEE, Right.OPERATE}),
    Role.ADMIN: frozenset({Right.SEE, Right.OPERATE, Right.REQUEST, Right.GOVERN}),
    Role.OWNER: frozenset({Right.SEE, Right.OPERATE, Right.REQUEST, Right.GOVERN}),
}

# Whom somebody who governs may invite, change and remove: the roles before and after are both among these.
GIVES: dict[str, frozenset[str]] = {
    Role.OWNER: frozenset(Role.values),
    Role.ADMIN: frozenset({Role.DEVELOPER, Role.VIEWER}),
}


class TenantQuerySet(models.QuerySet["Tenant"]):
    def of(self, user: User) -> TenantQuerySet:
        """The tenants that `user` belongs to."""
        return self.filter(memberships__user=user)


class Tenant(models.Model):
    """Who owns servers and kernels: a person or a company."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(_("name"), max_length=120)
    members = models.ManyToManyField(User, through="Membership", related_name="tenants")
    suspended = models.CharField(_("suspended because"), max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TenantQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name

    def role_of(self, user: User) -> str | None:
        """The role of a member, None for everybody else."""
        return self.memberships.filter(user=user).values_list("role", flat=True).first()

    def allows(self, user: User, right: Right) -> bool:
        """Whether `user` may do this here."""
        role = self.role_of(user) if user.is_authenticated and user.is_active else None
        return role is not None and right in RIGHTS[role]

    @classmethod
    def found(cls, name: str, owner: User) -> Tenant:
        """A new tenant with its owner and the default quota."""
        from accounts.models.quota import grant_default

        with transaction.atomic():
            made = cls.objects.create(name=name)
            Membership.objects.create(tenant=made, user=owner, role=Role.OWNER)
            grant_default(made)
            events.record(
                "tenant.made", gettext("%(tenant)s was made") % {"tenant": made}, actor=owner, tenant=made
            )
        return made

    def check_gives(self, by: User, *roles: str) -> None:
        """Raises Conflict when `by` may not invite, change or remove people of one of these roles here."""
        gives = GIVES.get(self.role_of(by) or "", frozenset())
        for role in roles:
            if role not in gives:
                raise Conflict(
                    gettext("Only an owner may decide about people who are %(role)s.")
                    % {"role": Role(role).label}
                )

    def suspend(self, by: User, why: str) -> None:
        """Nothing of it is started any more; its people see `why` on every page. Raises Conflict."""
        self._move_suspended(by, "", why, gettext("%(tenant)s was suspended"), "tenant.suspended", why)

    def lift(self, by: User, reason: str = "") -> None:
        """End the suspension. Raises Conflict."""
        said = type(self).objects.values_list("suspended", flat=True).get(pk=self.pk)
        if not said:
            raise Conflict(gettext("%(tenant)s is not suspended.") % {"tenant": self})
        self._move_suspended(
            by, said, "", gettext("%(tenant)s is not suspended any more"), "tenant.lifted", reason
        )

    def _move_suspended(self, by: User, before: str, after: str, text: str, kind: str, reason: str) -> None:
        with transaction.atomic():
            if not type(self).objects.filter(pk=self.pk, suspended=before).update(suspended=after):
                raise Conflict(gettext("%(tenant)s is suspended already.") % {"tenant": self})
            events.record(
                kind,
                text % {"tenant": self},
                actor=by,
                tenant=self,
                reason=reason,
                before={"suspended": before},
                after={"suspended": after},
            )
        self.suspended = after


class Membership(models.Model):
    """That a person belongs to a tenant, and as what."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(_("role"), max_length=12, choices=Role.choices, default=Role.VIEWER)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "user"], name="one_membership")]

    def __str__(self) -> str:
        return f"{self.user} in {self.tenant}: {self.role}"

    def change_role(self, role: str, by: User) -> None:
        """Give another role. Raises Conflict: not theirs to give, the last owner, or somebody was first."""
        with transaction.atomic():
            tenant = Tenant.objects.select_for_update().get(pk=self.tenant_id)
            tenant.check_gives(by, self.role, role)
            if role == self.role:
                return
            if role != Role.OWNER:
                self._keep_an_owner()
            rows = type(self).objects.filter(pk=self.pk, role=self.role)
            if not rows.update(role=role):
                raise Conflict(gettext("Somebody was first: look again, then decide."))
            events.record(
                "member.role",
                gettext("%(who)s is %(role)s now") % {"who": self.user, "role": Role(role).label},
                actor=by,
                tenant=tenant,
                before={"role": self.role},
                after={"role": role},
            )
        self.role = role

    def remove(self, by: User) -> None:
        """Take somebody out; who takes out themselves leaves. Raises Conflict."""
        leaves = by.pk == self.user_id
        with transaction.atomic():
            tenant = Tenant.objects.select_for_update().get(pk=self.tenant_id)
            if not leaves:
                tenant.check_gives(by, self.role)
            self._keep_an_owner()
            gone, _rows = type(self).objects.filter(pk=self.pk, role=self.role).delete()
            if not gone:
                raise Conflict(gettext("Somebody was first: look again, then decide."))
            words = gettext("%(who)s left") if leaves else gettext("%(who)s was removed")
            events.record(
                "member.left" if leaves else "member.removed",
                words % {"who": self.user},
                actor=by,
                tenant=tenant,
                before={"role": self.role},
            )

    def _keep_an_owner(self) -> None:
        """The tenant's row is locked: nobody else takes out the other owner meanwhile."""
        if self.role != Role.OWNER:
            return
        others = type(self).objects.filter(tenant=self.tenant_id, role=Role.OWNER).exclude(pk=self.pk)
        if not others.filter(user__is_active=True).exists():
            raise Conflict(
                gettext("%(who)s is the last owner of %(tenant)s: make somebody else an owner first.")
                % {"who": self.user, "tenant": self.tenant}
            )
