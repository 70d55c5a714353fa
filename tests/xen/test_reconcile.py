from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vps.xen.endings import EndReason
from vps.xen.messages import Verb
from vps.xen.reconcile import (
    CRASH_PAUSES,
    CRASH_WINDOW,
    HASTY_REBOOTS,
    HASTY_WINDOW,
    Look,
    Next,
    NextStep,
    Observed,
    Phase,
    Seen,
    Status,
    Wanted,
    after_end,
    observe,
    observe_end,
    status_word,
)
from vps.xen.xlparse import DomainState

RUNNING = Seen(Observed.RUNNING, 100)
GONE = Seen(Observed.GONE, 100)


def test_every_state_of_a_domain_can_be_observed() -> None:
    assert {state.value for state in DomainState} | {"gone"} == {state.value for state in Observed}


@pytest.mark.parametrize(
    ("before", "look", "after"),
    [
        pytest.param(None, Look(200, None), Seen(Observed.GONE, 200), id="never seen, not there"),
        pytest.param(None, Look(200, Observed.PAUSED), Seen(Observed.PAUSED, 200), id="first seen"),
        pytest.param(None, Look(200, None, xen=False), None, id="never seen, no Xen"),
        pytest.param(RUNNING, Look(200, Observed.RUNNING), Seen(Observed.RUNNING, 200), id="seen again"),
        pytest.param(RUNNING, Look(200, Observed.UNKNOWN), Seen(Observed.UNKNOWN, 200), id="unknown state"),
        pytest.param(RUNNING, Look(200, None), Seen(Observed.RUNNING, 100, 200), id="absent once"),
        pytest.param(
            Seen(Observed.RUNNING, 100, 200), Look(300, None), Seen(Observed.GONE, 300), id="absent twice"
        ),
        pytest.param(
            Seen(Observed.RUNNING, 100, 200),
            Look(200, None),
            Seen(Observed.RUNNING, 100, 200),
            id="same again",
        ),
        pytest.param(
            Seen(Observed.RUNNING, 100, 200),
            Look(150, None),
            Seen(Observed.RUNNING, 100, 200),
            id="an older one does not agree",
        ),
        pytest.param(
            Seen(Observed.RUNNING, 100, 200),
            Look(300, Observed.RUNNING),
            Seen(Observed.RUNNING, 300),
            id="there after all",
        ),
        pytest.param(
            Seen(Observed.RUNNING, 100, 200),
            Look(300, None, xen=False),
            Seen(Observed.RUNNING, 100, 200),
            id="no Xen between",
        ),
        pytest.param(RUNNING, Look(200, None, xen=False), RUNNING, id="no Xen"),
        pytest.param(RUNNING, Look(50, Observed.PAUSED), RUNNING, id="late"),
        pytest.param(RUNNING, Look(100, None), RUNNING, id="of the same moment"),
        pytest.param(GONE, Look(200, None), Seen(Observed.GONE, 200), id="still gone"),
        pytest.param(GONE, Look(200, Observed.RUNNING), Seen(Observed.RUNNING, 200), id="back"),
    ],
)
def test_observe(before: Seen | None, look: Look, after: Seen | None) -> None:
    assert observe(before, look) == after


def test_reported_end_is_certain_at_once_but_not_when_it_is_old() -> None:
    assert observe_end(RUNNING, 150) == Seen(Observed.GONE, 150)
    assert observe_end(None, 150) == Seen(Observed.GONE, 150)
    assert observe_end(RUNNING, 50) == RUNNING
    assert observe(observe_end(RUNNING, 150), Look(120, Observed.RUNNING)) == Seen(Observed.GONE, 150)


STATES = st.none() | st.sampled_from([state for state in Observed if state is not Observed.GONE])
LOOKS = st.lists(st.builds(Look, st.integers(1, 50), STATES, st.booleans()), max_size=12)


@given(LOOKS)
def test_gone_only_when_two_in_a_row_agree(looks: list[Look]) -> None:
    seen: Seen | None = None
    absent: set[int] = set()
    for look in looks:
        before, seen = seen, observe(seen, look)
        if seen is before:
            continue
        absent = absent | {look.at} if look.state is None else set()
        assert look.xen
        if seen is not None and seen.state is Observed.GONE and before is not None:
            assert before.state is Observed.GONE or len(absent) >= 2


