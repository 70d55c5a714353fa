"""Two hundred people at once, with real processes, threads and database files: nothing exceeded, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests import postgres
from tests.conftest import RedisServer
from tests.product import ROOT

PROCESSES = 2
ASK = 200  # servers, all at once
FIT = 100  # as many fit into the quota of their tenant; each is approved twice, all at once
ROOM = 90  # and so many have room on the dom0


class Process:
    """A process of the web, in which tests/web/crowd.py waits for what to do."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.web.crowd"],
                cwd=ROOT,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def begin(self, what: str, **options: Any) -> None:
        assert self.process.stdin is not None
        print(json.dumps([what, options]), file=self.process.stdin, flush=True)

    def end(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the process ended; its words are in the log"
        return json.loads(line)

    def do(self, what: str, **options: Any) -> Any:
        self.begin(what, **options)
        return self.end()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'crowd.sqlite3'}"
        return
    try:
        postgres.programs()
    except FileNotFoundError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    with postgres.server() as url:
        yield url


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def web(database: str, redis_server: RedisServer, log: Path) -> Iterator[list[Process]]:
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("BERTH_")},
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "BERTH_DATABASE_URL": database,
        "BERTH_REDIS_URL": redis_server.url,
        "BERTH_LOG_LEVEL": "WARNING",
    }
    with ExitStack() as stack:
        processes = [Process(env, log) for _ in range(PROCESSES)]
        for process in processes:
            stack.callback(process.close)
        yield processes


@pytest.mark.timeout(400)
def test_nothing_is_exceeded_and_nothing_that_fits_is_lost(web: list[Process], log: Path) -> None:
    world = web[0].do("prepare", fit=FIT, room=ROOM)
    tenant, dom0, sessions = world["tenant"], world["dom0"], world["sessions"]

    for number, process in enumerate(web):
        names = [f"web{place}" for place in range(ASK) if place % PROCESSES == number]
        process.begin("ask", session=sessions["owner"], tenant=tenant, names=names)
    asked = [answer for process in web for answer in process.end()]
    assert Counter(status for status, _ in asked) == {302: FIT, 422: ASK - FIT}, _others(asked, {302, 422})
    for status, page in asked:
        assert status == 302 or "more than the quota leaves" in page or " of memory, but " in page, page

    waiting = web[0].do("waiting")
    assert len(waiting) == FIT
    for operator, process in zip(("first", "second"), web, strict=True):
        process.begin("approve", session=sessions[operator], dom0=dom0, requests=waiting)
    decided = [answer for process in web for answer in process.end()]
    # One of the two was first with each; of those without room nobody was, and both read why.
    wanted = {302: ROOM, 409: ROOM, 422: 2 * (FIT - ROOM)}
    assert Counter(status for status, _ in decided) == wanted, _others(decided, set(wanted))
    for status, page in decided:
        assert status != 409 or "was first: the request was approved already." in page, page
        assert status != 422 or "MiB of memory left; the server wants 256 MiB." in page, page

    books = web[1].do("books", tenant=tenant, dom0=dom0)
    assert books["differences"] == []
    assert (books["servers"], books["requests"]) == (ROOM, FIT)
    assert books["prepares"] == books["orders"] == ROOM, "each was ordered once"
    assert books["quota"]["memory_mib"]["left"] == books["room"]["memory_mib"]["free"] == 255
    assert "locked" not in log.read_text(), log.read_text()[-4000:]


def _others(answers: list[list[Any]], expected: set[int]) -> list[list[Any]]:
    """What was answered otherwise, for who reads the failure."""
    return [answer for answer in answers if answer[0] not in expected][:5]
