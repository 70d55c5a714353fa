"""People."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.conflict import Conflict
from accounts.ids import new_id


class UserManager(BaseUserManager["User"]):
    use_in_migrations = True

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        """Make a person who logs in with `email`, which needs no confirmation. Raises ValueError without one.

        Who signs up alone comes by accounts.forms.entrance, and confirms the address.
        """
        if not email:
            raise ValueError("A user needs an e-mail address.")
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        with transaction.atomic(using=self._db):
            user.save(using=self._db)
            user.confirm_address()
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_operator=True, **fields)

    def forget_unconfirmed(self) -> int:
        """Delete who signed up settings.BERTH_UNCONFIRMED_DAYS ago and never confirmed the address; gives how many.

        Nothing hangs on them: the tenant that they asked for is founded when they first log in.
        """
        limit = timezone.now() - timedelta(days=settings.BERTH_UNCONFIRMED_DAYS)
        rows = self.filter(date_joined__lte=limit, last_login=None, is_active=True, is_operator=False)
        rows = rows.filter(memberships=None, emailaddress__verified=False).exclude(
            emailaddress__verified=True
        )
        gone = list(rows.order_by("date_joined").values_list("pk", flat=True).distinct()[:100])
        self.filter(pk__in=gone).delete()
        return len(gone)

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email__iexact=username or "")


class User(AbstractBaseUser, PermissionsMixin):
    """A person. An operator runs the dom0s and approves; being one gives no membership in a tenant."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    email = models.EmailField(_("e-mail address"), unique=True)
    name = models.CharField(_("name"), max_length=120, blank=True)
    is_operator = models.BooleanField(_("operator"), default=False)
    is_active = models.BooleanField(_("active"), default=True)
    date_joined = models.DateTimeField(default=timezone.now)
    # The name of the tenant that is theirs from the first log-in on; "" when there is none to come.
    founds = models.CharField(max_length=120, blank=True)
    password_changed_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: list[str] = []

    def __str__(self) -> str:
        return self.name or self.email

    def set_password(self, raw_password: str | None) -> None:
        """Set it, and when: what was given out before ends with the one before.

        Django calls this too when it hashes the same password anew at a log-in; then it saves `password` alone.
        """
        super().set_password(raw_password)
        self.password_changed_at = timezone.now()

    def confirm_address(self) -> None:
        """Take the address as proven to be theirs."""
        from allauth.account.models import EmailAddress

        EmailAddress.objects.update_or_create(
            user=self, email=self.email, defaults={"verified": True, "primary": True}
        )

    def found_tenant(self) -> None:
        """Make the tenant that was named at sign-up, once."""
        from accounts.models.tenant import Tenant

        with transaction.atomic():
            if type(self).objects.filter(pk=self.pk, founds=self.founds).exclude(founds="").update(founds=""):
                Tenant.found(self.founds, self)
        self.founds = ""

    def deactivate(self, by: User, why: str) -> None:
        """Close the account: its sessions end, and with them its consoles. Raises Conflict."""
        self._not_oneself(by)
        with transaction.atomic():
            if self.is_operator:
                self._keep_an_operator()
            self._move(
                "is_active", False, by, "user.closed", gettext("The account of %(who)s was closed"), why
            )
            self.end_sessions()

    def activate(self, by: User, why: str = "") -> None:
        """Open a closed account again. Raises Conflict."""
        with transaction.atomic():
            self._move(
                "is_active", True, by, "user.opened", gettext("The account of %(who)s was opened"), why
            )

    def make_operator(self, by: User, why: str = "") -> None:
        """Raises Conflict."""
        with transaction.atomic():
            if not type(self).objects.filter(pk=self.pk, is_active=True).exists():
                raise Conflict(gettext("The account of %(who)s is closed.") % {"who": self})
            self._move("is_operator", True, by, "user.operator", gettext("%(who)s is an operator now"), why)

    def unmake_operator(self, by: User, why: str = "") -> None:
        """Raises Conflict for oneself and the last one."""
        self._not_oneself(by)
        with transaction.atomic():
            self._keep_an_operator()
            self._move(
                "is_operator", False, by, "user.no_operator", gettext("%(who)s is no operator any more"), why
            )

    def end_sessions(self, keep: str | None = None) -> int:
        """End all log-ins of this person but the one of the session key `keep`; gives how many."""
        from allauth.usersessions.models import UserSession

        rows = UserSession.objects.filter(user=self).exclude(session_key=keep)
        ended = 0
        for session in rows:
            session.end()
            ended += 1
        return ended

    def _not_oneself(self, by: User) -> None:
        if by.pk == self.pk:
            raise Conflict(gettext("Nobody does that to themselves: another operator has to."))

    def _keep_an_operator(self) -> None:
        """All operators' rows are locked, so that two do not unmake one another."""
        operators = type(self).objects.select_for_update().filter(is_operator=True, is_active=True)
        if not [one for one in operators if one.pk != self.pk]:
            raise Conflict(gettext("%(who)s is the last operator.") % {"who": self})

    def _move(self, field: str, value: bool, by: User, kind: str, text: str, why: str) -> None:
        from accounts import events

        rows = type(self).objects.filter(pk=self.pk, **{field: not value})
        if not rows.update(**{field: value}):
            raise Conflict(gettext("That was done already."))
        setattr(self, field, value)
        events.record(kind, text % {"who": self}, actor=by, reason=why, after={"email": self.email})
