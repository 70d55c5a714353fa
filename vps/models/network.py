"""Network interfaces, and the ledger of MAC addresses."""

from __future__ import annotations

import secrets

from django.db import IntegrityError, models, transaction

from accounts.ids import new_id
from vps.xen.description import NicSpec

_OUI = 0x00163E000000  # Xen's own range
# The dom0's side of an interface has the address with this bit turned (H13), so numbers with the bit clear are
# given out and their twins stay free.
_TWIN = 0x000000010000


class MacAddress(models.Model):
    """An address that was given out. Rows stay for ever: an address is never given out twice (H13)."""

    number = models.BigIntegerField(primary_key=True)
    given_to = models.UUIDField()  # the domU's id
    given_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return mac_text(self.number)

    @classmethod
    def give(cls, domu_id: object) -> MacAddress:
        """Take a new address out of Xen's range."""
        for _ in range(64):
            number = _OUI | (secrets.randbits(24) & ~_TWIN)
            try:
                with transaction.atomic():
                    return cls.objects.create(number=number, given_to=domu_id)
            except IntegrityError:
                continue
        raise RuntimeError("No free MAC address was found in 64 tries; the range is nearly used up.")


class Nic(models.Model):
    """One interface of a domU."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    domu = models.ForeignKey("vps.Domu", models.PROTECT, related_name="nics")
    index = models.PositiveSmallIntegerField(default=0)
    mac = models.OneToOneField(MacAddress, models.PROTECT)
    bridge = models.CharField(max_length=15)

    class Meta:
        ordering = ["index"]
        constraints = [models.UniqueConstraint(fields=["domu", "index"], name="one_nic_an_index")]

    def __str__(self) -> str:
        return f"{self.domu} net {self.index}: {self.mac}"

    def spec(self) -> NicSpec:
        return NicSpec(str(self.mac), self.bridge)


def mac_text(number: int) -> str:
    """48 bits as 00:16:3e:01:02:03."""
    return ":".join(f"{byte:02x}" for byte in number.to_bytes(6, "big"))
