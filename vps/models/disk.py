"""A domU's own disks."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from accounts.ids import new_id
from vps.xen.description import DiskSpec


class Disk(models.Model):
    """A disk: made on the dom0 at the first prepare, wiped when it is deleted. `index` 0 is the guest's first."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    domu = models.ForeignKey("vps.Domu", models.PROTECT, related_name="disks")
    index = models.PositiveSmallIntegerField()
    size_mib = models.PositiveIntegerField(_("size in MiB"))
    backend = models.CharField(max_length=12, default="file")
    read_only = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    purged_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["index"]
        constraints = [
            models.UniqueConstraint(
                fields=["domu", "index"], condition=models.Q(purged_at=None), name="one_disk_an_index"
            )
        ]

    def __str__(self) -> str:
        return f"{self.domu} disk {self.index}: {self.size_mib} MiB"

    def spec(self) -> DiskSpec:
        return DiskSpec(self.id, self.index, self.size_mib, self.backend, self.read_only)
