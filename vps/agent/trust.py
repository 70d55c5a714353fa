"""Whose orders the dom0 believes: the keys of its configuration, and those that a believed key named since.

The web's key is rolled without stopping: it names the next one, waits until every dom0 says that it trusts it, signs
with it, and has the old one dropped (`manage.py roll_signing_key`). What was dropped never comes back by a note.
"""

from __future__ import annotations

import json
import logging
import threading

from vps.agent.config import Config
from vps.agent.journal import Journal
from vps.xen.messages import Note, TrustedKeys, key_of

logger = logging.getLogger(__name__)

_META = "trust"
_MOST = 8  # keys that may be named beside those of the configuration


class Trust:
    """The trusted keys of a dom0. `keys` opens envelopes; threads may share it."""

    def __init__(self, config: Config, journal: Journal) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        kept = json.loads(journal.meta(_META) or "{}")
        self._named: list[str] = kept.get("named", [])
        self._dropped: list[str] = kept.get("dropped", [])
        self.keys = TrustedKeys(config.trusted_keys)
        for text in self._named:
            self.keys.add(text)
        for kid in self._dropped:
            self.keys.drop(kid)

    def kids(self) -> list[str]:
        """The names of the keys that are trusted now."""
        return self.keys.kids()

    def hear(self, note: Note) -> None:
        """Take a note that names a key to trust (`key`, base64), or one to drop (`drop`, its name).

        The last key is never dropped, for nobody could name another one.
        """
        with self._lock:
            if key := note.body.get("key"):
                self._trust(str(key))
            if kid := note.body.get("drop"):
                self._drop(str(kid))

    def _trust(self, text: str) -> None:
        try:
            kid = key_of(text)
        except ValueError as error:
            logger.warning("a note names a key that is none: %s", error)
            return
        if kid in self._dropped or kid in self.kids():
            return
        if len(self._named) >= _MOST:
            logger.warning("the key %s is not taken: %s keys were named already", kid, _MOST)
            return
        self._named.append(text)
        self._keep()
        self.keys.add(text)
        logger.info("the key %s is trusted from now on", kid)

    def _drop(self, kid: str) -> None:
        if kid not in self.kids() or self.kids() == [kid]:
            return
        self._named = [text for text in self._named if key_of(text) != kid]
        self._dropped.append(kid)
        self._keep()
        self.keys.drop(kid)
        logger.info("the key %s is trusted no more", kid)

    def _keep(self) -> None:
        self._journal.set_meta(_META, json.dumps({"named": self._named, "dropped": self._dropped}))
