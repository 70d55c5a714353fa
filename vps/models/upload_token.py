"""Tokens of build machines: each uploads new versions of one line of kernels, and can do nothing else."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.ids import new_id
from accounts.models import Right, User
from vps.models.conflict import Conflict
from vps.models.event import Event
from vps.models.kernel import Kernel

PREFIX = "berth_"
MAX_DAYS = 366
MAX_LIVE = 20  # of a line of kernels


class UploadToken(models.Model):
    """A token, by the sum of its secret, which is shown once. It ends with the right, or password, of its maker."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    kernel = models.ForeignKey(Kernel, models.CASCADE, related_name="tokens")
    name = models.CharField(gettext_lazy("name"), max_length=63)
    secret_sha256 = models.CharField(max_length=64, unique=True)
    made_by = models.ForeignKey(User, models.CASCADE, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} for {self.kernel}"

    @classmethod
    def make(cls, kernel: Kernel, by: User, name: str, days: int) -> tuple[UploadToken, str]:
        """A new token and its secret, which is kept nowhere. Raises Conflict when there are too many."""
        secret = PREFIX + secrets.token_urlsafe(32)
        now = timezone.now()
        with transaction.atomic():
            Kernel.objects.select_for_update().get(pk=kernel.pk)
            if kernel.tokens.filter(revoked_at=None, expires_at__gt=now).count() >= MAX_LIVE:
                raise Conflict(
                    _("%(kernel)s has %(n)d tokens; take one back first.") % {"kernel": kernel, "n": MAX_LIVE}
                )
            token = cls.objects.create(
                kernel=kernel,
                name=name,
                secret_sha256=_sum(secret),
                made_by=by,
                expires_at=now + timedelta(days=days),
            )
            token._record("token.made", _("The token %(name)s of %(kernel)s was made"), by)
        return token, secret

    @classmethod
    def of_secret(cls, secret: str) -> UploadToken | None:
        """The token of a secret, if it still holds; that it was used is noted."""
        rows = cls.objects.select_related("kernel__tenant", "made_by")
        token = rows.filter(secret_sha256=_sum(secret)).first() if secret.startswith(PREFIX) else None
        if token is None or token.why_ended:
            return None
        cls.objects.filter(pk=token.pk).update(last_used_at=timezone.now())
        return token

    @property
    def why_ended(self) -> str:
        """Why it holds no more; "" while it does."""
        if self.revoked_at:
            return _("taken back")
        if self.expires_at <= timezone.now():
            return _("expired")
        tenant, maker = self.kernel.tenant, self.made_by
        if maker.password_changed_at and maker.password_changed_at > self.created_at:
            return _("who made it has another password since")
        holds = tenant.allows(maker, Right.OPERATE) if tenant else maker.is_active and maker.is_operator
        return "" if holds else _("who made it may not upload any more")

    def revoke(self, by: User) -> None:
        """Take it back; a second call changes nothing."""
        with transaction.atomic():
            changed = UploadToken.objects.filter(pk=self.pk, revoked_at=None).update(
                revoked_at=timezone.now()
            )
            if changed:
                self._record("token.revoked", _("The token %(name)s of %(kernel)s was taken back"), by)
        self.refresh_from_db()

    def _record(self, kind: str, text: str, by: User) -> None:
        said = text % {"name": self.name, "kernel": self.kernel}
        Event.record(kind, said, actor=by, tenant=self.kernel.tenant, after={"token": str(self.pk)})


def _sum(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
