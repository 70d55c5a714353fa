"""What every page knows."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest


def page(request: HttpRequest) -> dict[str, Any]:
    return {"quickstart": settings.BERTH_QUICKSTART, "gateway_url": settings.BERTH_GATEWAY_URL}
