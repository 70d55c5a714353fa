"""The web's signing key. Its public half stands in every agent's configuration."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from django.conf import settings

from vps.xen.messages import SigningKey


@cache
def signing_key() -> SigningKey:
    """The key of settings.BERTH_SIGNING_KEY_FILE; made there, mode 0600, when the file does not exist.

    Raises OSError or ValueError for a file that cannot be read or holds something else.
    """
    path = Path(settings.BERTH_SIGNING_KEY_FILE)
    if not path.exists():
        make_signing_key(path)
    return SigningKey.of(path.read_bytes())


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
