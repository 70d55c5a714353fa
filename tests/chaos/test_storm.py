"""A short storm: some 40 operations on two simulated dom0s while agent, worker, collector and Redis are killed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from tests.chaos.storm import Storm, leftovers
from tests.product import product
from tests.story import way

OPERATIONS = int(os.environ.get("BERTH_STORM_OPERATIONS", "40"))
SEED = int(os.environ.get("BERTH_STORM_SEED", "7"))


@pytest.fixture
def storm(tmp_path: Path) -> Iterator[Storm]:
    with product(tmp_path / "storm", dom0s=2) as running:
        names = [path.name for path in sorted((running.data / "dom0").iterdir())]
        agents = [name for name in running.running()["children"] if name.startswith("agent")]
        assert len(agents) == 2, running.running()
        with closing(Storm(running, SEED, ("redis", "worker", "collector", *agents))) as made:
            made.make_servers(["storm-a", "storm-b", "storm-c", "storm-d"], names)
            yield made


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_is_lost_and_nothing_done_twice(storm: Storm) -> None:
    storm.rage(OPERATIONS)
    storm.settle()
    print(f"seed {SEED}: pressed {dict(storm.pressed)}, killed {dict(storm.killed)}")
    assert storm.killed.total() >= OPERATIONS // 8

    rows = storm.rows("SELECT verb, state, error, ended_at FROM vps_operation")
    assert len(rows) >= OPERATIONS
    assert all(row["ended_at"] for row in rows), "every operation has ended"

    assert storm.twice_created() == []
    creates = Counter(line["uuid"] for line in storm.effects() if line["verb"] == "create")
    boots = storm.journal_boots()
    for row in storm.rows("SELECT id, name, boots FROM vps_domu"):
        uuid = str(UUID(row["id"]))
        assert creates[uuid] == boots[uuid] == row["boots"], row["name"]
    # Each domain was asked for by somebody: no more creates than starts and reboots that were pressed.
    assert creates.total() <= storm.pressed["start"] + storm.pressed["reboot"]

    assert storm.differences() == []
    assert leftovers(storm.product.data) == []

    for name, server in storm.servers.items():
        way.name_again(storm.owner, server, "delete", name)
    for name, server in storm.servers.items():
        storm.owner.wait_state(server, "deleted but kept", seconds=120)
        way.name_again(storm.owner, server, "purge", name)
    for server in storm.servers.values():
        storm.owner.wait_state(server, "deleted", seconds=120)
    for table, column in (("accounts_quotaentry", "kind"), ("vps_capacityentry", "resource")):
        sums = storm.rows(
            f"SELECT {column} AS what, SUM(amount) AS total FROM {table} WHERE subject LIKE 'domu:%' GROUP BY 1"
        )
        assert all(row["total"] == 0 for row in sums), (table, sums)
    assert storm.running_domains() == Counter()
    remains = list(storm.product.data.glob("dom0/*/disks/*"))
    remains += list(storm.product.data.glob("dom0/*/agent/domus/*"))
    remains += list(storm.product.data.glob("dom0/*/etc-xen/*"))
    assert remains == []
