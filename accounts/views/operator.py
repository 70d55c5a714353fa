"""An operator's pages about people and about this installation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from allauth.mfa.models import Authenticator
from django.contrib import messages
from django.db.models import Count, Exists, OuterRef, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import fresh_login_required, operator_required
from accounts.conflict import Conflict
from accounts.forms.people import InstallationForm, InviteCustomerForm, WhyForm
from accounts.models import Installation, Invitation, Membership, User
from accounts.pages import paged, show, sought

# What an operator does to a person: the method, whether words are demanded, the title and what it means.
DEEDS: dict[str, tuple[Callable[..., None], bool, Any, Any]] = {
    "close": (
        User.deactivate,
        True,
        gettext_lazy("Close the account of %(who)s"),
        gettext_lazy("All sessions and consoles end at once. Servers, keys and tenants stay as they are."),
    ),
    "open": (
        User.activate,
        False,
        gettext_lazy("Open the account of %(who)s again"),
        gettext_lazy("The person can log in again, with the password and second factor as before."),
    ),
    "make-operator": (
        User.make_operator,
        True,
        gettext_lazy("Make %(who)s an operator"),
        gettext_lazy("An operator sees all tenants and hosts, approves requests and makes other operators."),
    ),
    "unmake-operator": (
        User.unmake_operator,
        True,
        gettext_lazy("Take the operator's rights from %(who)s"),
        gettext_lazy("Memberships in tenants stay as they are."),
    ),
}


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def persons(request: HttpRequest) -> HttpResponse:
    """Everybody with an account; POST invites a new customer."""
    form = InviteCustomerForm(request.POST or None)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                made = Invitation.invite(form.cleaned_data["email"], request.user)
            except Conflict as conflict:
                form.add_error("email", str(conflict))
                status = 409
            else:
                messages.success(request, _("An invitation goes to %(who)s.") % {"who": made.email})
                return redirect("persons")
    rows = User.objects.annotate(
        tenant_count=Count("memberships"),
        has_second_factor=Exists(Authenticator.objects.filter(user=OuterRef("pk"))),
    ).order_by("name", "email")
    if q := sought(request):
        of_tenant = Membership.objects.filter(tenant__name__icontains=q).values("user")
        rows = rows.filter(Q(name__icontains=q) | Q(email__icontains=q) | Q(pk__in=of_tenant))
    if request.GET.get("who") == "operators":
        rows = rows.filter(is_operator=True)
    context = {
        "page": paged(request, rows),
        "q": q,
        "form": form,
        "waiting": Invitation.objects.waiting().filter(tenant=None).select_related("by"),
        "sign_up": Installation.current(),
    }
    return show(request, "operator/persons.html", context, status=status)


@require_safe
@operator_required
def person(request: HttpRequest, pk: UUID) -> HttpResponse:
    return page_of(request, get_object_or_404(User, pk=pk))


def page_of(request: HttpRequest, who: User, problem: str = "", status: int = 200) -> HttpResponse:
    oneself = who == request.user
    context = {
        "person": who,
        "oneself": oneself,
        "problem": problem,
        "memberships": who.memberships.select_related("tenant").order_by("tenant__name"),
        "factors": [str(one.get_type_display()) for one in Authenticator.objects.filter(user=who)],
        "confirmed": who.emailaddress_set.filter(email__iexact=who.email, verified=True).exists(),
        "sessions": who.usersession_set.order_by("-last_seen_at"),
    }
    return show(request, "operator/person.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
@fresh_login_required
def person_do(request: HttpRequest, pk: UUID, deed: str) -> HttpResponse:
    """Close, open, make an operator or not: a page that says what it means, then its button."""
    who = get_object_or_404(User, pk=pk)
    method, demanded, title, means = DEEDS[deed]
    form = WhyForm(request.POST or None, required=demanded, help_text=_("It is kept with the event."))
    if request.method == "POST" and form.is_valid():
        try:
            method(who, request.user, form.cleaned_data["why"])
        except Conflict as conflict:
            return page_of(request, who, str(conflict), 409)
        return redirect("person", pk)
    context = {
        "person": who,
        "form": form,
        "title": title % {"who": who},
        "means": means,
        "danger": deed in ("close", "unmake-operator"),
    }
    return show(request, "operator/person_do.html", context, status=422 if form.errors else 200)


@require_POST
@operator_required
def customer_invitation_revoke(request: HttpRequest, pk: UUID) -> HttpResponse:
    row = get_object_or_404(Invitation, pk=pk, tenant=None)
    try:
        row.revoke(request.user)
    except Conflict as conflict:
        messages.error(request, str(conflict))
    else:
        messages.success(request, _("The invitation of %(who)s was taken back.") % {"who": row.email})
    return redirect("persons")


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def installation(request: HttpRequest) -> HttpResponse:
    """What holds for the whole installation: who may sign up."""
    form = InstallationForm(request.POST or None, instance=Installation.current())
    if request.method == "POST" and form.is_valid():
        if Installation.change(request.user, **form.cleaned_data):
            messages.success(request, _("The settings were saved."))
        return redirect("installation")
    return show(request, "operator/installation.html", {"form": form}, status=422 if form.errors else 200)
