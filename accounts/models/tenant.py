"""Tenants and the people in them."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

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
    Role.ADMIN: frozenset({Right.SEE, Right.OPERATE, Right.REQUEST}),
    Role.OWNER: frozenset({Right.SEE, Right.OPERATE, Right.REQUEST, Right.GOVERN}),
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
