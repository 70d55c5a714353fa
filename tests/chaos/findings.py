"""What must be true after a storm, read from the web's database, the agents' journals and the simulated xl's logs."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import redis

from tests.chaos.tally import Rows
from tests.product import Product
from vps.xen.messages import Channels

ENDS = ("ended", "lost", "destroy")


def effects(data: Path) -> list[dict[str, Any]]:
    """What the simulated xl of all dom0s did, in order of time."""
    lines = []
    for log in sorted(data.glob("dom0/*/xen/effects.log")):
        lines += [json.loads(line) for line in log.read_text().splitlines()]
    return sorted(lines, key=lambda line: line["time"])


def running_domains(data: Path) -> Counter[str]:
    """How many domains of each uuid exist, by the effects."""
    alive: dict[tuple[str, int], str] = {}
    for line in effects(data):
        key = (line.get("uuid", ""), line.get("domid", -1))
        if line["verb"] == "create":
            alive[key] = line["uuid"]
        elif line["verb"] in ENDS:
            alive.pop(key, None)
    return Counter(alive.values())


def creates(data: Path) -> Counter[str]:
    return Counter(line["uuid"] for line in effects(data) if line["verb"] == "create")


def twice_created(data: Path) -> list[str]:
    """Domains that were created while one of the same uuid existed."""
    alive: dict[str, int] = {}
    found = []
    for line in effects(data):
        uuid = line.get("uuid", "")
        if line["verb"] == "create":
            if uuid in alive:
                found.append(f"created twice: {line['name']}, as {alive[uuid]} and as {line['domid']}")
            alive[uuid] = line["domid"]
        elif line["verb"] in ENDS and alive.get(uuid) == line.get("domid"):
            del alive[uuid]
    return found


def journals(data: Path, query: str) -> list[dict[str, Any]]:
    """Rows of all agents' journals."""
    found: list[dict[str, Any]] = []
    for path in sorted(data.glob("dom0/*/agent/journal.sqlite3")):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as db:
            db.row_factory = sqlite3.Row
            found += [{"dom0": path.parts[-3], **dict(row)} for row in db.execute(query)]
    return found


def unsettled(data: Path) -> list[str]:
    """What is still under way: operations, tries, and servers that are not yet as they are wanted."""
    rows = Rows(data)
    found = [f"{row['verb']} is {row['state']}, {row['step']}" for row in rows.open_operations()]
    found += [
        f"a try is {row['state']}"
        for row in rows("SELECT state FROM vps_boottry WHERE state IN ('asked', 'trying')")
    ]
    found += [
        f"a kernel is {row['state']}"
        for row in rows("SELECT state FROM vps_kernelversion WHERE state = 'inspecting'")
    ]
    found += [
        f"journal of {row['dom0']}: a try of {row['domu']}"
        for row in journals(data, "SELECT domu FROM tries")
    ]
    found += [
        f"journal of {row['dom0']}: {row['n']} reports wait"
        for row in journals(data, "SELECT count(*) AS n FROM reports")
        if row["n"]
    ]
    return found + differences(data)


def differences(data: Path) -> list[str]:
    """Servers of which what is wanted, what the web has observed, and what xl has do not agree."""
    found, running = [], running_domains(data)
    for row in Rows(data)("SELECT id, name, wanted, observed, deleted_at, phase FROM vps_domu"):
        domains = running.get(str(UUID(row["id"])), 0)
        # A paused domain is wanted running.
        seen = "running" if row["observed"] in ("running", "paused") else "stopped"
        wanted = "stopped" if row["deleted_at"] else row["wanted"]
        if wanted != seen or domains != (wanted == "running"):
            found.append(
                f"{row['name']}: wanted {row['wanted']}, observed {row['observed']}, {domains} domains,"
                f" phase {row['phase']}{', deleted' if row['deleted_at'] else ''}"
            )
    return found


def of_operations(data: Path) -> list[str]:
    rows = Rows(data)("SELECT id, verb, state, error, ended_at FROM vps_operation")
    found = [f"{row['verb']} is {row['state']} and has not ended" for row in rows if not row["ended_at"]]
    for row in rows:
        error = json.loads(row["error"] or "{}")
        if error.get("code") in ("unforeseen", "os_error"):
            found.append(f"{row['verb']} failed: {error}")
    # Both sides tell the same end, but for what was given up, taken back or superseded before the dom0 had it.
    ended = {UUID(row["operation"]).hex: row for row in journals(data, "SELECT operation, state FROM orders")}
    for row in rows:
        told = ended.get(row["id"])
        if told is not None and told["state"] != row["state"] and row["state"] != "superseded":
            found.append(f"{row['verb']} {row['id']}: {row['state']} here, {told['state']} on {told['dom0']}")
    return found


