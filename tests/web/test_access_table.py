"""The one table of every address: what a visitor, a stranger and each role gets there.

A test walks the URL configuration and fails for an address that is not in the table.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from allauth.usersessions.models import UserSession
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from accounts.models import Invitation, Mail, Membership, Role, SshKey, User
from tests.conftest import RedisServer
from tests.web.conftest import ASKED, Browser, Cast, log_in_freshly, make_version
from tests.web.world import Mouth, make_domu
from vps.console_rights import DjangoRights
from vps.models import (
    DirectApproval,
    Dom0,
    Domu,
    Operation,
    Request,
    Size,
    TrialBoot,
    Upload,
    UploadToken,
    kept,
)
from vps.redis import client
from vps.xen.messages import Verb

FOREIGN = uuid.UUID(int=77)  # a domain on the dom0 that is not Berth's
PEOPLE = ("visitor", "stranger", "viewer", "developer", "admin", "owner", "operator")


@dataclass(frozen=True)
class Address:
    """`wanted`: the status for each of PEOPLE. `args` are taken from the world; `data` makes it a POST."""

    name: str
    wanted: tuple[int, ...]
    args: Callable[[World], list[Any]] = lambda world: []
    data: dict[str, str] | None = None
    fill: Callable[[World], dict[str, str]] = lambda world: {}
    put: bool = False
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class World:
    """What the addresses speak of: a stopped server with a menu, one that waits, one that was deleted,
    an open operation, a kernel."""

    domu: Domu
    asked: Request
    operation: Operation
    version: Any
    catalogue: Any
    upload: Upload
    direct: DirectApproval
    token: UploadToken
    mouth: Mouth
    kept: Domu
    trial: TrialBoot
    member: Membership
    invitation: UUID
    customer: UUID
    letter: str
    key: UUID
    session: int


def the_domu(world: World) -> list[Any]:
    return [world.domu.pk]


def the_request(world: World) -> list[Any]:
    return [world.asked.pk]


def the_dom0(world: World) -> list[Any]:
    return [world.mouth.dom0.pk]


def the_tenant(world: World) -> list[Any]:
    return [world.domu.tenant_id]


def the_kept(world: World) -> list[Any]:
    return [world.kept.pk]


LIMITS = {"servers": "9", "memory_mib": "9000", "vcpus": "9", "disk_mib": "90000", "kernel_mib": "90"}


def the_member(world: World) -> list[Any]:
    return [world.member.pk]


def the_person(world: World) -> list[Any]:
    return [world.member.user_id]


def approval(world: World) -> dict[str, str]:
    return {"dom0": str(world.mouth.dom0.pk), "memory_mib": "256", "vcpus": "1", "disk_mib": "1024"}


# Each line: visitor, stranger, viewer, developer, admin, owner, operator. 302: to the log-in, or done.
LOGIN = 302
TABLE = [
    Address("home", (200, 302, 302, 302, 302, 302, 302)),
    Address("today", (LOGIN, 404, 404, 404, 404, 404, 200)),
    Address("stuck", (LOGIN, 404, 404, 404, 404, 404, 200)),
    Address(
        "stuck_operation",
        (LOGIN, 404, 404, 404, 404, 404, 302),
        lambda w: [w.operation.pk, "give-up"],
        {},
    ),
    Address("stuck_server", (LOGIN, 404, 404, 404, 404, 404, 302), lambda w: [w.domu.pk, "stopped"], {}),
    # Before one is in
    Address("login", (200, 302, 302, 302, 302, 302, 302)),
    Address("account_login", (200, 302, 302, 302, 302, 302, 302)),
    Address("mfa_authenticate", (302,) * 7),
    Address("mfa_login_webauthn", (302,) * 7),
    Address("account_inactive", (200,) * 7),
    Address("logout", (302, 302, 302, 302, 302, 302, 302), data={}),
    Address("account_signup", (200, 302, 302, 302, 302, 302, 302)),
    Address("account_email_verification_sent", (200,) * 7),
    Address("account_confirm_email", (200,) * 7, lambda world: ["nothing"]),
    Address("account_reset_password", (200,) * 7),
    Address("account_reset_password_done", (200,) * 7),
    Address("account_reset_password_from_key", (200,) * 7, lambda world: ["abc", "x-y"]),
    Address("account_reset_password_from_key_done", (200,) * 7),
    Address("invitation", (200,) * 7, lambda world: [world.letter]),
    Address("invitation", (200, 409, 409, 409, 409, 409, 409), lambda world: [world.letter], {}),
    # Once more who one is: 302 where the person has no such means
    Address("account_reauthenticate", (LOGIN, 200, 200, 200, 200, 200, 200)),
    Address("mfa_reauthenticate", (LOGIN, 302, 302, 302, 302, 302, 200)),
    Address("mfa_reauthenticate_webauthn", (LOGIN, 302, 302, 302, 302, 302, 302)),
    # Oneself. What changes how one logs in wants a fresh log-in: 302 leads there
    Address("me", (LOGIN, 200, 200, 200, 200, 200, 200)),
    Address("me", (LOGIN, 302, 302, 302, 302, 302, 302), data={"name": "Other"}),
    Address("account_email", (LOGIN, 200, 200, 200, 200, 200, 200)),
    Address("account_change_password", (LOGIN, 200, 200, 200, 200, 200, 200)),
    Address("account_set_password", (LOGIN, 302, 302, 302, 302, 302, 302)),
    Address("sessions", (LOGIN, 200, 200, 200, 200, 200, 200)),
    Address("sessions_end_others", (LOGIN, 302, 302, 302, 302, 302, 302), data={}),
    Address("session_end", (LOGIN, 404, 404, 404, 404, 302, 404), lambda world: [world.session], {}),
    Address("ssh_keys", (LOGIN, 200, 200, 200, 200, 200, 200)),
    Address("ssh_keys", (LOGIN, 422, 422, 422, 422, 422, 422), data={"key": "rubbish"}),
    Address("ssh_key_remove", (LOGIN, 404, 404, 404, 404, 302, 404), lambda world: [world.key], {}),
    Address("mfa_index", (LOGIN, 200, 200, 200, 200, 200, 200)),
    Address("mfa_activate_totp", (302,) * 7),
    Address("mfa_deactivate_totp", (LOGIN, 404, 404, 404, 404, 404, 302)),
    Address("mfa_view_recovery_codes", (LOGIN, 404, 404, 404, 404, 404, 404)),
    Address("mfa_generate_recovery_codes", (302,) * 7),
    Address("mfa_download_recovery_codes", (LOGIN, 404, 404, 404, 404, 404, 404)),
    Address("mfa_list_webauthn", (LOGIN, 200, 200, 200, 200, 200, 200)),
    Address("mfa_add_webauthn", (302,) * 7),
    Address("mfa_edit_webauthn", (302,) * 7, lambda world: [1]),
    Address("mfa_remove_webauthn", (302,) * 7, lambda world: [1]),
    # The people of a tenant; `member` is the viewer
    Address("people", (LOGIN, 302, 302, 302, 302, 302, 200)),
    Address("members", (LOGIN, 404, 200, 200, 200, 200, 404), the_tenant),
    Address(
        "members",
        (LOGIN, 404, 403, 403, 302, 302, 404),
        the_tenant,
        {"email": "new@example.org", "role": "viewer"},
    ),
    Address("member_role", (LOGIN, 404, 403, 403, 302, 302, 404), the_member, {"role": "developer"}),
    Address("member_remove", (LOGIN, 404, 200, 403, 200, 200, 404), the_member),
    Address("member_remove", (LOGIN, 404, 302, 403, 302, 302, 404), the_member, {}),
    Address("invitation_revoke", (LOGIN, 404, 403, 403, 302, 302, 404), lambda w: [w.invitation], {}),
    # People and tenants, for operators; what an operator does to people wants a fresh log-in
    Address("outbox", (LOGIN, 404, 404, 404, 404, 404, 200)),
    Address("installation", (LOGIN, 404, 404, 404, 404, 404, 200)),
    Address("installation", (LOGIN, 404, 404, 404, 404, 404, 302), data={"sign_up": "open"}),
    Address("persons", (LOGIN, 404, 404, 404, 404, 404, 200)),
    Address("persons", (LOGIN, 404, 404, 404, 404, 404, 302), data={"email": "new@example.org"}),
    Address("person", (LOGIN, 404, 404, 404, 404, 404, 200), the_person),
    *(
        Address(f"person_{deed}", (LOGIN, 404, 404, 404, 404, 404, 302), the_person, data)
        for deed in ("close", "open", "make_operator", "unmake_operator")
        for data in (None, {"why": "words"})
    ),
    Address(
        "customer_invitation_revoke",
        (LOGIN, 404, 404, 404, 404, 404, 302),
        lambda world: [world.customer],
        {},
    ),
    Address("tenants", (LOGIN, 404, 404, 404, 404, 404, 200)),
    Address("tenant", (LOGIN, 404, 404, 404, 404, 404, 200), the_tenant),
    Address("tenant_suspend", (LOGIN, 404, 404, 404, 404, 404, 200), the_tenant),
    Address("tenant_suspend", (LOGIN, 404, 404, 404, 404, 404, 302), the_tenant, {"why": "unpaid"}),
    Address("tenant_lift", (LOGIN, 404, 404, 404, 404, 404, 200), the_tenant),
    Address("tenant_lift", (LOGIN, 404, 404, 404, 404, 404, 409), the_tenant, {"why": "paid"}),
    Address("server_lock", (LOGIN, 404, 404, 404, 404, 404, 200), the_domu),
    Address("server_lock", (LOGIN, 404, 404, 404, 404, 404, 302), the_domu, {"why": "abuse"}),
    Address("server_unlock", (LOGIN, 404, 404, 404, 404, 404, 200), the_domu),
    Address("server_unlock", (LOGIN, 404, 404, 404, 404, 404, 409), the_domu, {"why": "ok"}),
    # Requests
    Address("ask", (LOGIN, 200, 403, 403, 200, 200, 403)),
    Address(
        "ask",
        (LOGIN, 422, 403, 403, 302, 302, 403),
        data={"name": "web9", "guest_os": "netbsd", "offer": "own", "memory_mib": "64", "vcpus": "1"},
        fill=lambda world: {"tenant": str(world.domu.tenant_id), "disk_mib": "64"},
    ),
    Address("requests", (LOGIN, 404, 404, 404, 404, 404, 200)),
    Address("request", (LOGIN, 404, 200, 200, 200, 200, 200), the_request),
    Address("request_approve", (LOGIN, 404, 404, 404, 404, 404, 302), the_request, {}, approval),
    Address("request_refuse", (LOGIN, 404, 404, 404, 404, 404, 302), the_request, {"words": "no room"}),
    Address("request_withdraw", (LOGIN, 404, 403, 403, 302, 302, 403), the_request, {}),
    # Quota
    Address("quota_default", (LOGIN, 404, 404, 404, 404, 404, 200)),
    Address("quota_default", (LOGIN, 404, 404, 404, 404, 404, 302), data=LIMITS),
    Address("quota", (LOGIN, 404, 200, 200, 200, 200, 200), the_tenant),
    Address("quota_entries", (LOGIN, 404, 200, 200, 200, 200, 200), lambda w: [w.domu.tenant_id, "vcpus"]),
    Address("quota_ask", (LOGIN, 404, 403, 403, 200, 200, 403), the_tenant),
    Address("quota_ask", (LOGIN, 404, 403, 403, 302, 302, 403), the_tenant, {"servers": "1", "why": "x"}),
    Address("quota_limits", (LOGIN, 404, 404, 404, 404, 404, 302), the_tenant, {**LIMITS, "reason": "x"}),
    # Servers
    Address("servers", (LOGIN, 200, 200, 200, 200, 200, 200)),
    Address("server", (LOGIN, 404, 200, 200, 200, 200, 200), the_domu),
    Address("boot", (LOGIN, 404, 200, 200, 200, 200, 200), the_domu),
    Address(
        "boot",
        (LOGIN, 404, 403, 302, 302, 302, 403),
        the_domu,
        {"do": "save", "method": "pvgrub", "timeout": "5", "key": "a", "title": "", "arguments": ""},
        lambda world: {"version": str(world.version.pk), "seen_serial": str(world.domu.menu_serial)},
    ),
    Address("boot_try", (LOGIN, 404, 403, 200, 200, 200, 200), lambda w: [w.domu.pk, 1]),
    Address("boot_try", (LOGIN, 404, 403, 302, 302, 302, 302), lambda w: [w.domu.pk, 1], {"seconds": "60"}),
    Address("boot_well", (LOGIN, 404, 403, 409, 409, 409, 409), the_domu, {}),
    Address("boot_disarm", (LOGIN, 404, 403, 409, 409, 409, 409), the_domu, {}),
    Address("boot_compare", (LOGIN, 404, 200, 200, 200, 200, 200), the_domu),
    Address("boot_use", (LOGIN, 404, 403, 409, 409, 409, 409), lambda w: [w.domu.pk, 1], {}),
    Address("server_configuration", (LOGIN, 404, 200, 200, 200, 200, 200), the_domu),
    Address("server_samples", (LOGIN, 404, 200, 200, 200, 200, 200), the_domu),
    Address("server_do", (LOGIN, 404, 403, 302, 302, 302, 302), lambda w: [w.domu.pk, "start"], {}),
    Address("server_destroy", (LOGIN, 404, 403, 200, 200, 200, 200), the_domu),
    Address("server_destroy", (LOGIN, 404, 403, 302, 302, 302, 302), the_domu, {"name": "web1"}),
    Address("server_delete", (LOGIN, 404, 403, 403, 200, 200, 403), the_domu),
    Address("server_delete", (LOGIN, 404, 403, 403, 302, 302, 403), the_domu, {"name": "web1"}),
    Address("server_undelete", (LOGIN, 404, 403, 403, 302, 302, 403), the_kept, {}),
    Address("server_purge", (LOGIN, 404, 403, 403, 200, 200, 403), the_kept),
    Address("server_purge", (LOGIN, 404, 403, 403, 302, 302, 403), the_kept, {"name": "old"}),
    Address("server_resize", (LOGIN, 404, 403, 403, 200, 200, 403), the_domu),
    Address(
        "server_resize",
        (LOGIN, 404, 403, 403, 302, 302, 403),
        the_domu,
        {"memory_mib": "128", "vcpus": "1"},
    ),
    Address("console", (LOGIN, 404, 200, 200, 200, 200, 200), the_domu),
    Address("console_ticket", (LOGIN, 404, 200, 200, 200, 200, 200), the_domu, {}),
    # Kernels
    Address("kernels", (LOGIN, 200, 200, 200, 200, 200, 200)),
    Address(
        "kernel_upload",
        (LOGIN, 422, 422, 201, 201, 201, 422),
        data={"kernel": "mine", "filename": "netbsd", "size": "10"},
        fill=lambda world: {"tenant": str(world.domu.tenant_id)},
    ),
    Address("kernel_upload_piece", (LOGIN, 404, 404, 200, 404, 404, 404), lambda world: [world.upload.pk]),
    Address(
        "kernel_upload_piece",
        (LOGIN, 404, 404, 400, 404, 404, 404),
        lambda world: [world.upload.pk],
        put=True,
    ),
    Address("kernel", (LOGIN, 404, 200, 200, 200, 200, 200), lambda world: [world.version.kernel_id]),
    Address("kernel", (LOGIN, 200, 200, 200, 200, 200, 200), lambda world: [world.catalogue.kernel_id]),
    Address("kernel_version", (LOGIN, 404, 200, 200, 200, 200, 200), lambda world: [world.version.pk]),
    Address("api_kernel_versions", (405,) * 7, lambda world: [world.version.kernel_id]),
    Address("api_kernel_verdict", (401,) * 7, lambda world: [world.version.pk]),
    Address(
        "kernel_token",
        (LOGIN, 404, 403, 200, 200, 200, 403),
        lambda world: [world.version.kernel_id],
        {"name": "ci", "days": "30"},
    ),
    Address("kernel_token_revoke", (LOGIN, 404, 403, 302, 302, 302, 403), lambda w: [w.token.pk], {}),
    Address("catalogue", (LOGIN, 200, 200, 200, 200, 200, 200)),
    Address("kernel_compare", (LOGIN, 404, 404, 404, 404, 404, 404)),
    Address(
        "kernel_change",
        (LOGIN, 404, 403, 302, 302, 302, 403),
        lambda world: [world.version.kernel_id],
        {"description": "ours"},
    ),
    Address(
        "kernel_change",
        (LOGIN, 403, 403, 403, 403, 403, 302),
        lambda world: [world.catalogue.kernel_id],
        {"description": "for all", "purpose": "rescue"},
    ),
    Address(
        "kernel_version_change",
        (LOGIN, 404, 403, 302, 302, 302, 403),
        lambda world: [world.version.pk],
        {"note": "built with npf"},
    ),
    Address(
        "direct_ask",
        (LOGIN, 404, 403, 302, 302, 302, 403),
        lambda world: [world.version.pk],
        {"words": "no room for a loader"},
    ),
    Address("direct_approval", (LOGIN, 404, 200, 200, 200, 200, 200), lambda w: [w.direct.pk]),
    # Both want a fresh log-in: 302 leads there.
    Address(
        "direct_decide",
        (LOGIN, 404, 404, 404, 404, 404, 302),
        lambda w: [w.direct.pk],
        {"answer": "approve"},
    ),
    Address(
        "direct_revoke", (LOGIN, 404, 404, 404, 404, 404, 302), lambda w: [w.direct.pk], {"why": "changed"}
    ),
    Address("kernel_parts", (LOGIN, 404, 200, 200, 200, 200, 200), lambda world: [world.version.pk]),
    Address(
        "kernel_version_delete", (LOGIN, 404, 403, 409, 409, 409, 403), lambda world: [world.version.pk], {}
    ),
    Address(
        "kernel_version_delete", (LOGIN, 403, 403, 403, 403, 403, 302), lambda world: [world.catalogue.pk], {}
    ),
    Address(
        "kernel_catalogue",
        (LOGIN, 404, 404, 404, 404, 404, 302),
        lambda world: [world.catalogue.kernel_id],
        {"offered": "no"},
    ),
    Address("trial_begin", (LOGIN, 404, 403, 409, 409, 409, 403), lambda w: [w.version.pk], {}),
    Address("trial", (LOGIN, 404, 200, 200, 200, 200, 200), lambda w: [w.trial.pk]),
    Address("trial_cancel", (LOGIN, 404, 403, 302, 302, 302, 302), lambda w: [w.trial.pk], {}),
    # What was done, what happened
    Address("operations", (LOGIN, 200, 200, 200, 200, 200, 200)),
    Address("operation", (LOGIN, 404, 200, 200, 200, 200, 200), lambda world: [world.operation.pk]),
    Address(
        "operation_cancel", (LOGIN, 404, 403, 302, 302, 302, 302), lambda world: [world.operation.pk], {}
    ),
    Address("operation_retry", (LOGIN, 404, 403, 409, 409, 409, 409), lambda world: [world.operation.pk], {}),
    Address("events", (LOGIN, 200, 200, 200, 200, 200, 200)),
    Address("events_export", (LOGIN, 200, 200, 200, 200, 200, 200), lambda world: ["csv"]),
    Address("search", (LOGIN, 200, 200, 200, 200, 200, 200)),
    # Hosts
    Address("dom0s", (LOGIN, 404, 404, 404, 404, 404, 200)),
    Address("dom0", (LOGIN, 404, 404, 404, 404, 404, 200), the_dom0),
    Address("dom0_look", (LOGIN, 404, 404, 404, 404, 404, 302), the_dom0, {"what": "dmesg"}),
    Address(
        "dom0_domain",
        (LOGIN, 404, 404, 404, 404, 404, 302),
        lambda w: [w.mouth.dom0.pk, FOREIGN, "ignore"],
        {},
    ),
    Address("dom0_samples", (LOGIN, 404, 404, 404, 404, 404, 200), the_dom0),
    Address("dom0_room", (LOGIN, 404, 404, 404, 404, 404, 200), lambda w: [w.mouth.dom0.pk, "disk_mib"]),
    Address("dom0_enrol", (LOGIN, 404, 404, 404, 404, 404, 200)),
    Address("dom0_enrol", (LOGIN, 404, 404, 404, 404, 404, 200), data={"name": "host9", "bridge": "xenbr0"}),
    Address("dom0_accept", (LOGIN, 404, 404, 404, 404, 404, 302), the_dom0, {"accepts_new": "no"}),
    Address("dom0_trials", (LOGIN, 404, 404, 404, 404, 404, 302), the_dom0, {"trials": "yes"}),
    Address("dom0_credential", (LOGIN, 404, 404, 404, 404, 404, 200), the_dom0),
    Address("dom0_credential", (LOGIN, 404, 404, 404, 404, 404, 200), the_dom0, {"name": "dom0-a"}),
    # For machines
    Address("agent_blob", (401,) * 7, lambda world: [world.version.original_id]),
    Address("well", (404,) * 7, lambda world: ["a-word-of-no-try"]),
    Address("well", (404,) * 7, lambda world: ["a-word-of-no-try"], {}),
    Address("healthz", (200,) * 7),
    Address("readyz", (200,) * 7),
    Address("metrics", (200,) * 7),  # from this machine; tests/web/test_metrics.py asks from elsewhere
]


@pytest.fixture
def world(
    cast: Cast, mouth: Mouth, bootable: Domu, sizes: list[Size], redis_server: RedisServer, settings: Any
) -> Iterator[World]:
    settings.BERTH_REDIS_URL = redis_server.url
    client.cache_clear()
    waiting = Request.ask(tenant=cast.tenant, by=cast.developer, name="web2", **ASKED)
    second = Request.ask(tenant=cast.tenant, by=cast.owner, name="web3", **ASKED).approve(
        cast.operator, mouth.dom0
    )
    upload = Upload.objects.create(
        tenant=cast.tenant, user=cast.developer, kernel_name="mine", filename="netbsd", size=10
    )
    old = make_domu(mouth.dom0, "old", cast.tenant)
    kept.delete(old, cast.owner)
    old.operations.open().get().move("done")
    Dom0.objects.update(foreign=[{"uuid": str(FOREIGN), "name": "old", "domid": 9, "memory_mib": 64}])
    yield World(
        bootable,
        waiting,
        second.operations.open().get(),
        bootable.menus.get().entries.get().version,
        make_version(None, "offered"),
        upload,
        DirectApproval.ask(make_version(cast.tenant, "direct"), cast.developer, "to see"),
        UploadToken.make(bootable.menus.get().entries.get().version.kernel, cast.owner, "ci", 7)[0],
        mouth,
        old,
        a_trial(mouth, bootable),
        cast.tenant.memberships.get(user=cast.viewer),
        Invitation.invite("guest@example.org", cast.owner, cast.tenant, Role.VIEWER).pk,
        Invitation.invite("customer@example.org", cast.operator).pk,
        a_token(cast),
        SshKey.objects.create(user=cast.owner, line="ssh-ed25519 x", kind="ssh-ed25519", bits=256).pk,
        UserSession.objects.create(user=cast.owner, ip="192.0.2.1", session_key="x", user_agent="y").pk,
    )
    client().close()
    client.cache_clear()


def a_trial(mouth: Mouth, domu: Domu) -> TrialBoot:
    version = domu.menus.get().entries.get().version
    operation = Operation.objects.create(dom0=mouth.dom0, lane="trial", verb="trial")
    return TrialBoot.objects.create(
        version=version, tenant=domu.tenant, dom0=mouth.dom0, operation=operation, memory_mib=256, limit=60
    )


def a_token(cast: Cast) -> str:
    """The token of an invitation that waits for somebody who has no account yet."""
    Invitation.invite("third@example.org", cast.owner, cast.tenant, Role.VIEWER)
    letter = Mail.objects.filter(to="third@example.org").get().text
    return letter.split("/invitations/")[1].split("/")[0]


def people(cast: Cast) -> dict[str, User | None]:
    return {
        "visitor": None,
        "stranger": cast.stranger,
        **{role.value: getattr(cast, role.value) for role in Role},
        "operator": cast.operator,
    }


def ask(browser: Client, address: Address, world: World) -> int:
    url = reverse(address.name, args=address.args(world))
    if address.put:
        return browser.put(url, data=b"", content_type="application/octet-stream").status_code
    if address.data is None:
        return browser.get(url).status_code
    return browser.post(url, {**address.data, **address.fill(world)}).status_code


@pytest.mark.django_db
@pytest.mark.timeout(600)
def test_everybody_gets_what_the_table_says(cast: Cast, world: World, browser: Browser) -> None:
    """One world for all lines: it takes longer to make than to ask seven people of it."""
    wrong = {}
    for number, address in enumerate(TABLE):
        Dom0.objects.update(heard_at=timezone.now())  # on a busy machine the lines before took their time
        got = {}
        for name, person in people(cast).items():
            # Each person finds the world as it was.
            with transaction.atomic():
                got[name] = ask(browser(person), address, world)
                transaction.set_rollback(True)
        wanted = dict(zip(PEOPLE, address.wanted, strict=True))
        if got != wanted:
            how = "GET" if address.data is None else "POST"
            wrong[f"{number} {how} {address.name}"] = {
                name: f"{got[name]}, not {wanted[name]}" for name in got if got[name] != wanted[name]
            }
    assert not wrong, "\n".join(f"{line}: {people}" for line, people in wrong.items())


def names(resolver: URLResolver | None = None) -> set[str]:
    """The name of every address there is."""
    found: set[str] = set()
    for pattern in (resolver or get_resolver()).url_patterns:
        if isinstance(pattern, URLResolver):
            found |= names(pattern)
        else:
            assert isinstance(pattern, URLPattern)
            assert pattern.name, f"{pattern} has no name, so that the table cannot speak of it"
            found.add(pattern.name)
    return found


def test_every_address_is_in_the_table() -> None:
    assert names() == {address.name for address in TABLE}


# What the ticket of a console's page opens at /ws/console: nothing, watching, or typing as well.
WEB_SOCKET = ("", "", "watch", "type", "type", "type", "watch")


# The rights close their connection, as in the gateway; within a transaction PostgreSQL would have lost it.
@pytest.mark.django_db(transaction=True)
def test_the_web_socket_gives_what_the_table_says(cast: Cast, world: World, browser: Browser) -> None:
    got = {}
    for name, person in people(cast).items():
        answer = browser(person).post(reverse("console_ticket", args=[world.domu.pk]))
        ticket = answer.json()["ticket"] if answer.status_code == 200 else "none"
        seat, access = DjangoRights().redeem(ticket, "http://testserver") or (None, None)
        got[name] = "type" if access and access.may_type else "watch" if access else ""
        if seat is not None:  # the ticket says which server, and the browser cannot say another
            assert seat.domu_id == world.domu.pk
    assert got == dict(zip(PEOPLE, WEB_SOCKET, strict=True))


# Addresses that only change things, and those that only show. allauth's mostly do both.
SHOWN = {address.name for address in TABLE if address.data is None}
CHANGED = {address.name for address in TABLE if address.data is not None}
POST_ONLY = CHANGED - SHOWN
GET_ONLY = {name for name in SHOWN - CHANGED if not name.startswith(("account_", "mfa_"))}


@pytest.mark.django_db
def test_a_wrong_method_is_refused(cast: Cast, world: World, browser: Browser) -> None:
    wrong = {}
    rows = {address.name: address for address in TABLE}
    for name in POST_ONLY:
        args = rows[name].args(world)
        wrong[name] = browser(cast.operator).get(reverse(name, args=args)).status_code
    for name in GET_ONLY - {"login", "kernel_upload_piece", "api_kernel_versions"}:
        args = rows[name].args(world)
        wrong[name] = browser(cast.operator).post(reverse(name, args=args)).status_code
    # Not everybody may see that there is something to be asked wrongly: 404 is as good.
    assert not {name: status for name, status in wrong.items() if status not in (405, 404)}


@pytest.mark.django_db
@pytest.mark.parametrize("person", ["owner", "operator"])
def test_ids_of_nothing_are_404(person: str, cast: Cast, world: World, browser: Browser) -> None:
    got = {}
    for address in TABLE:
        args = address.args(world)
        if (
            not args
            or not isinstance(args[0], UUID)
            or address.name in ("api_kernel_versions", "api_kernel_verdict")
            or address.put
        ):
            continue
        url = reverse(address.name, args=[uuid.uuid4(), *args[1:]])
        answer = log_in_freshly(browser(getattr(cast, person)), getattr(cast, person))
        status = (answer.get(url) if address.data is None else answer.post(url, address.data)).status_code
        got[address.name] = status
    assert set(got.values()) == {404}, got


@pytest.mark.django_db
def test_a_page_without_its_token_changes_nothing(cast: Cast, bootable: Domu) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(cast.owner)
    answer = strict.post(reverse("server_do", args=[bootable.pk, Verb.START.value]))
    assert answer.status_code == 403
    assert "The page was too old" in answer.content.decode()
    assert not bootable.operations.open().exists()


@pytest.mark.django_db
def test_scripts_and_styles_are_ours_only(cast: Cast, world: World, browser: Browser) -> None:
    for name, args in (
        ("servers", []),
        ("server", [world.domu.pk]),
        ("boot", [world.domu.pk]),
        ("today", []),
    ):
        answer = browser(cast.operator).get(reverse(name, args=args))
        policy = answer["Content-Security-Policy"]
        assert "script-src 'self'" in policy and "style-src 'self'" in policy, policy
        assert "unsafe" not in policy
        text = answer.content.decode()
        assert " style=" not in text and "<style" not in text and " onclick=" not in text
        assert "javascript:" not in text
