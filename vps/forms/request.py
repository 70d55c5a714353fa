"""Asking for a server, and deciding on it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import Max
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts.models import Right, Tenant, User
from accounts.models.quota import Resource, shown, sums
from accounts.models.tenant import RIGHTS
from vps.forms.size import SIZE_FIELDS, SizeFields
from vps.models import Dom0, KernelVersion, Request, Size
from vps.xen.description import BootMethod, GuestOS
from vps.xen.names import NameRefused, check_domu_name

OWN = "own"

GUESTS = [
    (GuestOS.NETBSD.value, "NetBSD"),
    (GuestOS.LINUX.value, "Linux"),
    (GuestOS.SOLARIS.value, "Solaris"),
    (GuestOS.OTHER.value, gettext_lazy("another one")),
]
KEEPERS = [
    (BootMethod.PVGRUB.value, gettext_lazy("Berth: you upload kernels here and choose in a menu.")),
    (BootMethod.OWN_DISK.value, gettext_lazy("I, inside the server: its own disk says what boots.")),
]


class AskForm(SizeFields):
    """A new server. Ask `tenants` first whether there is one to ask for."""

    tenant = forms.ModelChoiceField(Tenant.objects.none(), label=gettext_lazy("For"), empty_label=None)
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=200,
        help_text=gettext_lazy("Its host name: small letters, digits and hyphens. Nobody else may have it."),
        error_messages={"required": gettext_lazy("Give the server a host name such as web1.")},
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )
    guest_os = forms.ChoiceField(
        label=gettext_lazy("What will run in it"),
        choices=GUESTS,
        help_text=gettext_lazy("Decides what the disks are called and what new kernel arguments begin with."),
    )
    boot_method = forms.ChoiceField(
        label=gettext_lazy("Who looks after the kernel?"),
        choices=KEEPERS,
        widget=forms.RadioSelect,
        initial=BootMethod.PVGRUB.value,
        required=False,
    )
    start_from = forms.ModelChoiceField(
        KernelVersion.objects.none(),
        label=gettext_lazy("Start from"),
        required=False,
        empty_label=gettext_lazy("an empty disk"),
        help_text=gettext_lazy("An installer of the catalogue becomes the first entry of its boot menu."),
        error_messages={"invalid_choice": gettext_lazy("That installer is not offered any more.")},
    )
    offer = forms.ChoiceField(label=gettext_lazy("Size"), widget=forms.RadioSelect)
    why = forms.CharField(
        label=gettext_lazy("What it is for"),
        required=False,
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=gettext_lazy("The operator who decides reads this."),
    )
    field_order = ["tenant", "name", "guest_os", "boot_method", "start_from", "offer", *SIZE_FIELDS, "why"]

    def __init__(self, user: User, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.user = user
        self.tenants = askable(user)
        tenant = self.fields["tenant"]
        assert isinstance(tenant, forms.ModelChoiceField)
        tenant.queryset = self.tenants
        if len(self.tenants) == 1:
            tenant.widget = forms.HiddenInput()
            tenant.initial = self.tenants[0].pk
        start_from = self.fields["start_from"]
        assert isinstance(start_from, forms.ModelChoiceField)
        start_from.queryset = KernelVersion.objects.installers()
        self.sizes = list(Size.objects.filter(offered=True))
        offer = self.fields["offer"]
        assert isinstance(offer, forms.ChoiceField)
        offer.choices = [
            *((str(size.pk), size) for size in self.sizes),
            (OWN, _("Numbers of my own")),
        ]
        offer.initial = str(self.sizes[0].pk) if self.sizes else OWN
        for name in SIZE_FIELDS:
            self.fields[name].required = False
            if self.sizes:
                self.fields[name].initial = getattr(self.sizes[0], name)

    def clean_name(self) -> str:
        name = self.cleaned_data["name"]
        try:
            check_domu_name(name)
        except NameRefused as error:
            raise forms.ValidationError(str(error)) from error
        if Request.name_is_taken(name):
            raise forms.ValidationError(_("The name %(name)s is taken; choose another one.") % {"name": name})
        return name

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        offer = data.get("offer")
        if offer and offer != OWN:
            self._take(next(size for size in self.sizes if str(size.pk) == offer), data)
        elif offer == OWN:
            for name in SIZE_FIELDS:
                if data.get(name) is None and name not in self.errors:
                    self.add_error(name, _("Give a number."))
        self._against_dom0s(data)
        tenant = data.get("tenant")
        if tenant is not None:
            self._against_quota(tenant, data)
        return data

    def _take(self, size: Size, data: dict[str, Any]) -> None:
        """A size that is offered stands for all three numbers, whatever was left in their fields."""
        for name in SIZE_FIELDS:
            self.errors.pop(name, None)
            data[name] = getattr(size, name)

    def _say(self, name: str, text: str) -> None:
        own = self.cleaned_data.get("offer") == OWN
        self.add_error(name if own else "offer", text)

    def _against_dom0s(self, data: dict[str, Any]) -> None:
        """What no dom0 could carry, were it empty."""
        most = Dom0.objects.filter(accepts_new=True, memory_mib__gt=0).aggregate(
            memory_mib=Max("memory_mib"), vcpus=Max("cpus"), disk_mib=Max("disk_mib")
        )
        for name in SIZE_FIELDS:
            value, limit = data.get(name), most[name]
            if value is not None and limit and value > limit:
                self._say(
                    name,
                    _("No host here has that much: the largest has %(limit)s of %(what)s for servers.")
                    % {"limit": shown(name, limit), "what": Resource(name).label},
                )
                data.pop(name, None)

    def _against_quota(self, tenant: Tenant, data: dict[str, Any]) -> None:
        now = sums(tenant)
        if now[Resource.SERVERS]["left"] < 1:
            limit = now[Resource.SERVERS]["limit"]
            self.add_error(
                None,
                ngettext(
                    "%(tenant)s may have %(limit)d server and has it; delete it or withdraw its request.",
                    "%(tenant)s may have %(limit)d servers and has them; delete one or withdraw a request.",
                    limit,
                )
                % {"tenant": tenant, "limit": limit},
            )
        for name in SIZE_FIELDS:
            value = data.get(name)
            if value is not None and value > now[name]["left"]:
                self._say(
                    name,
                    _("%(want)s of %(what)s is more than the quota leaves: %(left)s of %(limit)s.")
                    % {
                        "want": shown(name, value),
                        "what": Resource(name).label,
                        "left": shown(name, max(0, now[name]["left"])),
                        "limit": shown(name, now[name]["limit"]),
                    },
                )

    def fields_of_request(self) -> dict[str, Any]:
        """What Request.ask takes besides tenant and person."""
        names = ("name", "guest_os", "start_from", "why")
        method = self.cleaned_data["boot_method"] or BootMethod.PVGRUB.value
        return {name: self.cleaned_data[name] for name in names} | self.size() | {"boot_method": method}


class ApproveForm(SizeFields):
    """Yes: on which dom0, as large as asked or otherwise."""

    dom0 = forms.ModelChoiceField(
        Dom0.objects.all(),
        label=gettext_lazy("dom0"),
        empty_label=None,
        widget=forms.RadioSelect,
        error_messages={
            "required": gettext_lazy("Choose the dom0 that it is to be made on."),
            "invalid_choice": gettext_lazy("That dom0 is not there any more; choose another one."),
        },
    )
    words = forms.CharField(
        label=gettext_lazy("Words to the customer"),
        required=False,
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 2}),
    )


class RefuseForm(forms.Form):
    """No, and why."""

    words = forms.CharField(
        label=gettext_lazy("Why not"),
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text=gettext_lazy("The customer reads this. Say what would make it possible."),
        error_messages={"required": gettext_lazy("Say why; the customer reads it.")},
    )


def askable(user: User) -> Any:
    """The tenants for which this person may ask for servers."""
    roles = [role for role, rights in RIGHTS.items() if Right.REQUEST in rights]
    return Tenant.objects.filter(memberships__user=user, memberships__role__in=roles).order_by("name")
