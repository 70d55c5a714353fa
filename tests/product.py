"""The whole product, started as `make run` starts it, for the tests that need all of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
START_LIMIT = 180.0  # seconds; the first start makes database and static files


@dataclass(frozen=True)
class Login:
    """One of the accounts that the first run made."""

    role: str
    email: str
    password: str


@dataclass(frozen=True)
class Product:
    """A running quick start."""

    process: subprocess.Popen[bytes]
    data: Path
    web: str  # http://localhost:PORT, the one origin that browsers may use
    gateway: str  # ws://localhost:PORT
    redis_url: str  # as the web side uses it
    logins: tuple[Login, ...]
    printed: Path  # what the supervisor said so far

    def login(self, role: str) -> Login:
        """The account of a role ("operator", "owner"). Raises LookupError."""
        for login in self.logins:
            if login.role == role:
                return login
        raise LookupError(f"the first run made no {role}: {[login.role for login in self.logins]}")

    def running(self) -> dict[str, Any]:
        """DATA/running.json as it is now: pid, ready, children by name (they change at each restart)."""
        value: dict[str, Any] = json.loads((self.data / "running.json").read_text())
        return value

    def child(self, name: str) -> int:
        """The process id of a child now: redis, web, gateway, agent, collector, worker. Raises KeyError."""
        return int(self.running()["children"][name])

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to a child (default -9) and give its process id."""
        pid = self.child(name)
        os.kill(pid, number)
        return pid

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a management command beside the product, as its own web side would."""
        secrets = self.data / "secrets"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BERTH_")} | {
            "DJANGO_SETTINGS_MODULE": "vps.settings",
            "BERTH_QUICKSTART": "1",
            "BERTH_DATA_DIR": str(self.data),
            "BERTH_REDIS_URL_FILE": str(secrets / "redis-url"),
            "BERTH_SECRET_KEY_FILE": str(secrets / "django"),
            "BERTH_SIGNING_KEY_FILE": str(secrets / "signing.key"),
        }
        return subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def wait_for_restart(self, name: str, old: int, seconds: float = 60.0) -> int:
        """Wait until another process stands for child `name`. Raises TimeoutError."""
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            with contextlib.suppress(KeyError):
                if (pid := self.child(name)) != old:
                    return pid
            time.sleep(0.05)
        raise TimeoutError(f"{name} was not started again within {seconds:g} s")


@contextlib.contextmanager
def product(data: Path, *, dom0s: int = 1, env: dict[str, str] | None = None) -> Iterator[Product]:
    """Start a product with its data in `data`, on free ports; yield it when ready; end it."""
    data.mkdir(parents=True, exist_ok=True)
    announced, printed = data / "announced.json", data / "printed.txt"
    announced.unlink(missing_ok=True)
    with printed.open("wb") as out:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "vps.quickstart", "--data-dir", str(data)),
                *("--port", "0", "--gateway-port", "0"),
                *("--dom0s", str(dom0s), "--announce", str(announced)),
            ],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("BERTH_")}
            | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        give_up = time.monotonic() + START_LIMIT
        while not announced.exists():
            if process.poll() is not None or time.monotonic() > give_up:
                raise AssertionError(f"the product did not get ready:\n{printed.read_text()[-8000:]}")
            time.sleep(0.05)
        told = json.loads(announced.read_text())
        yield Product(
            process,
            data,
            told["web"],
            told["gateway"],
            told["redis_url"],
            tuple(Login(**login) for login in told["logins"]),
            printed,
        )
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a quick start as `kill PID` does, by force when that takes too long."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()  # its undertaker ends the rest
            process.wait()
