"""What is said when direct boot is asked for, decided on, taken back."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _


class AskForm(forms.Form):
    words = forms.CharField(
        label=_("Why directly"),
        max_length=500,
        help_text=_(
            "An operator reads it: a kernel that boots directly is parsed on the dom0, not in your server."
        ),
        widget=forms.Textarea(attrs={"rows": 2}),
    )


class DecideForm(forms.Form):
    answer = forms.ChoiceField(choices=[("approve", _("Approve")), ("refuse", _("Refuse"))])
    words = forms.CharField(
        label=_("Words to the customer"),
        max_length=500,
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
    )

    def clean(self) -> dict[str, object]:
        data = super().clean() or {}
        if data.get("answer") == "refuse" and not data.get("words"):
            self.add_error("words", _("Say why; the customer reads it."))
        return data


class RevokeForm(forms.Form):
    why = forms.CharField(
        label=_("Why it is taken back"), max_length=500, widget=forms.Textarea(attrs={"rows": 2})
    )