def of_boots(data: Path) -> list[str]:
    """Each domain that was created was reported and recorded once, and each of their ends."""
    rows, made = Rows(data), creates(data)
    boots = {row["id"]: row["boots"] for row in journals(data, "SELECT id, boots FROM domus")}
    found = twice_created(data)
    records = {
        row["domu_id"]: row
        for row in rows(
            "SELECT domu_id, count(*) AS n, sum(ended_at IS NULL) AS open FROM vps_bootrecord GROUP BY 1"
        )
    }
    running = running_domains(data)
    for row in rows("SELECT id, name, boots FROM vps_domu"):
        uuid = str(UUID(row["id"]))
        record = records.get(row["id"], {"n": 0, "open": 0})
        counts = (made[uuid], boots.get(uuid, 0), row["boots"], record["n"])
        if len(set(counts)) != 1:
            found.append(f"boots of {row['name']}: xl made %s, journal %s, web %s, records %s" % counts)
        if record["open"] != running.get(uuid, 0):
            found.append(f"{row['name']}: {record['open']} open boot records, {running.get(uuid, 0)} domains")
    # Somebody asked for each: nothing crashed, so nothing was started by itself but the way back from a try.
    why = {row["why"]: row["n"] for row in rows("SELECT why, count(*) AS n FROM vps_bootrecord GROUP BY 1")}
    asked = {
        row["verb"]: row["n"] for row in rows("SELECT verb, count(*) AS n FROM vps_operation GROUP BY 1")
    }
    for reason, verb in (("start", "start"), ("reboot", "reboot"), ("try", "try"), ("back", "try")):
        if why.pop(reason, 0) > asked.get(verb, 0):
            found.append(f"more boots by {reason} than operations {verb}: {asked}")
    if why:
        found.append(f"boots that nobody asked for: {why}")
    return found


def of_unknown(data: Path) -> list[str]:
    """Effects whose outcome was unknown for a while are resolved: no intent is open."""
    rows = journals(data, "SELECT domu, effect, detail FROM intents WHERE resolved IS NULL")
    # A reboot that was broken off leaves word of which run it was to end; its order has ended.
    return [f"open intent on {row['dom0']}: {row['effect']} {row['detail'][:200]}" for row in rows]


def looked_up(data: Path) -> Counter[str]:
    """How often an agent that was started again found out by looking what had become of a creation."""
    found: Counter[str] = Counter()
    for log in data.glob("log/agent*.log"):
        text = log.read_text(errors="replace")
        found["made"] += text.count("the creation that was under way made domain")
        found["not made"] += text.count("the creation that was under way made no domain")
    return found


def of_commands(product: Product) -> list[str]:
    """The product's own checks."""
    found = []
    for command in ("verify_ledgers", "verify_events"):
        done = product.manage(command)
        if done.returncode:
            found.append(f"{command}: {(done.stdout + done.stderr).strip()[-1500:]}")
    refused = Rows(product.data)("SELECT reason FROM vps_event WHERE kind = 'report.refused'")
    return found + [f"a report was refused: {row['reason']}" for row in refused]


def of_queues(product: Product) -> list[str]:
    """Nothing lies in a queue that nobody will take."""
    found = []
    with redis.Redis.from_url(product.redis_url) as client:
        for row in Rows(product.data)("SELECT id, name FROM vps_dom0"):
            channels = Channels(UUID(row["id"]))
            for key in (channels.orders, channels.taken):
                if length := client.llen(key):
                    found.append(f"{row['name']}: {length} in {key.rsplit(':', 1)[1]}")
    return found


def of_logs(data: Path) -> list[str]:
    """What no part should ever say."""
    found = []
    for log in sorted(data.glob("log/*.log")):
        text = log.read_text(errors="replace")
        for words in ("Internal Server Error", "in a way that was not foreseen", "a task in the lane of"):
            if count := text.count(words):
                found.append(f"{log.name}: {words!r} {count} times")
    for log in data.glob("dom0/*/xen/log/process.log"):
        if text := log.read_text(errors="replace").strip():
            found.append(f"{log}: {text[-800:]}")
    return found


def half_made(data: Path) -> list[str]:
    """Files that a broken-off step left on a dom0: drafts and half-made ones."""
    return [
        f"left over: {path.relative_to(data)}"
        for path in data.glob("dom0/*/**/*")
        if (".new" in path.name and path.is_file()) or path.suffix == ".stage"
    ]


def left_of_nothing(data: Path) -> list[str]:
    """What is left when every server was purged: it should be nothing."""
    found = half_made(data) + [f"a domain of {uuid}" for uuid in running_domains(data)]
    for pattern in ("disks/*", "agent/domus/*", "agent/consoles/*", "etc-xen/*", "xen/domains/*"):
        found += [f"left over: {path.relative_to(data)}" for path in data.glob(f"dom0/*/{pattern}")]
    for table, column in (("accounts_quotaentry", "kind"), ("vps_capacityentry", "resource")):
        sums = Rows(data)(
            f"SELECT {column} AS what, SUM(amount) AS total FROM {table} WHERE subject LIKE 'domu:%' GROUP BY 1"
        )
        found += [f"{table}: {row['total']} of {row['what']}" for row in sums if row["total"]]
    return found
