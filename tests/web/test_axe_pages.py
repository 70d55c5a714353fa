"""axe-core over every page that the access table knows, as the visitor, an owner and an operator."""

from __future__ import annotations

from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from django.urls import reverse

from accounts.models import Installation, User
from tests.web import states
from tests.web.conftest import PASSWORD, Cast
from tests.web.test_access_table import PEOPLE, TABLE, Address, World, world  # noqa: F401  a fixture
from tests.web.test_axe import Eyes, Look, eyes  # noqa: F401  a fixture
from tests.web.world import Mouth

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(540)]

FILLED_IN = "main form[method=post]:has(input:not([type=hidden]), textarea)"  # a form with something to write
# Addresses that show nothing, and what they give instead.
NO_PAGE = {
    "events_export": "a file",
    "mfa_download_recovery_codes": "a file",
    "agent_blob": "a file, for agents",
    "kernel_upload_piece": "how far an upload is, for scripts",
    "api_kernel_versions": "for build machines",
    "api_kernel_verdict": "for build machines",
    "well": "a sign of health, for servers",
    "healthz": "for machines",
    "readyz": "for machines",
    "metrics": "for machines",
    "mfa_login_webauthn": "a challenge, for scripts",
    "mfa_reauthenticate_webauthn": "the page of mfa_reauthenticate, for who has a passkey only",
    "account_set_password": "leads on: everybody here has a password",
    "people": "leads on, to the one tenant that one belongs to",
    "kernel_parts": "a part of kernel_version, for its script",
    "kernel_compare": "two versions are looked at below",
    "mfa_authenticate": "stands on the way of a log-in, below",
    "login": "account_login by another name",
}
# What wants a fresh log-in, which the table's people do not have: who is shown it here.
FRESH = {
    "owner": {"mfa_activate_totp", "mfa_add_webauthn", "mfa_edit_webauthn", "mfa_remove_webauthn"}
    | {"mfa_view_recovery_codes", "mfa_generate_recovery_codes"},
    "operator": {"mfa_deactivate_totp"}
    | {f"person_{deed}" for deed in ("close", "open", "make_operator", "unmake_operator")},
}
# Pages with more on them for operators.
BOTH = {"servers", "server", "request", "operations", "kernel_version", "kernels", "quota", "boot"}


def pages(who: str) -> list[Address]:
    """What this person is to be shown: each page by the first of visitor, owner, operator who may see it."""
    rows = {address.name: address for address in TABLE if address.data is None and not address.put}
    seen: set[str] = set()
    for name in ("visitor", "owner", "operator"):
        mine = {
            address.name
            for address in rows.values()
            if address.name in FRESH.get(name, ()) or address.wanted[PEOPLE.index(name)] == 200
        } - set(NO_PAGE)
        if name == who:
            return [rows[page] for page in rows if page in mine and (page not in seen or page in BOTH)]
        seen |= mine
    raise LookupError(who)


def test_no_page_is_left_out() -> None:
    rows = {address.name for address in TABLE if address.data is None and not address.put}
    shown = {address.name for who in ("visitor", "owner", "operator") for address in pages(who)}
    assert rows - shown - set(NO_PAGE) == set(), "who is shown these? What is no page stands in NO_PAGE"


def refused(look: Look, address: str, name: str, form: str = FILLED_IN) -> None:
    """Look at what a form says when it is sent without anything in it."""
    look.page.goto(address)
    sent = look.page.locator(form).first
    sent.evaluate(
        "form => { form.noValidate = true; form.querySelectorAll('input[type=text], input[type=email],"
        " input[type=number], input[type=password], textarea').forEach(field => { field.value = ''; }) }"
    )
    with look.page.expect_navigation():
        sent.locator("button:not([type=button])").last.click()
    assert look.page.locator(".error, .errorlist, .problem").count(), f"{name} took an empty form"
    look.here(f"{name} refused")


def walk(look: Look, world: World) -> None:  # noqa: F811
    for address in pages(look.who):
        args = address.args(world)
        if look.who == "owner" and address.name.endswith("_webauthn"):
            args = passkey(address.name)
        look.at(reverse(address.name, args=args), address.name)


