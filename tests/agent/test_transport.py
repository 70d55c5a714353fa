"""Orders from the web's Celery to the journal: every one arrives, each is written once, whatever is killed."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis_server import RedisServer
from web_side import Web

from vps.agent.config import Config
from vps.agent.worker import Worker
from vps.xen.messages import Channels, SigningKey, Verb

TAKER = str(Path(__file__).with_name("taker.py"))


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def toml(config: Config) -> Path:
    """Write the configuration as a file."""
    lines = [
        f"{key} = {json.dumps(str(getattr(config, key)))}"
        for key in (
            "dom0",
            "name",
            "secret",
            "web",
            "redis",
            "state_dir",
            "config_dir",
            "disk_dir",
            "xl_log_dir",
        )
    ]
    lines += [f"{key} = {json.dumps(list(getattr(config, key)))}" for key in ("trusted_keys", "xl")]
    config.path.write_text("\n".join([*lines, "simulated = true"]) + "\n")
    config.path.chmod(0o600)
    return config.path


def until(question: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


@pytest.fixture
def web(redis_server: RedisServer, config: Config, signing_key: SigningKey) -> Web:
    return Web(redis_server.url, config.dom0, signing_key)


def journalled(config: Config) -> list[str]:
    if not config.journal_path.exists():
        return []
    with sqlite3.connect(config.journal_path) as db:
        try:
            return [row[0] for row in db.execute("SELECT operation FROM orders")]
        except sqlite3.OperationalError:
            return []


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_200_orders_and_kill_9(config: Config, web: Web, redis_server: RedisServer, seed: int) -> None:
    dice = random.Random(seed)
    path = toml(config)
    orders = [web.order(Verb.START) for _ in range(200)]
    web.send(*(web.key.seal(order) for order in orders[:100]))
    sent = 100
    kills = 0
    while len(journalled(config)) < 200:
        assert kills < 60
        process = subprocess.Popen([sys.executable, TAKER, str(path)], env=environment())
        before = len(journalled(config))
        until(lambda before=before: len(journalled(config)) > before)  # type: ignore[misc]
        if sent < 200:
            web.send(*(web.key.seal(order) for order in orders[sent : sent + 20]))
            sent += 20
        time.sleep(dice.uniform(0, 0.04))
        process.kill()
        process.wait()
        kills += 1
    assert sorted(journalled(config)) == sorted(str(order.operation) for order in orders)
    assert kills > 2
    channels = Channels(config.dom0)
    assert redis_server.client().llen(channels.orders) == 0
    assert redis_server.client().llen(channels.taken) <= 1


def test_redis_killed_and_poison(config: Config, web: Web, redis_server: RedisServer) -> None:
    got: list[str] = []
    worker = Worker(config, got.append)
    worker.start()
    try:
        web.send("one")
        until(lambda: got == ["one"])
        redis_server.kill()
        redis_server.start()
        redis_server.client().lpush(
            Channels(config.dom0).orders, b"\xff no message", b'{"properties": {}}', b"[]"
        )
        web.app.send_task("destroy", ["x"], queue=web.queue)
        web.send("two", "three")
        until(lambda: got == ["one", "two", "three"])
        until(lambda: redis_server.client().llen(Channels(config.dom0).taken) == 0)
    finally:
        worker.stop(5)


def test_an_order_that_cannot_be_journalled_waits(
    config: Config, web: Web, redis_server: RedisServer
) -> None:
    attempts: list[str] = []

    def accept(envelope: str) -> None:
        attempts.append(envelope)
        if len(attempts) == 1:
            raise OSError("disk full")

    worker = Worker(config, accept)
    worker.start()
    try:
        web.send("one", "two")
        until(lambda: attempts == ["one", "one", "two"])
        until(lambda: redis_server.client().llen(Channels(config.dom0).taken) == 0)
    finally:
        worker.stop(5)
    assert redis_server.client().execute_command("ACL", "LOG") == []


@pytest.mark.parametrize("journalled", [True, False])
def test_redis_is_killed_while_an_order_is_written(
    config: Config, web: Web, redis_server: RedisServer, journalled: bool
) -> None:
    """What is then said of the order, that it was taken or that it goes back, does not arrive; the next ones do."""
    got: list[str] = []
    sent = threading.Event()

    def accept(envelope: str) -> None:
        got.append(envelope)
        if len(got) == 1:
            sent.wait(20)
            redis_server.kill()
            if not journalled:
                raise OSError("disk full")

    worker = Worker(config, accept)
    worker.start()
    try:
        web.send("one")
        sent.set()
        until(lambda: got == ["one"])
        time.sleep(1.5)  # what is said of it has failed
        redis_server.start()
        web.send("two")
        until(lambda: got == ["one", "one", "two"])
        until(lambda: redis_server.client().llen(Channels(config.dom0).taken) == 0)
    finally:
        worker.stop(5)


def test_starts_without_redis(config: Config, web: Web, redis_server: RedisServer) -> None:
    web.send("early")
    redis_server.kill()
    got: list[str] = []
    worker = Worker(config, got.append)
    worker.start()
    try:
        redis_server.start()
        until(lambda: got == ["early"])
    finally:
        worker.stop(5)
