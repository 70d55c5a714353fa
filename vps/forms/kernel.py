"""What begins an upload."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.models import Right, Tenant, User
from vps.models import Kernel, KernelVersion, Upload
from vps.xen.names import NameRefused, check_arguments

CATALOGUE = "catalogue"


class UploadForm(forms.Form):
    """The beginning of an upload, as the page or a script sends it. `size` in bytes.

    A kernel has a tenant and a name; any other part names the version that it goes onto.
    """

    tenant = forms.ChoiceField(label=_("For"), required=False)
    kernel = forms.CharField(
        label=_("Kernel"),
        max_length=63,
        required=False,
        help_text=_("A name that you will know again. The same name makes a new version of that kernel."),
    )
    part = forms.ChoiceField(choices=Upload.Part.choices, required=False)
    version = forms.UUIDField(required=False)
    filename = forms.CharField(max_length=255)
    size = forms.IntegerField()
    sha256 = forms.CharField(max_length=64, required=False)

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        self.tenants = {str(t.pk): t for t in uploadable(user)}
        choices = [(pk, tenant.name) for pk, tenant in self.tenants.items()]
        if user.is_operator:
            choices.append((CATALOGUE, _("The catalogue, for everybody")))
        field = self.fields["tenant"]
        field.choices = choices  # type: ignore[attr-defined]

    def clean_part(self) -> str:
        return self.cleaned_data["part"] or Upload.Part.KERNEL

    def clean(self) -> dict[str, Any]:
        """Gives `tenant` (None for the catalogue), `kernel` and, for a part, `version`."""
        data = super().clean() or {}
        if self.errors:
            return data
        if data["part"] != Upload.Part.KERNEL:
            version = self._version(data.get("version"))
            return {
                **data,
                "version": version,
                "tenant": version.kernel.tenant,
                "kernel": version.kernel.name,
            }
        if not data["tenant"]:
            raise forms.ValidationError(_("Say for whom the kernel is."))
        if not data["kernel"]:
            raise forms.ValidationError(_("Give the kernel a name."))
        return {**data, "version": None, "tenant": self.tenants.get(data["tenant"])}

    def _version(self, pk: UUID | None) -> KernelVersion:
        version = KernelVersion.objects.filter(pk=pk).select_related("kernel__tenant").first()
        if version is not None:
            mine = str(version.kernel.tenant_id) in self.tenants
            if mine or (version.kernel.tenant_id is None and self.user.is_operator):
                return version
        raise forms.ValidationError(_("There is no such version among the kernels that you may change."))


class KernelForm(forms.ModelForm):  # type: ignore[type-arg]
    """What is said of a line of kernels. `purpose` is of the catalogue alone."""

    class Meta:
        model = Kernel
        fields = ["description", "guest_os", "purpose", "default_arguments", "deprecated", "successor"]
        widgets = {"description": forms.Textarea(attrs={"rows": 3})}
        help_texts = {
            "default_arguments": _("What an entry of a boot menu begins with: root=xbd0a, for instance."),
            "deprecated": _("Empty while it is what one should take."),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        kernel = self.instance
        others = Kernel.objects.filter(tenant=kernel.tenant).exclude(pk=kernel.pk).order_by("name")
        self.fields["successor"].queryset = others  # type: ignore[attr-defined]
        if kernel.tenant_id is not None:
            del self.fields["purpose"]

    def clean_default_arguments(self) -> str:
        try:
            return check_arguments(self.cleaned_data["default_arguments"])
        except NameRefused as error:
            raise forms.ValidationError(str(error)) from error


class VersionForm(forms.ModelForm):  # type: ignore[type-arg]
    """What is said of one version."""

    class Meta:
        model = KernelVersion
        fields = ["note", "deprecated"]
        widgets = {"note": forms.Textarea(attrs={"rows": 3})}
        help_texts = {"deprecated": _("Empty while it is what one should take.")}


class TokenForm(forms.Form):
    """A token for a build machine."""

    name = forms.CharField(
        label=_("Name"), max_length=63, help_text=_("Of the machine or the job that will have it.")
    )
    days = forms.TypedChoiceField(
        label=_("Holds for"),
        coerce=int,
        choices=[(7, _("a week")), (30, _("30 days")), (90, _("90 days")), (365, _("a year"))],
        initial=90,
    )


def uploadable(user: User) -> list[Tenant]:
    """The tenants for which this person may upload kernels."""
    return [t for t in Tenant.objects.of(user).order_by("name") if t.allows(user, Right.OPERATE)]
