"""Addresses of accounts; vps/urls.py includes them at the root.

Names with `account_` and `mfa_` are allauth's, which looks for its pages by them.
"""

from __future__ import annotations

from allauth.account import views as account
from allauth.mfa.base import views as mfa
from allauth.mfa.recovery_codes import views as recovery
from allauth.mfa.totp import views as totp
from allauth.mfa.webauthn import views as passkey
from django.contrib.auth.views import LogoutView
from django.urls import path, re_path

from accounts.views import entrance, invitation, mail, me, members, operator
from accounts.views.operator import DEEDS

urlpatterns = [
    # Before one is in
    path("log-in/", account.login, name="login"),
    path("log-in/", account.login, name="account_login"),
    path("log-in/code/", mfa.authenticate, name="mfa_authenticate"),
    path("log-in/passkey/", passkey.login_webauthn, name="mfa_login_webauthn"),
    path("log-in/closed/", account.account_inactive, name="account_inactive"),
    path("log-out/", LogoutView.as_view(), name="logout"),
    path("sign-up/", account.signup, name="account_signup"),
    path("sign-up/sent/", entrance.letter_sent, name="account_email_verification_sent"),
    path("confirm/<str:key>/", account.confirm_email, name="account_confirm_email"),
    path("reset/", account.password_reset, name="account_reset_password"),
    path("reset/sent/", entrance.reset_sent, name="account_reset_password_done"),
    path("reset/done/", account.password_reset_from_key_done, name="account_reset_password_from_key_done"),
    re_path(
        r"^reset/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        account.password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    path("invitations/<str:token>/", invitation.invitation, name="invitation"),
    # Once more who one is
    path("again/", account.reauthenticate, name="account_reauthenticate"),
    path("again/code/", mfa.reauthenticate, name="mfa_reauthenticate"),
    path("again/passkey/", passkey.reauthenticate_webauthn, name="mfa_reauthenticate_webauthn"),
    # Oneself
    path("me/", me.me, name="me"),
    path("me/address/", account.email, name="account_email"),
    path("me/password/", account.password_change, name="account_change_password"),
    path("me/password/first/", account.password_set, name="account_set_password"),
    path("me/sessions/", me.sessions, name="sessions"),
    path("me/sessions/end-others/", me.sessions_end_others, name="sessions_end_others"),
    path("me/sessions/<int:pk>/end/", me.session_end, name="session_end"),
    path("me/ssh-keys/", me.ssh_keys, name="ssh_keys"),
    path("me/ssh-keys/<uuid:pk>/remove/", me.ssh_key_remove, name="ssh_key_remove"),
    path("me/second-factor/", mfa.index, name="mfa_index"),
    path("me/second-factor/app/", totp.activate_totp, name="mfa_activate_totp"),
    path("me/second-factor/app/remove/", totp.deactivate_totp, name="mfa_deactivate_totp"),
    path("me/second-factor/codes/", recovery.view_recovery_codes, name="mfa_view_recovery_codes"),
    path("me/second-factor/codes/new/", recovery.generate_recovery_codes, name="mfa_generate_recovery_codes"),
    path(
        "me/second-factor/codes/file/", recovery.download_recovery_codes, name="mfa_download_recovery_codes"
    ),
    path("me/passkeys/", passkey.list_webauthn, name="mfa_list_webauthn"),
    path("me/passkeys/add/", passkey.add_webauthn, name="mfa_add_webauthn"),
    path("me/passkeys/<int:pk>/rename/", passkey.edit_webauthn, name="mfa_edit_webauthn"),
    path("me/passkeys/<int:pk>/remove/", passkey.remove_webauthn, name="mfa_remove_webauthn"),
    # The people of a tenant
    path("people/", members.people, name="people"),
    path("people/<uuid:pk>/", members.members, name="members"),
    path("people/members/<uuid:pk>/role/", members.member_role, name="member_role"),
    path("people/members/<uuid:pk>/remove/", members.member_remove, name="member_remove"),
    path("people/invitations/<uuid:pk>/revoke/", members.invitation_revoke, name="invitation_revoke"),
    # For operators
    path("outbox/", mail.outbox, name="outbox"),
    path("settings/", operator.installation, name="installation"),
    path("persons/", operator.persons, name="persons"),
    path("persons/<uuid:pk>/", operator.person, name="person"),
    *(
        path(
            f"persons/<uuid:pk>/{deed}/",
            operator.person_do,
            {"deed": deed},
            name=f"person_{deed.replace('-', '_')}",
        )
        for deed in DEEDS
    ),
    path(
        "persons/invitations/<uuid:pk>/revoke/",
        operator.customer_invitation_revoke,
        name="customer_invitation_revoke",
    ),
]
