"""What Berth consists of when all of it runs on one machine: programs, their environments, signs of life."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from vps.quickstart import leftovers
from vps.quickstart.readiness import Check
from vps.quickstart.supervisor import Child, Supervisor

ROOT = Path(__file__).resolve().parent.parent.parent
SECRETS = ("django", "redis")  # files below secrets/ that are made once; signing.key is made by the web


@dataclass(frozen=True)
class Wishes:
    """What the command line asks for. Port 0 takes a free one."""

    data: Path
    port: int
    gateway_port: int
    dom0s: int
    announce: Path | None


@dataclass
class Start:
    """What one start of the product knows about itself."""

    wishes: Wishes
    web: socket.socket
    gateway: socket.socket
    supervisor: Supervisor
    redis_port: int = 0
    logins: list[dict[str, str]] = field(default_factory=list)  # made in this run
    ready: bool = False
    began: float = field(default_factory=time.monotonic)
    since: int = field(default_factory=lambda: int(time.time()))  # Unix time, seconds

    @property
    def data(self) -> Path:
        return self.wishes.data

    @property
    def web_port(self) -> int:
        return int(self.web.getsockname()[1])

    @property
    def gateway_port(self) -> int:
        return int(self.gateway.getsockname()[1])

    @property
    def base_url(self) -> str:
        return f"http://localhost:{self.web_port}"  # not 127.0.0.1: passkeys refuse an address

    @property
    def dom0s(self) -> list[tuple[str, Path]]:
        """Name and state folder of each simulated dom0."""
        names = ["sim" if n == 1 else f"sim{n}" for n in range(1, self.wishes.dom0s + 1)]
        return [(name, self.data / "dom0" / name) for name in names]


def product(start: Start) -> tuple[list[Child], list[Child]]:
    """The children besides Redis: those that Ready stands for, and those that may come a second later.

    Two cores start one Django after the other; nobody uploads a kernel in the first second.
    """
    python = sys.executable
    gunicorn = (python, "-m", "gunicorn", "--no-control-socket", "--graceful-timeout", "3")
    celery = (python, "-m", "celery", "-A", "vps.celery", "worker")
    web, gateway = start.web.fileno(), start.gateway.fileno()
    ours = web_environment(start)
    at_once = [
        Child(
            "web",
            (
                *gunicorn,
                *("--worker-class", "vps.web_worker.WebWorker", "--workers", "2"),
                *("--threads", "8", "--preload"),
                *("--bind", f"fd://{web}", "vps.wsgi:application"),
            ),
            ours,
            (web,),
        ),
        Child(
            "gateway",
            (
                *gunicorn,
                *("--worker-class", "vps.gateway_worker.GatewayWorker", "--workers", "1"),
                *("--bind", f"fd://{gateway}", "vps.asgi:application"),
            ),
            ours,
            (gateway,),
        ),
        *(
            Child(
                "agent" if name == "sim" else f"agent-{name}",
                (python, "-m", "vps.agent.main", "run", "--config", str(folder / "agent.toml")),
                environment(start),
            )
            for name, folder in start.dom0s
        ),
        Child("collector", (python, str(ROOT / "manage.py"), "collector"), ours),
    ]
    worker = (
        *celery,
        *("-Q", "web", "-P", "threads", "-c", "2", "--loglevel", "info"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    )
    return at_once, [Child("worker", worker, ours)]


def checks(start: Start) -> list[Check]:
    """What must have answered before Ready is said."""
    host = f"localhost:{start.web_port}"

    def heard(body: bytes) -> bool:
        with contextlib.suppress(ValueError, AttributeError, TypeError):
            return int(json.loads(body).get("dom0s_heard")) >= start.wishes.dom0s
        return False

    return [
        Check("the web", start.web_port, "/healthz", host),
        Check("the gateway", start.gateway_port, "/healthz", f"localhost:{start.gateway_port}"),
        Check("the dom0's first inventory", start.web_port, f"/readyz?since={start.since}", host, heard),
    ]


def environment(start: Start) -> dict[str, str]:
    """What every child gets: no secret of the web's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BERTH_")}
    return kept | {
        leftovers.MARK: str(start.data),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        "PYTHONUNBUFFERED": "1",
    }


def web_environment(start: Start) -> dict[str, str]:
    """What the web side's children get; what the person set (BERTH_DATABASE_URL, ...) stays."""
    secrets = start.data / "secrets"
    given = {name: value for name, value in os.environ.items() if name.startswith("BERTH_")}
    return (
        environment(start)
        | given
        | {
            leftovers.MARK: str(start.data),
            "DJANGO_SETTINGS_MODULE": "vps.settings",
            "BERTH_QUICKSTART": "1",
            "BERTH_DATA_DIR": str(start.data),
            "BERTH_BASE_URL": start.base_url,
            "BERTH_GATEWAY_URL": f"ws://localhost:{start.gateway_port}",
            "BERTH_REDIS_URL_FILE": str(secrets / "redis-url"),
            "BERTH_SECRET_KEY_FILE": str(secrets / "django"),
            "BERTH_SIGNING_KEY_FILE": str(secrets / "signing.key"),
            "BERTH_AGENT_WEB_URL": f"http://127.0.0.1:{start.web_port}",
            "BERTH_AGENT_REDIS_URL": f"redis://127.0.0.1:{start.redis_port}/0",
        }
    )
