"""What every page knows of accounts."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from accounts.models import Tenant, User


def suspensions(request: HttpRequest) -> dict[str, Any]:
    """The suspended tenants of this person, whose pages all say so. Asked for only where a page shows them."""
    return {"suspended": SimpleLazyObject(lambda: _suspended(request))}


def _suspended(request: HttpRequest) -> list[Tenant]:
    user = getattr(request, "user", None)
    if not isinstance(user, User):
        return []
    return list(Tenant.objects.of(user).exclude(suspended=""))
