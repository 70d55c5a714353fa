"""Programs: their output, their end, and what outlives an agent."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest

from vps.agent.children import Child
from vps.agent.run import CommandAborted, CommandMissing, CommandTimeout, run

ROOT = str(Path(__file__).parents[2])


@pytest.mark.parametrize("outlives", [False, True], ids=["pipe", "file"])
def test_output_exit_and_environment(outlives: bool) -> None:
    done = run(
        ["sh", "-c", "cat; echo $LC_ALL $MORE; echo no >&2; exit 3"],
        timeout=10,
        input=b"in ",
        env={"MORE": "more", "LC_ALL": "de_DE"},
        outlives=outlives,
    )
    assert (done.stdout, done.stderr, done.returncode) == (b"in C more\n", b"no\n", 3)
    assert done.argv[0] == "sh"
    assert 0 < done.seconds < 10


def test_much_output_does_not_block() -> None:
    done = run([sys.executable, "-c", "print('x' * 3_000_000)"], timeout=30, abort=threading.Event())
    assert len(done.stdout) == 3_000_001


@pytest.mark.parametrize(
    "argv", [["/no/such/program"], ["/etc/passwd"], ["/"]], ids=["none", "no program", "folder"]
)
def test_missing(argv: list[str]) -> None:
    with pytest.raises(CommandMissing, match="cannot be run"):
        run(argv, timeout=1)


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.parametrize("way", ["timeout", "abort"])
def test_the_whole_group_is_killed(tmp_path: Path, way: str) -> None:
    below = tmp_path / "pid"
    abort = threading.Event()
    script = f"sleep 60 & echo $! > {below}; wait"
    if way == "abort":
        threading.Thread(target=lambda: (wait_for(below), abort.set())).start()
    began = time.monotonic()
    with pytest.raises(CommandAborted if way == "abort" else CommandTimeout):
        run(["sh", "-c", script], timeout=60 if way == "abort" else 1.5, abort=abort)
    assert time.monotonic() - began < 20
    pid = int(below.read_text())
    deadline = time.monotonic() + 5
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 15
    while not (path.exists() and path.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("proc", [True, False], ids=["proc", "pid file"])
def test_a_program_outlives_its_agent_and_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proc: bool
) -> None:
    if not proc:
        monkeypatch.setattr("vps.agent.children._PROC", tmp_path / "no proc")
    word, done, domu = str(tmp_path / "web1"), tmp_path / "done", uuid4()
    program = (
        "import sys, time; print('a' * 100, flush=True); time.sleep(1.5); print('b', flush=True);"
        f"open({str(done)!r}, 'w').close()"
    )
    agent = (
        "import sys; from pathlib import Path; from uuid import UUID; from vps.agent.run import run;"
        "from vps.agent.children import Child;"
        f"child = Child(Path({str(tmp_path)!r}), UUID({str(domu)!r})); child.begin();"
        f"run([sys.executable, '-c', {program!r}, {word!r}], timeout=30, started=child.started, outlives=True)"
    )
    child = Child(tmp_path, domu)
    assert not child.at_work(word)
    killed = subprocess.Popen([sys.executable, "-c", agent], env={**os.environ, "PYTHONPATH": ROOT})
    wait_for(tmp_path / f"{domu}.pid")
    killed.kill()
    killed.wait()
    assert child.at_work(word)
    assert not child.at_work(word + "2") or not proc
    deadline = time.monotonic() + 20
    while child.at_work(word):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert done.exists(), "it came to its own end, with a broken pipe nowhere"
    child.ended()
    assert not child.at_work(word)
