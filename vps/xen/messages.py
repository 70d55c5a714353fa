"""The form of what passes between the web and a dom0.

An *envelope* is one string, `<base64 of the Ed25519 signature>.<canonical JSON>`. The signature covers every
byte behind the first full stop, so that verb, address, generation and time cannot be edited apart from the
rest (Celery's own `auth` serializer signs the body only). Canonical JSON: keys sorted, no white space, ASCII.

Two kinds travel from the web to a dom0: an `Order`, which is journalled and done once, through the dom0's
Celery queue; and a `Note`, short-lived and lost without harm, through the dom0's list `line`
(acknowledgements, who watches a console, keys typed). From a dom0 come `Report`s, in its stream `out`.
Reports are not signed: the dom0's own Redis user is what says whose they are.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SCHEMA = 1
MAX_ENVELOPE = 1024 * 1024  # characters
MAX_DEPTH = 50  # lists and objects in one another; no message of ours has ten
_SEAL = re.compile(r"[0-9a-f]{64}")
MAX_WHOLE = 2**63  # what a database column of either side can still hold lies below


class MessageRefused(ValueError):
    """An envelope that is not signed by a trusted key, or whose content is not of the agreed form."""


class Verb(StrEnum):
    """What an order asks for."""

    PREPARE = "prepare"
    START = "start"
    SHUTDOWN = "shutdown"
    REBOOT = "reboot"
    DESTROY = "destroy"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    DELETE = "delete"
    CANCEL = "cancel"
    LOOK = "look"  # of a dom0, not of a domU; body: what ("dmesg", "log"), name. Agents before 0.2 do not know it
    TRY = "try"  # one boot of another entry, and back by itself (vps.xen.trying)
    TRIAL = "trial"  # without a domU; body: vps.xen.trial
    ARM = "arm"  # the next boot only is another entry's; with `try` null that is taken back


class Outcome(StrEnum):
    """Where an operation stands, as a dom0 reports it."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"


FINAL_OUTCOMES = frozenset(
    {Outcome.DONE, Outcome.FAILED, Outcome.REFUSED, Outcome.SUPERSEDED, Outcome.CANCELLED}
)


class NoteKind(StrEnum):
    """What a note says."""

    ACKNOWLEDGE = "acknowledge"  # body: journal, seq, missing (true: what came after seq was not taken)
    LOOK = "look"  # send an inventory now
    WATCH = "watch"  # body: domu, watch, seconds, replay (bytes of the record wanted; absent when renewing)
    UNWATCH = "unwatch"  # body: watch
    KEYS = "keys"  # body: domu, watch, n, data (base64)
    TRUST = "trust"  # body: key (base64 of a public key to trust), drop (the name of one to trust no more)
    HEALTHY = "healthy"  # body: domu, operation (of the try that a call or a click says is well)


class ReportKind(StrEnum):
    """What a report tells."""

    OPERATION = "operation"
    INVENTORY = "inventory"
    BOOTED = "booted"
    ENDED = "ended"


@dataclass(frozen=True, order=True)
class Generation:
    """The age of a domU's description. The epoch is raised when a database backup is restored."""

    epoch: int
    n: int

    def as_list(self) -> list[int]:
        return [self.epoch, self.n]

    @classmethod
    def of(cls, value: object) -> Generation:
        """Read `[epoch, n]`. Raises MessageRefused."""
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise MessageRefused(f"A generation is a pair of whole numbers, not {str(value)[:40]}.")
        return cls(_whole(value[0]), _whole(value[1]))


@dataclass(frozen=True)
class Head:
    """The newest seal of the chain of events (vps.chain): event number `seq` has the seal `seal`."""

    seq: int
    seal: str

    def as_list(self) -> list[int | str]:
        return [self.seq, self.seal]

    @classmethod
    def of(cls, value: object) -> Head | None:
        """Read `[seq, seal]`; None for anything else, for a head is never a reason to refuse a message."""
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            return None
        seq, seal = value
        if isinstance(seq, bool) or not isinstance(seq, int) or not 0 < seq < MAX_WHOLE:
            return None
        return cls(seq, seal) if isinstance(seal, str) and _SEAL.fullmatch(seal) else None


