"""SSH keys of people: public ones only, read strictly."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.ids import new_id
from accounts.models.user import User

LONGEST = 16_384  # characters
LEAST_RSA = 2048  # bits
MOST = 50  # keys of one person
KINDS = {
    "ssh-ed25519": ed25519.Ed25519PublicKey,
    "ssh-rsa": rsa.RSAPublicKey,
    "ecdsa-sha2-nistp256": ec.EllipticCurvePublicKey,
    "ecdsa-sha2-nistp384": ec.EllipticCurvePublicKey,
    "ecdsa-sha2-nistp521": ec.EllipticCurvePublicKey,
}


@dataclass(frozen=True)
class PublicKey:
    """A key as it is kept: `line` has kind and key, no comment."""

    line: str
    comment: str
    fingerprint: str
    kind: str
    bits: int


class SshKey(models.Model):
    """One public key of a person."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey(User, models.CASCADE, related_name="ssh_keys")
    line = models.TextField(gettext_lazy("public key"))
    comment = models.CharField(max_length=200, blank=True)
    fingerprint = models.CharField(max_length=60)
    kind = models.CharField(max_length=24)
    bits = models.PositiveSmallIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["created_at"]
        constraints = [models.UniqueConstraint(fields=["user", "fingerprint"], name="one_key_each")]

    def __str__(self) -> str:
        return f"{self.kind} {self.fingerprint} {self.comment}".strip()

    @property
    def authorized_line(self) -> str:
        """A line of authorized_keys."""
        return f"{self.line} {self.comment}".strip()


def read_public_key(text: str) -> PublicKey:
    """Read one line as OpenSSH writes it. Raises ValidationError with a sentence for the person who pasted it."""
    text = text.strip()
    _refuse_what_is_no_line(text)
    kind, _space, rest = text.partition(" ")
    encoded, _space, comment = rest.strip().partition(" ")
    comment = comment.strip()
    if kind in ("ssh-dss", "ssh-dsa"):
        raise ValidationError(_("DSA keys are broken; make an Ed25519 key: ssh-keygen -t ed25519"))
    if kind not in KINDS:
        raise ValidationError(
            _(
                "The line must begin with one of %(kinds)s, without options before it; it begins with “%(is)s”."
            )
            % {"kinds": ", ".join(KINDS), "is": kind[:40]}
        )
    if len(comment) > 200 or not comment.isprintable():
        raise ValidationError(_("The comment after the key is at most 200 printable characters."))
    try:
        key = load_ssh_public_key(f"{kind} {encoded}".encode("ascii"))
    except (ValueError, UnicodeEncodeError, UnsupportedAlgorithm) as error:
        raise ValidationError(
            _("This is no whole public key; copy the line again, from end to end.")
        ) from error
    if not isinstance(key, KINDS[kind]) or isinstance(key, dsa.DSAPublicKey):
        raise ValidationError(_("The line says %(kind)s, but holds another kind of key.") % {"kind": kind})
    bits = 256 if isinstance(key, ed25519.Ed25519PublicKey) else key.key_size
    if kind == "ssh-rsa" and bits < LEAST_RSA:
        raise ValidationError(
            _("The RSA key has %(bits)s bits; %(least)s is the least. Better: ssh-keygen -t ed25519")
            % {"bits": bits, "least": LEAST_RSA}
        )
    line = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return PublicKey(line, comment, _fingerprint(line), kind, bits)


def _refuse_what_is_no_line(text: str) -> None:
    if "PRIVATE KEY" in text:
        raise ValidationError(
            _(
                "This is a private key, which only you may have; it was not kept. Paste the file that ends in .pub."
            )
        )
    if len(text.splitlines()) != 1:
        raise ValidationError(_("Paste one key, on one line."))
    if len(text) > LONGEST:
        raise ValidationError(
            _("The line has %(is)s characters; a key has fewer than %(most)s.")
            % {"is": len(text), "most": LONGEST}
        )


def _fingerprint(line: str) -> str:
    """As `ssh-keygen -l` shows it."""
    blob = base64.b64decode(line.split(" ")[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