@given(LOOKS)
def test_time_never_goes_back_and_without_xen_nothing_changes(looks: list[Look]) -> None:
    seen: Seen | None = None
    for look in looks:
        before, seen = seen, observe(seen, look)
        if not look.xen:
            assert seen == before
        if before is not None:
            assert seen is not None
            assert seen.at >= before.at
            assert observe(seen, look) == seen


def _word(**changes: Any) -> Status:
    facts: dict[str, Any] = {"wanted": Wanted.RUNNING, "seen": RUNNING, "heard": True}
    return status_word(**{**facts, **changes})


def seen(state: str) -> Seen:
    return Seen(Observed(state), 100)


STOPPED = {"wanted": Wanted.STOPPED}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "running"),
        ({"seen": seen("paused")}, "paused"),
        ({"seen": seen("crashed")}, "crashed"),
        ({"seen": seen("shutdown")}, "stopping"),
        ({"seen": seen("dying")}, "stopping"),
        ({"seen": seen("unknown")}, "unknown"),
        ({"seen": Seen(Observed.RUNNING, 100, 200)}, "running"),
        ({"seen": GONE}, "gone_wrong"),
        ({"seen": None}, "unknown"),
        ({"seen": GONE, **STOPPED}, "stopped"),
        ({"seen": None, **STOPPED}, "stopped"),
        ({**STOPPED}, "running"),
        ({"seen": GONE, "phase": Phase.LIMIT}, "crashed"),
        ({"seen": GONE, "phase": Phase.RESTARTING}, "rebooting"),
        ({"seen": GONE, "phase": Phase.STARTING}, "starting"),
        ({"seen": seen("paused"), "phase": Phase.STARTING}, "starting"),
        ({"seen": GONE, "phase": Phase.STOPPING, **STOPPED}, "stopping"),
        ({"phase": Phase.LIMIT}, "running"),
        ({"operation": Verb.START, "seen": GONE}, "starting"),
        ({"operation": Verb.SHUTDOWN}, "stopping"),
        ({"operation": Verb.DESTROY}, "stopping"),
        ({"operation": Verb.REBOOT}, "rebooting"),
        ({"operation": Verb.DELETE}, "deleting"),
        ({"operation": Verb.PAUSE}, "running"),
        ({"operation": Verb.UNPAUSE, "seen": seen("paused")}, "paused"),
        ({"operation": Verb.PREPARE}, "running"),
        ({"operation": Verb.PREPARE, "prepared": False, "seen": None, **STOPPED}, "provisioning"),
        ({"prepared": False, "seen": GONE, **STOPPED}, "unfinished"),
        ({"prepared": False}, "running"),
        ({"heard": False}, "not_heard"),
        ({"heard": False, "operation": Verb.START}, "not_heard"),
        ({"xen": False}, "unknown"),
        ({"xen": False, "seen": GONE, **STOPPED}, "unknown"),
        ({"xen": False, "operation": Verb.START}, "starting"),
        ({"placed": False, "heard": False, "seen": None}, "waiting"),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(map(str, value.values())) or "all well",
)
def test_word(changes: dict[str, Any], word: str) -> None:
    assert _word(**changes) is Status(word)


def test_every_combination_has_a_word_and_every_word_occurs() -> None:
    sights = [None, *(Seen(state, 100) for state in Observed)]
    flags = (True, False)
    words = {
        status_word(
            wanted=wanted,
            seen=sight,
            heard=heard,
            operation=verb,
            phase=phase,
            xen=xen,
            placed=placed,
            prepared=prepared,
        )
        for wanted, sight, heard, verb, phase, xen, placed, prepared in itertools.product(
            Wanted, sights, flags, [None, *Verb], Phase, flags, flags, flags
        )
    }
    assert words == set(Status)


def test_silence_is_never_called_stopped() -> None:
    for sight, wanted in itertools.product([None, GONE, RUNNING], Wanted):
        assert _word(seen=sight, wanted=wanted, heard=False) is Status.NOT_HEARD
        assert _word(seen=sight, wanted=wanted, xen=False) is Status.UNKNOWN


