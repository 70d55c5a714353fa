"""Consoles with real ptys: attached from the first byte, drained, recorded, watched, typed on."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.agent.guests import XL, Guest, until
from vps.agent.console import Consoles
from vps.xen.messages import Note, NoteKind

DOM0 = uuid4()


@dataclass
class Stream:
    """What was put into the stream, in order."""

    entries: list[dict[str, str | bytes | int]] = field(default_factory=list)
    fails: bool = False
    gate: threading.Event = field(default_factory=threading.Event)

    def send(self, entry: Mapping[str, bytes]) -> None:
        self.gate.wait(10)
        if self.fails:
            raise ConnectionError("Redis is away")
        self.entries.append(
            {
                "k": entry["k"].decode(),
                "d": entry["d"].decode(),
                "r": entry["r"].decode(),
                "w": entry.get("w", b"").decode(),
                "o": int(entry["o"]),
                "b": entry.get("b", b""),
            }
        )

    def kinds(self) -> list[str]:
        return [str(entry["k"]) for entry in self.entries]

    def of(self, kind: str) -> list[dict[str, str | bytes | int]]:
        return [entry for entry in self.entries if entry["k"] == kind]

    def bytes(self, kind: str) -> bytes:
        return b"".join(bytes(entry["b"]) for entry in self.of(kind))  # type: ignore[arg-type]


@dataclass
class Dom0:
    """Consoles, the guests behind them, and what they told."""

    state: Path
    stream: Stream
    endings: list[tuple[UUID, UUID]]
    make: Callable[[], Consoles]
    consoles: Consoles
    guests: dict[int, Guest] = field(default_factory=dict)

    def boot(self, domid: int, domu: UUID, run: UUID) -> Guest:
        guest = self.guests[domid] = Guest(self.state, domid)
        self.attach(domid, domu, run)
        return guest

    def attach(self, domid: int, domu: UUID, run: UUID) -> None:
        waiting = threading.Thread(target=self.guests[domid].accept)
        waiting.start()
        self.consoles.attach(domu, "web1", run, domid)
        waiting.join()

    def note(self, kind: NoteKind, **body: object) -> None:
        self.consoles.note(Note(DOM0, kind, 0, body))

    def watch(self, domu: UUID, watch: str = "w1", replay: int | None = None, seconds: float = 10) -> None:
        body = {} if replay is None else {"replay": replay}
        self.note(NoteKind.WATCH, domu=str(domu), watch=watch, seconds=seconds, **body)

    def keys(self, domu: UUID, data: bytes, n: int = 1, watch: str = "w1") -> None:
        self.note(NoteKind.KEYS, domu=str(domu), watch=watch, n=n, data=base64.b64encode(data).decode())


@pytest.fixture
def dom0(tmp_path: Path) -> Iterator[Dom0]:
    state = tmp_path / "guests"
    state.mkdir()
    stream, endings = Stream(), []
    stream.gate.set()

    def make() -> Consoles:
        return Consoles(
            tmp_path / "consoles",
            [*XL, "--state", str(state)],
            stream.send,
            lambda domu, run: endings.append((domu, run)),
        )

    dom0 = Dom0(state, stream, endings, make, make())
    before = set(threading.enumerate())
    yield dom0
    stream.gate.set()
    dom0.consoles.close()
    for guest in dom0.guests.values():
        guest.die()
    assert {thread.name for thread in set(threading.enumerate()) - before} == set()


OTHERS: set[int] = set()  # children of before the test, as the session's Redis


@pytest.fixture(autouse=True)
def others() -> None:
    OTHERS.clear()
    OTHERS.update(children())


def children() -> set[int]:
    """Processes that this test has started and not yet reaped."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found - OTHERS


def test_first_byte_is_in_the_record(dom0: Dom0) -> None:
    domu = uuid4()
    guest = dom0.boot(5, domu, uuid4())
    guest.say(b"Xen 4.17 loads\r\n")
    until(lambda: dom0.consoles.tail(domu) == "Xen 4.17 loads\n")


def test_attach_returns_when_xl_console_has_the_guest(dom0: Dom0) -> None:
    domu = uuid4()
    guest = dom0.boot(5, domu, uuid4())
    assert guest.connection is not None
    dom0.watch(domu)
    dom0.keys(domu, b"first key\r")
    assert guest.hear(10) == b"first key\r"


