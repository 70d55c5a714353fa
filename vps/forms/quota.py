"""Amounts of the quota: what more is asked for, what the limits are to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models.quota import Resource
from vps.forms.size import MAX_DISK_MIB, MAX_MEMORY_MIB, whole

MIB = 1024 * 1024
# Kernels are counted in bytes and spoken of in MiB.
FIELDS = {
    "servers": Resource.SERVERS,
    "memory_mib": Resource.MEMORY,
    "vcpus": Resource.VCPUS,
    "disk_mib": Resource.DISK,
    "kernel_mib": Resource.KERNELS,
}


class AmountFields(forms.Form):
    """A number for each resource; what is left empty stands for `empty`."""

    servers = whole(gettext_lazy("Servers"), 10_000, least=0, required=False)
    memory_mib = whole(gettext_lazy("Memory in MiB"), MAX_MEMORY_MIB * 16, least=0, required=False)
    vcpus = whole(gettext_lazy("Virtual cpus"), 10_000, least=0, required=False)
    disk_mib = whole(gettext_lazy("Disk in MiB"), MAX_DISK_MIB, least=0, required=False)
    kernel_mib = whole(gettext_lazy("Kernels in MiB"), MAX_DISK_MIB, least=0, required=False)

    def amounts(self) -> dict[str, int]:
        """By resource, in the ledger's units; an empty field is 0."""
        return in_units({name: self.cleaned_data.get(name) or 0 for name in FIELDS})


def in_units(numbers: Mapping[str, int]) -> dict[str, int]:
    """Numbers of the fields as amounts of the ledger."""
    return {
        resource.value: numbers[name] * (MIB if resource is Resource.KERNELS else 1)
        for name, resource in FIELDS.items()
    }


def in_fields(amounts: Mapping[str, int]) -> dict[str, int]:
    """Amounts of the ledger as numbers of the fields."""
    return {
        name: amounts.get(resource.value, 0) // (MIB if resource is Resource.KERNELS else 1)
        for name, resource in FIELDS.items()
    }


class AskQuotaForm(AmountFields):
    """More of what the limits allow."""

    why = forms.CharField(
        label=gettext_lazy("What it is for"),
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=gettext_lazy("The operator who decides reads this."),
        error_messages={"required": gettext_lazy("Say what it is for; the operator who decides reads this.")},
    )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not self.errors and not any(self.amounts().values()):
            raise forms.ValidationError(_("Nothing is asked for; say of what you need more, and how much."))
        return data


class ApproveQuotaForm(AmountFields):
    """Yes: so much more."""

    words = forms.CharField(
        label=gettext_lazy("Words to the customer"),
        required=False,
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 2}),
    )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not self.errors and not any(self.amounts().values()):
            raise forms.ValidationError(_("That would give nothing; refuse the request with words instead."))
        return data

    def size(self) -> dict[str, int]:
        return self.amounts()


class LimitsForm(AmountFields):
    """Every limit as it is to be, and why."""

    reason = forms.CharField(
        label=gettext_lazy("Why"),
        max_length=500,
        help_text=gettext_lazy("It stays in the ledger; the customer reads it there."),
        error_messages={"required": gettext_lazy("Say why; it stays in the ledger.")},
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name in FIELDS:
            self.fields[name].required = True


class DefaultForm(AmountFields):
    """What new tenants begin with."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name in FIELDS:
            self.fields[name].required = True
