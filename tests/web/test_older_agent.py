"""An agent one release older, with a real Redis: it knows none of the newest optional fields, and says none."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.web.world import Mouth, make_dom0, make_domu
from vps import collector, dispatch
from vps.models import Conflict, Dom0, Domu, Operation
from vps.models.operation import State
from vps.redis import admit, client
from vps.signing import signing_key
from vps.xen.messages import Channels, NoteKind, TrustedKeys, Verb

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("web_redis")]

OLD_VERBS = ["prepare", "start", "shutdown", "reboot", "destroy", "pause", "unpause", "delete", "cancel"]


class OldAgent:
    """Speaks into the dom0's stream what version 0.1 spoke, field by field."""

    def __init__(self, dom0: Dom0) -> None:
        self.dom0, self.channels = dom0, Channels(dom0.pk)
        self.journal, self.seq, self.at = str(uuid4()), 0, Mouth(dom0).clock + 10_000

    def say(self, kind: str, body: dict[str, Any], *, kept: bool = True) -> None:
        self.at += 1000
        self.seq += kept
        report = {
            "v": 1,
            "dom0": str(self.dom0.pk),
            "journal": self.journal,
            "seq": self.seq if kept else 0,
            "kind": kind,
            "at": self.at,
            "body": body,
        }
        client().xadd(self.channels.out, {"r": json.dumps(report)})
        collector.round_of_reports(10)

    def outcome(self, row: Operation, outcome: str, **more: Any) -> None:
        generation = [row.epoch, row.n]
        ids = {"operation": str(row.pk), "domu": str(row.domu_id)}
        self.say("operation", {**ids, "outcome": outcome, "generation": generation, **more})

    def inventory(self, domu: Domu, state: str | None) -> None:
        """Without keys, credential, kernel, heads, bridges, counters."""
        domain = {"uuid": str(domu.pk), "name": domu.name, "domid": 4, "memory_mib": 256, "vcpus": 1}
        none = {"uuid": str(UUID(int=0)), "name": "Domain-0", "domid": 0, "memory_mib": 512}
        body = {
            "agent": {"version": "0.1.0", "schema": 1, "verbs": OLD_VERBS, "simulated": True, "started": 1},
            "xen": {"version": "4.17.7", "caps": [], "virt_caps": [], "toolstack": "xl"},
            "error": "",
            "memory_mib": 4096,
            "free_memory_mib": 3000,
            "cpus": 4,
            "disk_mib": 100_000,
            "free_disk_mib": 90_000,
            "skew_ms": 0,
            "domains": [
                {**none, "vcpus": 1, "state": "running", "cpu_seconds": 1.0},
                *([{**domain, "state": state, "cpu_seconds": 1.0}] if state else []),
            ],
            "domus": [
                {
                    "id": str(domu.pk),
                    "generation": [domu.epoch, domu.n],
                    "wanted": "running" if state else "stopped",
                    "phase": "idle",
                    "menu_serial": 1,
                    "boots": 1,
                    "run": None,
                }
            ],
            "alarms": [],
        }
        self.say("inventory", body, kept=False)


@pytest.fixture
def domu() -> Domu:
    dom0 = make_dom0()
    admit(dom0)
    return make_domu(dom0)


def fresh(domu: Domu) -> Domu:
    return Domu.objects.select_related("dom0").get(pk=domu.pk)


def test_a_server_lives_on_an_older_agent(domu: Domu) -> None:
    agent = OldAgent(domu.dom0)
    agent.inventory(domu, None)
    row = fresh(domu).order(Verb.START, None)
    for outcome in ("accepted", "running"):
        agent.outcome(row, outcome)
    run = str(uuid4())
    booted = {
        "domu": str(domu.pk),
        "run": run,
        "domid": 4,
        "boots": 1,
        "menu_serial": 1,
        "entry": "",
        "label": "",
    }
    agent.say("booted", {**booted, "why": "start"})
    agent.outcome(row, "done", result={"domid": 4, "run": run, "boots": 1})
    row.refresh_from_db()
    assert row.state == State.DONE
    agent.inventory(fresh(domu), "running")
    assert (fresh(domu).status, fresh(domu).boots) == ("running", 1)
    ended = {"domu": str(domu.pk), "run": run, "reason": "poweroff", "code": 0, "next": "stopped"}
    agent.say("ended", {**ended, "restart_in": None, "tail": "", "generation": [1, 1]})
    agent.inventory(fresh(domu), None)
    assert fresh(domu).status == "stopped"
    record = domu.boot_records.get()
    assert (record.reason, record.ended_at is None) == ("poweroff", False)


def test_reports_without_the_oldest_number_are_taken_as_they_come(domu: Domu) -> None:
    agent = OldAgent(domu.dom0)
    agent.inventory(domu, None)
    row = fresh(domu).order(Verb.DESTROY, None)
    agent.seq += 5  # what Redis lost of it: only a newer agent tells that something is missing
    agent.outcome(row, "done")
    row.refresh_from_db()
    assert row.state == State.DONE
    keys = TrustedKeys([signing_key().public_text()])
    note = keys.note(client().rpop(agent.channels.line).decode(), domu.dom0_id)
    assert (note.kind, note.body["seq"]) == (NoteKind.ACKNOWLEDGE, 6)


def test_verbs_that_it_does_not_know_are_not_sent(domu: Domu) -> None:
    OldAgent(domu.dom0).inventory(domu, None)
    assert not fresh(domu).may(Verb.TRY)
    with pytest.raises(Conflict, match="does not know try; update it"):
        fresh(domu).order(Verb.TRY, None)
    assert client().llen(Channels(domu.dom0_id).orders) == 0
    assert dispatch.send(fresh(domu).order(Verb.DESTROY, None))
