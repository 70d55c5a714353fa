"""Forms about other people: invitations, roles, words of operators."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.models import Installation, Role


class InviteForm(forms.Form):
    """An address and a role among those that the person may give."""

    email = forms.EmailField(
        label=_("E-mail address"),
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
        help_text=_("The invitation works for this address only, for 7 days, once."),
    )
    role = forms.ChoiceField(label=_("Role"), initial=Role.DEVELOPER)

    def __init__(self, roles: Any, *args: Any) -> None:
        super().__init__(*args)
        self.fields["role"].choices = [(value, label) for value, label in Role.choices if value in roles]


class InviteCustomerForm(forms.Form):
    email = InviteForm.base_fields["email"]


class WhyForm(forms.Form):
    """Words that others read."""

    why = forms.CharField(label=_("Why"), max_length=500, widget=forms.Textarea(attrs={"rows": 3}))

    def __init__(self, *args: Any, required: bool = True, help_text: Any = "") -> None:
        super().__init__(*args)
        self.fields["why"].required = required
        self.fields["why"].help_text = help_text


class InstallationForm(forms.ModelForm):
    class Meta:
        model = Installation
        fields = ["sign_up"]
        widgets = {"sign_up": forms.RadioSelect}
