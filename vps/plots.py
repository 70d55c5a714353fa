"""From samples to what a plot shows: rates out of counters, gaps where nothing is known, words for the last value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.utils.translation import gettext as _

from accounts.models.quota import size_text
from vps.models import Domu, Sample
from vps.models.dom0 import Dom0
from vps.models.sample import COUNTERS

HOURS = 24
LONGEST = 16 * 60.0  # seconds between two samples over which a rate still tells something
TABLE_ROWS = 24
CPU, READ, WRITTEN, RECEIVED, SENT = range(2, 2 + len(COUNTERS))

Row = tuple[int, Sequence[Any]]  # time in ms, figures
Line = list[float | None]


@dataclass(frozen=True)
class Plot:
    """`unit`: percent, mib or bytes (a second); `top` where the axis ends at least, None for its highest value."""

    name: str
    title: str
    unit: str
    times: list[int]  # seconds of the epoch
    labels: list[str]
    lines: list[Line]
    top: float | None = None
    note: str = ""
    known: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self,
            "known",
            any(value is not None for line in self.lines for value in line) and bool(self.times),
        )

    @property
    def last(self) -> list[tuple[str, str]]:
        """(label, newest value as text) of each line."""
        return [
            (label, shown(self.unit, next((v for v in reversed(line) if v is not None), None)))
            for label, line in zip(self.labels, self.lines, strict=True)
        ]

    @property
    def data(self) -> dict[str, Any]:
        """What the script draws."""
        return {
            "unit": self.unit,
            "top": self.top,
            "labels": self.labels,
            "data": [self.times, *self.lines],
        }

    @property
    def table(self) -> list[tuple[datetime, list[str]]]:
        """(time, values as text), newest first: about one for each hour."""
        step = max(1, len(self.times) // TABLE_ROWS)
        rows = [
            (
                datetime.fromtimestamp(self.times[i], tz=UTC),
                [shown(self.unit, line[i]) for line in self.lines],
            )
            for i in range(len(self.times) - 1, -1, -step)
        ]
        return rows[: TABLE_ROWS + 1]


def shown(unit: str, value: float | None) -> str:
    """A value with its unit, as people read it."""
    if value is None:
        return "–"
    if unit == "percent":
        return f"{value:.1f} %" if value < 10 else f"{value:.0f} %"
    if unit == "mib":
        return size_text(int(value) * 1024 * 1024) if value else "0 MiB"
    return _("%(size)s/s") % {"size": size_text(round(value))}


def of_domu(domu: Domu, now_ms: int) -> list[Plot]:
    """Cpu, memory, disk and network of a server over the last day."""
    since = now_ms // 60_000 - HOURS * 60
    rows: list[Row] = Sample.objects.of_domu(domu.dom0_id, domu.pk, since)
    times = [at // 1000 for at, _figures in rows]

    def rate(index: int) -> Line:
        return _rate([(at, figures[index], figures[0]) for at, figures in rows])

    memory: Line = [figures[1] for _at, figures in rows]
    return [
        Plot(
            "cpu",
            _("Cpu"),
            "percent",
            times,
            [_("used")],
            [_times(100, rate(CPU))],
            note=_("100 % is one cpu"),
        ),
        Plot("memory", _("Memory"), "mib", times, [_("has")], [memory], top=float(domu.memory_mib)),
        Plot("disk", _("Disks"), "bytes", times, [_("read"), _("written")], [rate(READ), rate(WRITTEN)]),
        Plot(
            "network",
            _("Network"),
            "bytes",
            times,
            [_("received"), _("sent")],
            [rate(RECEIVED), rate(SENT)],
        ),
    ]


def of_dom0(dom0: Dom0, now_ms: int) -> list[Plot]:
    """Cpu, memory and disk of a whole host over the last day."""
    since = now_ms // 60_000 - HOURS * 60
    rows = list(dom0.samples.filter(minute__gte=since).order_by("minute").values_list("at_ms", "host"))
    times = [at // 1000 for at, _host in rows]

    def line(name: str) -> Line:
        return [host.get(name) for _at, host in rows]

    def rate(name: str) -> Line:
        # All domains' seconds fall when one of them ends: a gap, and the next pair is good again.
        return _times(100, _rate([(at, host.get(name), 0) for at, host in rows]))

    return [
        Plot(
            "cpu",
            _("Cpu"),
            "percent",
            times,
            [_("all domains"), _("dom0 itself")],
            [rate("cpu_seconds"), rate("own_seconds")],
            top=100.0 * max(1, dom0.cpus),
            note=_("100 % is one cpu"),
        ),
        Plot("memory", _("Memory"), "mib", times, [_("used")], [line("memory_mib")], top=_total(dom0)),
        Plot("disk", _("Disk pool"), "mib", times, [_("used")], [line("disk_mib")], top=float(dom0.disk_mib)),
    ]


def _total(dom0: Dom0) -> float:
    return float(dom0.inventory.get("memory_mib") or dom0.memory_mib)


def _rate(points: Sequence[tuple[int, float | None, int]]) -> Line:
    """What was counted for each second between a point and the one before it.

    None for the first one, after another domain (number) took the place, where the counter went back, and over
    a time of which nothing is known.
    """
    line: Line = []
    before: tuple[int, float | None, int] | None = None
    for point in points:
        at, value, domid = point
        rate = None
        if before is not None and value is not None and before[1] is not None and before[2] == domid:
            seconds = (at - before[0]) / 1000
            if 0 < seconds <= LONGEST and value >= before[1]:
                rate = round((value - before[1]) / seconds, 4)
        line.append(rate)
        before = point
    return line


def _times(factor: float, line: Line) -> Line:
    return [None if value is None else round(value * factor, 2) for value in line]