def test_attaching_again_changes_nothing(dom0: Dom0) -> None:
    domu, run = uuid4(), uuid4()
    guest = dom0.boot(5, domu, run)
    before = children()
    dom0.consoles.attach(domu, "web1", run, 5)
    assert children() == before
    guest.say(b"still here")
    until(lambda: dom0.consoles.tail(domu) == "still here")


def test_nothing_is_sent_while_nobody_watches(dom0: Dom0) -> None:
    domu = uuid4()
    guest = dom0.boot(5, domu, uuid4())
    guest.say(b"unseen")
    until(lambda: dom0.consoles.tail(domu) == "unseen")
    dom0.watch(domu)
    guest.say(b" seen")
    until(lambda: dom0.stream.bytes("live") == b" seen")
    assert dom0.stream.of("live")[0]["o"] == 6
    dom0.note(NoteKind.UNWATCH, watch="w1")
    guest.say(b" unseen again")
    until(lambda: dom0.consoles.tail(domu).endswith("again"))
    assert dom0.stream.bytes("live") == b" seen"


def test_watch_ends_by_itself(dom0: Dom0) -> None:
    domu = uuid4()
    guest = dom0.boot(5, domu, uuid4())
    dom0.watch(domu, seconds=0.05)
    time.sleep(0.06)  # what is tested is that time alone ends it
    guest.say(b"late")
    until(lambda: dom0.consoles.tail(domu) == "late")
    dom0.keys(domu, b"x")
    dom0.watch(domu, "w2", replay=0)
    until(lambda: dom0.stream.of("replayed"))
    assert dom0.stream.kinds() == ["replayed"]


def test_replay_ends_where_live_goes_on(dom0: Dom0) -> None:
    domu, run = uuid4(), uuid4()
    guest = dom0.boot(5, domu, run)
    guest.say(b"one\r\ntwo\r\n")
    until(lambda: dom0.consoles.tail(domu) == "one\ntwo\n")
    dom0.watch(domu, replay=100)
    until(lambda: dom0.stream.of("replayed"))
    guest.say(b"three\r\n")
    until(lambda: dom0.stream.bytes("live") == b"three\r\n")
    assert dom0.stream.kinds() == ["replay", "replayed", "live"]
    assert dom0.stream.entries[0] == {
        "k": "replay", "d": str(domu), "r": str(run), "w": "w1", "o": 0, "b": b"one\r\ntwo\r\n",
    }  # fmt: skip
    assert [entry["o"] for entry in dom0.stream.entries[1:]] == [10, 10]


def test_second_watcher_gets_a_replay_of_their_own(dom0: Dom0) -> None:
    domu = uuid4()
    guest = dom0.boot(5, domu, uuid4())
    dom0.watch(domu, "w1", replay=0)
    guest.say(b"hello\n")
    until(lambda: dom0.stream.bytes("live") == b"hello\n")
    dom0.watch(domu, "w2", replay=100)
    until(lambda: len(dom0.stream.of("replayed")) == 2)
    assert [(entry["w"], entry["b"]) for entry in dom0.stream.of("replay")] == [("w2", b"hello\n")]


def test_short_replay_begins_at_a_line(dom0: Dom0) -> None:
    domu = uuid4()
    guest = dom0.boot(5, domu, uuid4())
    guest.say(b"a long first line\nsecond\n")
    until(lambda: dom0.consoles.tail(domu).endswith("second\n"))
    dom0.watch(domu, replay=12)
    until(lambda: dom0.stream.of("replayed"))
    assert dom0.stream.bytes("replay") == b"second\n"


