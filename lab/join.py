"""Bringing the lab's dom0 to a running product: loaders, enrolling, the agent. As an operator does it, by commands."""

from __future__ import annotations

import json
import os
import sys
import time
import tomllib
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from lab import cache, dom0_agent
from lab.commands import run
from lab.errors import LabError
from lab.loaders import loaders
from lab.record import wait_until
from lab.ssh import Ssh


@dataclass(frozen=True)
class Product:
    """A quick start that runs, by its data folder."""

    data: Path
    web: str
    redis_url: str

    @classmethod
    def of(cls, data: Path) -> Product:
        """Raises LabError when nothing runs there."""
        try:
            told = json.loads((data / "running.json").read_text())
            os.kill(int(told["pid"]), 0)
        except (OSError, ValueError, KeyError) as error:
            raise LabError(
                f"No product runs with its data in {data}: start one in another terminal with make run."
            ) from error
        if not told["ready"]:
            raise LabError(f"The product in {data} is not ready yet; wait for its line and try again.")
        return cls(data, told["web"], told["redis_url"])

    def manage(self, *arguments: str | Path) -> str:
        """Run manage.py beside it; gives what it printed. Raises LabError."""
        ours = {
            "DJANGO_SETTINGS_MODULE": "vps.settings",
            "BERTH_QUICKSTART": "1",
            "BERTH_DATA_DIR": str(self.data.resolve()),
            "BERTH_BASE_URL": self.web,
            "BERTH_REDIS_URL": self.redis_url,
            "BERTH_SECRET_KEY_FILE": str(self.data.resolve() / "secrets" / "django"),
            "BERTH_SIGNING_KEY_FILE": str(self.data.resolve() / "secrets" / "signing.key"),
        }
        done = run([sys.executable, cache.ROOT / "manage.py", *arguments], timeout=120, env=ours)
        return done.stdout.decode(errors="replace")

    def heard(self, since: float) -> int:
        """How many dom0s were heard since then."""
        with urllib.request.urlopen(f"{self.web}/readyz?since={since}", timeout=10) as answer:
            return int(json.load(answer)["dom0s_heard"])

    def dom0s(self) -> int:
        with urllib.request.urlopen(f"{self.web}/readyz", timeout=10) as answer:
            return int(json.load(answer)["dom0s"])


def join(product: Product, ssh: Ssh, name: str = "lab") -> float:
    """Enrol the lab's dom0 and start its agent; gives the seconds until it was heard. Raises LabError."""
    began = time.monotonic()
    product.manage("add_loaders", loaders().place)
    config = product.data / "dom0" / name / "agent.toml"
    product.manage("enrol_dom0", name, "--out", config)
    text = config.read_text()
    tomllib.loads(text)
    since = time.time()
    dom0_agent.install(ssh)
    dom0_agent.start(ssh, text)
    count = product.dom0s()
    wait_until("the dom0's first inventory", lambda: product.heard(since) >= count, 600, pause=1)
    return time.monotonic() - began
