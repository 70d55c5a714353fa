"""The supervisor behind `make run`, with real processes: stand-ins for the product's, and a real Redis."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vps.quickstart import leftovers, ports, redis_server

ROOT = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("driver.py")


class Run:
    """One run of the driver."""

    def __init__(self, data: Path, options: tuple[str, ...] = (), **wanted: Any) -> None:
        self.data = data
        self.out = data.parent / f"{data.name}-{time.monotonic_ns()}.txt"
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, str(DRIVER), json.dumps(wanted), "--data-dir", str(data)),
                    *(options or ("--port", "0", "--gateway-port", "0")),
                ],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def text(self) -> str:
        return self.out.read_text()

    def running(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.data / "running.json").read_text())
        return value

    def ready(self) -> Run:
        wait_until(lambda: "Ready after" in self.text() or self.process.poll() is not None, self.text)
        assert self.process.poll() is None, self.text()
        wait_until(lambda: domains(self.data) != [], self.text)
        return self

    def ended(self, seconds: float = 20) -> int:
        return self.process.wait(seconds)


def wait_until(true: Callable[[], object], say: Callable[[], object] = str, seconds: float = 20) -> None:
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up, say()
        time.sleep(0.02)


def domains(data: Path) -> list[int]:
    """The stand-ins for simulated domains, which no one but their mark leads to."""
    found = []
    for pid in leftovers.find(str(data)):
        with contextlib.suppress(OSError):
            if b"simulated" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                found.append(pid)
    return found


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Start a driver; all that it started is ended afterwards."""
    runs = []

    def start(options: tuple[str, ...] = (), **wanted: Any) -> Run:
        runs.append(Run(tmp_path / "data", options, **wanted))
        return runs[-1]

    yield start
    for one in runs:
        one.process.kill()
        one.process.wait()
    leftovers.end(str(tmp_path / "data"), grace=0)


def test_ready_with_the_address_when_all_answer(run: Callable[..., Run]) -> None:
    started = run().ready()
    told = started.running()
    assert started.text().splitlines()[-1].split(": ", 1)[1].startswith(told["web"])
    assert told["ready"] is True
    assert set(told["children"]) == {"redis", "web", "gateway", "agent", "worker"}
    assert told["pid"] == started.process.pid
    for pid in told["children"].values():
        os.kill(pid, 0)
    assert redis_server.answers(
        int(told["redis_url"].rpartition(":")[2].partition("/")[0]), secret(started.data)
    )


def secret(data: Path) -> str:
    return (data / "secrets" / "redis").read_text()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name
)
def test_a_signal_ends_everything_and_keeps_the_data(run: Callable[..., Run], number: signal.Signals) -> None:
    started = run().ready()
    started.process.send_signal(number)
    assert started.ended() == 0, started.text()
    assert leftovers.find(str(started.data)) == []
    assert not (started.data / "running.json").exists()
    assert (started.data / "lock").read_text() == ""
    assert "The data stay in" in started.text()
    assert "cut off" not in run().ready().text()


def test_a_child_that_does_not_listen_is_ended_by_force(run: Callable[..., Run]) -> None:
    started = run(web="deaf", constants={"GRACE": 0.3}).ready()
    started.process.terminate()
    assert started.ended() == 0, started.text()
    assert leftovers.find(str(started.data)) == []


def test_a_second_ctrl_c_does_not_wait(run: Callable[..., Run]) -> None:
    started = run(web="deaf", constants={"GRACE": 600}).ready()
    started.process.send_signal(signal.SIGINT)
    wait_until(lambda: "Ending" in started.text())
    started.process.send_signal(signal.SIGINT)
    assert started.ended() == 0, started.text()
    assert leftovers.find(str(started.data)) == []


@pytest.mark.parametrize("name", ["redis", "web", "gateway", "agent"])
def test_a_killed_child_is_started_again(run: Callable[..., Run], name: str) -> None:
    started = run().ready()
    before = started.running()
    os.kill(before["children"][name], signal.SIGKILL)
    wait_until(
        lambda: name in (now := started.running()["children"]) and now[name] != before["children"][name]
    )
    assert f"{name} ended (killed by SIGKILL); again in 0.2 s." in started.text()
    after = started.running()
    assert after | {"children": {}} == before | {"children": {}}  # the same ports and addresses
    if name in ("web", "gateway"):
        address = after[name].replace("ws://", "http://")
        wait_until(lambda: urllib.request.urlopen(address, timeout=5).status == 200)
    if name == "redis":
        port = int(after["redis_url"].rpartition(":")[2].partition("/")[0])
        wait_until(lambda: redis_server.answers(port, secret(started.data)))