@dataclass(frozen=True)
class Order:
    """One thing to be done on a dom0. `not_after` is Redis TIME in milliseconds.

    `head` is what the dom0 keeps of the chain of events, so that nobody makes it anew unseen.
    """

    operation: UUID
    dom0: UUID
    domu: UUID | None
    verb: Verb
    generation: Generation
    not_after: int
    body: Mapping[str, Any] = field(default_factory=dict)
    v: int = SCHEMA
    request_id: str = ""
    head: Head | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "v": self.v,
            "operation": str(self.operation),
            "dom0": str(self.dom0),
            "domu": str(self.domu) if self.domu else None,
            "verb": self.verb.value,
            "generation": self.generation.as_list(),
            "not_after": self.not_after,
            "body": dict(self.body),
            "request_id": self.request_id,
            **({"head": self.head.as_list()} if self.head else {}),
        }

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Order:
        """Read the dictionary of an opened envelope. Raises MessageRefused."""
        if value.get("v") != SCHEMA:
            raise MessageRefused(f"Order of schema {value.get('v')!r}; this agent reads schema {SCHEMA}.")
        try:
            body = value["body"]
            if not isinstance(body, dict):
                raise MessageRefused("An order's body is an object.")
            return cls(
                operation=UUID(value["operation"]),
                dom0=UUID(value["dom0"]),
                domu=UUID(value["domu"]) if value["domu"] is not None else None,
                verb=Verb(value["verb"]),
                generation=Generation.of(value["generation"]),
                not_after=_whole(value["not_after"]),
                body=body,
                request_id=str(value.get("request_id", "")),
                head=Head.of(value.get("head")),
            )
        except MessageRefused:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MessageRefused(f"Order that cannot be read: {error}") from error


@dataclass(frozen=True)
class Note:
    """A short-lived word to a dom0; `not_after` is Redis TIME in milliseconds."""

    dom0: UUID
    kind: NoteKind
    not_after: int
    body: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "v": SCHEMA,
            "dom0": str(self.dom0),
            "note": self.kind.value,
            "not_after": self.not_after,
            "body": dict(self.body),
        }

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Note:
        """Read the dictionary of an opened envelope. Raises MessageRefused."""
        try:
            body = value["body"]
            if value["v"] != SCHEMA or not isinstance(body, dict):
                raise MessageRefused("A note of another schema, or without a body.")
            return cls(UUID(value["dom0"]), NoteKind(value["note"]), _whole(value["not_after"]), body)
        except MessageRefused:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MessageRefused(f"Note that cannot be read: {error}") from error


@dataclass(frozen=True)
class Report:
    """What a dom0 tells. `seq` counts the journal's reports from 1; 0 marks one that is not kept.

    An inventory is not kept: the next one says it better.

    `journal` names the journal file that `seq` counts in; a dom0 that lost its disk comes with another one.
    `at` is Redis TIME in milliseconds as the dom0 knows it. `oldest` is the lowest number that the journal still
    keeps, by which the web sees that one before this is missing; 0 of an agent that does not tell.
    """

    dom0: UUID
    journal: UUID
    seq: int
    kind: ReportKind
    at: int
    body: Mapping[str, Any] = field(default_factory=dict)
    oldest: int = 0

    def as_text(self) -> str:
        return canonical(
            {
                "v": SCHEMA,
                "dom0": str(self.dom0),
                "journal": str(self.journal),
                "seq": self.seq,
                "kind": self.kind.value,
                "at": self.at,
                "body": dict(self.body),
                **({"oldest": self.oldest} if self.oldest else {}),
            }
        )

    @classmethod
    def parse(cls, text: str) -> Report:
        """Read one report. Raises MessageRefused."""
        value = _object(text)
        try:
            body = value["body"]
            if value["v"] != SCHEMA or not isinstance(body, dict):
                raise MessageRefused("A report of another schema, or without a body.")
            return cls(
                UUID(value["dom0"]),
                UUID(value["journal"]),
                _whole(value["seq"]),
                ReportKind(value["kind"]),
                _whole(value["at"]),
                body,
                _whole(value.get("oldest", 0)),
            )
        except MessageRefused:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MessageRefused(f"Report that cannot be read: {error}") from error


def canonical(value: Mapping[str, Any]) -> str:
    """The one JSON text of a value: sorted keys, no white space, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


class SigningKey:
    """The web's private key. `kid` is the name under which dom0s trust it."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        self.kid = key_id(self.public)

    @classmethod
    def generate(cls) -> SigningKey:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def of(cls, raw: bytes) -> SigningKey:
        """Read the 32 bytes of a private key. Raises ValueError."""
        return cls(Ed25519PrivateKey.from_private_bytes(raw))

    def raw(self) -> bytes:
        """The 32 bytes to keep in a file of mode 0600."""
        return self._private.private_bytes(
            serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
        )

    def public_text(self) -> str:
        """The public key as an agent's configuration carries it."""
        return base64.b64encode(self.public).decode()

    def seal(self, message: Order | Note) -> str:
        """Make the envelope of a message."""
        text = canonical({**message.as_dict(), "kid": self.kid})
        return base64.b64encode(self._private.sign(text.encode())).decode() + "." + text


