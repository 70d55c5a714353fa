"""The web's signing key, and rolling it. Its public half stands in every agent's configuration.

Files beside each other: the key that signs; `.next`, which the dom0s are told to trust (vps.agent.trust) and which
signs nothing yet; `.old`, which signed before and is kept for a dom0 that was silent meanwhile. `.retired` has the
names of keys that dom0s are told to trust no more. `manage.py roll_signing_key` moves from one to the next.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from django.conf import settings

from vps.models.dom0 import Dom0
from vps.xen.messages import SigningKey


class RollRefused(Exception):
    """The key cannot be rolled a step further now; the text says why and what to do."""


def signing_key() -> SigningKey:
    """The key of settings.BERTH_SIGNING_KEY_FILE; made there, mode 0600, when the file does not exist.

    A file that was replaced is read again, so that rolling stops nothing. Raises OSError or ValueError for a file that
    cannot be read or holds something else.
    """
    path = _path()
    if not path.exists():
        make_signing_key(path)
    return _read(path, path.stat().st_mtime_ns)


def make_signing_key(path: Path) -> None:
    """Write a new key; whoever comes second leaves the first one's file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_bytes(SigningKey.generate().raw())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def other_key(name: str) -> SigningKey | None:
    """The key `next` or `old`, if there is one."""
    path = _path(name)
    return _read(path, path.stat().st_mtime_ns) if path.exists() else None


def retired() -> list[str]:
    """The names of the keys that no dom0 is to trust any more."""
    path = _path("retired")
    return path.read_text().split() if path.exists() else []


def begin_roll() -> SigningKey:
    """Make the next key; the sweep tells it to the dom0s. Called again, it gives the one that is there."""
    make_signing_key(_path("next"))
    found = other_key("next")
    assert found is not None
    return found


def finish_roll(without: frozenset[str] = frozenset()) -> SigningKey:
    """Sign with the next key from now on. Raises RollRefused while a dom0 (but for `without`) does not trust it."""
    following = other_key("next")
    if following is None:
        raise RollRefused("There is no next key; begin first.")
    if _path("old").exists():
        raise RollRefused("The key before is still kept; retire it first.")
    _require(following.kid, without)
    os.link(_path(), _path("old"))
    _path("next").replace(_path())
    return signing_key()


def retire_old(without: frozenset[str] = frozenset()) -> str:
    """Have the dom0s drop the key before, and forget it; gives its name. Raises RollRefused as `finish_roll` does."""
    old = other_key("old")
    if old is None:
        raise RollRefused("There is no key before; nothing was changed.")
    _require(signing_key().kid, without)
    with _path("retired").open("a") as file:
        file.write(f"{old.kid}\n")
    _path("old").unlink()
    return old.kid


def trusted_by(dom0: Dom0) -> list[str]:
    """The names of the web's keys that a dom0 said it trusts; [] for an agent that does not tell."""
    keys = dom0.inventory.get("agent", {}).get("keys")
    return [str(key) for key in keys] if isinstance(keys, list) else []


def _require(kid: str, without: frozenset[str]) -> None:
    missing = [d.name for d in Dom0.objects.all() if kid not in trusted_by(d) and d.name not in without]
    if missing:
        raise RollRefused(
            f"The key {kid} is not trusted yet by: {', '.join(missing)}. Wait until they were heard, or leave them "
            "out with --without NAME: they then need a new configuration from their page."
        )


def _path(which: str = "") -> Path:
    path = Path(settings.BERTH_SIGNING_KEY_FILE)
    return path.with_name(f"{path.name}.{which}") if which else path


@cache
def _read(path: Path, changed: int) -> SigningKey:
    return SigningKey.of(path.read_bytes())
