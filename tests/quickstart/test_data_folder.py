from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from vps.quickstart import __main__ as quickstart
from vps.quickstart import data_folder
from vps.quickstart.supervisor import how_it_ended, put_aside

AGENT = """# The agent of the simulated dom0 sim.
dom0 = "0198"
secret = "redis = here"
web = "http://127.0.0.1:8000"
redis = "redis://127.0.0.1:6390/0"
trusted_keys = ["a", "b"]
"""


def test_an_agent_is_pointed_at_the_ports_of_this_run(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(AGENT)
    data_folder.point_agent_at(config, web="http://127.0.0.1:8010", redis="redis://127.0.0.1:7001/0")
    was, now = tomllib.loads(AGENT), tomllib.loads(config.read_text())
    assert now == was | {"web": "http://127.0.0.1:8010", "redis": "redis://127.0.0.1:7001/0"}
    assert config.stat().st_mode & 0o777 == 0o600


def test_an_agent_that_is_right_already_is_left_alone(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(AGENT)
    before = config.stat()
    data_folder.point_agent_at(config, web="http://127.0.0.1:8000", redis="redis://127.0.0.1:6390/0")
    assert (config.stat().st_ino, config.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_stamps_know_with_what_a_thing_was_done(tmp_path: Path) -> None:
    stamps = data_folder.Stamps(tmp_path)
    assert not stamps.fresh("migrations", "a")
    stamps.set("migrations", "a")
    assert data_folder.Stamps(tmp_path).fresh("migrations", "a")
    assert not stamps.fresh("migrations", "b")
    stamps.forget("migrations", "never-set")
    assert not stamps.fresh("migrations", "a")


def test_the_state_of_files_changes_with_their_names_sizes_and_times(tmp_path: Path) -> None:
    states = [data_folder.state_of(tmp_path, ("*.py",))]
    (tmp_path / "a.py").write_text("1")
    states.append(data_folder.state_of(tmp_path, ("*.py",)))
    (tmp_path / "a.py").write_text("12")
    states.append(data_folder.state_of(tmp_path, ("*.py",)))
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    states.append(data_folder.state_of(tmp_path, ("*.py",)))
    assert len(set(states)) == 4
    (tmp_path / "other.txt").write_text("not looked at")
    assert data_folder.state_of(tmp_path, ("*.py",)) == states[-1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Traceback ...",
        "[]",
        '{"accounts": 1}',
        '{"accounts": [{"email": "a"}]}',
        '{"accounts": ["a"]}',
        "null",
    ],
)
def test_first_run_that_says_something_else_is_not_swallowed(text: str) -> None:
    with pytest.raises(quickstart.CannotStart, match="first_run printed something else than accounts"):
        quickstart.read_logins(text)


def test_accounts_of_the_first_run_are_read() -> None:
    text = '{"accounts": [{"email": "o@localhost", "password": "p", "role": "operator", "more": 1}]}\n'
    assert quickstart.read_logins(text) == [{"role": "operator", "email": "o@localhost", "password": "p"}]
    assert quickstart.read_logins('{"accounts": []}') == []


@pytest.mark.parametrize(
    ("options", "ports"),
    [
        pytest.param([], (8000, 8001), id="default"),
        pytest.param(["--port", "8010"], (8010, 8011), id="the gateway is next"),
        pytest.param(["--port", "0"], (0, 0), id="free ones"),
        pytest.param(["--port", "65535"], (65535, 0), id="no next one"),
        pytest.param(["--port", "8010", "--gateway-port", "9000"], (8010, 9000), id="both"),
    ],
)
def test_ports_asked_for(options: list[str], ports: tuple[int, int]) -> None:
    wishes = quickstart.read_wishes(options)
    assert (wishes.port, wishes.gateway_port) == ports


@pytest.mark.parametrize("port", ["-1", "65536", "http", "", "80 "])
def test_what_is_no_port(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        quickstart.read_wishes([f"--port={port}"])
    assert f"{port!r} is no port; a port is a number from 1 to 65535" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit 0"),
        (3, "exit 3"),
        (-9, "killed by SIGKILL"),
        (-15, "killed by SIGTERM"),
        (-250, "killed by signal 250"),
    ],
)
def test_how_a_process_ended(code: int, words: str) -> None:
    assert how_it_ended(code) == words


def test_a_large_log_is_put_aside_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * 100)
        put_aside(log, limit=100)
        assert log.stat().st_size == 100
        writer.write(b"y")
        put_aside(log, limit=100)
        writer.write(b"after")
    assert log.read_bytes() == b"after"
    assert (tmp_path / "web.log.1").read_bytes() == b"x" * 100 + b"y"
    put_aside(tmp_path / "not-there.log")