class TrustedKeys:
    """The web keys that a dom0 believes."""

    def __init__(self, public_texts: Iterable[str]) -> None:
        """Take public keys as base64. Raises ValueError for one that is none."""
        self._keys: dict[str, Ed25519PublicKey] = {}
        for text in public_texts:
            self.add(text)

    def add(self, public_text: str) -> None:
        """Believe one more key, given as base64. Raises ValueError for one that is none."""
        raw = base64.b64decode(public_text, validate=True)
        self._keys = {**self._keys, key_id(raw): Ed25519PublicKey.from_public_bytes(raw)}

    def drop(self, kid: str) -> None:
        """Believe a key no more; one that is not known is no error."""
        self._keys = {name: key for name, key in self._keys.items() if name != kid}

    def kids(self) -> list[str]:
        """The names of the keys that are believed."""
        return list(self._keys)

    def open(self, envelope: str) -> dict[str, Any]:
        """Verify an envelope and give its dictionary. Raises MessageRefused."""
        if not isinstance(envelope, str) or len(envelope) > MAX_ENVELOPE:
            raise MessageRefused("The envelope is no text, or too long.")
        signature, stop, text = envelope.partition(".")
        if not stop:
            raise MessageRefused("The envelope has no signature.")
        value = _object(text)
        key = self._keys.get(str(value.get("kid")))
        if key is None:
            raise MessageRefused(f"Signed by the key {value.get('kid')!r}, which this dom0 does not trust.")
        try:
            key.verify(base64.b64decode(signature, validate=True), text.encode())
        except (InvalidSignature, ValueError) as error:
            raise MessageRefused("The signature does not fit the message.") from error
        return value

    def order(self, envelope: str, dom0: UUID) -> Order:
        """Open an order that is for `dom0`. Raises MessageRefused."""
        order = Order.of(self.open(envelope))
        if order.dom0 != dom0:
            raise MessageRefused(f"The order is for dom0 {order.dom0}, not for this one.")
        return order

    def note(self, envelope: str, dom0: UUID) -> Note:
        """Open a note that is for `dom0`. Raises MessageRefused."""
        note = Note.of(self.open(envelope))
        if note.dom0 != dom0:
            raise MessageRefused(f"The note is for dom0 {note.dom0}, not for this one.")
        return note


def key_id(public: bytes) -> str:
    """The name of a public key: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def key_of(public_text: str) -> str:
    """The name of a public key given as base64. Raises ValueError for what is no key."""
    return TrustedKeys([public_text]).kids()[0]


class Channels:
    """The Redis keys of one dom0. Nothing else may be touched by its user (see `acl`)."""

    def __init__(self, dom0: UUID | str) -> None:
        self.prefix = f"d0:{dom0}:"
        self.orders = self.prefix + "orders"  # Celery's queue
        self.taken = self.prefix + "taken"  # the order being journalled
        self.line = self.prefix + "line"  # notes
        self.out = self.prefix + "out"  # stream of reports
        self.console = self.prefix + "con"  # stream of console bytes

    def acl(self, user: str, *secrets_sha256: str) -> list[str]:
        """The arguments of ACL SETUSER; of a form that Redis 6.2 and 7 both take (STACK-FACTS).

        More than one sum while a credential is being replaced.
        """
        keys = [f"~{key}" for key in (self.orders, self.taken, self.line, self.out, self.console)]
        commands = ["ping", "llen", "blmove", "lmove", "rpop", "brpop", "xadd", "time"]
        return [
            user,
            "reset",
            "on",
            *(f"#{sha256}" for sha256 in secrets_sha256),
            "resetchannels",
            *keys,
            "-@all",
            *(f"+{command}" for command in commands),
        ]


def redis_user(dom0: UUID | str) -> str:
    """The name of a dom0's Redis user."""
    return f"dom0-{dom0}"


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MessageRefused("The message is not JSON.") from error
    if not isinstance(value, dict):
        raise MessageRefused("The message is not an object.")
    if not _is_shallow(value):
        # What is read so deep may not be written again, and fails where it is kept.
        raise MessageRefused(f"The message is nested more than {MAX_DEPTH} deep.")
    return value


def _is_shallow(value: object) -> bool:
    """Whether nothing in a value of JSON lies more than MAX_DEPTH deep; without recursion."""
    level: list[object] = [value]
    for _depth in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)  # type: ignore[attr-defined]
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return True
    return False


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MAX_WHOLE:
        raise MessageRefused(f"{str(value)[:40]} is not a whole number from 0 to 2^63-1.")
    return value