@pytest.mark.parametrize(
    ("reason", "wanted", "crashes", "limit", "expected"),
    [
        ("poweroff", "running", [], 5, Next(NextStep.STOPPED)),
        ("poweroff", "stopped", [], 5, Next(NextStep.STOPPED)),
        ("reboot", "running", [], 5, Next(NextStep.REBUILD)),
        ("reboot", "running", [999.0] * 9, 0, Next(NextStep.REBUILD)),
        ("reboot", "stopped", [], 5, Next(NextStep.STOPPED)),
        ("crash", "stopped", [], 5, Next(NextStep.STOPPED)),
        ("unknown", "stopped", [], 5, Next(NextStep.STOPPED)),
        ("destroy", "running", [], 5, Next(NextStep.STOPPED)),
        ("crash", "running", [], 5, Next(NextStep.RESTART, 1)),
        ("crash", "running", [999.0], 5, Next(NextStep.RESTART, 5)),
        ("crash", "running", [999.0] * 2, 5, Next(NextStep.RESTART, 30)),
        ("crash", "running", [999.0] * 3, 5, Next(NextStep.RESTART, 120)),
        ("crash", "running", [999.0] * 4, 5, Next(NextStep.RESTART, 600)),
        ("crash", "running", [999.0] * 5, 5, Next(NextStep.LIMIT)),
        ("crash", "running", [999.0] * 9, 1000, Next(NextStep.RESTART, 600)),
        ("crash", "running", [], 0, Next(NextStep.LIMIT)),
        ("crash", "running", [1000.0 - CRASH_WINDOW] * 9, 5, Next(NextStep.RESTART, 1)),
        ("crash", "running", [1001.0 - CRASH_WINDOW] * 5, 5, Next(NextStep.LIMIT)),
        ("crash", "running", [2000.0], 5, Next(NextStep.RESTART, 5)),
        ("unknown", "running", [], 5, Next(NextStep.RESTART, 1)),
        ("unknown", "running", [999.0] * 5, 5, Next(NextStep.LIMIT)),
    ],
)
def test_what_follows_an_end(
    reason: str, wanted: str, crashes: list[float], limit: int, expected: Next
) -> None:
    assert after_end(EndReason(reason), Wanted(wanted), crashes, limit, 1000.0) == expected


@pytest.mark.parametrize(
    ("earlier", "ago", "seconds"),
    [
        (0, 1, 0),
        (HASTY_REBOOTS - 1, 1, 0),
        (HASTY_REBOOTS, 1, 1),
        (HASTY_REBOOTS + 1, 1, 5),
        (HASTY_REBOOTS + 99, 1, 600),
        (HASTY_REBOOTS, HASTY_WINDOW, 0),
    ],
)
def test_reboots_in_a_loop_get_a_brake(earlier: int, ago: int, seconds: int) -> None:
    times = [1000.0 - ago] * earlier
    step = after_end(EndReason.REBOOT, Wanted.RUNNING, [], 5, 1000.0, times)
    assert step == Next(NextStep.REBUILD, seconds)


@given(
    st.sampled_from(EndReason),
    st.lists(st.floats(0, 10_000), max_size=30),
    st.integers(0, 40),
    st.floats(0, 10_000),
)
def test_nothing_is_restarted_beyond_its_limit(
    reason: EndReason, crashes: list[float], limit: int, now: float
) -> None:
    step = after_end(reason, Wanted.RUNNING, crashes, limit, now)
    recent = sum(now - time < CRASH_WINDOW for time in crashes)
    if step.step is NextStep.RESTART:
        assert recent < limit
        assert step.seconds in CRASH_PAUSES
    if step.step is NextStep.LIMIT:
        assert recent >= limit
    assert after_end(reason, Wanted.STOPPED, crashes, limit, now) == Next(NextStep.STOPPED)


@pytest.mark.parametrize("run_seconds", [0.1, 5.0, 60.0, 400.0])
def test_server_that_always_crashes_comes_to_its_limit(run_seconds: float) -> None:
    now, crashes, restarts = 0.0, [], 0
    while True:
        now += run_seconds
        step = after_end(EndReason.CRASH, Wanted.RUNNING, crashes, 5, now)
        crashes.append(now)
        if step.step is NextStep.LIMIT:
            break
        restarts += 1
        now += step.seconds
    assert restarts == 5
