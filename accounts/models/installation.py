"""What the operators of this installation decided: one row."""

from __future__ import annotations

from django.db import models, transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import events
from accounts.models.user import User


class Installation(models.Model):
    """The one row of settings; what is not saved yet is as the fields' defaults say."""

    class SignUp(models.TextChoices):
        OPEN = "open", gettext_lazy("Open: everybody may sign up")
        INVITED = "invited", gettext_lazy("By invitation: who was invited by a member or an operator")
        CLOSED = "closed", gettext_lazy("Closed: nobody new comes in")

    ONLY = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=ONLY, editable=False)
    sign_up = models.CharField(
        gettext_lazy("Sign-up"), max_length=8, choices=SignUp.choices, default=SignUp.INVITED
    )

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_installation")]

    def __str__(self) -> str:
        return f"sign-up: {self.sign_up}"

    @classmethod
    def current(cls) -> Installation:
        return cls.objects.filter(pk=cls.ONLY).first() or cls()

    @classmethod
    def change(cls, by: User | None, **wanted: str) -> bool:
        """Save other settings; gives whether anything was different."""
        with transaction.atomic():
            cls.objects.get_or_create(pk=cls.ONLY)
            row = cls.objects.select_for_update().get(pk=cls.ONLY)
            before = {name: getattr(row, name) for name in wanted}
            if before == wanted:
                return False
            cls.objects.filter(pk=cls.ONLY).update(**wanted)
            events.record(
                "installation.changed",
                _("The settings of the installation were changed"),
                actor=by,
                before=before,
                after=wanted,
            )
        return True
