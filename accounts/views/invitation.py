"""What the letter of an invitation leads to."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from accounts.conflict import Conflict
from accounts.models import Installation, Invitation, User
from accounts.models.invitation import IN_SESSION
from accounts.pages import show


@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """Who invites into what; POST accepts, for who is logged in with the address that it was sent to."""
    found = Invitation.objects.by_token(token)
    if found is None:
        raise Http404
    if request.method == "POST" and request.user.is_authenticated:
        return _accept(request, found)
    problem = "" if found.is_waiting else found.why_not()
    if found.is_waiting and not request.user.is_authenticated:
        request.session[IN_SESSION] = token  # sign-up reads it
    return _show(request, found, problem, 410 if problem else 200)


def _accept(request: HttpRequest, found: Invitation) -> HttpResponse:
    try:
        found.accept(request.user)
    except Conflict as conflict:
        return _show(request, found, str(conflict), 409)
    request.session.pop(IN_SESSION, None)
    if found.tenant is not None:
        messages.success(
            request,
            _("You are in %(tenant)s now, as %(role)s.")
            % {"tenant": found.tenant, "role": found.get_role_display()},
        )
    return redirect("home")


def _show(request: HttpRequest, found: Invitation, problem: str, status: int) -> HttpResponse:
    context = {
        "invitation": found,
        "problem": problem,
        "known": User.objects.filter(email__iexact=found.email).exists(),
        "closed": Installation.current().sign_up == Installation.SignUp.CLOSED,
        "mine": request.user.is_authenticated and request.user.email.lower() == found.email,
    }
    return show(request, "people/invitation.html", context, status=status)
