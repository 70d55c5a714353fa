"""The gateway's door to the database: who holds a ticket, and who may still stay. Called in threads."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from types import SimpleNamespace
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore as DatabaseSession
from django.contrib.sessions.models import Session
from django.db import close_old_connections
from django.http.request import split_domain_port, validate_host
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from accounts.models import User
from vps import tickets
from vps.access import ConsoleAccess, console_access, console_access_many

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seat:
    """One person, by one log-in, at one console."""

    user_id: UUID
    session_key: str
    domu_id: UUID


class DjangoRights:
    """Rights as the database has them."""

    def origin_is_ours(self, origin: str, host: str) -> bool:
        """Whether a page of `origin` may open a console at `host`."""
        if origin in settings.CSRF_TRUSTED_ORIGINS:
            return True
        try:
            place = urlsplit(origin)
        except ValueError:
            return False
        if place.scheme not in ("http", "https"):
            return False
        if settings.BERTH_QUICKSTART and validate_host(place.hostname or "", settings.ALLOWED_HOSTS):
            return True  # the page may be at localhost or 127.0.0.1; the ticket knows at which
        # The host is checked too: else a name of a stranger that points here would be its own origin.
        name, _ = split_domain_port(host)
        return place.netloc == host and validate_host(name, settings.ALLOWED_HOSTS)

    def redeem(self, text: str, origin: str) -> tuple[Seat, ConsoleAccess | None] | None:
        """Who comes with this ticket, and what they may; None when the ticket is not good for this page."""
        try:
            ticket = tickets.redeem(text)
            if ticket is None or (
                ticket.origin and urlsplit(ticket.origin).netloc != urlsplit(origin).netloc
            ):
                return None
            user = get_user(SimpleNamespace(session=DatabaseSession(ticket.session_key)))  # type: ignore[arg-type]
            if isinstance(user, AnonymousUser) or user.pk != ticket.user_id:
                return None
            seat = Seat(ticket.user_id, ticket.session_key, ticket.domu_id)
            return seat, console_access(seat.user_id, seat.domu_id)
        finally:
            close_old_connections()

    def check(self, seats: Collection[Seat]) -> dict[Seat, ConsoleAccess]:
        """What each may now; who is missing may nothing. A constant number of queries."""
        try:
            alive = self._logged_in(seats)
            found = console_access_many({(seat.user_id, seat.domu_id) for seat in alive})
            return {
                seat: access
                for seat in alive
                if (access := found.get((seat.user_id, seat.domu_id))) is not None
            }
        finally:
            close_old_connections()

    def _logged_in(self, seats: Collection[Seat]) -> list[Seat]:
        """Those whose log-in still holds: a changed password ends it, as logging out does."""
        users = User.objects.in_bulk({seat.user_id for seat in seats})
        rows = Session.objects.filter(
            pk__in={seat.session_key for seat in seats}, expire_date__gt=timezone.now()
        )
        sessions = {row.pk: row.get_decoded() for row in rows}
        hashes = {user.pk: user.get_session_auth_hash() for user in users.values()}
        return [
            seat
            for seat in seats
            if (told := sessions.get(seat.session_key))
            and told.get("_auth_user_id") == str(seat.user_id)
            and constant_time_compare(told.get("_auth_user_hash", ""), hashes.get(seat.user_id, ""))
        ]
