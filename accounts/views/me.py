"""A person's own page: name, address, password, second factor, sessions, SSH keys, tenants."""

from __future__ import annotations

from uuid import UUID

from allauth.mfa.utils import is_mfa_enabled
from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import events
from accounts.forms.me import NameForm, SshKeyForm
from accounts.models import SshKey, User
from accounts.pages import show


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def me(request: HttpRequest) -> HttpResponse:
    """Who I am here, and where everything about it is changed."""
    person = User.objects.get(pk=request.user.pk)  # not the one in the bar, which a wrong form would change
    form = NameForm(request.POST or None, instance=person)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, _("Your name was changed."))
        return redirect("me")
    context = {
        "form": form,
        "second_factor": is_mfa_enabled(request.user),
        "keys": request.user.ssh_keys.count(),
        "sessions": UserSession.objects.filter(user=request.user).count(),
        "memberships": request.user.memberships.select_related("tenant").order_by("tenant__name"),
    }
    return show(request, "me/page.html", context, status=422 if form.errors else 200)


@require_safe
@login_required
def sessions(request: HttpRequest) -> HttpResponse:
    """Where I am logged in."""
    rows = UserSession.objects.purge_and_list(request.user)
    rows.sort(key=lambda row: row.last_seen_at, reverse=True)
    context = {"sessions": rows, "this": request.session.session_key}
    return show(request, "me/sessions.html", context)


@require_POST
@login_required
def session_end(request: HttpRequest, pk: int) -> HttpResponse:
    """End one log-in; ending this one is logging out."""
    row = get_object_or_404(UserSession, pk=pk, user=request.user)
    here = row.session_key == request.session.session_key
    row.end()
    if here:
        request.session.flush()
        return redirect("login")
    messages.success(request, _("The session was ended."))
    return redirect("sessions")


@require_POST
@login_required
def sessions_end_others(request: HttpRequest) -> HttpResponse:
    ended = request.user.end_sessions(keep=request.session.session_key)
    messages.success(request, _("All other sessions were ended: %(n)s.") % {"n": ended})
    return redirect("sessions")


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def ssh_keys(request: HttpRequest) -> HttpResponse:
    """The keys, and the form for one more."""
    form = SshKeyForm(request.user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            with transaction.atomic():
                key = form.save()
                events.record(
                    "user.key",
                    _("An SSH key was added"),
                    actor=request.user,
                    after={"fingerprint": key.fingerprint},
                )
        except IntegrityError:
            form.add_error("key", _("You have this key already."))
        else:
            messages.success(request, _("The key was added: %(key)s") % {"key": key.fingerprint})
            return redirect("ssh_keys")
    context = {"form": form, "keys": request.user.ssh_keys.all()}
    return show(request, "me/ssh_keys.html", context, status=422 if form.errors else 200)


@require_POST
@login_required
def ssh_key_remove(request: HttpRequest, pk: UUID) -> HttpResponse:
    key = get_object_or_404(SshKey, pk=pk, user=request.user)
    with transaction.atomic():
        key.delete()
        events.record(
            "user.no_key",
            _("An SSH key was removed"),
            actor=request.user,
            before={"fingerprint": key.fingerprint},
        )
    messages.success(request, _("The key was removed. Servers that have it already keep it."))
    return redirect("ssh_keys")
