"""The gateway over its whole way: real WebSockets, Redis, ptys."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.agent.guests import until
from tests.conftest import RedisServer
from tests.web.console_way import ORIGIN, Way, serving, whole_way
from vps import console, console_line, console_seat
from vps.console import Gateway, GatewaySettings
from vps.console_people import Limits
from vps.console_seat import PENDING, WINDOW
from vps.xen.messages import Channels


@pytest.fixture
def way(redis_server: RedisServer, tmp_path: Path) -> Iterator[Way]:
    with whole_way(redis_server.url, tmp_path) as made:
        yield made


@pytest.fixture
def domu() -> UUID:
    return uuid4()


def test_typing_and_answer(way: Way, domu: UUID) -> None:
    guest = way.boot(5, domu)
    guest.say(b"login: ")
    browser = way.browse(domu)
    browser.wait_for(b"login: ")
    assert browser.words[0] == {
        "type": "ready", "server": "web1", "state": "running", "may_type": True, "mode": "typing",
    }  # fmt: skip
    browser.type(b"root\r")
    assert guest.hear(5) == b"root\r"
    guest.say(b"root\r\n# ")
    browser.wait_for(b"login: root\r\n# ")


def test_an_open_console_outlives_the_web_s_key(way: Way, domu: UUID) -> None:
    guest = way.boot(5, domu)
    browser = way.browse(domu)
    browser.type(b"before\r")
    assert guest.hear(7) == b"before\r"
    way.roll_key()
    browser.type(b"after\r")
    assert guest.hear(6) == b"after\r"


def test_several_see_the_same(way: Way, domu: UUID) -> None:
    guest = way.boot(5, domu)
    ana, ben = way.browse(domu, "Ana"), way.browse(domu, "Ben")
    guest.say(b"to all")
    ana.wait_for(b"to all")
    ben.wait_for(b"to all")
    assert ben.of("ready")[0]["mode"] == "watching"  # Ana types already
    people = ana.wait("people", 2)["people"]
    assert people == [
        {"name": "Ana", "mode": "typing", "you": True},
        {"name": "Ben", "mode": "watching", "you": False},
    ]
    ben.say(type="mode", mode="typing")
    assert ana.wait("people", 3)["people"][1]["mode"] == "typing"
    ben.close()
    assert len(ana.wait("people", 4)["people"]) == 1


def test_who_comes_again_types_on(way: Way, domu: UUID) -> None:
    """Of a gateway that was killed a person stays behind for some seconds, and is nobody to wait for."""
    guest = way.boot(5, domu)
    ticket, seat = way.rights.admit(way.dom0, domu)
    left_behind = way.open(ticket)
    assert left_behind.wait("ready")["mode"] == "typing"
    again = way.open(way.rights.again(seat))
    assert again.wait("ready")["mode"] == "typing"
    again.wait("replayed")
    again.type(b"on")
    assert guest.hear(2) == b"on"
    assert way.browse(domu, "Ben").of("ready")[0]["mode"] == "watching"


def test_people_of_two_gateways_see_each_other(way: Way, domu: UUID) -> None:
    way.boot(5, domu)
    ana = way.browse(domu, "Ana")
    with serving(Gateway(way.url, lambda: way.key, way.rights)) as other:
        ben = way.browse(domu, "Ben", port=other)
        assert [one["name"] for one in ana.wait("people", 2)["people"]] == ["Ana", "Ben"]
        assert [one["name"] for one in ben.wait("people")["people"]] == ["Ana", "Ben"]
        ben.close()


def test_consoles_of_one_dom0_do_not_mix(way: Way) -> None:
    mine, other = uuid4(), uuid4()
    guests = [way.boot(1, mine), way.boot(2, other)]
    browsers = [way.browse(mine), way.browse(other)]
    for guest, name in zip(guests, (b"mine", b"other"), strict=True):
        guest.say(name)
    browsers[0].wait_for(b"mine")
    browsers[1].wait_for(b"other")
    browsers[1].type(b"k")
    assert guests[1].hear(1) == b"k"
    assert (browsers[0].data, browsers[1].data) == (b"mine", b"other")


@pytest.mark.parametrize("may_type", [True, False], ids=["chose to watch", "may only watch"])
def test_keys_of_a_watcher_go_nowhere(way: Way, domu: UUID, may_type: bool) -> None:
    guest = way.boot(5, domu)
    watcher = way.browse(domu, "Ben", may_type=may_type)
    watcher.say(type="mode", mode="watching" if may_type else "typing")
    assert watcher.wait("ready", 2)["mode"] == "watching"
    watcher.type(b"rm -rf /\r")
    typist = way.browse(domu, "Ana")
    typist.say(type="mode", mode="typing")
    typist.wait("ready", 2)
    typist.type(b"ok")
    assert guest.hear(2) == b"ok"


def test_rights_that_are_gone_close_within_a_second(way: Way, domu: UUID) -> None:
    guest = way.boot(5, domu)
    ticket, seat = way.rights.admit(way.dom0, domu)
    browser = way.open(ticket)
    browser.wait("replayed")
    gone_at = time.monotonic()
    del way.rights.access[seat]
    assert browser.wait_closed() == 4403
    assert time.monotonic() - gone_at < 1.0
    assert browser.of("bye") == [{"type": "bye", "why": "rights"}]
    guest.say(b"secret")
    until(lambda: way.agent.consoles.tail(domu) == "secret")
    assert b"secret" not in browser.data


def test_right_to_type_that_is_gone_leaves_a_watcher(way: Way, domu: UUID) -> None:
    way.boot(5, domu)
    ticket, seat = way.rights.admit(way.dom0, domu)
    browser = way.open(ticket)
    browser.wait("replayed")
    way.rights.change(seat, may_type=False, state_word="paused")
    again = browser.wait("ready", 2)
    assert (again["may_type"], again["mode"], again["state"]) == (False, "watching", "paused")


def test_database_that_is_away_for_long_shuts_all_out(
    way: Way, domu: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "CHECK_FAILS_FOR", 1.0)
    way.boot(5, domu)
    browser = way.browse(domu)
    way.rights.fails = True
    assert browser.wait_closed() == 1012


def test_database_that_hangs_shuts_all_out(way: Way, domu: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    """And holds one thread for it; whoever comes when it answers again is let in as ever."""
    monkeypatch.setattr(console, "CHECK_FAILS_FOR", 1.0)
    way.boot(5, domu)
    first, second = way.browse(domu, "Ana"), way.browse(domu, "Ben")
    way.rights.answers.clear()
    assert first.wait_closed() == second.wait_closed() == 1012
    waiting = [thread for thread in threading.enumerate() if thread.name.startswith("asyncio_")]
    assert len(waiting) < 5
    way.rights.answers.set()
    again = way.browse(domu, "Ana")
    again.type(b"x")
    assert not again.of("bye")


def test_ticket_is_good_once(way: Way, domu: UUID) -> None:
    way.boot(5, domu)
    ticket, _ = way.rights.admit(way.dom0, domu)
    way.open(ticket).wait("ready")
    second = way.open(ticket)
    assert second.wait_closed() == 4401
    assert second.of("ready") == []


@pytest.mark.parametrize(
    "first",
    [
        pytest.param("not JSON", id="not JSON"),
        pytest.param(b"binary", id="binary"),
        pytest.param("[]", id="a list"),
        pytest.param({}, id="no ticket"),
        pytest.param({"ticket": 7}, id="a number"),
        pytest.param({"ticket": ""}, id="empty"),
        pytest.param({"ticket": "x" * 129}, id="long"),
        pytest.param("x" * 3000, id="longer"),
        pytest.param({"ticket": "x"}, id="unknown"),
        pytest.param({"ticket": "x", "run": "no uuid", "offset": 0}, id="run is no uuid"),
        pytest.param({"ticket": "x", "run": str(uuid4()), "offset": -1}, id="negative offset"),
        pytest.param({"ticket": "x", "run": str(uuid4())}, id="run without offset"),
    ],
)
def test_wrong_first_message(way: Way, first: object) -> None:
    browser = way.open(None, first=first)
    assert browser.wait_closed() == 4401
    assert browser.of("bye") == [{"type": "bye", "why": "ticket"}]


def test_no_first_message(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "FIRST_WITHIN", 0.1)
    browser = way.open(None)
    assert browser.wait_closed() == 4401
    assert browser.of("bye") == [{"type": "bye", "why": "late"}]


@pytest.mark.parametrize(
    ("path", "origin"), [("/ws/console", "http://evil.test"), ("/ws/other", ORIGIN)], ids=["origin", "path"]
)
def test_stranger_is_refused_before_the_handshake_is_done(way: Way, path: str, origin: str) -> None:
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(f"ws://127.0.0.1:{way.port}{path}", origin=origin),  # type: ignore[arg-type]
    ):
        pass
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    ("message", "code"),
    [
        pytest.param("not JSON", 1008, id="not JSON"),
        pytest.param("{}", 1008, id="no type"),
        pytest.param('{"type": "boot"}', 1008, id="unknown type"),
        pytest.param('{"type": "mode", "mode": "root"}', 1008, id="unknown mode"),
        pytest.param('{"type": "took", "bytes": 5}', 1008, id="took more than was sent"),
        pytest.param('{"type": "took", "bytes": true}', 1008, id="took is true"),
        pytest.param("[" * 9000, 1008, id="deep"),
        pytest.param(b"x" * 32_769, 1009, id="big"),
        pytest.param("x" * 32_769, 1009, id="big text"),
    ],
)
def test_wrong_message_ends_it(way: Way, domu: UUID, message: str | bytes, code: int) -> None:
    way.boot(5, domu)
    browser = way.browse(domu)
    browser.socket.send(message)
    assert browser.wait_closed() == code


def test_many_keys_arrive_whole(way: Way, domu: UUID) -> None:
    guest = way.boot(5, domu)
    browser = way.browse(domu)
    text = b"".join(b"line %06d\r" % n for n in range(2000))
    for at in range(0, len(text), 500):
        browser.type(text[at : at + 500])
    assert guest.hear(len(text)) == text


def test_browser_that_draws_slowly_is_told_what_it_missed(way: Way, domu: UUID) -> None:
    guest = way.boot(5, domu)
    browser = way.browse(domu)
    quick = way.browse(domu, "Ben")
    browser.took = False
    total = WINDOW + PENDING + 1024 * 1024
    line = b"y" * 63 + b"\n"
    for _ in range(total // 65536):
        guest.say(line * 1024)
        quick.read(0.001)
    guest.say(b"the end")
    quick.wait_for(b"the end")
    until(lambda: (browser.read(), len(browser.data) >= WINDOW)[1])
    assert len(browser.data) <= WINDOW + 65536
    browser.took = True
    browser.say(type="took", bytes=len(browser.data))
    browser.wait_for(b"the end")
    gone = sum(word["bytes"] for word in browser.of("skipped"))
    assert gone > 0
    assert len(browser.data) + gone == total + 7
    assert quick.of("skipped") == []


def test_guest_that_ends_and_comes_again(way: Way, domu: UUID) -> None:
    first, second = uuid4(), uuid4()
    guest = way.boot(5, domu, first)
    browser = way.browse(domu)
    guest.say(b"panic")
    guest.die()
    until(lambda: way.agent.endings)
    way.agent.consoles.ended(domu, first, {"reason": "crash", "code": 3, "next": "restart", "restart_in": 2})
    assert browser.wait("ended") == {
        "type": "ended", "reason": "crash", "code": 3, "next": "restart", "restart_in": 2,
    }  # fmt: skip
    assert browser.data == b"panic"
    guest = way.boot(6, domu, second)
    guest.say(b"boots")
    browser.wait_for(b"panicboots")
    assert browser.of("run")[-1] == {"type": "run", "run": str(second), "offset": 0}
    browser.type(b"k")
    assert guest.hear(1) == b"k"


def test_last_words_of_a_guest_that_is_gone(way: Way, domu: UUID) -> None:
    run = uuid4()
    guest = way.boot(5, domu, run)
    guest.say(b"last words")
    until(lambda: way.agent.consoles.tail(domu) == "last words")
    guest.die()
    way.agent.consoles.ended(domu, run, {"reason": "poweroff", "code": 0, "next": "stopped"})
    browser = way.browse(domu)
    assert browser.wait("absent") == {"type": "absent", "reason": "poweroff", "code": 0, "next": "stopped"}
    assert browser.data == b"last words"


def test_console_of_a_server_that_never_ran(way: Way, domu: UUID) -> None:
    browser = way.browse(domu)
    assert browser.wait("absent") == {"type": "absent"}


def test_reconnecting_browser_gets_only_what_it_has_not(way: Way, domu: UUID) -> None:
    run = uuid4()
    guest = way.boot(5, domu, run)
    guest.say(b"one ")
    ticket, seat = way.rights.admit(way.dom0, domu)
    browser = way.open(ticket)
    browser.wait_for(b"one ")
    assert browser.wait("run") == {"type": "run", "run": str(run), "offset": 0}
    browser.close()
    guest.say(b"two ")
    until(lambda: way.agent.consoles.tail(domu) == "one two ")
    first = {"ticket": way.rights.again(seat), "run": str(run), "offset": 4}
    again = way.open(None, first=first)
    again.wait("replayed")
    guest.say(b"three")
    again.wait_for(b"three")
    assert again.data == b"two three"
    assert again.of("run") == again.of("skipped") == []


def test_reconnecting_after_another_run_has_begun(way: Way, domu: UUID) -> None:
    run = uuid4()
    guest = way.boot(5, domu, run)
    guest.say(b"new run")
    until(lambda: way.agent.consoles.tail(domu) == "new run")
    ticket, _ = way.rights.admit(way.dom0, domu)
    browser = way.open(None, first={"ticket": ticket, "run": str(uuid4()), "offset": 99})
    browser.wait_for(b"new run")
    assert browser.wait("run") == {"type": "run", "run": str(run), "offset": 0}


def test_agent_that_does_not_answer(way: Way, domu: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_seat, "SILENT_AFTER", 0.4)
    monkeypatch.setattr(console_seat, "ASK_EVERY", 0.5)
    run = uuid4()
    guest = way.boot(5, domu, run)
    guest.say(b"before ")
    ticket, _ = way.rights.admit(way.dom0, domu)
    browser = way.open(ticket)
    browser.wait_for(b"before ")
    way.agent.close()
    browser.wait("silent")
    guest.hang_up()
    way.start_agent()
    waiting = threading.Thread(target=guest.accept)
    waiting.start()
    way.agent.consoles.attach(domu, "web1", run, 5)
    waiting.join()
    browser.wait("heard")
    guest.say(b"after")
    browser.wait_for(b"before after")
    browser.type(b"k")
    assert guest.hear(1) == b"k"


def test_bytes_missed_while_redis_lost_them_are_fetched_again(
    way: Way, domu: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_seat, "ASK_EVERY", 0.3)
    run = uuid4()
    guest = way.boot(5, domu, run)
    guest.say(b"one ")
    browser = way.browse(domu)
    browser.wait_for(b"one ")
    feed = way.agent.consoles._feed
    feed._send, kept = (lambda entry: None), feed._send
    guest.say(b"two ")
    until(lambda: way.agent.consoles.tail(domu) == "one two ")
    until(lambda: feed._lines[domu].position == 8)
    feed._send = kept
    browser.wait_for(b"one two ")
    assert browser.of("skipped") == []


def test_notes_to_a_dead_agent_do_not_pile_up(
    way: Way, domu: UUID, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_line, "NOTES_WAITING", 20)
    way.boot(5, domu)
    browser = way.browse(domu)
    way.agent.close()
    for n in range(60):
        browser.type(b"%d" % n)
        browser.read(0.005)
    with redis_server.client() as client:
        assert client.llen(Channels(way.dom0).line) <= 20
    browser.wait("silent")
    way.start_agent()


def test_dom0_that_writes_nonsense_harms_nobody(way: Way, domu: UUID, redis_server: RedisServer) -> None:
    guest = way.boot(5, domu)
    browser = way.browse(domu)
    stream = Channels(way.dom0).console
    with redis_server.client() as client:
        for fields in (
            {"x": "y"},
            {"k": "live"},
            {"k": b"\xff", "d": str(domu)},
            {"k": "live", "d": str(domu), "o": "much"},
            {"k": "live", "d": str(uuid4()), "r": "x", "o": "0", "b": "of another"},
            {"k": "replayed", "d": str(domu), "w": "x" * 999, "o": "5"},
            {"k": "ended", "d": str(domu), "b": "[" * 5000},
            {"k": "ended", "d": str(domu), "b": json.dumps({"reason": ["x"], "code": "y", "next": "z" * 99})},
        ):
            client.xadd(stream, fields)
    guest.say(b"fine")
    browser.wait_for(b"fine")
    assert [word for word in browser.of("ended") if set(word) - {"type", "next"}] == []
    assert max(len(word.get("next", "")) for word in browser.of("ended")) == 40


def test_stream_that_an_agent_has_spoiled(
    way: Way, domu: UUID, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_seat, "SILENT_AFTER", 0.4)
    monkeypatch.setattr(console_seat, "ASK_EVERY", 0.5)
    way.boot(5, domu)
    browser = way.browse(domu)
    stream = Channels(way.dom0).console
    with redis_server.client() as client:
        client.delete(stream)
        client.lpush(stream, "spoiled")
        browser.wait("silent")
        client.delete(stream)
    browser.wait("heard")


def test_gateway_after_redis_was_away(way: Way, domu: UUID, redis_server: RedisServer) -> None:
    guest = way.boot(5, domu)
    browser = way.browse(domu)
    with redis_server.client() as client:
        for told in client.client_list():
            if told["cmd"].startswith("xread"):
                client.client_kill(told["addr"])
    guest.say(b"still")
    browser.wait_for(b"still")


@pytest.mark.parametrize(
    ("limits", "who"),
    [(Limits(per_user=2, per_server=9), "user"), (Limits(per_user=9, per_server=2), "server")],
    ids=["of a person", "of a server"],
)
def test_limits(redis_server: RedisServer, tmp_path: Path, limits: Limits, who: str) -> None:
    with whole_way(redis_server.url, tmp_path, GatewaySettings(limits)) as way:
        domu = uuid4()
        _, seat = way.rights.admit(way.dom0, domu)
        for _ in range(2):
            way.open(way.rights.again(seat)).wait("replayed")
        third = way.open(way.rights.again(seat))
        assert third.wait_closed() == 4429
        assert third.of("bye") == [{"type": "bye", "why": who}]
        way.browsers[0].close()

        def again() -> bool:
            fourth = way.open(way.rights.again(seat))
            until(lambda: (fourth.read(), fourth.words)[1])
            return bool(fourth.of("ready"))

        until(again)


def test_gateway_that_is_full(redis_server: RedisServer, tmp_path: Path) -> None:
    with whole_way(redis_server.url, tmp_path, GatewaySettings(connections=1)) as way:
        way.browse(uuid4())
        ticket, _ = way.rights.admit(way.dom0, uuid4())
        assert way.open(ticket).wait_closed() == 4429


def test_idle_console_is_closed(redis_server: RedisServer, tmp_path: Path) -> None:
    with whole_way(redis_server.url, tmp_path, GatewaySettings(idle=0.3)) as way:
        browser = way.browse(uuid4())
        assert browser.wait_closed() == 4408


def test_stopped_gateway_says_come_again(redis_server: RedisServer, tmp_path: Path) -> None:
    with whole_way(redis_server.url, tmp_path) as way:
        with serving(Gateway(way.url, lambda: way.key, way.rights)) as port:
            browser = way.browse(uuid4(), port=port)
        assert browser.wait_closed() == 1012


def test_rights_are_asked_again_after_a_fault(way: Way, domu: UUID) -> None:
    way.boot(5, domu)
    ticket, seat = way.rights.admit(way.dom0, domu)
    browser = way.open(ticket)
    browser.wait("replayed")
    turns: list[int] = []
    kept = way.rights.check

    def check(seats: Any) -> Any:
        turns.append(1)
        return dict.fromkeys(seats, "nonsense") if len(turns) < 3 else kept(seats)

    way.rights.check = check  # type: ignore[method-assign]
    until(lambda: len(turns) > 3)
    del way.rights.access[seat]
    assert browser.wait_closed() == 4403


def test_too_many_without_a_ticket(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "STRANGERS", 2)
    first = [way.open(None) for _ in range(2)]
    third = way.open(None)
    assert third.wait_closed() == 4429
    first[0].close()

    def again() -> bool:
        ticket, _ = way.rights.admit(way.dom0, uuid4())
        fourth = way.open(ticket)
        until(lambda: (fourth.read(), fourth.words)[1])
        return bool(fourth.of("ready"))

    until(again)


def test_stream_is_trimmed_when_the_last_one_leaves(
    way: Way, domu: UUID, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_line, "TRIM_AFTER_MS", 0)
    guest = way.boot(5, domu)
    browser = way.browse(domu)
    guest.say(b"x" * 1000)
    browser.wait_for(b"x" * 1000)
    with redis_server.client() as client:
        stream = Channels(way.dom0).console
        assert client.xlen(stream) > 0
        browser.close()
        until(lambda: client.xlen(stream) == 0)


def test_nothing_is_left_in_redis(redis_server: RedisServer, tmp_path: Path) -> None:
    with whole_way(redis_server.url, tmp_path) as way:
        way.browse(uuid4()).close()
        with redis_server.client() as client:
            until(lambda: client.keys("console:*") == [])


def test_healthz(way: Way) -> None:
    assert httpx.get(f"http://127.0.0.1:{way.port}/healthz").text == "ok\n"
    assert httpx.get(f"http://127.0.0.1:{way.port}/").status_code == 404


def test_healthz_without_redis() -> None:
    with serving(Gateway("redis://127.0.0.1:1/0", lambda: None, None)) as port:  # type: ignore[arg-type, return-value]
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 503
