"""Enrolling a dom0: a row, a credential, a Redis user, the agent's configuration."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.db import transaction

from accounts.models import User
from vps.models import Dom0, Event
from vps.redis import admit
from vps.signing import other_key, signing_key


def enrol(
    name: str,
    *,
    simulated: bool = False,
    bridge: str = "xenbr0",
    by: User | None = None,
    at_once: bool = False,
) -> tuple[Dom0, str]:
    """Make a dom0, or give an existing one a new credential. Raises redis.RedisError when Redis is away.

    The old credential stays good until the agent runs with the new one, or ends `at_once`.
    """
    secret = Dom0.new_secret()
    dom0, made = Dom0.objects.get_or_create(
        name=name, defaults={"simulated": simulated, "bridge": bridge, "secret_sha256": Dom0.digest(secret)}
    )
    if not made:
        # A new one that never came into use is not kept: the agent's own is the one before.
        before = dom0.old_secret_sha256 or dom0.secret_sha256
        dom0.old_secret_sha256 = "" if at_once else before
        dom0.secret_sha256 = Dom0.digest(secret)
        dom0.save(update_fields=["secret_sha256", "old_secret_sha256"])
    Event.record("dom0.enrolled", f"{name} was enrolled", actor=by, dom0=dom0)
    admit(dom0)
    return dom0, secret


def end_old_credentials() -> int:
    """End each credential whose successor is in use; gives how many. Raises redis.RedisError."""
    count = 0
    for dom0 in Dom0.objects.exclude(old_secret_sha256=""):
        if not dom0.uses_new_secret:
            continue
        with transaction.atomic():
            Dom0.objects.filter(pk=dom0.pk).update(old_secret_sha256="")
            Event.record("dom0.credential", f"{dom0} uses its new credential; the old one ended", dom0=dom0)
            dom0.old_secret_sha256 = ""
            admit(dom0)
        count += 1
    return count


def agent_toml(dom0: Dom0, secret: str, redis: str = "", web: str = "") -> str:
    """The configuration of the agent of a real dom0 (docs/design.md has the keys)."""
    return "\n".join(
        [
            f"# The agent of {dom0.name}. Keep it readable for root only: it holds the credential.",
            *_common(dom0, secret, redis, web),
            'state_dir = "/var/lib/berth"',
            'config_dir = "/etc/xen"',
            'disk_dir = "/var/lib/berth/disks"',
            'xl = ["xl"]',
            'xl_log_dir = "/var/log/xen"',
            "simulated = false",
            "",
        ]
    )


def simulated_toml(dom0: Dom0, secret: str, state_dir: Path, redis: str = "", web: str = "") -> str:
    """The configuration of the agent of a simulated dom0, all of it below `state_dir`."""
    xen = state_dir / "xen"
    return "\n".join(
        [
            f"# The agent of the simulated dom0 {dom0.name}.",
            *_common(dom0, secret, redis, web),
            f"state_dir = {_quoted(state_dir / 'agent')}",
            f"config_dir = {_quoted(state_dir / 'etc-xen')}",
            f"disk_dir = {_quoted(state_dir / 'disks')}",
            f'xl = [{_quoted(sys.executable)}, "-m", "vps.agent.sim", "--state", {_quoted(xen)}]',
            f"xl_log_dir = {_quoted(xen / 'log')}",
            "simulated = true",
            "",
        ]
    )


def _common(dom0: Dom0, secret: str, redis: str, web: str) -> list[str]:
    keys = [key for key in (signing_key(), other_key("next")) if key]
    return [
        f"dom0 = {_quoted(dom0.pk)}",
        f"name = {_quoted(dom0.name)}",
        f"secret = {_quoted(secret)}",
        f"web = {_quoted(web or settings.BERTH_BASE_URL)}",
        f"redis = {_quoted(redis or _without_user(settings.BERTH_REDIS_URL))}",
        f"trusted_keys = [{', '.join(_quoted(key.public_text()) for key in keys)}]",
    ]


def _without_user(url: str) -> str:
    """The address of Redis without the web's own user and password."""
    parts = urlsplit(url)
    host = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _quoted(value: object) -> str:
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
