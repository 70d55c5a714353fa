"""Enrolling a dom0."""

from __future__ import annotations

import re

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from vps.forms.domu import NameAgainForm
from vps.models import Dom0

_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.ASCII)
_BRIDGE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,14}", re.ASCII)


class EnrolForm(forms.Form):
    """A new dom0."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=200,
        help_text=gettext_lazy("Its host name, for people; it can be any that is not in use here."),
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        ),
        error_messages={"required": gettext_lazy("Give the dom0 a name such as host1.")},
    )
    bridge = forms.CharField(
        label=gettext_lazy("Bridge"),
        max_length=200,
        initial="xenbr0",
        help_text=gettext_lazy("The bridge of the dom0 that its servers are connected to."),
        error_messages={"required": gettext_lazy("Name the bridge; brctl show on the dom0 lists them.")},
    )

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if len(name) > 63 or not _HOST.fullmatch(name):
            raise forms.ValidationError(
                _("Use at most 63 small letters, digits and hyphens, beginning and ending without a hyphen.")
            )
        if Dom0.objects.filter(name=name).exists():
            raise forms.ValidationError(
                _("%(name)s is enrolled already; its page can give it a new credential.") % {"name": name}
            )
        return name

    def clean_bridge(self) -> str:
        bridge: str = self.cleaned_data["bridge"]
        if not _BRIDGE.fullmatch(bridge):
            raise forms.ValidationError(
                _("A bridge has a name of at most 15 letters, digits and . _ - such as xenbr0.")
            )
        return bridge


class CredentialForm(NameAgainForm):
    """A new credential for a dom0."""

    at_once = forms.BooleanField(
        label=gettext_lazy("End the old one at once"),
        required=False,
        help_text=gettext_lazy("If it may be in wrong hands. The agent is cut off until it has the new one."),
    )
