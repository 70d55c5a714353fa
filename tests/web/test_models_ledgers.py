"""The two ledgers under any sequence of what people do: never exceeded, never wrong, released fully."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import QuotaEntry, QuotaExceeded, Tenant
from accounts.models.quota import grant, release, sums, use, used_by
from tests.web.conftest import Cast, finish
from tests.web.world import Mouth
from vps.management.commands.verify_ledgers import differences
from vps.models import CapacityEntry, Conflict, Dom0, Domu, NoRoom, Request, kept
from vps.models.dom0 import BOOT_DISK_MIB
from vps.models.holding import settle
from vps.models.size import shrink
from vps.xen.messages import Verb

RESOURCES = ("servers", "memory_mib", "vcpus", "disk_mib")
TOTALS = {"memory_mib": 2048, "disk_mib": 20_000}

sizes = st.fixed_dictionaries(
    {
        "memory_mib": st.sampled_from([16, 256, 1024, 2048, 4096]),
        "vcpus": st.sampled_from([1, 2, 4, 9]),
        "disk_mib": st.sampled_from([1, 1024, 15_000, 40_960]),
    }
)
which = st.integers(0, 5)
steps = st.one_of(
    st.tuples(st.just("ask"), which, sizes),
    st.tuples(st.just("approve"), which, st.integers(0, 1)),
    st.tuples(st.just("change"), which, st.tuples(st.integers(0, 1), sizes)),
    st.tuples(st.sampled_from(["refuse", "withdraw", "expire", "purge again"]), which, st.none()),
    st.tuples(st.sampled_from(["delete", "gone", "undelete", "purge"]), which, st.none()),
    st.tuples(st.sampled_from(["boot", "boot", "power off"]), which, st.none()),
    st.tuples(st.sampled_from(["resize", "approve size"]), which, sizes),
    st.tuples(st.sampled_from(["refuse size", "withdraw size"]), which, st.none()),
    st.tuples(st.just("ask quota"), st.just(0), st.sampled_from([{"memory_mib": 1024}, {"vcpus": 4}])),
    st.tuples(st.sampled_from(["approve quota", "refuse quota"]), st.just(0), st.sampled_from([1, 512])),
    st.tuples(st.just("grant"), st.just(0), st.sampled_from([-1024, -300, 512, 4096])),
)


@dataclass
class Server:
    """What is known of a server apart from the ledgers: its size, what runs of it, what waits for it."""

    host: Dom0
    size: dict[str, int]
    runs: dict[str, int] | None = None
    asked: dict[str, int] | None = None  # the larger size that waits
    reserved: dict[str, int] = field(default_factory=dict)  # by the request for it
    kept: bool = False

    def quota(self) -> dict[str, int]:
        if self.kept:
            return {"disk_mib": self.size["disk_mib"]}
        large = {n: max(self.size[n], (self.runs or self.size)[n]) for n in ("memory_mib", "vcpus")}
        return {"servers": 1, **large, "disk_mib": self.size["disk_mib"]}

    def memory(self) -> int:
        runs = (self.runs or {}).get("memory_mib", 0)
        return runs if self.kept else max(self.size["memory_mib"], runs)


@dataclass
class Books:
    """What ought to be booked, kept apart from the ledgers: the sizes of what waits and of what lives."""

    cast: Cast
    dom0s: list[Dom0]
    waiting: dict[str, dict[str, int]] = field(default_factory=dict)
    living: dict[UUID, Server] = field(default_factory=dict)
    gone: list[Domu] = field(default_factory=list)

    def used(self) -> dict[str, int]:
        total: Counter[str] = Counter()
        for size in self.waiting.values():
            total.update({"servers": 1, **size})
        for server in self.living.values():
            total.update(server.quota())
            total.update(server.reserved)
        return {name: total[name] for name in RESOURCES}

    def promised(self, dom0: Dom0) -> dict[str, int]:
        mine = [server for server in self.living.values() if server.host == dom0]
        return {
            "memory_mib": sum(server.memory() for server in mine),
            "disk_mib": sum(server.size["disk_mib"] + BOOT_DISK_MIB for server in mine),
        }

    def pick(self, number: int, *, kept: bool = False) -> tuple[Domu, Server] | None:
        found = [(pk, server) for pk, server in self.living.items() if server.kept is kept]
        if not found:
            return None
        pk, server = found[number % len(found)]
        return Domu.objects.get(pk=pk), server

    def done(self, domu: Domu) -> None:
        """Whatever is under way with it has come about, as far as the ledgers care."""
        if row := domu.operations.open().first():
            row.move("done")

    def step(self, what: str, number: int, detail: Any) -> None:
        if what in ("ask", "approve", "change", "refuse", "withdraw", "expire"):
            self.step_of_request(what, f"web{number}", detail)
        elif "quota" in what or what == "grant":
            self.step_of_quota(what, detail)
        elif what in ("undelete", "purge", "gone"):
            if found := self.pick(number, kept=True):
                self.step_of_kept(what, *found)
        elif what == "purge again" and self.gone:
            # A second report of the same: nothing is given back twice.
            old = self.gone[number % len(self.gone)]
            Domu.objects.get(pk=old.pk).retire()
            release(self.cast.tenant, old.subject, "again")
            old.dom0.give_back(old.subject, "again")
        elif found := self.pick(number):
            self.step_of_server(what, *found, detail)

    def step_of_request(self, what: str, name: str, detail: Any) -> None:
        if what == "ask":
            Request.ask(
                tenant=self.cast.tenant, by=self.cast.owner, name=name, guest_os="linux", why="", **detail
            )
            self.waiting[name] = detail
        elif name not in self.waiting:
            return
        asked = Request.objects.waiting().get(name=name, kind="server")
        if what in ("approve", "change"):
            host, size = detail if what == "change" else (detail, self.waiting[name])
            domu = asked.approve(self.cast.operator, self.dom0s[host], size=size)
            self.done(domu)
            self.living[domu.pk] = Server(self.dom0s[host], size)
        elif what == "refuse":
            asked.refuse(self.cast.operator, "no")
        elif what == "withdraw":
            asked.withdraw(self.cast.owner)
        elif what == "expire":
            asked.expire()
        if what != "ask":
            del self.waiting[name]

    def step_of_quota(self, what: str, detail: Any) -> None:
        waits = Request.objects.waiting().filter(kind="quota").first()
        if what == "grant":
            grant(self.cast.tenant, {"memory_mib": detail}, "more or less")
        elif what == "ask quota":
            Request.ask_quota(self.cast.tenant, self.cast.owner, detail, "more")
        elif waits and what == "refuse quota":
            waits.refuse(self.cast.operator, "no")
        elif waits:
            waits.approve_quota(self.cast.operator, size={"memory_mib": detail})

    def step_of_kept(self, what: str, domu: Domu, server: Server) -> None:
        if what == "undelete":
            kept.undelete(domu, self.cast.owner)
            self.done(domu)
            server.kept = False
        elif what == "purge":
            kept.purge(domu, self.cast.owner)
            self.done(domu)
            domu.retire()
            del self.living[domu.pk]
            self.gone.append(domu)
        elif what == "gone":
            self.seen(domu, server, None)

    def step_of_server(self, what: str, domu: Domu, server: Server, detail: Any) -> None:
        waits = Request.objects.waiting().filter(domu=domu).first()
        if what == "boot":
            self.seen(domu, server, server.size)
        elif what == "power off":
            self.seen(domu, server, None)
        elif what == "delete":
            kept.delete(domu, self.cast.owner)
            self.done(domu)
            server.kept, server.asked, server.reserved = True, None, {}
        elif what == "resize":
            self.resize(domu, server, {name: detail[name] for name in ("memory_mib", "vcpus")})
        elif waits and what in ("refuse size", "withdraw size"):
            waits.refuse(self.cast.operator, "no") if what == "refuse size" else waits.withdraw(
                self.cast.owner
            )
            server.asked, server.reserved = None, {}
        elif waits and what == "approve size":
            size = {name: detail[name] for name in ("memory_mib", "vcpus")}
            waits.approve_size(self.cast.operator, size=size)
            self.done(domu)
            server.size = {**server.size, **size}
            server.asked, server.reserved = None, {}

    def resize(self, domu: Domu, server: Server, size: dict[str, int]) -> None:
        """As the page does it: less at once, more as a request."""
        held = server.quota()
        more = {name: amount - held[name] for name, amount in size.items() if amount > held[name]}
        if not more:
            shrink(domu, self.cast.owner, **size)
            self.done(domu)
            server.size = {**server.size, **size}
        else:
            Request.ask_size(domu, self.cast.owner, **size)
            server.asked, server.reserved = size, more

    def seen(self, domu: Domu, server: Server, size: dict[str, int] | None) -> None:
        """The dom0 says that it runs with a size, or that nothing of it runs."""
        domu.observed = "running" if size else "gone"
        domu.running_memory_mib = size["memory_mib"] if size else None
        domu.running_vcpus = size["vcpus"] if size else None
        domu.save()
        settle(domu, "seen")
        server.runs = {"memory_mib": size["memory_mib"], "vcpus": size["vcpus"]} if size else None

    def check(self, before: dict[str, dict[str, int]]) -> None:
        now = sums(self.cast.tenant)
        assert {name: now[name]["used"] for name in RESOURCES} == self.used()
        for name in RESOURCES:
            # A limit that was lowered may be exceeded already; then nothing more is booked.
            limit = max(now[name]["limit"], before[name]["used"])
            assert now[name]["used"] <= limit, name
            assert now[name]["used"] >= 0
        for dom0 in self.dom0s:
            capacity = dom0.capacity()
            assert {name: capacity[name]["promised"] for name in TOTALS} == self.promised(dom0)
            for name in TOTALS:
                assert 0 <= capacity[name]["promised"] <= capacity[name]["total"], (dom0, name)


@pytest.fixture
def dom0s(db: None) -> list[Dom0]:
    return [
        Dom0.objects.create(
            name=f"host{n}",
            secret_sha256="x",
            heard_at=timezone.now() + timedelta(days=1),
            inventory={"xen": {"version": "4.17"}},
            cpus=4,
            **TOTALS,
        )
        for n in range(2)
    ]


@given(st.lists(steps, max_size=18))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
def test_nothing_that_people_do_breaks_the_ledgers(cast: Cast, dom0s: list[Dom0], plan: list[Any]) -> None:
    with transaction.atomic():
        books = Books(cast, dom0s)
        for what, number, detail in plan:
            before = sums(cast.tenant)
            lines = QuotaEntry.objects.count(), CapacityEntry.objects.count()
            try:
                books.step(what, number, detail)
            except (Conflict, QuotaExceeded, NoRoom):
                # What was refused has booked nothing at all.
                assert lines == (QuotaEntry.objects.count(), CapacityEntry.objects.count())
            books.check(before)
        for name in list(books.waiting):
            books.step("withdraw", int(name[3:]), None)
        assert list(differences()) == []
        for waits in Request.objects.waiting():
            waits.withdraw(cast.owner)
        for pk, server in list(books.living.items()):
            domu = Domu.objects.get(pk=pk)
            if not server.kept:
                books.step_of_server("delete", domu, server, None)
            books.step_of_kept("purge", Domu.objects.get(pk=pk), server)
        assert {name: sums(cast.tenant)[name]["used"] for name in RESOURCES} == dict.fromkeys(RESOURCES, 0)
        for dom0 in dom0s:
            assert all(room["promised"] == 0 for room in dom0.capacity().values())
        transaction.set_rollback(True)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(-5, 3000)), max_size=20))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
def test_use_and_release_balance(cast: Cast, plan: list[tuple[str, int]]) -> None:
    with transaction.atomic():
        kept: Counter[str] = Counter()
        for subject, amount in plan:
            if amount <= 0:
                release(cast.tenant, subject, "back")
                kept[subject] = 0
                continue
            try:
                use(cast.tenant, {"memory_mib": amount}, subject, "taken")
                kept[subject] += amount
            except QuotaExceeded as error:
                assert str(4096 - sum(kept.values())) in str(error) or "GiB" in str(error)
            assert sum(kept.values()) <= 4096
            assert used_by(subject).get("memory_mib", 0) == kept[subject]
        for subject in "abc":
            release(cast.tenant, subject, "back")
        assert sums(cast.tenant)["memory_mib"]["used"] == 0
        transaction.set_rollback(True)


def test_a_line_is_never_changed_nor_deleted(cast: Cast) -> None:
    line = QuotaEntry.objects.first()
    assert line is not None
    with pytest.raises(TypeError, match="never changed"):
        line.save()
    with pytest.raises(TypeError, match="never deleted"):
        line.delete()


def test_over_books_what_exists_already(cast: Cast) -> None:
    use(cast.tenant, {"memory_mib": 9000}, "domu:adopted", "it was there", over=True)
    with pytest.raises(QuotaExceeded, match=r"asks for 1 MiB of memory, but 0 MiB of 4 GiB is left"):
        use(cast.tenant, {"memory_mib": 1}, "domu:new", "no more")


def test_tenants_do_not_share(cast: Cast) -> None:
    use(cast.tenant, {"memory_mib": 4096}, "x", "all of it")
    use(cast.other, {"memory_mib": 4096}, "y", "all of theirs")
    assert {t.name: sums(t)["memory_mib"]["left"] for t in Tenant.objects.all()} == {
        "Example": 0,
        "Elsewhere": 0,
    }


def test_a_stopped_server_keeps_what_it_has(cast: Cast, mouth: Mouth, running: Domu) -> None:
    booked = used_by(running.subject)
    running.order(Verb.SHUTDOWN, cast.owner)
    finish(mouth, running)
    assert used_by(running.subject) == booked
    assert mouth.dom0.capacity()["memory_mib"]["promised"] == 256