def test_whole_replay_of_a_long_run_says_what_is_gone(dom0: Dom0) -> None:
    domu = uuid4()
    guest = dom0.boot(5, domu, uuid4())
    line = b"x" * 1023 + b"\n"
    total = 9 * 1024 * 1024
    for _ in range(total // (1024 * 64)):
        guest.say(line * 64)
    record = until(lambda: dom0.consoles._last(domu))
    until(lambda: record.end == total)
    dom0.watch(domu, replay=100 * 1024 * 1024)
    until(lambda: dom0.stream.of("replayed"))
    [skipped] = dom0.stream.of("skipped")
    gone = int(skipped["b"])
    assert gone == total - (256 + 8 * 1024) * 1024
    assert len(dom0.stream.bytes("replay")) + gone == total
    assert max(len(bytes(entry["b"])) for entry in dom0.stream.entries) <= 65536  # type: ignore[arg-type]


def test_several_domus_do_not_mix(dom0: Dom0) -> None:
    domus = [uuid4() for _ in range(5)]
    guests = [dom0.boot(n, domu, uuid4()) for n, domu in enumerate(domus, 1)]
    for domu in domus:
        dom0.watch(domu, f"w{domu}")
    for n, guest in enumerate(guests):
        guest.say(b"guest %d" % n)
    until(lambda: len(dom0.stream.of("live")) >= 5)
    assert {(entry["d"], entry["b"]) for entry in dom0.stream.of("live")} == {
        (str(domu), b"guest %d" % n) for n, domu in enumerate(domus)
    }


def test_keys_in_the_order_of_n_and_never_twice(dom0: Dom0) -> None:
    domu = uuid4()
    guest = dom0.boot(5, domu, uuid4())
    dom0.watch(domu)
    dom0.keys(domu, b"a", n=1)
    dom0.keys(domu, b"a", n=1)
    dom0.keys(domu, b"b", n=5)
    dom0.keys(domu, b"late", n=4)
    dom0.keys(domu, b"c", n=6)
    assert guest.hear(3) == b"abc"


@pytest.mark.parametrize("watch", ["w2", "w3"], ids=["of another domU", "of nobody"])
def test_keys_of_a_wrong_watch_are_dropped(dom0: Dom0, watch: str) -> None:
    domu, other = uuid4(), uuid4()
    guest = dom0.boot(5, domu, uuid4())
    dom0.watch(domu, "w1")
    dom0.watch(other, "w2")
    dom0.keys(domu, b"evil", watch=watch)
    dom0.keys(domu, b"good")
    assert guest.hear(4) == b"good"


def test_the_key_that_leaves_xl_console_does_not_reach_it(dom0: Dom0) -> None:
    domu = uuid4()
    guest = dom0.boot(5, domu, uuid4())
    dom0.watch(domu)
    dom0.keys(domu, b"\x1d", n=1)
    dom0.keys(domu, b"x", n=2)
    assert guest.hear(1) == b"x"
    assert dom0.endings == []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        pytest.param(NoteKind.WATCH, {}, id="empty watch"),
        pytest.param(NoteKind.WATCH, {"domu": "../..", "watch": "w", "seconds": 5}, id="domU is a path"),
        pytest.param(NoteKind.WATCH, {"domu": str(DOM0), "watch": "", "seconds": 5}, id="no watch"),
        pytest.param(NoteKind.WATCH, {"domu": str(DOM0), "watch": "ü", "seconds": 5}, id="watch not ASCII"),
        pytest.param(NoteKind.WATCH, {"domu": str(DOM0), "watch": "w" * 65, "seconds": 5}, id="long watch"),
        pytest.param(NoteKind.WATCH, {"domu": str(DOM0), "watch": 7, "seconds": 5}, id="watch is a number"),
        pytest.param(
            NoteKind.WATCH, {"domu": str(DOM0), "watch": "w", "seconds": "5"}, id="seconds are text"
        ),
        pytest.param(
            NoteKind.WATCH,
            {"domu": str(DOM0), "watch": "w", "seconds": 5, "replay": True},
            id="replay is true",
        ),
        pytest.param(NoteKind.UNWATCH, {"watch": None}, id="unwatch nothing"),
        pytest.param(NoteKind.KEYS, {"domu": str(DOM0), "watch": "w", "n": 1, "data": "?"}, id="not base64"),
        pytest.param(NoteKind.KEYS, {"domu": str(DOM0), "watch": "w", "n": "1", "data": ""}, id="n is text"),
        pytest.param(
            NoteKind.KEYS,
            {"domu": str(DOM0), "watch": "w", "n": 1, "data": "QUFB" * 20_000},
            id="too many keys",
        ),
    ],
)
def test_wrong_note_is_dropped_with_a_word(
    dom0: Dom0, kind: NoteKind, body: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    dom0.consoles.note(Note(DOM0, kind, 0, body))
    assert "wrong body" in caplog.text
    assert dom0.stream.entries == []


def test_guest_that_ends(dom0: Dom0) -> None:
    domu, run = uuid4(), uuid4()
    guest = dom0.boot(5, domu, run)
    dom0.watch(domu)
    guest.say(b"panic: out of tea\r\n")
    guest.die()
    until(lambda: dom0.endings == [(domu, run)])
    detail = {"reason": "crash", "code": 3, "next": "restart", "restart_in": 4}
    dom0.consoles.ended(domu, run, detail)
    until(lambda: dom0.stream.of("ended"))
    assert dom0.stream.kinds() == ["live", "ended"]
    assert json.loads(bytes(dom0.stream.entries[1]["b"])) == detail  # type: ignore[arg-type]
    assert dom0.stream.entries[1]["o"] == 19
    assert dom0.consoles.tail(domu) == "panic: out of tea\n"
    until(lambda: not children())


def test_ended_while_xl_console_is_still_there(dom0: Dom0) -> None:
    domu, run = uuid4(), uuid4()
    guest = dom0.boot(5, domu, run)
    guest.say(b"last words")
    until(lambda: dom0.consoles.tail(domu) == "last words")
    dom0.consoles.ended(domu, run, {"reason": "destroy"})
    assert children() == set()
    assert dom0.endings == []


def test_next_run_follows_for_those_who_watch(dom0: Dom0) -> None:
    domu, first, second = uuid4(), uuid4(), uuid4()
    guest = dom0.boot(5, domu, first)
    dom0.watch(domu)
    guest.say(b"first run")
    until(lambda: dom0.consoles.tail(domu) == "first run")
    guest.die()
    dom0.consoles.ended(domu, first, {"reason": "reboot"})
    guest = dom0.boot(6, domu, second)
    guest.say(b"second run")
    until(lambda: dom0.stream.bytes("live") == b"first runsecond run")
    assert [(entry["k"], entry["r"], entry["o"]) for entry in dom0.stream.entries] == [
        ("live", str(first), 0), ("ended", str(first), 9), ("started", str(second), 0), ("live", str(second), 0),
    ]  # fmt: skip
    assert dom0.consoles.tail(domu) == "second run"


def test_watch_when_nothing_runs_shows_the_last_run(dom0: Dom0) -> None:
    domu, run = uuid4(), uuid4()
    guest = dom0.boot(5, domu, run)
    guest.say(b"bye\n")
    until(lambda: dom0.consoles.tail(domu) == "bye\n")
    guest.die()
    dom0.consoles.ended(domu, run, {"reason": "poweroff", "code": 0})
    dom0.watch(domu, replay=1000)
    until(lambda: dom0.stream.of("absent"))
    assert dom0.stream.kinds() == ["replay", "replayed", "absent"]
    assert json.loads(bytes(dom0.stream.entries[2]["b"])) == {"reason": "poweroff", "code": 0}  # type: ignore[arg-type]


def test_watch_when_nothing_ever_ran(dom0: Dom0) -> None:
    dom0.watch(uuid4(), replay=1000)
    until(lambda: dom0.stream.of("absent"))
    assert [(entry["k"], entry["r"], entry["b"]) for entry in dom0.stream.entries] == [
        ("replayed", "", b""), ("absent", "", b""),
    ]  # fmt: skip


def test_renewing_asks_for_no_replay(dom0: Dom0) -> None:
    domu = uuid4()
    guest = dom0.boot(5, domu, uuid4())
    dom0.watch(domu, replay=0)
    dom0.watch(domu)
    guest.say(b"x")
    until(lambda: dom0.stream.of("live"))
    assert dom0.stream.kinds() == ["replayed", "live"]


def test_console_that_ends_alone_is_opened_again(dom0: Dom0) -> None:
    domu, run = uuid4(), uuid4()
    guest = dom0.boot(5, domu, run)
    dom0.watch(domu)
    guest.say(b"before ")
    until(lambda: dom0.consoles.tail(domu) == "before ")
    guest.hang_up()
    guest.accept()
    assert dom0.endings == [(domu, run)]
    guest.say(b"after")
    until(lambda: dom0.stream.bytes("live") == b"before after")
    dom0.keys(domu, b"k")
    assert guest.hear(1) == b"k"


def test_xl_console_that_was_killed_is_opened_again(dom0: Dom0) -> None:
    domu = uuid4()
    guest = dom0.boot(5, domu, uuid4())
    [pid] = children()
    os.kill(pid, 9)
    guest.accept()
    guest.say(b"again")
    until(lambda: dom0.consoles.tail(domu) == "again")


def test_what_xl_complains_about_is_not_in_the_record(dom0: Dom0) -> None:
    domu = uuid4()
    begun = time.monotonic()
    dom0.consoles.attach(domu, "web1", uuid4(), 99)
    assert time.monotonic() - begun < 6
    until(lambda: dom0.endings)
    assert dom0.consoles.tail(domu) == ""


def test_missing_xl_is_no_crash(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    consoles = Consoles(tmp_path, [str(tmp_path / "no-xl")], lambda entry: None, lambda domu, run: None)
    consoles.attach(uuid4(), "web1", uuid4(), 1)
    consoles.close()
    assert "no-xl cannot be run: No such file or directory" in caplog.text


def test_agent_restart_goes_on_in_the_same_record(dom0: Dom0) -> None:
    domu, run = uuid4(), uuid4()
    guest = dom0.boot(5, domu, run)
    guest.say(b"before ")
    until(lambda: dom0.consoles.tail(domu) == "before ")
    dom0.consoles.close()
    assert children() == set()
    dom0.consoles = dom0.make()
    assert dom0.consoles.tail(domu) == "before "
    dom0.watch(domu, replay=100)
    until(lambda: dom0.stream.of("absent"))
    guest.hang_up()
    dom0.attach(5, domu, run)
    guest.say(b"after")
    until(lambda: dom0.stream.bytes("live") == b"after")
    assert dom0.consoles.tail(domu) == "before after"
    assert [(entry["k"], entry["o"]) for entry in dom0.stream.entries] == [
        ("replay", 0), ("replayed", 7), ("absent", 7), ("started", 7), ("live", 7),
    ]  # fmt: skip


def test_slow_stream_stops_no_guest(dom0: Dom0) -> None:
    domu = uuid4()
    guest = dom0.boot(5, domu, uuid4())
    dom0.stream.gate.clear()
    dom0.watch(domu)
    total = 8 * 1024 * 1024
    for _ in range(total // 65536):
        guest.say(b"y" * 65536)
    record = until(lambda: dom0.consoles._last(domu))
    until(lambda: record.end == total)
    dom0.stream.gate.set()
    until(lambda: dom0.stream.entries and dom0.stream.entries[-1]["o"] + 65536 >= total)  # type: ignore[operator]
    assert len(dom0.stream.bytes("live")) < total
    offsets = [int(entry["o"]) for entry in dom0.stream.entries]
    assert offsets == sorted(offsets)


def test_stream_that_fails_is_tried_again(dom0: Dom0) -> None:
    domu = uuid4()
    guest = dom0.boot(5, domu, uuid4())
    dom0.watch(domu)
    dom0.stream.fails = True
    guest.say(b"not lost")
    until(lambda: dom0.consoles.tail(domu) == "not lost")
    dom0.stream.fails = False
    until(lambda: dom0.stream.bytes("live") == b"not lost")


def test_guest_that_does_not_read_stops_nothing(dom0: Dom0) -> None:
    deaf, other = uuid4(), uuid4()
    dom0.boot(5, deaf, uuid4())
    guest = dom0.boot(6, other, uuid4())
    dom0.watch(deaf, "w1")
    dom0.watch(other, "w2")
    begun = time.monotonic()
    for n in range(100):
        dom0.keys(deaf, b"z" * 32_000, n=n)
    assert time.monotonic() - begun < 5
    dom0.keys(other, b"fine", watch="w2")
    assert guest.hear(4) == b"fine"


def test_forget_leaves_nothing(dom0: Dom0, tmp_path: Path) -> None:
    domu = uuid4()
    guest = dom0.boot(5, domu, uuid4())
    guest.say(b"secret")
    until(lambda: dom0.consoles.tail(domu) == "secret")
    dom0.consoles.forget(domu)
    assert children() == set()
    assert list((tmp_path / "consoles").iterdir()) == []
    assert dom0.consoles.tail(domu) == ""
    dom0.consoles.forget(domu)


def test_close_ends_every_child_also_one_that_ignores_it(tmp_path: Path) -> None:
    script = tmp_path / "xl"
    script.write_text("#!/bin/sh\ntrap '' TERM HUP\necho up\nwhile :; do sleep 0.1; done\n")
    script.chmod(0o700)
    consoles = Consoles(tmp_path / "c", [str(script)], lambda entry: None, lambda domu, run: None)
    domu = uuid4()
    waiting = threading.Thread(target=consoles.attach, args=(domu, "web1", uuid4(), 1))
    waiting.start()
    until(lambda: "up" in consoles.tail(domu))
    consoles.close()
    waiting.join()
    assert children() == set()


def test_more_consoles_cost_no_more_threads(dom0: Dom0) -> None:
    before = threading.active_count()
    for n in range(1, 13):
        dom0.boot(n, uuid4(), uuid4())
    assert threading.active_count() == before
