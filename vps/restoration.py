"""After a backup of the database was put back: nothing that the dom0s know may be mistaken for what the rows say.

The dom0s are ahead of the rows. Every server gets a new epoch, above every generation that a dom0 has seen; what was
under way in the backup is given up, for nobody knows how it went; each server is prepared anew, so that its dom0 takes
the new generation, and from then on the dom0's word of what is wanted and what runs is taken again (vps.reports).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import F, Max
from django.utils import timezone
from django.utils.translation import gettext as _

from vps.chain import go_on_after_restoration
from vps.models import Conflict, Domu, Operation
from vps.models.operation import State
from vps.xen.messages import Verb


@dataclass
class Restored:
    """What was done: the new epoch, how many operations were given up, servers asked for, and who could not be."""

    epoch: int = 0
    given_up: int = 0
    prepared: int = 0
    refused: list[str] = field(default_factory=list)


def go_on() -> Restored:
    """Make the restored database the present one; a second call does it once more, which harms nothing."""
    done = Restored()
    with transaction.atomic():
        newest = Domu.objects.aggregate(epoch=Max("epoch"))["epoch"] or 0
        done.epoch = newest + 1
        Domu.objects.update(epoch=done.epoch, n=F("n") + 1, observed="", observed_ms=0, absent_ms=None)
        for row in Operation.objects.open():
            done.given_up += row.move(
                State.LOST,
                error={
                    "code": "restored",
                    "text": _("A backup of the database was restored; how this went is not known."),
                    "output": "",
                },
            )
        # What the backup has as deleted may have been undeleted since: people get their days to look.
        Domu.objects.kept().update(keep_until=timezone.now() + timedelta(days=settings.BERTH_KEEP_DAYS))
        # Whoever was logged out, or lost a right, since the backup was made must not be back.
        Session.objects.all().delete()
        go_on_after_restoration()
    for domu in Domu.objects.live().filter(made=True).select_related("tenant", "dom0"):
        try:
            domu.order(Verb.PREPARE, None, _("A backup of the database was restored."))
            done.prepared += 1
        except Conflict as conflict:
            done.refused.append(f"{domu.name}: {conflict}")
    return done
