"""What a person says when a boot is tried once: for how long, by what signs, and what follows."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from vps.models import BootTry, Domu
from vps.xen.description import GuestOS
from vps.xen.trying import MAX_SECONDS, MIN_SECONDS, OWN_SIGNS, Sign, SignKind, TryRefused

USUAL = 180  # seconds


class TryForm(forms.Form):
    """Which signs of health count, and the time there is for one."""

    seconds = forms.IntegerField(
        label=gettext_lazy("Seconds to show that it is well"),
        min_value=MIN_SECONDS,
        max_value=MAX_SECONDS,
        initial=USUAL,
    )
    usual = forms.MultipleChoiceField(
        label=gettext_lazy("It is well when its console shows"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    pattern = forms.CharField(
        label=gettext_lazy("or another line"),
        required=False,
        max_length=400,
        help_text=gettext_lazy("A part of a line that the last boot showed; * stands for anything."),
        widget=forms.TextInput(attrs={"class": "mono", "autocomplete": "off", "spellcheck": "false"}),
    )
    key = forms.CharField(
        label=gettext_lazy("or it writes into the xenstore"),
        required=False,
        max_length=200,
        help_text=gettext_lazy("berth/up=1, for example, for: xenstore-write data/berth/up 1"),
        widget=forms.TextInput(attrs={"class": "mono", "autocomplete": "off", "spellcheck": "false"}),
    )
    call = forms.BooleanField(
        label=gettext_lazy("or it calls an address that is made for it"),
        required=False,
        help_text=gettext_lazy("Counts only while this site can be reached."),
    )
    once = forms.BooleanField(
        label=gettext_lazy("Boot it once, and do not watch it"),
        required=False,
        help_text=gettext_lazy("It runs until it ends, well or not; the next boot is the default's again."),
    )
    keep = forms.BooleanField(
        label=gettext_lazy("When it is well, make it the default"),
        required=False,
    )

    def __init__(self, domu: Domu, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        known = signs_of(domu)
        field: Any = self.fields["usual"]
        field.choices = [(text, text) for text in known]
        field.initial = known[:1]

    def clean_pattern(self) -> str:
        return self._checked(SignKind.CONSOLE, self.cleaned_data["pattern"])

    def clean_key(self) -> str:
        return self._checked(SignKind.XENSTORE, self.cleaned_data["key"])

    def _checked(self, kind: SignKind, text: str) -> str:
        if not text.strip():
            return ""
        try:
            return Sign.of({"kind": kind.value, "text": text}).text
        except TryRefused as error:
            raise forms.ValidationError(str(error)) from error

    def signs(self) -> list[Sign]:
        """The signs that the dom0 looks for, each once."""
        values = self.cleaned_data
        console = dict.fromkeys([*values["usual"], *([values["pattern"]] if values["pattern"] else [])])
        keys = [values["key"]] if values["key"] else []
        return [
            *(Sign(SignKind.CONSOLE, text) for text in console),
            *(Sign(SignKind.XENSTORE, text) for text in keys),
        ]

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        if not self.errors and len(self.signs()) > 8:
            raise forms.ValidationError(_("Choose at most 8 signs."))
        return values


def signs_of(domu: Domu) -> list[str]:
    """What may be looked for on its console: what its last tries were well by, then what its system says by itself."""
    well = BootTry.objects.filter(domu=domu, state=BootTry.State.HEALTHY, why="console")
    seen = list(well.order_by("-id").values_list("text", flat=True)[:5])
    return list(dict.fromkeys([*seen, *OWN_SIGNS[GuestOS(domu.guest_os)]]))
