"""The events as a chain: each sealed with the hash of the one before, so that no row can change unseen.

One sealer (the sweep) gives each event its place `seq` and its `seal`, the SHA-256 over the seal before and the
canonical JSON of the row. The newest seal, the head, travels in every order, and the dom0s keep it in their journals:
whoever makes the whole chain anew in the database cannot make it anew there. Numbers are left out only where a
backup of the database was restored; an event says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from vps.models.dom0 import Dom0
from vps.models.event import Chain, Event
from vps.xen.messages import Head, canonical

BATCH = 500
LATE = timedelta(minutes=10)  # an event may be sealed so long after it happened; a later one was slipped in
RESTORED = "database.restored"
PRUNED = "events.pruned"


def seal_events(most: int = BATCH) -> int:
    """Seal what is not sealed yet, oldest first; gives how many. Two sealers at once wait for each other."""
    if not Event.objects.filter(seq=None).exists():
        return 0
    with transaction.atomic():
        chain = Chain.locked()
        rows = list(Event.objects.filter(seq=None).order_by("pk")[:most])
        for row in rows:
            chain.seq += 1
            row.seq, row.seal = chain.seq, seal_of(chain.seal, chain.seq, row)
            chain.seal = row.seal
        Event.objects.bulk_update(rows, ["seq", "seal"])
        chain.save(update_fields=["seq", "seal"])
    return len(rows)


def head() -> Head | None:
    """The newest seal; None before the first."""
    chain = Chain.objects.filter(pk=Chain.ONLY).first()
    return Head(chain.seq, chain.seal) if chain and chain.seq else None


def seal_of(before: str, seq: int, row: Event) -> str:
    """The seal of a row in place `seq`, behind the seal `before`; 64 hexadecimal digits."""
    told = {
        "seq": seq,
        "kind": row.kind,
        "at": row.at.isoformat(),
        "actor": _id(row.actor_id),
        "actor_name": row.actor_name,
        "tenant": _id(row.tenant_id),
        "domu": _id(row.domu_id),
        "dom0": _id(row.dom0_id),
        "operation": _id(row.operation_id),
        "text": row.text,
        "reason": row.reason,
        "before": row.before,
        "after": row.after,
        "request_id": row.request_id,
    }
    return hashlib.sha256(f"{before}\n{canonical(told)}".encode()).hexdigest()


def _id(key: object) -> str:
    return str(key) if key is not None else ""


@dataclass
class Verdict:
    """What `verify` found. `faults` are sentences; `notes` what is as it should be and worth knowing."""

    sealed: int = 0
    unsealed: int = 0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify(heads: Sequence[tuple[str, Head]] = ()) -> Verdict:
    """Recompute the chain, and compare it with heads that dom0s kept: (name of the dom0, head)."""
    found = Verdict()
    chain = Chain.objects.filter(pk=Chain.ONLY).first() or Chain()
    wanted: dict[int, list[tuple[str, str]]] = {}
    for name, kept in heads:
        wanted.setdefault(kept.seq, []).append((name, kept.seal))
    seq, seal, lost = chain.pruned_seq, chain.pruned_seal, []
    for name, kept_seal in wanted.pop(seq, []):
        if kept_seal != seal:
            found.faults.append(_remade(seq, name))
    for row in Event.objects.exclude(seq=None).order_by("seq").iterator(BATCH):
        assert row.seq is not None
        if row.seq != seq + 1:
            if row.kind == RESTORED and row.before.get("seq") == seq:
                lost.append((seq + 1, row.seq - 1, row.at))
            else:
                found.faults.append(_gap(seq + 1, row.seq - 1))
        expected = seal_of(seal, row.seq, row)
        if row.seal != expected:
            found.faults.append(
                _("Event %(seq)s (%(kind)s, %(at)s) was changed, or what came before it.")
                % {"seq": row.seq, "kind": row.kind, "at": f"{row.at:%Y-%m-%d %H:%M}"}
            )
        for name, kept_seal in wanted.pop(row.seq, []):
            if kept_seal != row.seal:
                found.faults.append(_remade(row.seq, name))
        seq, seal = row.seq, row.seal
        found.sealed += 1
    if (seq, seal) != (chain.seq, chain.seal):
        found.faults.append(
            _("The chain ends with event %(seq)s, but %(head)s events were sealed: the end was cut off.")
            % {"seq": seq, "head": chain.seq}
        )
    found.notes += [_lost(*each) for each in lost]
    found.notes += _told_prunes()
    found.faults += _slipped_in(chain)
    found.faults += _unknown_prune(chain)
    for number, kept in sorted(wanted.items()):
        _judge_missing(found, number, [name for name, _seal in kept], chain, lost)
    found.unsealed = Event.objects.filter(seq=None).count()
    return found


def _judge_missing(
    found: Verdict, seq: int, names: list[str], chain: Chain, lost: list[tuple[int, int, datetime]]
) -> None:
    """A dom0 keeps the head `seq`, and there is no such event."""
    if seq <= chain.pruned_seq:
        return
    for first, last, at in lost:
        if first <= seq <= last:
            found.notes.append(
                _("Event %(seq)s, which %(names)s knows, was lost with the restoration of %(at)s.")
                % {"seq": seq, "names": ", ".join(names), "at": f"{at:%Y-%m-%d %H:%M}"}
            )
            return
    found.faults.append(
        _("%(names)s knows event %(seq)s, which is not there any more.")
        % {"names": ", ".join(names), "seq": seq}
    )


def _gap(first: int, last: int) -> str:
    if first == last:
        return _("Event %(seq)s was removed.") % {"seq": first}
    return _("Events %(first)s to %(last)s were removed.") % {"first": first, "last": last}


def _lost(first: int, last: int, at: datetime) -> str:
    """A gap that the chain itself tells of: whoever reads this knows whether there was a restoration."""
    return _("Events %(first)s to %(last)s were lost with the restoration of %(at)s.") % {
        "first": first,
        "last": last,
        "at": f"{at:%Y-%m-%d %H:%M}",
    }


def _told_prunes() -> Iterator[str]:
    """Each removal that the chain itself tells of: whoever reads this knows whether it was one of theirs."""
    for row in Event.objects.filter(kind=PRUNED).exclude(seq=None).select_related("actor").order_by("seq"):
        yield _("Events up to %(last)s were removed on %(at)s (%(who)s), as event %(seq)s tells.") % {
            "last": row.after.get("seq"),
            "at": f"{row.at:%Y-%m-%d %H:%M}",
            "who": row.actor or _("by a command"),
            "seq": row.seq,
        }


def _remade(seq: int, name: str) -> str:
    return _("Event %(seq)s has another seal than %(dom0)s was told: the chain was made again.") % {
        "seq": seq,
        "dom0": name,
    }


def _slipped_in(chain: Chain) -> Iterator[str]:
    """Events that say of themselves that they happened long before those sealed before them."""
    newest: datetime | None = None
    rows = Event.objects.exclude(seq=None).order_by("seq").values_list("seq", "kind", "at")
    for seq, kind, at in rows.iterator(BATCH):
        if newest is not None and at < newest - LATE and kind != RESTORED:
            yield _("Event %(seq)s says it is of %(at)s, long before its neighbours: it was slipped in.") % {
                "seq": seq,
                "at": f"{at:%Y-%m-%d %H:%M}",
            }
        newest = at if newest is None else max(newest, at)


def _unknown_prune(chain: Chain) -> list[str]:
    """The beginning may be missing only if an event of the chain says up to where."""
    if not chain.pruned_seq:
        return []
    told = Event.objects.filter(kind=PRUNED).exclude(seq=None).values_list("after", flat=True)
    if any(t.get("seq") == chain.pruned_seq and t.get("seal") == chain.pruned_seal for t in told):
        return []
    return [_("The events up to %(seq)s are gone, and no event tells of it.") % {"seq": chain.pruned_seq}]


def prune_events(before: datetime, by: User | None = None) -> int:
    """Remove sealed events older than `before`; the chain goes on from the last of them. Gives how many."""
    with transaction.atomic():
        while seal_events():
            pass
        chain = Chain.locked()
        # Up to the first that is to stay: the chain has no holes.
        stays = Event.objects.filter(at__gte=before).exclude(seq=None).order_by("seq").first()
        last = stays.seq - 1 if stays and stays.seq else chain.seq
        row = Event.objects.filter(seq__lte=last).order_by("-seq").first()
        if row is None:
            return 0
        chain.pruned_seq, chain.pruned_seal = row.seq or 0, row.seal
        chain.save(update_fields=["pruned_seq", "pruned_seal"])
        count, _each = Event.objects.filter(seq__lte=last).delete()
        Event.record(
            PRUNED,
            _("%(count)s events from before %(before)s were removed")
            % {"count": count, "before": f"{before:%Y-%m-%d}"},
            actor=by,
            after={"seq": chain.pruned_seq, "seal": chain.pruned_seal},
        )
        seal_events()
    return count


def go_on_after_restoration(by: User | None = None) -> Event:
    """Leave out the numbers that dom0s may know from events which the backup has not, and say so.

    The first event behind the hole is of kind RESTORED, and tells where the chain ended.
    """
    with transaction.atomic():
        while seal_events():
            pass
        chain = Chain.locked()
        known = [head.seq for _name, head in kept_heads()]
        ended = chain.seq
        event = Event.record(
            RESTORED,
            _("A backup of the database was restored"),
            actor=by,
            before={"seq": ended},
        )
        chain.seq = max([ended, *known]) + 1
        event.seq, event.seal = chain.seq, seal_of(chain.seal, chain.seq, event)
        event.save(update_fields=["seq", "seal"])
        chain.seal = event.seal
        chain.save(update_fields=["seq", "seal"])
    return event


def kept_heads(since: datetime | None = None) -> list[tuple[str, Head]]:
    """The heads that the dom0s' last inventories named; only of those heard after `since`, if it is given."""
    found = []
    for dom0 in Dom0.objects.all():
        if since is not None and (dom0.heard_at is None or dom0.heard_at < since):
            continue
        for value in dom0.inventory.get("heads") or []:
            if kept := Head.of(value):
                found.append((dom0.name, kept))
    return found
