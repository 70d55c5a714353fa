"""What Prometheus reads at /metrics: counted in database and Redis when it is asked, so that any process may answer.

The text format is written here (https://prometheus.io/docs/instrumenting/exposition_formats/): with nothing counted
in the processes themselves there is nothing that a client library would have to bring together.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import redis
from django.conf import settings
from django.db.models import Count, Min
from django.utils import timezone

from vps.models import Alarm, Dom0, Domu, Event, KernelVersion, Operation, Request, Upload
from vps.models.operation import OPEN, State
from vps.redis import client
from vps.xen.messages import Channels

Labels = Mapping[str, str]


@dataclass
class Metric:
    """One family: `kind` is gauge or counter, `values` pairs of labels and number."""

    name: str
    about: str
    kind: str = "gauge"
    values: list[tuple[Labels, float]] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.about}"
        yield f"# TYPE {self.name} {self.kind}"
        for labels, value in self.values:
            inside = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
            yield f"{self.name}{{{inside}}} {value:.16g}" if inside else f"{self.name} {value:.16g}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def exposition() -> str:
    """All metrics as text. Raises DatabaseError; without Redis its part is left out and berth_redis_up is 0."""
    metrics = [*_operations(), *_hosts(), *_refusals(), *_rest(), *_redis()]
    return "".join(f"{line}\n" for metric in metrics for line in metric.lines())


def _grouped(rows: Iterable[Mapping[str, object]], *names: str) -> list[tuple[Labels, float]]:
    return [({name: str(row[name]) for name in names}, float(str(row["n"]))) for row in rows]


def _operations() -> Iterator[Metric]:
    rows = list(
        Operation.objects.order_by().values("state").annotate(n=Count("pk"), oldest=Min("created_at"))
    )
    there = {str(row["state"]): row for row in rows}
    now = timezone.now()
    yield Metric(
        "berth_operations",
        "Operations by state.",
        values=[({"state": state}, float(there.get(state, {}).get("n", 0))) for state in State.values],
    )
    yield Metric(
        "berth_operation_oldest_seconds",
        "Age of the oldest open operation of a state.",
        values=[
            ({"state": state}, (now - there[state]["oldest"]).total_seconds() if state in there else 0.0)
            for state in sorted(OPEN)
        ],
    )


def _hosts() -> Iterator[Metric]:
    limit = timezone.now() - timedelta(seconds=settings.BERTH_SILENT_AFTER)
    yield Metric("berth_dom0s", "Enrolled dom0s.", values=[({}, Dom0.objects.count())])
    yield Metric(
        "berth_dom0s_heard",
        "Dom0s that were heard lately.",
        values=[({}, Dom0.objects.filter(heard_at__gte=limit).count())],
    )
    rows = Domu.objects.live().order_by().values("wanted", "observed").annotate(n=Count("pk"))
    yield Metric(
        "berth_servers", "Servers by what is wanted and seen.", values=_grouped(rows, "wanted", "observed")
    )
    open_ones = Alarm.objects.open().order_by().values("kind").annotate(n=Count("pk"))
    yield Metric("berth_alarms", "Open alarms by kind.", values=_grouped(open_ones, "kind"))


def _refusals() -> Iterator[Metric]:
    refused = Operation.objects.filter(state=State.REFUSED).order_by()
    values = [
        ({"what": "operation", "reason": str(row["error__code"] or "unknown")}, float(row["n"]))
        for row in refused.values("error__code").annotate(n=Count("pk"))
    ]
    for what, rows in (
        ("report", Event.objects.filter(kind="report.refused")),
        ("kernel", KernelVersion.objects.filter(state=KernelVersion.State.REFUSED)),
        ("request", Request.objects.filter(state=Request.State.REFUSED)),
    ):
        values.append(({"what": what, "reason": ""}, float(rows.count())))
    yield Metric("berth_refusals", "What was refused, by what and why.", values=values)


def _rest() -> Iterator[Metric]:
    waiting = Request.objects.waiting()
    yield Metric("berth_requests_waiting", "Requests that wait.", values=[({}, waiting.count())])
    yield Metric("berth_uploads_open", "Uploads that are not whole.", values=[({}, _unfinished())])
    inspecting = KernelVersion.objects.filter(state=KernelVersion.State.INSPECTING)
    yield Metric(
        "berth_inspections_waiting", "Kernels that wait for inspection.", values=[({}, inspecting.count())]
    )


def _unfinished() -> int:
    return Upload.objects.filter(version=None).count()


def _redis() -> Iterator[Metric]:
    try:
        orders, reports = _depths()
        web = int(client().llen("web:web"))
        consoles = sum(1 for _ in _consoles())
    except redis.RedisError:
        yield Metric("berth_redis_up", "Whether Redis answers.", values=[({}, 0)])
        return
    yield Metric("berth_redis_up", "Whether Redis answers.", values=[({}, 1)])
    yield Metric(
        "berth_queue_depth",
        "What waits: orders of all dom0s, reports of all dom0s, tasks of the web's worker.",
        values=[
            ({"queue": "orders"}, sum(orders)),
            ({"queue": "reports"}, sum(reports)),
            ({"queue": "web"}, web),
        ],
    )
    yield Metric(
        "berth_queue_depth_most",
        "The longest of the dom0s' queues.",
        values=[
            ({"queue": "orders"}, max(orders, default=0)),
            ({"queue": "reports"}, max(reports, default=0)),
        ],
    )
    yield Metric("berth_consoles_open", "Consoles that are open in browsers.", values=[({}, consoles)])


def _depths() -> tuple[list[int], list[int]]:
    """How many orders and reports lie in the keys of each dom0; one round trip."""
    pipe = client().pipeline(transaction=False)
    channels = [Channels(pk) for pk in Dom0.objects.order_by().values_list("pk", flat=True)]
    for channel in channels:
        pipe.llen(channel.orders)
        pipe.xlen(channel.out)
    # A key that an agent spoiled is not worth the whole answer.
    found = [0 if isinstance(n, Exception) else int(n) for n in pipe.execute(raise_on_error=False)]
    return found[0::2], found[1::2]


def _consoles() -> Iterator[bytes]:
    """The connections of all people that are not stale (vps/console_people.py)."""
    now = time.time()
    for key in client().scan_iter("console:user:*", count=1000):
        yield from client().zrangebyscore(key, now, "+inf")
