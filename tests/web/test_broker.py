"""The web's worker and a Redis that dies: it takes tasks again, whatever it was doing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from celery import Celery

from tests.agent.guests import until
from tests.agent.redis_server import RedisServer

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_acknowledgements_that_fail_do_not_end_its_work(tmp_path: Path) -> None:
    """As many as it may have in hand: kombu's own transport would then never ask for another one."""
    redis_server = RedisServer(tmp_path / "redis")
    log = tmp_path / "log"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "vps.celery", "worker", "-Q", "web", "-P", "threads", "-c", "2",
             "--without-gossip", "--without-mingle", "--without-heartbeat", "-I", "tests.web.held_tasks"],
            cwd=ROOT,
            env={**os.environ, "BERTH_REDIS_URL": redis_server.url, "BERTH_DATA_DIR": str(tmp_path / "data"),
                 "BERTH_SECRET_KEY": "only for tests"},
            stdout=output,
            stderr=output,
        )  # fmt: skip
    sender = Celery("sender", broker=redis_server.url)
    sender.conf.broker_transport_options = {"global_keyprefix": "web:"}

    def send(name: str) -> None:
        sender.send_task("hold", (str(tmp_path), name), queue="web")

    try:
        for name in ("first", "second"):
            send(name)
            until((tmp_path / f"{name}-begun").exists, 60)
        redis_server.kill()
        (tmp_path / "go").touch()
        until(lambda: log.read_text().count("Couldn't ack") == 2, 60)
        redis_server.start()
        send("third")
        until((tmp_path / "third-done").exists, 60)
    finally:
        sender.close()
        worker.kill()
        worker.wait()
        redis_server.kill()