def passkey(name: str) -> list[Any]:
    """A passkey in name only, which cannot be there while a real one is added; gives what the address takes."""
    owner = User.objects.get(email="owner@example.org")
    Authenticator.objects.filter(user=owner, type="webauthn").delete()
    if name == "mfa_add_webauthn":
        return []
    row = Authenticator.objects.create(user=owner, type="webauthn", data={"name": "my phone"})
    return [row.pk] if name in ("mfa_edit_webauthn", "mfa_remove_webauthn") else []


def test_before_one_is_in(eyes: Eyes, cast: Cast, world: World) -> None:  # noqa: F811
    visitor = eyes("visitor", None)
    visitor.at(reverse("account_signup"), "account_signup by invitation only")
    Installation.change(None, sign_up="open")
    walk(visitor, world)
    visitor.at("/nothing/here/", "404", 404)
    for name in ("account_login", "account_signup"):
        refused(visitor, reverse(name), name)
    visitor.page.goto(reverse("account_login"))
    visitor.page.fill("[name=login]", cast.operator.email)
    visitor.page.fill("[name=password]", PASSWORD)
    visitor.page.locator("main form").first.locator("button").first.click()
    visitor.page.wait_for_url("**" + reverse("mfa_authenticate"))
    visitor.here("mfa_authenticate")


def test_what_an_owner_sees(eyes: Eyes, cast: Cast, mouth: Mouth, world: World) -> None:  # noqa: F811
    RecoveryCodes.activate(cast.owner)
    states.a_day_of_samples(mouth.dom0, world.domu)
    kernels = states.all_kernels(cast)
    second = states.make_version(cast.tenant, "generic", 2, release="NetBSD 10.2")
    owner = eyes("owner", cast.owner)
    walk(owner, world)
    versions = f"?a={world.version.pk}&b={second.pk}"
    owner.at(reverse("kernel_compare") + versions, "kernel_compare")
    owner.page.goto(reverse("kernel", args=[world.version.kernel_id]))
    form = owner.page.locator("form[action$='/tokens/']")
    form.locator("[name=name]").fill("laptop")
    form.locator("button").click()
    owner.page.wait_for_url("**/tokens/")
    owner.here("kernel_token")
    for name, version in kernels.items():
        owner.at(reverse("kernel_version", args=[version.pk]), f"kernel {name}")
    for name, args in (
        ("ask", []),
        ("quota_ask", [cast.tenant.pk]),
        ("server_resize", [world.domu.pk]),
        ("server_delete", [world.domu.pk]),
        ("ssh_keys", []),
        ("account_change_password", []),
    ):
        refused(owner, reverse(name, args=args), name)


def test_what_an_operator_sees(eyes: Eyes, cast: Cast, mouth: Mouth, world: World) -> None:  # noqa: F811
    servers = states.all_servers(cast, mouth, world.version)
    requests = states.all_requests(cast, world.domu, mouth)
    states.all_operations(cast, world.domu)
    operator = eyes("operator", cast.operator)
    walk(operator, world)
    for name in ("crashed", "not_heard", "unfinished"):
        operator.at(reverse("server", args=[servers[name].pk]), f"server {name}")
    for name, asked in requests.items():
        operator.at(reverse("request", args=[asked.pk]), f"request {name}")
    operator.at(reverse("dom0", args=[servers["not_heard"].dom0_id]), "dom0 silent")
    operator.at(reverse("search") + "?q=web", "search with hits")
    operator.page.goto(reverse("dom0_enrol"))
    operator.page.fill("[name=name]", "host9")
    operator.page.locator("main form button").click()
    operator.page.locator("pre").first.wait_for()
    operator.here("dom0 enrolled")
    operator.at(reverse("requests") + "?state=all", "requests of all states")
    for name, args, form in (
        ("dom0_enrol", [], FILLED_IN),
        ("tenant_suspend", [cast.tenant.pk], FILLED_IN),
        ("request", [world.asked.pk], "#refuse"),
        ("request", [world.asked.pk], "#approve"),
    ):
        refused(operator, reverse(name, args=args), f"{name} {form}" if form != FILLED_IN else name, form)
