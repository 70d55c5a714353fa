"""The gunicorn worker of the gateway: small messages, pings, no compression."""

from __future__ import annotations

from typing import Any

from uvicorn_worker import UvicornWorker


class GatewayWorker(UvicornWorker):
    """uvicorn with limits that fit consoles. A browser that answers no ping for 20 s is gone."""

    CONFIG_KWARGS: dict[str, Any] = {
        "loop": "asyncio",
        "http": "h11",
        "ws": "websockets-sansio",
        "lifespan": "on",
        "ws_max_size": 64 * 1024,
        "ws_ping_interval": 20.0,
        "ws_ping_timeout": 20.0,
        "ws_per_message_deflate": False,
        "server_header": False,
    }
