"""Sizes: the numbers of a server, and another size for one that is there."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy

MAX_MEMORY_MIB = 1024 * 1024
MAX_VCPUS = 64
MAX_DISK_MIB = 64 * 1024 * 1024
SIZE_FIELDS = ("memory_mib", "vcpus", "disk_mib")


def whole(label: Any, most: int, least: int = 1, **options: Any) -> forms.IntegerField:
    """A whole number; what is out of its limits gets a sentence that names them."""
    return forms.IntegerField(
        label=label,
        min_value=least,
        max_value=most,
        error_messages={
            "invalid": gettext_lazy("Give a whole number."),
            "required": gettext_lazy("Give a number."),
            "min_value": gettext_lazy("It must be %(limit_value)s or more."),
            "max_value": gettext_lazy("It must be %(limit_value)s or less."),
        },
        **options,
    )


class RunningSizeFields(forms.Form):
    """Memory and cpus of a server."""

    memory_mib = whole(gettext_lazy("Memory in MiB"), MAX_MEMORY_MIB, least=16)
    vcpus = whole(gettext_lazy("Virtual cpus"), MAX_VCPUS)

    def size(self) -> dict[str, int]:
        return {name: self.cleaned_data[name] for name in ("memory_mib", "vcpus")}


class SizeFields(RunningSizeFields):
    """Memory, cpus and disk of a server."""

    disk_mib = whole(gettext_lazy("Disk in MiB"), MAX_DISK_MIB)

    def size(self) -> dict[str, int]:
        return {name: self.cleaned_data[name] for name in SIZE_FIELDS}


class ResizeForm(RunningSizeFields):
    """Another size for a server that is there."""

    why = forms.CharField(
        label=gettext_lazy("What it is for"),
        required=False,
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=gettext_lazy("Where more is asked for, the operator who decides reads this."),
    )


class ApproveSizeForm(RunningSizeFields):
    """Yes: this size."""

    words = forms.CharField(
        label=gettext_lazy("Words to the customer"),
        required=False,
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 2}),
    )
