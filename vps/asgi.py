"""The gateway as a server starts it: `gunicorn -k vps.gateway_worker.GatewayWorker vps.asgi:application`."""

from __future__ import annotations

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vps.settings")
django.setup()

from django.conf import settings  # noqa: E402

from vps.console import Gateway, GatewaySettings  # noqa: E402
from vps.console_people import Limits  # noqa: E402
from vps.console_rights import DjangoRights  # noqa: E402
from vps.signing import signing_key  # noqa: E402

application = Gateway(
    settings.BERTH_REDIS_URL,
    signing_key,
    DjangoRights(),
    GatewaySettings(
        limits=Limits(
            per_user=settings.BERTH_CONSOLES_PER_USER,
            per_server=settings.BERTH_CONSOLES_PER_SERVER,
        ),
        idle=settings.BERTH_CONSOLE_IDLE,
    ),
)
