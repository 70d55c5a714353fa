"""What happened to people and tenants is written down in the one list of what happened.

That list also knows servers and hosts, which accounts do not: settings.BERTH_EVENT_MODEL names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings

if TYPE_CHECKING:
    from accounts.models import User


def record(kind: str, text: str, *, actor: User | None, **fields: Any) -> None:
    """Write an event, inside the transaction of the change that it tells of."""
    event: Any = apps.get_model(settings.BERTH_EVENT_MODEL)
    event.record(kind, text, actor=actor, **fields)
