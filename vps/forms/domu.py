"""Forms about one server."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy


class NameAgainForm(forms.Form):
    """For what cannot be taken back: the name has to be typed."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=200,
        error_messages={"required": gettext_lazy("Type the name to go on.")},
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )
    reason = forms.CharField(
        label=gettext_lazy("Why"),
        required=False,
        max_length=500,
        help_text=gettext_lazy("It stays in the events."),
    )

    def __init__(self, wanted: str, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.wanted = wanted

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if name.strip() != self.wanted:
            raise forms.ValidationError(
                _("That is not its name. Type %(name)s, or go back.") % {"name": self.wanted}
            )
        return name
