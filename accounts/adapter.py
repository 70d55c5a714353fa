"""Where allauth asks us: who may sign up, in which words, how mail goes out, how secrets are kept."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context as current
from allauth.mfa.adapter import DefaultMFAAdapter
from cryptography.fernet import Fernet, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from accounts import mail
from accounts.access import logged_in_freshly
from accounts.models import Installation, User
from accounts.models.invitation import invitation_of

SHOWN_MAIL = "shown_mail"  # in the session: what the quick start shows to the person it was written to


class AccountAdapter(DefaultAccountAdapter):
    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "account_inactive": _("This account was closed by an operator."),
        "email_password_mismatch": _("No account has this address and this password."),
        "too_many_login_attempts": _("Too many log-ins failed. Wait a few minutes, then try again."),
        "rate_limited": _("That was too often. Wait a minute, then try again."),
        "incorrect_password": _("That is not your password."),
        "enter_current_password": _("That is not your password."),
        "duplicate_email": _("That is your address already."),
        "incorrect_code": _("The code is not right, or its time is over. Type the one that is shown now."),
        "invalid_password_reset": _("The address was used already or is too old."),
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        sign_up = Installation.current().sign_up
        if sign_up == Installation.SignUp.INVITED:
            return invitation_of(request) is not None
        return sign_up == Installation.SignUp.OPEN

    def new_user(self, request: HttpRequest) -> User:
        return User()

    def post_login(self, request: HttpRequest, user: User, **more: Any) -> HttpResponse:
        """The address is confirmed by now: who named a tenant at sign-up gets it."""
        if user.founds:
            user.found_tenant()
        answer: HttpResponse = super().post_login(request, user, **more)
        return answer

    def send_mail(self, template_prefix: str, email: str, context: Mapping[str, Any]) -> None:
        """allauth's names of mails are ours: account/email/password_changed is mail/password_changed.txt."""
        sent = mail.send(email, template_prefix.rsplit("/", 1)[-1], context)
        request = current.request
        if settings.BERTH_QUICKSTART and not User.objects.filter(email=email, is_operator=True).exists():
            shown = request.session.get(SHOWN_MAIL, [])
            request.session[SHOWN_MAIL] = [*shown, *(str(one.pk) for one in sent)][-5:]

    def is_reauthentication_required(self, *, app: str, **more: Any) -> bool:
        return not logged_in_freshly(current.request)

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        from django.urls import reverse

        return reverse("me")


class SecondFactorAdapter(DefaultMFAAdapter):
    error_messages = {
        **DefaultMFAAdapter.error_messages,
        "incorrect_code": AccountAdapter.error_messages["incorrect_code"],
    }

    def encrypt(self, text: str) -> str:
        return _box().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return _box().decrypt(encrypted_text.encode()).decode()


def _box() -> MultiFernet:
    """Second factors' secrets are sealed with SECRET_KEY, so that a copy of the database alone gives none."""
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return MultiFernet([Fernet(_derived(key)) for key in keys])


def _derived(secret: str) -> bytes:
    made = HKDF(hashes.SHA256(), length=32, salt=None, info=b"berth second factors").derive(secret.encode())
    return base64.urlsafe_b64encode(made)
