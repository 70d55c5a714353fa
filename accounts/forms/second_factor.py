"""Forms of second factors."""

from __future__ import annotations

from typing import Any

from allauth.mfa.adapter import get_adapter
from allauth.mfa.base import forms as base
from allauth.mfa.totp import forms as totp
from allauth.mfa.webauthn import forms as webauthn
from allauth.mfa.webauthn.internal.auth import parse_registration_response
from django.utils.translation import gettext_lazy as _

from accounts.forms.plain import Plain

CODE_HELP = _("Six digits from your authenticator app, or one of your recovery codes.")


class CodeForm(Plain, base.AuthenticateForm):
    helps = {"code": CODE_HELP}


class CodeAgainForm(Plain, base.ReauthenticateForm):
    helps = {"code": CODE_HELP}


class ActivateForm(Plain, totp.ActivateTOTPForm):
    helps = {"code": _("The six digits that the app shows now.")}


class Whole:
    """What a device says is read by a library that expects whole answers; half ones are refused here."""

    def clean_credential(self) -> Any:
        told = self.cleaned_data["credential"]  # type: ignore[attr-defined]
        try:
            before = getattr(super(), "clean_credential", None)
            return before() if before else self._read(told)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise get_adapter().validation_error("incorrect_code") from error

    def _read(self, told: Any) -> Any:
        parse_registration_response(told)
        return told


class PasskeyForm(Whole, Plain, webauthn.AddWebAuthnForm):
    words = {"name": _("Name"), "passwordless": _("Log in with it alone, without password")}
    helps = {
        "name": _("To tell your passkeys apart: the device that holds it."),
        "passwordless": _("The device then asks for its PIN, a finger or a face."),
    }


class PasskeyLoginForm(Whole, webauthn.LoginWebAuthnForm):
    pass


class PasskeyCodeForm(Whole, webauthn.AuthenticateWebAuthnForm):
    pass


class PasskeyAgainForm(Whole, webauthn.ReauthenticateWebAuthnForm):
    pass


class RenameForm(Plain, webauthn.EditWebAuthnForm):
    pass
