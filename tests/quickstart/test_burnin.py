"""`manage.py burnin` against the running product: the whole way, what it leaves, and what it says when it fails."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.kernels import hypervisor
from tests.product import ROOT, Product

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def manage(product: Product, *command: str, redis_url: str = "") -> subprocess.CompletedProcess[str]:
    secrets = product.data / "secrets"
    ours = {name: value for name, value in os.environ.items() if not name.startswith("BERTH_")}
    env = ours | {
        "DJANGO_SETTINGS_MODULE": "vps.settings",
        "BERTH_QUICKSTART": "1",
        "BERTH_DATA_DIR": str(product.data),
        "BERTH_BASE_URL": product.web,
        "BERTH_REDIS_URL": redis_url or product.redis_url,
        "BERTH_SECRET_KEY_FILE": str(secrets / "django"),
        "BERTH_SIGNING_KEY_FILE": str(secrets / "signing.key"),
        "BERTH_LOG_LEVEL": "WARNING",
    }
    return subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=380,
    )


def rows(product: Product, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(product.data / "berth.sqlite3")) as database:
        return database.execute(query).fetchall()


def nothing_is_left(product: Product) -> None:
    assert rows(product, "SELECT name FROM vps_domu WHERE name LIKE 'burnin-%' AND purged_at IS NULL") == []
    assert rows(product, "SELECT id FROM vps_request WHERE state = 'waiting'") == []
    left = "FROM vps_kernelversion v JOIN vps_kernel k ON v.kernel_id = k.id WHERE k.name LIKE 'burnin-%'"
    assert rows(product, f"SELECT v.id {left} AND v.deleted_at IS NULL") == []
    assert rows(product, "SELECT is_active FROM accounts_user WHERE email = 'burn-in@localhost'") == [(0,)]
    ledger = "SELECT coalesce(sum(amount), 0) FROM accounts_quotaentry q JOIN accounts_tenant t ON t.id = q.tenant_id"
    assert rows(product, f"{ledger} WHERE t.name = 'Burn-in'") == [(0,)]
    on_dom0 = product.data / "dom0" / "sim"
    # xl's own logs stay, as those of every server do.
    assert [str(path) for path in on_dom0.rglob("*burnin-*") if path.parent.name != "log"] == []
    done = manage(product, "verify_ledgers")
    assert done.returncode == 0, done.stdout


def test_the_whole_way(running_product: Product) -> None:
    done = manage(running_product, "burnin", "sim")
    assert done.returncode == 0, done.stdout + done.stderr
    steps = re.findall(r"^ *\d+\.\d s (.+)$", done.stdout, re.MULTILINE)
    assert steps == [
        "ask",
        "approve: made on sim",
        "upload and inspect the kernel",
        "save the boot menu: prepared",
        "boot",
        "console says 'Linux version'",
        "reboot",
        "console says it again",
        "shut down",
        "delete, purge: nothing is left",
        "in all; everything was as it should be.",
    ]
    nothing_is_left(running_product)


def test_what_fails_is_said_and_removed(running_product: Product, tmp_path: Path) -> None:
    # A guest that runs, and does not say the words.
    done = manage(running_product, "burnin", "sim", "--expect", "never said", "--seconds", "20", "--hard")
    assert done.returncode == 1
    assert "The console did not say 'never said'; it ended with: " in done.stderr
    assert "delete, purge: nothing is left" in done.stdout
    nothing_is_left(running_product)
    # A kernel that is refused.
    kernel = tmp_path / "xen"
    kernel.write_bytes(hypervisor())
    done = manage(running_product, "burnin", "sim", "--kernel", str(kernel))
    assert done.returncode == 1 and "The kernel was refused: " in done.stderr
    nothing_is_left(running_product)


def test_what_cannot_begin(running_product: Product) -> None:
    for command, words in (
        (["nobody"], "There is no dom0 nobody; there are: sim."),
        (["sim", "--memory", "9999999"], "of memory left; the server wants 9999999 MiB."),
        (["sim", "--by", "x@example.org"], "There is no operator x@example.org."),
        (["sim", "--kernel", "/nothing"], "/nothing cannot be read: No such file or directory."),
    ):
        done = manage(running_product, "burnin", *command)
        assert done.returncode == 1 and words in done.stderr, done.stderr
    done = manage(running_product, "burnin", "sim", redis_url="redis://127.0.0.1:1/0")
    assert done.returncode == 1 and "set BERTH_REDIS_URL as the web has it." in done.stderr, done.stderr
    assert rows(running_product, "SELECT count(*) FROM vps_request WHERE state = 'waiting'") == [(0,)]
