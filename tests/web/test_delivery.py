"""The door out and the sweep, with a real Redis: sealed once, sent again, given up, admitted again."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest
import redis
from django.core.management import call_command
from django.utils import timezone

from accounts.models import User
from tests.conftest import RedisServer
from tests.web.world import Mouth, make_dom0, make_domu
from vps import collector, dispatch
from vps.models import Dom0, Domu, Event, Operation
from vps.models.operation import State
from vps.redis import admit, admit_missing, client, now_ms
from vps.signing import signing_key
from vps.sweep import sweep
from vps.xen.messages import Channels, NoteKind, Report, ReportKind, TrustedKeys, Verb, redis_user

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("web_redis")]


@pytest.fixture
def dom0() -> Dom0:
    dom0 = make_dom0()
    admit(dom0)
    Mouth(dom0).inventory({})
    dom0.refresh_from_db()
    return dom0


@pytest.fixture
def domu(dom0: Dom0) -> Domu:
    return make_domu(dom0)


def queued(dom0: Dom0) -> list[str]:
    """The envelopes on a dom0's queue, oldest first."""
    found = []
    for raw in reversed(client().lrange(Channels(dom0.pk).orders, 0, -1)):
        message = json.loads(raw)
        assert message["headers"]["task"] == "order"
        found.append(json.loads(base64.b64decode(message["body"]))[0][0])
    return found


def test_an_order_is_sealed_once_and_sent_again_to_the_letter(dom0: Dom0, domu: Domu) -> None:
    row = domu.order(Verb.DESTROY, None, "because")
    row.refresh_from_db()
    assert (row.state, row.tries) == (State.SENT, 1)
    assert dispatch.send(row)
    first, second = queued(dom0)
    assert first == second
    order = TrustedKeys([signing_key().public_text()]).order(first, dom0.pk)
    assert (order.operation, order.verb, order.domu) == (row.pk, Verb.DESTROY, domu.pk)
    assert order.generation.as_list() == [row.epoch, row.n]
    assert order.body["domu"]["name"] == "web1"
    assert 0 < order.not_after - now_ms() <= 900_000


def test_redis_away_leaves_it_queued_and_the_sweep_sends_it(
    dom0: Dom0, domu: Domu, settings: object, redis_server: RedisServer
) -> None:
    settings.BERTH_REDIS_URL = "redis://127.0.0.1:1/0"  # type: ignore[attr-defined]
    client.cache_clear()
    dispatch._bell.cache_clear()
    row = domu.order(Verb.DESTROY, None)
    row.refresh_from_db()
    assert (row.state, row.envelope) == (State.QUEUED, "")
    with pytest.raises(redis.RedisError):
        sweep()
    settings.BERTH_REDIS_URL = redis_server.url  # type: ignore[attr-defined]
    client.cache_clear()
    dispatch._bell.cache_clear()
    assert sweep()["sent"] == 1
    row.refresh_from_db()
    assert row.state == State.SENT


