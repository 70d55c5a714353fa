"""Forms of a person's own pages."""

from __future__ import annotations

from typing import Any

from allauth.account import forms as allauth
from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.forms.plain import PASSWORD_HELP, Plain
from accounts.models import SshKey, User
from accounts.models.ssh_key import LONGEST, MOST, read_public_key


class NameForm(forms.ModelForm):
    class Meta:
        model = User
        fields = ["name"]
        widgets = {"name": forms.TextInput(attrs={"autocomplete": "name"})}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["name"].required = True


class ChangePasswordForm(Plain, allauth.ChangePasswordForm):
    words = {"password1": _("New password")}
    helps = {"password1": PASSWORD_HELP}


class SetPasswordForm(Plain, allauth.SetPasswordForm):
    helps = {"password1": PASSWORD_HELP}


class AddressForm(Plain, allauth.AddEmailForm):
    words = {"email": _("New e-mail address")}
    helps = {"email": _("A letter goes there; the address is yours when you confirm it.")}


class SshKeyForm(forms.Form):
    """One public key, pasted as a line."""

    key = forms.CharField(
        label=_("Public key"),
        max_length=LONGEST,
        widget=forms.Textarea(
            attrs={"rows": 4, "spellcheck": "false", "class": "mono", "autocomplete": "off"}
        ),
        help_text=_(
            "The one line of a file like ~/.ssh/id_ed25519.pub. What stands after the key is its comment."
        ),
    )

    def __init__(self, user: User, *args: Any) -> None:
        super().__init__(*args)
        self.user = user

    def clean_key(self) -> str:
        self.read = read_public_key(self.cleaned_data["key"])
        mine = self.user.ssh_keys
        if twin := mine.filter(fingerprint=self.read.fingerprint).first():
            raise ValidationError(
                gettext("You have this key already: %(key)s") % {"key": twin.comment or twin.fingerprint}
            )
        if mine.count() >= MOST:
            raise ValidationError(gettext("You have %(n)s keys; remove one first.") % {"n": MOST})
        return str(self.cleaned_data["key"])

    def save(self) -> SshKey:
        key = self.read
        return SshKey.objects.create(
            user=self.user,
            line=key.line,
            comment=key.comment,
            fingerprint=key.fingerprint,
            kind=key.kind,
            bits=key.bits,
        )
