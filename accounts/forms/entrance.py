"""Forms before one is in: log-in, sign-up, reset, the password again."""

from __future__ import annotations

from typing import Any

from allauth.account import forms as allauth
from allauth.core import context as current
from django import forms
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts.forms.plain import PASSWORD_HELP, Plain
from accounts.models import User
from accounts.models.invitation import IN_SESSION, invitation_of


class LoginForm(Plain, allauth.LoginForm):
    pass


class ResetForm(Plain, allauth.ResetPasswordForm):
    pass


class NewPasswordForm(Plain, allauth.ResetPasswordKeyForm):
    words = {"password1": _("New password")}
    helps = {"password1": PASSWORD_HELP}


class PasswordAgainForm(Plain, allauth.ReauthenticateForm):
    pass


class SignUpForm(Plain, allauth.SignupForm):
    """Makes the person; unless an invitation leads into another, their tenant comes with the first log-in."""

    name = forms.CharField(max_length=120)
    tenant = forms.CharField(max_length=120, required=False)
    field_order = ["name", "email", "tenant", "password1"]
    words = {"name": _("Your name"), "tenant": _("Company or project")}
    helps = {
        "password1": PASSWORD_HELP,
        "tenant": _("Who the servers belong to. Left empty, it is you."),
    }

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.invitation = invitation_of(current.request)
        self.fields["name"].widget.attrs["autocomplete"] = "name"
        self.fields["tenant"].widget.attrs["autocomplete"] = "organization"
        if self.invitation is None:
            return
        self.fields["email"].widget.attrs["readonly"] = True
        self.fields["email"].initial = self.initial["email"] = self.invitation.email
        if self.invitation.tenant is not None:
            del self.fields["tenant"]

    def clean_email(self) -> str:
        """The letter came to this address, which proves it: another one is not taken with it."""
        if self.invitation is not None:
            return str(self.validate_unique_email(self.invitation.email))
        return str(super().clean_email())

    def save(self, request: HttpRequest) -> User:
        with transaction.atomic():
            if self.invitation is not None:
                request.session["account_verified_email"] = self.invitation.email
            user: User = super().save(request)
            if self.invitation is not None:
                self.invitation.accept(user)
                request.session.pop(IN_SESSION, None)
        return user

    def custom_signup(self, request: HttpRequest, user: User) -> None:
        user.name = self.cleaned_data["name"]
        if self.invitation is None or self.invitation.tenant is None:
            user.founds = self.cleaned_data.get("tenant") or user.name
        user.save(update_fields=["name", "founds"])
