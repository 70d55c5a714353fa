"""Who may watch or type on a console; asked by the gateway, often, for many at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from accounts.models import Membership, Right, User
from accounts.models.tenant import RIGHTS
from vps.models.domu import Domu


@dataclass(frozen=True)
class ConsoleAccess:
    """What one person may do on one server's console, now."""

    domu_id: UUID
    dom0_id: UUID
    server_name: str
    person_name: str
    state_word: str
    may_watch: bool
    may_type: bool


def console_access(user_id: UUID, domu_id: UUID) -> ConsoleAccess | None:
    """None when the person or the server is not there (any more) for them."""
    return console_access_many([(user_id, domu_id)]).get((user_id, domu_id))


def console_access_many(pairs: Iterable[tuple[UUID, UUID]]) -> dict[tuple[UUID, UUID], ConsoleAccess]:
    """The same for many pairs of (user, server), with a constant number of queries."""
    wanted = set(pairs)
    users = {u.pk: u for u in User.objects.filter(pk__in={u for u, _ in wanted}, is_active=True)}
    rows = Domu.objects.live().filter(pk__in={d for _, d in wanted}).select_related("dom0", "tenant")
    domus = {d.pk: d for d in rows.prefetch_related(Domu.OPEN_OPERATION)}
    roles = {
        (user, tenant): role
        for user, tenant, role in Membership.objects.filter(
            user__in=users, tenant__in={d.tenant_id for d in domus.values()}
        ).values_list("user_id", "tenant_id", "role")
    }
    found = {}
    for user_id, domu_id in wanted:
        user, domu = users.get(user_id), domus.get(domu_id)
        if user is None or domu is None:
            continue
        rights = RIGHTS.get(roles.get((user_id, domu.tenant_id), ""), frozenset())
        # Operators may look; what is typed inside a server is its owner's.
        if Right.SEE in rights or user.is_operator:
            found[user_id, domu_id] = ConsoleAccess(
                domu_id,
                domu.dom0_id,
                domu.name,
                str(user),
                domu.status.value,
                may_watch=True,
                may_type=Right.OPERATE in rights and not domu.locked and not domu.tenant.suspended,
            )
    return found
