"""Telling the dom0s which keys of the web to trust, until they say that they do. Part of the sweep."""

from __future__ import annotations

from vps.models import Dom0
from vps.redis import client, now_ms
from vps.signing import other_key, retired, signing_key, trusted_by
from vps.xen.messages import Channels, Note, NoteKind, SigningKey

_SECONDS = 30  # that such a note is good for


def tell_keys() -> int:
    """Send each dom0 that was heard lately what it lacks; gives how many notes. Raises redis.RedisError."""
    current, following, old = signing_key(), other_key("next"), other_key("old")
    wanted = [current, following] if following else [current]
    gone = retired()
    count = 0
    if not (following or old or gone):
        return 0
    for dom0 in Dom0.objects.all():
        trusted = trusted_by(dom0)
        # A dom0 that was silent while the key was rolled believes the one before only.
        sealer = next((key for key in (current, old) if key and key.kid in trusted), None)
        if sealer is None or not dom0.heard_lately:
            continue
        for key in wanted:
            if key.kid not in trusted:
                _tell(dom0, sealer, {"key": key.public_text()})
                count += 1
        for kid in gone:
            if kid in trusted and current.kid in trusted:
                _tell(dom0, current, {"drop": kid})
                count += 1
    return count


def _tell(dom0: Dom0, sealer: SigningKey, body: dict[str, str]) -> None:
    note = Note(dom0.pk, NoteKind.TRUST, now_ms() + _SECONDS * 1000, body)
    client().lpush(Channels(dom0.pk).line, sealer.seal(note))
