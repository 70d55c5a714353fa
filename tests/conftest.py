"""What tests of several folders share: a real Redis, the running product, and whether there is a Chromium."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from tests.product import Product, product
from vps.quickstart import ports
from vps.quickstart import redis_server as embedded

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NO_CHROMIUM = "browser tests are left out: there is no Chromium here (Debian: apt-get install chromium)"


# On a loaded machine every example is slow; what is slow by itself is seen in the run's durations.
hypothesis_settings.register_profile("berth", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("berth")


@dataclass(frozen=True)
class RedisServer:
    """A real Redis on loopback, empty at the start of each test."""

    url: str
    port: int
    password: str
    version: tuple[int, int, int]

    def client(self) -> redis.Redis:
        """A new connection of the default user. Close it, or use it in a `with`."""
        return redis.Redis.from_url(self.url)


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The session's Redis. Tests take `redis_server`."""

    def version(path: Path) -> str:
        return subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10).stdout

    program = embedded.choose(embedded.candidates(), version)
    folder = tmp_path_factory.mktemp("redis")
    port, password = ports.free_port(), secrets.token_urlsafe(16)
    config = folder / "redis.conf"
    config.write_text(embedded.configuration(port=port, folder=folder))
    (folder / embedded.ACL_FILE).write_text(embedded.users(password))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program.path, config], stdout=log, stderr=log)
    try:
        give_up = time.monotonic() + 20
        while not embedded.answers(port, password):
            assert process.poll() is None and time.monotonic() < give_up, (folder / "log").read_text()
            time.sleep(0.01)
        yield RedisServer(embedded.url(port, password), port, password, program.version)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def redis_server(redis_process: RedisServer) -> RedisServer:
    """A real Redis, without keys and without users but the default one."""
    with redis_process.client() as client:
        client.flushall()
        for user in client.acl_users():
            if user not in ("default", b"default"):
                client.acl_deluser(user)
    return redis_process


@pytest.fixture(scope="session")
def running_product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """The quick start on free ports with one simulated dom0; the first test that asks for it waits for it."""
    with product(tmp_path_factory.mktemp("product")) as started:
        yield started


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium. In CI it must be there; elsewhere `browser` tests are skipped without it."""
    assert CHROMIUM is not None, NO_CHROMIUM
    return CHROMIUM


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip `browser` tests where there is no Chromium, except in CI, where they then fail.

    Whoever takes the running product first waits for its start: on a busy machine that takes a minute.
    """
    for item in items:
        if "running_product" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(400))
    if CHROMIUM is None and os.environ.get("CI") != "true":
        for item in items:
            if item.get_closest_marker("browser"):
                item.add_marker(pytest.mark.skip(reason=NO_CHROMIUM))


def pytest_report_header(config: pytest.Config) -> str:
    return f"chromium: {CHROMIUM or NO_CHROMIUM}"
