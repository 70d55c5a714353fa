"""What containers are asked for their health: worker and collector beat while they reach Redis, and only then."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RedisServer
from tests.web.world import make_dom0
from vps import collector, pulse

ROOT = Path(__file__).parents[2]


def asked(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vps.pulse", *words], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def comes(path: Path, seconds: float) -> bool:
    give_up = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < give_up:
        time.sleep(0.05)
    return path.exists()


def test_the_check_says_what_is_wrong(tmp_path: Path) -> None:
    assert asked(str(tmp_path), "60", "worker").stdout.startswith("worker has not come round yet")
    (tmp_path / "worker").touch()
    assert asked(str(tmp_path), "60", "worker").returncode == 0
    assert asked(str(tmp_path), "60", "worker", "sweep").returncode == 1
    long_ago = time.time() - 90
    os.utime(tmp_path / "worker", (long_ago, long_ago))
    done = asked(str(tmp_path), "60", "worker")
    assert done.returncode == 1 and done.stdout.startswith("worker came round 9"), done.stdout


@pytest.mark.parametrize("words", [(), ("/tmp",), ("/tmp", "60"), ("/tmp", "soon", "worker")])
def test_the_check_is_asked_wrongly(words: tuple[str, ...]) -> None:
    done = asked(*words)
    assert done.returncode == 2 and "FOLDER SECONDS NAME" in done.stderr


@pytest.mark.slow
def test_a_worker_beats_while_it_takes_tasks(redis_server: RedisServer, tmp_path: Path) -> None:
    beat = tmp_path / "worker"
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "vps.celery", "worker", "-Q", "web", "-P", "threads", "-c", "1"],
        cwd=ROOT,
        env={**os.environ, "BERTH_PULSE_DIR": str(tmp_path), "BERTH_REDIS_URL": redis_server.url,
             "BERTH_DATA_DIR": str(tmp_path / "data"), "BERTH_SECRET_KEY": "only for tests"},
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert comes(beat, 60), "once it is there"
        beat.unlink()
        assert comes(beat, 3 * pulse.EVERY), "again and again"
        with redis_server.client() as client:
            try:
                client.acl_setuser("default", enabled=False)
                client.client_kill_filter(skipme=True, _type="normal")
                time.sleep(1)  # until it has noticed
                beat.unlink()
                assert not comes(beat, 2 * pulse.EVERY), "not without its broker"
            finally:
                client.acl_setuser("default", enabled=True)
        assert comes(beat, 60), "and again with it"
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.django_db(transaction=True)
def test_the_collector_beats_with_each_round(
    web_redis: RedisServer, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dom0()
    settings.BERTH_PULSE_DIR = str(tmp_path)
    monkeypatch.setattr(collector, "BLOCK_MS", 50)

    def run(loop: Any, *more: float) -> None:
        stop = threading.Event()
        timer = threading.Timer(0.5, stop.set)
        timer.start()
        loop(stop, *more)
        timer.join()

    run(collector.collect)
    run(collector.sweep_forever, 0.1)
    assert {path.name for path in tmp_path.iterdir()} == {"collect", "sweep"}
    for path in tmp_path.iterdir():
        path.unlink()
    with web_redis.client() as client:
        try:
            client.acl_setuser("default", enabled=False)
            client.client_kill_filter(skipme=True, _type="normal")
            run(collector.collect)
        finally:
            client.acl_setuser("default", enabled=True)
    assert list(tmp_path.iterdir()) == [], "no round, no beat"


def test_a_round_that_breaks_off_does_not_end_the_sweeper(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a storage that is away: its exceptions are neither Redis' nor the database's."""
    settings.BERTH_PULSE_DIR = str(tmp_path)
    stop, rounds = threading.Event(), []

    def sweep() -> None:
        rounds.append(1)
        if len(rounds) == 1:
            raise OSError("the storage is away")
        stop.set()

    monkeypatch.setattr(collector, "sweep", sweep)
    monkeypatch.setattr(collector, "close_old_connections", lambda: None)
    collector.sweep_forever(stop, 0.01)
    assert len(rounds) == 2