def test_what_could_not_be_put_on_the_queue_is_queued_and_sent_to_the_letter(
    dom0: Dom0, domu: Domu, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(dispatch, "ring", _away)
        row = domu.order(Verb.DESTROY, None)
    row.refresh_from_db()
    assert row.state == State.QUEUED and queued(dom0) == []
    assert sweep()["sent"] == 1
    assert queued(dom0) == [row.envelope]
    row.refresh_from_db()
    assert row.state == State.SENT


def test_a_web_that_dies_between_commit_and_sending_loses_nothing(
    dom0: Dom0, domu: Domu, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(row: Operation) -> None:
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(dispatch, "send_new", die)
        domu.order(Verb.DESTROY, None)
    assert sweep()["sent"] == 0 and queued(dom0) == []
    Operation.objects.update(sent_at=timezone.now() - timedelta(seconds=11))
    assert sweep()["sent"] == 1
    assert queued(dom0) == [Operation.objects.get().envelope]


def test_nobody_accepted_it_so_it_is_sent_again(dom0: Dom0, domu: Domu) -> None:
    row = domu.order(Verb.DESTROY, None)
    assert sweep()["sent"] == 0
    Operation.objects.update(sent_at=timezone.now() - timedelta(seconds=11))
    assert sweep()["sent"] == 1
    assert len(queued(dom0)) == 2
    row.refresh_from_db()
    assert row.tries == 2


def test_silence_after_acceptance_is_asked_about(dom0: Dom0, domu: Domu) -> None:
    row = domu.order(Verb.DESTROY, None)
    Mouth(dom0).outcome(row, "running")
    assert sweep()["sent"] == 0
    past = timezone.now() - timedelta(seconds=61)
    Operation.objects.update(sent_at=past, heard_at=past)
    assert sweep()["sent"] == 1
    row.refresh_from_db()
    assert row.state == State.RUNNING


def test_what_was_not_taken_in_time_is_lost(dom0: Dom0, domu: Domu) -> None:
    Domu.objects.update(wanted="running")
    row = domu.order(Verb.DESTROY, None)
    Operation.objects.update(not_after=now_ms() - 20_000)
    assert sweep()["lost"] == 0, "there is a grace of 30 s"
    Operation.objects.update(not_after=now_ms() - 31_000)
    assert sweep()["lost"] == 1
    row.refresh_from_db()
    assert row.state == State.LOST
    assert "did not take the order in time" in row.error_text
    assert Domu.objects.get(pk=domu.pk).wanted == "running"
    assert Event.objects.filter(kind="operation.lost").count() == 1


@pytest.mark.parametrize("how", ["cancelled", "given up"])
def test_that_it_is_to_be_left_is_said_until_the_dom0_answers(dom0: Dom0, domu: Domu, how: str) -> None:
    """Redis lost the order and the asking: it is asked again, and the order that nobody wants any more never comes."""
    operator = User.objects.create_user("op@example.org", is_operator=True)
    row = domu.order(Verb.DESTROY, None)
    row.refresh_from_db()
    if how == "cancelled":
        domu.cancel(row, operator)
    else:
        row.give_up(operator, "")
    client().flushall()
    admit(dom0)
    Operation.objects.filter(pk=row.pk).update(sent_at=timezone.now() - timedelta(minutes=2))
    Dom0.objects.filter(pk=dom0.pk).update(heard_at=timezone.now())
    sweep()
    (envelope,) = queued(dom0)
    order = TrustedKeys([signing_key().public_text()]).order(envelope, dom0.pk)
    assert (order.verb, order.operation) == (Verb.CANCEL, row.pk)
    sweep()
    assert len(queued(dom0)) == 1, "not with each sweep"
    Mouth(dom0).outcome(row, "cancelled", remains="Nothing was done.")
    row.refresh_from_db()
    assert row.state == State.CANCELLED
    Operation.objects.filter(pk=row.pk).update(sent_at=timezone.now() - timedelta(minutes=2))
    sweep()
    assert len(queued(dom0)) == 1, "it has answered"


def test_what_is_cancelled_while_it_is_being_sealed_is_not_sent(
    dom0: Dom0, domu: Domu, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(dispatch, "now_ms", _away)
        row = domu.order(Verb.DESTROY, None)

    def meanwhile() -> None:
        domu.cancel(row, None)

    monkeypatch.setattr(
        dispatch, "head", meanwhile
    )  # is asked for between the look at the row and the sealing
    assert not dispatch.send(row)
    assert queued(dom0) == []
    row.refresh_from_db()
    assert (row.state, row.envelope) == (State.CANCELLED, "")


def test_cancel_before_it_is_sent_and_after(dom0: Dom0, domu: Domu, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(dispatch, "ring", _away)
        patch.setattr(dispatch, "now_ms", _away)
        row = domu.order(Verb.DESTROY, None)
        domu.cancel(row, None)
    row.refresh_from_db()
    assert (row.state, row.remains) == (State.CANCELLED, "Nothing was done.")
    second = domu.order(Verb.DESTROY, None)
    domu.cancel(second, None)
    verbs = [TrustedKeys([signing_key().public_text()]).order(text, dom0.pk).verb for text in queued(dom0)]
    assert verbs == [Verb.DESTROY, Verb.CANCEL]
    second.refresh_from_db()
    assert second.state == State.SENT, "the dom0 says what became of it"


def _away(*args: object) -> None:
    raise redis.ConnectionError("away")


def test_redis_that_lost_its_users_gets_them_again(dom0: Dom0, redis_server: RedisServer) -> None:
    assert admit_missing([dom0]) == []
    client().flushall()
    client().acl_deluser(redis_user(dom0.pk))
    assert sweep()["admitted"] == 1
    agent = redis.Redis(port=redis_server.port, username=redis_user(dom0.pk), password="s3cret")
    agent.xadd(Channels(dom0.pk).out, {"r": "x"})
    agent.close()


def test_an_agent_touches_nothing_but_its_own(dom0: Dom0, redis_server: RedisServer) -> None:
    other = make_dom0("dom0-b", "other")
    admit(other)
    agent = redis.Redis(port=redis_server.port, username=redis_user(dom0.pk), password="s3cret")
    theirs, own = Channels(other.pk), Channels(dom0.pk)
    forbidden = [
        ("XADD", theirs.out, "*", "r", "x"),
        ("LLEN", theirs.orders),
        ("BLMOVE", theirs.orders, own.taken, "RIGHT", "LEFT", "0.1"),
        ("LMOVE", own.taken, theirs.orders, "RIGHT", "LEFT"),
        ("BRPOP", theirs.line, "0.1"),
        ("RPOP", "web:web"),
        ("GET", "anything"),
        ("SET", own.out, "x"),
        ("DEL", own.out),
        ("LPUSH", own.orders, "x"),
        ("XREAD", "STREAMS", own.out, "0"),
        ("KEYS", "*"),
        ("EVAL", "return 1", "0"),
        ("PUBLISH", "x", "y"),
        ("SUBSCRIBE", "x"),
        ("ACL", "LIST"),
        ("CONFIG", "GET", "*"),
        ("FLUSHALL",),
    ]
    for command in forbidden:
        with pytest.raises(redis.exceptions.NoPermissionError):
            agent.execute_command(*command)
    assert agent.execute_command("PING")
    agent.close()


def test_reports_are_collected_cut_off_and_acknowledged(dom0: Dom0, domu: Domu) -> None:
    row = domu.order(Verb.DESTROY, None)
    mouth = Mouth(dom0)
    body = {"operation": str(row.pk), "domu": str(domu.pk), "outcome": "accepted", "generation": [1, 1]}
    for seq in (1, 2, 2):
        text = Report(dom0.pk, mouth.journal, seq, ReportKind.OPERATION, 5, body).as_text()
        client().xadd(Channels(dom0.pk).out, {"r": text})
    assert collector.round_of_reports(10) == 3
    assert client().xlen(Channels(dom0.pk).out) == 0
    row.refresh_from_db()
    assert row.state == State.ACCEPTED
    sealed = client().rpop(Channels(dom0.pk).line)
    note = TrustedKeys([signing_key().public_text()]).note(sealed.decode(), dom0.pk)
    assert note.kind is NoteKind.ACKNOWLEDGE
    assert note.body == {"journal": str(mouth.journal), "seq": 2}
    assert collector.round_of_reports(10) == 0


def test_a_report_that_redis_lost_is_asked_for_and_nothing_after_it_is_acknowledged(
    dom0: Dom0, domu: Domu
) -> None:
    row = domu.order(Verb.DESTROY, None)
    mouth, channels = Mouth(dom0), Channels(dom0.pk)

    def send(seq: int, outcome: str) -> None:
        body = {"operation": str(row.pk), "domu": str(domu.pk), "outcome": outcome, "generation": [1, 1]}
        told = Report(dom0.pk, mouth.journal, seq, ReportKind.OPERATION, 5, body, 1)
        client().xadd(channels.out, {"r": told.as_text()})

    def told() -> dict[str, object]:
        sealed = client().rpop(channels.line).decode()
        return dict(TrustedKeys([signing_key().public_text()]).note(sealed, dom0.pk).body)

    send(1, "accepted")
    client().flushall()  # before anybody read it; the agent's connection notices nothing
    admit(dom0)
    send(2, "done")
    collector.round_of_reports(10)
    assert told() == {"journal": str(mouth.journal), "seq": 0, "missing": True}
    row.refresh_from_db()
    assert row.state == State.SENT
    send(1, "accepted")
    send(2, "done")
    collector.round_of_reports(10)
    assert told() == {"journal": str(mouth.journal), "seq": 2}
    row.refresh_from_db()
    assert row.state == State.DONE


def test_an_agent_that_spoils_its_stream_hurts_itself_only(dom0: Dom0, domu: Domu) -> None:
    other = make_dom0("dom0-b")
    admit(other)
    client().delete(Channels(other.pk).out)
    client().lpush(Channels(other.pk).out, "a list")
    row = domu.order(Verb.DESTROY, None)
    body = {"operation": str(row.pk), "domu": str(domu.pk), "outcome": "accepted", "generation": [1, 1]}
    text = Report(dom0.pk, Mouth(dom0).journal, 1, ReportKind.OPERATION, 5, body).as_text()
    client().xadd(Channels(dom0.pk).out, {"r": text})
    assert collector.round_of_reports(10) == 1
    row.refresh_from_db()
    assert row.state == State.ACCEPTED
    assert sweep()["admitted"] == 1
    assert client().type(Channels(other.pk).out) == b"stream"


def test_enrolling_writes_a_configuration_once(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "agent.toml"
    call_command("enrol_dom0", "sim", "--simulated", "--state-dir", str(tmp_path / "sim"), "--out", str(out))
    import tomllib

    config = tomllib.loads(out.read_text())
    dom0 = Dom0.objects.get(name="sim")
    assert config["dom0"] == str(dom0.pk)
    assert dom0.secret_sha256 == Dom0.digest(config["secret"])
    assert config["simulated"] is True
    assert out.stat().st_mode & 0o777 == 0o600
    before = out.read_text()
    call_command("enrol_dom0", "sim", "--simulated", "--state-dir", str(tmp_path / "sim"), "--out", str(out))
    assert out.read_text() == before
    assert "already" in capsys.readouterr().out
