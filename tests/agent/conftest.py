from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from agent_rig import Rig
from redis_server import RedisServer

from vps.agent.config import Config
from vps.xen.messages import SigningKey


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    yield server
    server.kill()


@pytest.fixture
def signing_key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def config(tmp_path: Path, redis_server: RedisServer, signing_key: SigningKey) -> Config:
    """A dom0 that the Redis server knows."""
    config = plain_config(tmp_path, redis_server.url, signing_key)
    redis_server.admit(config.dom0, config.secret)
    return config


def plain_config(tmp_path: Path, redis_url: str, key: SigningKey) -> Config:
    config = Config(
        path=tmp_path / "agent.toml",
        dom0=uuid4(),
        name="test",
        secret="a secret of the test",
        web="http://127.0.0.1:1",
        redis=redis_url,
        trusted_keys=(key.public_text(),),
        state_dir=tmp_path / "state",
        config_dir=tmp_path / "xen",
        disk_dir=tmp_path / "disks",
        xl=("xl",),
        xl_log_dir=tmp_path / "log",
        simulated=True,
    )
    for folder in (*config.folders(), config.config_dir, config.xl_log_dir):
        folder.mkdir(parents=True, exist_ok=True)
    return config


@pytest.fixture
def rig(tmp_path: Path, config: Config, signing_key: SigningKey, redis_server: RedisServer) -> Iterator[Rig]:
    rig = Rig(tmp_path, config, signing_key, redis_server)
    yield rig
    rig.close()