def test_nothing_stays_when_the_supervisor_is_killed(run: Callable[..., Run]) -> None:
    started = run().ready()
    # With the simulated domain, which is nobody's child.
    assert set(leftovers.find(str(started.data))) > set(started.running()["children"].values())
    started.process.kill()
    started.ended()
    wait_until(lambda: leftovers.find(str(started.data)) == [], seconds=10)


def test_a_start_after_a_killed_one_waits_for_its_end_and_goes_on(run: Callable[..., Run]) -> None:
    first = run(web="deaf").ready()
    old = leftovers.find(str(first.data))
    first.process.kill()
    first.ended()
    second = run().ready()  # while the first one's undertaker is still at work on the deaf one
    assert f"The last run (process {first.process.pid}) was cut off" in second.text()
    assert not set(leftovers.find(str(second.data))) & set(old)


def test_two_at_once_in_one_folder_are_refused(run: Callable[..., Run]) -> None:
    first = run().ready()
    second = run()
    assert second.ended() == 1
    assert (
        f"Berth already runs with the data in {first.data}, as process {first.process.pid}." in second.text()
    )
    assert f"kill {first.process.pid}" in second.text()
    assert "make run DATA=FOLDER PORT=8010" in second.text()
    assert first.process.poll() is None


@pytest.mark.parametrize("option", ["--port", "--gateway-port"])
def test_a_busy_port_is_refused_before_anything_starts(run: Callable[..., Run], option: str) -> None:
    with ports.listen(0) as taken:
        port = taken.getsockname()[1]
        options = {"--port": "0", "--gateway-port": "0"} | {option: str(port)}
        started = run(tuple(word for pair in options.items() for word in pair))
        assert started.ended() == 1
    assert started.text().startswith(f"berth: Port {port} is taken by process {os.getpid()} (")
    assert "make run PORT=8010" in started.text()
    assert leftovers.find(str(started.data)) == []


def test_a_child_that_never_stays_up_ends_the_start_with_its_last_words(run: Callable[..., Run]) -> None:
    started = run(agent="broken", gateway="idle", constants={"TRIES": 2})
    assert started.ended() == 1
    assert "berth: agent ended 2 times in a row (exit 1). The end of" in started.text()
    assert "this one is broken" in started.text()
    assert leftovers.find(str(started.data)) == []
    assert "cut off" not in run().ready().text()


def test_a_start_that_does_not_get_ready_says_what_is_missing(run: Callable[..., Run]) -> None:
    started = run(gateway="idle", constants={"READY_LIMIT": 1.5, "HINT_EVERY": 0.5})
    assert started.ended() == 1
    assert "Still waiting for the gateway; logs are in" in started.text()
    assert "berth: Not ready after 2 s: no answer from the gateway." in started.text()
    assert leftovers.find(str(started.data)) == []


def test_a_folder_that_cannot_be_made(run: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    started = run()
    assert started.ended() == 1
    assert started.text().startswith(
        f"berth: The data folder {tmp_path / 'data'} cannot be used: File exists."
    )


def test_secrets_are_made_once_and_for_this_user_only(run: Callable[..., Run]) -> None:
    first = run().ready()
    secrets = {path.name: path.read_text() for path in (first.data / "secrets").iterdir()}
    assert len(set(secrets.values())) == len(secrets) >= 3
    for path in [
        first.data / "running.json",
        first.data / "redis/redis.conf",
        *(first.data / "secrets").iterdir(),
    ]:
        assert path.stat().st_mode & 0o777 == 0o600, path
    assert first.data.stat().st_mode & 0o777 == 0o700
    first.process.terminate()
    first.ended()
    second = run().ready()
    assert {path.name: path.read_text() for path in (second.data / "secrets").iterdir()} == secrets


def test_redis_takes_another_port_when_its_own_is_taken(run: Callable[..., Run]) -> None:
    first = run().ready()
    port = int((first.data / "redis" / "port").read_text())
    first.process.terminate()
    first.ended()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen(1)
        second = run().ready()
        assert f":{port}/" not in second.running()["redis_url"]


def test_neither_passwords_nor_the_webs_settings_are_in_the_environment(run: Callable[..., Run]) -> None:
    started = run().ready()
    told = started.running()
    secrets = [path.read_text().strip() for path in (started.data / "secrets").iterdir()]
    for name, pid in told["children"].items():
        environment = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
        assert not [word for word in environment for hidden in secrets if hidden in word], name
        if name in ("agent", "redis"):
            assert [word for word in environment if word.startswith("BERTH_")] == [
                f"BERTH_RUN={started.data}"
            ]
