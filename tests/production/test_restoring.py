"""Backup and restore as docs/operations.md has them, by the scripts that are shipped.

SQLite with files in a folder, and PostgreSQL with an S3 storage. The agents go on all the time, and nothing is booted
twice.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.production.layout import ROOT, Layout, layout
from tests.production.people import operator_of, owner_of, running_server
from tests.story import way
from tests.story.browser import Browser

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ENDS = ("ended", "lost", "destroy")


def script(site: Layout, name: str, *arguments: str, expect: int = 0) -> str:
    """Run one of packaging/ as on the first web node; gives what it printed."""
    done = subprocess.run(
        [ROOT / "packaging" / name, *arguments],
        env=site.environment("web1"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def effects(site: Layout) -> list[dict[str, object]]:
    """What the simulated xl did."""
    text = (site.folder / "dom0" / "xen" / "effects.log").read_text()
    return [json.loads(line) for line in text.splitlines()]


def created(site: Layout) -> Counter[object]:
    """How often each domain was created, by name."""
    return Counter(line["name"] for line in effects(site) if line["verb"] == "create")


def twice_at_once(site: Layout) -> list[object]:
    """Domains that were created while one of the same uuid existed."""
    alive: dict[object, object] = {}
    found = []
    for line in effects(site):
        uuid = line.get("uuid", "")
        if line["verb"] == "create":
            if uuid in alive:
                found.append(line["name"])
            alive[uuid] = line["domid"]
        elif line["verb"] in ENDS and alive.get(uuid) == line.get("domid"):
            del alive[uuid]
    return found


def restart_from(site: Layout, backup: Path) -> str:
    """What docs/operations.md says: stop the web side, restore, migrate, after_restore, start it again."""
    for name in site.nodes:
        site.kill(name)
    script(site, "restore", str(backup), "--yes")
    site.manage("migrate", "--no-input", "--verbosity", "0")
    told = site.manage("after_restore", "--yes")
    for name in site.nodes:
        site.start_web_side(name)
    site.until_up(*site.webs, *site.gateways)
    site.until_heard()
    return told


def go_on_working(owner: Browser, operator: Browser, servers: list[str], site: Layout, folder: Path) -> str:
    """After the backup: one server reboots, the stopped one starts, a new one comes; gives the new one's address."""
    with owner.console(servers[0]) as console:
        console.wait(r"/ #", 60)
        before = len(console.told)
        way.press(owner, servers[0], "reboot")
        console.wait_told("run", 120, since=before)
    way.press(owner, servers[1], "start")
    owner.wait_state(servers[1], "running", seconds=120)
    return running_server(site, owner, operator, f"new-{secrets.token_hex(3)}", folder)


@pytest.mark.parametrize("small", [True, False], ids=["SQLite and files", "PostgreSQL and S3"])
def test_an_older_state_comes_back(small: bool, tmp_path: Path) -> None:
    with (
        layout(small=small) as site,
        contextlib.closing(owner_of(site)) as owner,
        contextlib.closing(operator_of(site)) as operator,
    ):
        names = [f"one-{secrets.token_hex(3)}", f"two-{secrets.token_hex(3)}"]
        servers = [running_server(site, owner, operator, name, tmp_path) for name in names]
        way.press(owner, servers[1], "shutdown")
        owner.wait_state(servers[1], "stopped", seconds=120)
        backup = tmp_path / "backup"
        script(site, "backup", str(backup))
        assert "is there already" in script(site, "backup", str(backup), expect=1)
        later = go_on_working(owner, operator, servers, site, tmp_path)
        before = created(site)

        told = restart_from(site, backup)
        assert "2 servers are prepared anew" in told, told

        people = [contextlib.closing(owner_of(site)), contextlib.closing(site.browser())]
        with people[0] as owner_again, people[1] as stranger:
            assert "/log-in/" in stranger.get(servers[0]).address
            assert "/log-in/" in owner.get(servers[0]).address, "who was logged in has to log in again"
            # The backup has the second as stopped: the dom0, which was never asked, knows better.
            for server in servers:
                owner_again.wait_state(server, "running", seconds=120)
            assert owner_again.get(later, expect=404).status == 404
            assert created(site) == before, "nothing was booted by restoring"
            # Both take orders of the new epoch, and the kernels' files are there.
            with owner_again.console(servers[0]) as console:
                console.wait(r"/ #", 60)
                seen = len(console.told)
                way.press(owner_again, servers[0], "reboot")
                console.wait_told("run", 120, since=seen)
            owner_again.wait_state(servers[0], "running", seconds=120)
            way.press(owner_again, servers[1], "shutdown")
            owner_again.wait_state(servers[1], "stopped", seconds=120)
        after = created(site)
        assert after - before == Counter({names[0]: 1})
        assert twice_at_once(site) == []
        # What the backup does not know runs on, and the operator sees it.
        with contextlib.closing(operator_of(site)) as operator_again:
            page = operator_again.get(operator_again.get("/dom0s/").link(r"^sim$"))
            assert "new-" in page.text, page.text[:2000]


def test_a_damaged_backup_changes_nothing(tmp_path: Path) -> None:
    data, backup = tmp_path / "data", tmp_path / "backup"
    data.mkdir()
    (data / "berth.sqlite3").write_bytes(b"")
    environment = {"BERTH_DATA_DIR": str(data), "PATH": "/usr/bin:/bin"}

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ROOT / "packaging" / name, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    (data / "signing.key").write_bytes(b"k" * 32)
    assert run("backup", str(backup)).returncode == 0
    assert (backup / "keys" / "signing.key").read_bytes() == b"k" * 32
    (backup / "keys" / "signing.key").write_bytes(b"x" * 32)
    (data / "berth.sqlite3").write_bytes(b"of today")
    refused = run("restore", str(backup), "--yes")
    assert refused.returncode == 1 and "is damaged; nothing was changed" in refused.stderr
    assert run("restore", str(backup)).returncode == 2, "it wants a --yes"
    assert (data / "berth.sqlite3").read_bytes() == b"of today"
    (backup / "keys" / "signing.key").write_bytes(b"k" * 32)
    (data / "signing.key").write_bytes(b"n" * 32)
    assert run("restore", str(backup), "--yes").returncode == 0
    assert (data / "signing.key").read_bytes() == b"n" * 32, "a key that was rolled since is kept"
    (data / "signing.key").unlink()
    assert run("restore", str(backup), "--yes").returncode == 0
    assert (data / "signing.key").read_bytes() == b"k" * 32
