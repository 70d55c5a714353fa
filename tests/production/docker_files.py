"""What docker/ says, read so that tests can run it: the images' commands, the services, the two configurations."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
DOCKER = ROOT / "docker"


@dataclass
class Target:
    """A stage of the Dockerfile. `user` and `cmd` as the stages that it comes from leave them."""

    name: str
    base: str
    user: str = ""
    cmd: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)  # from the build context
    volumes: list[str] = field(default_factory=list)


@cache
def targets() -> dict[str, Target]:
    """The stages by name."""
    text = re.sub(r"\\\n\s*", " ", (DOCKER / "Dockerfile").read_text())
    found: dict[str, Target] = {}
    now: Target | None = None
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            now = Target(name, base)
            if parent := found.get(base):
                now.user, now.cmd, now.health = parent.user, parent.cmd, parent.health
                now.volumes = list(parent.volumes)
            found[name] = now
        elif now is None:
            continue
        elif word == "USER":
            now.user = rest
        elif word == "CMD":
            now.cmd = json.loads(rest)
        elif word == "HEALTHCHECK":
            now.health = json.loads(rest.partition(" CMD ")[2])
        elif word == "VOLUME":
            now.volumes.append(rest)
        elif word == "COPY" and not rest.startswith("--from="):
            now.copies += rest.split()[:-1]
    return found


@cache
def compose() -> dict[str, Any]:
    """compose.yaml with its anchors resolved."""
    value: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return value


def redis_conf(secrets: Path, folder: Path, port: int) -> str:
    """docker/redis.conf with this machine's paths and ports; TLS alone. Raises AssertionError for what it lacks."""
    return (
        replaced(
            (DOCKER / "redis.conf").read_text(),
            {
                "bind * -::*": "bind 127.0.0.1",
                "port 6379": "port 0",
                "tls-port 6380": f"tls-port {port}",
                "/run/secrets/tls-certificate": str(secrets / "tls.crt"),
                "/run/secrets/tls-key": str(secrets / "tls.key"),
                "/run/secrets/redis-users": str(secrets / "redis-users"),
            },
        )
        + f"dir {folder}\n"
    )


def nginx_conf(secrets: Path, folder: Path, port: int, webs: list[int], gateways: list[int]) -> str:
    """docker/nginx.conf with this machine's paths and ports. Raises AssertionError for what it lacks."""

    def servers(ports: list[int]) -> str:
        return " ".join(f"server 127.0.0.1:{number};" for number in ports)

    return "daemon off;\n" + replaced(
        (DOCKER / "nginx.conf").read_text(),
        {
            "/tmp/": f"{folder}/",  # first: the other paths may be below it
            "listen 8443": f"listen 127.0.0.1:{port}",
            "/run/secrets/tls-certificate": str(secrets / "tls.crt"),
            "/run/secrets/tls-key": str(secrets / "tls.key"),
            "server web:8000;": servers(webs),
            "server gateway:8001;": servers(gateways),
        },
    )


def replaced(text: str, values: dict[str, str]) -> str:
    """The text with each key, which must be there as a line's part, replaced."""
    for old, new in values.items():
        pattern = rf"(?<![-\w]){re.escape(old)}" if old[0].isalpha() else re.escape(old)
        text, count = re.subn(pattern, new.replace("\\", r"\\"), text)
        assert count, f"{old!r} is not in the file any more; the test's layout must follow it."
    return text
