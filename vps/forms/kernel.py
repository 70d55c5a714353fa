"""What begins an upload."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.models import Right, Tenant, User

CATALOGUE = "catalogue"


class UploadForm(forms.Form):
    """The beginning of an upload, as the page or a script sends it. `size` in bytes."""

    tenant = forms.ChoiceField(label=_("For"))
    kernel = forms.CharField(
        label=_("Kernel"),
        max_length=63,
        help_text=_("A name that you will know again. The same name makes a new version of that kernel."),
    )
    filename = forms.CharField(max_length=255)
    size = forms.IntegerField()
    sha256 = forms.CharField(max_length=64, required=False)

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tenants = {str(t.pk): t for t in uploadable(user)}
        choices = [(pk, tenant.name) for pk, tenant in self.tenants.items()]
        if user.is_operator:
            choices.append((CATALOGUE, _("The catalogue, for everybody")))
        field = self.fields["tenant"]
        field.choices = choices  # type: ignore[attr-defined]

    def clean_tenant(self) -> Tenant | None:
        """The tenant, None for the catalogue."""
        return self.tenants.get(self.cleaned_data["tenant"])


def uploadable(user: User) -> list[Tenant]:
    """The tenants for which this person may upload kernels."""
    return [t for t in Tenant.objects.of(user).order_by("name") if t.allows(user, Right.OPERATE)]
