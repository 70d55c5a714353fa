from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xen_samples import DOM0, DOMU, NETBSD_DOMU, OTHER_DOM0

from vps.xen.description import Description
from vps.xen.messages import (
    MAX_ENVELOPE,
    SCHEMA,
    Channels,
    Generation,
    Head,
    MessageRefused,
    Note,
    NoteKind,
    Order,
    Report,
    ReportKind,
    SigningKey,
    TrustedKeys,
    Verb,
    canonical,
    key_id,
    redis_user,
)

KEY = SigningKey.of(bytes(range(32)))
OTHER_KEY = SigningKey.of(bytes(range(1, 33)))
TRUSTED = TrustedKeys([KEY.public_text()])
OPERATION = UUID("0192f0c0-0000-7000-8000-000000000099")
ORDER = Order(
    operation=OPERATION,
    dom0=DOM0,
    domu=DOMU,
    verb=Verb.START,
    generation=Generation(1, 12),
    not_after=1_790_000_000_000,
    body={"domu": NETBSD_DOMU.as_dict(), "reason": "asked by the owner"},
    request_id="r-1",
)
NOTE = Note(DOM0, NoteKind.KEYS, 1_790_000_000_000, {"domu": str(DOMU), "watch": "w", "n": 1, "data": "bHMK"})
REPORT = Report(DOM0, OPERATION, 4, ReportKind.ENDED, 1_790_000_000_000, {"domu": str(DOMU), "code": 0})

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
BODIES = st.dictionaries(st.text(), JSON, max_size=5)


def test_order_comes_through_whole() -> None:
    order = TRUSTED.order(KEY.seal(ORDER), DOM0)
    assert order == ORDER
    assert Description.of(order.body["domu"]) == NETBSD_DOMU


def test_order_without_a_domu_comes_through() -> None:
    order = Order(OPERATION, DOM0, None, Verb.CANCEL, Generation(1, 0), 1, {"operation": str(OPERATION)})
    assert TRUSTED.order(KEY.seal(order), DOM0) == order


def test_note_and_report_come_through() -> None:
    assert TRUSTED.note(KEY.seal(NOTE), DOM0) == NOTE
    assert Report.parse(REPORT.as_text()) == REPORT


@given(BODIES)
def test_any_body_comes_through(body: dict[str, Any]) -> None:
    order = Order(OPERATION, DOM0, DOMU, Verb.PREPARE, Generation(0, 0), 0, body)
    sealed = KEY.seal(order)
    assert sealed.isascii()
    assert TRUSTED.order(sealed, DOM0) == order


def test_nan_is_not_sent() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical({"seconds": float("nan")})


TAMPERED: dict[str, Any] = {
    "v": 2,
    "operation": "0192f0c0-0000-7000-8000-000000000098",
    "dom0": str(OTHER_DOM0),
    "domu": "0192f0c0-0000-7000-8000-000000000002",
    "verb": "destroy",
    "generation": [1, 13],
    "not_after": 1_890_000_000_000,
    "body": {},
    "request_id": "r-2",
    "kid": OTHER_KEY.kid,
}


def test_every_field_of_an_order_is_tampered_with() -> None:
    _, _, text = KEY.seal(ORDER).partition(".")
    assert set(TAMPERED) == set(json.loads(text))


@pytest.mark.parametrize("field", sorted(TAMPERED))
def test_changed_field_breaks_the_signature(field: str) -> None:
    signature, _, text = KEY.seal(ORDER).partition(".")
    changed = canonical({**json.loads(text), field: TAMPERED[field]})
    both = TrustedKeys([KEY.public_text(), OTHER_KEY.public_text()])
    with pytest.raises(MessageRefused, match="signature"):
        both.open(f"{signature}.{changed}")


@given(st.data())
def test_one_changed_character_is_refused(data: st.DataObject) -> None:
    sealed = KEY.seal(NOTE)
    place = data.draw(st.integers(0, len(sealed) - 1))
    character = data.draw(st.characters(exclude_characters=sealed[place]))
    changed = sealed[:place] + character + sealed[place + 1 :]
    try:
        note = TRUSTED.note(changed, DOM0)
    except MessageRefused:
        return
    # The last character of base64 has unused bits: the signature is then the same bytes.
    assert note == NOTE
    assert _signature_bytes(changed) == _signature_bytes(sealed)


def _signature_bytes(envelope: str) -> bytes:
    return base64.b64decode(envelope.partition(".")[0])


@given(st.text(max_size=200))
def test_no_text_is_taken_for_an_envelope(text: str) -> None:
    with pytest.raises(MessageRefused):
        TRUSTED.open(text)


@given(st.text(max_size=200) | JSON.map(lambda value: json.dumps(value)))
def test_no_text_is_taken_for_a_report(text: str) -> None:
    with pytest.raises(MessageRefused):
        Report.parse(text)


def test_other_key_is_refused_by_name() -> None:
    with pytest.raises(MessageRefused, match=OTHER_KEY.kid):
        TRUSTED.open(OTHER_KEY.seal(ORDER))


def test_other_key_under_a_trusted_name_is_refused() -> None:
    text = canonical({**ORDER.as_dict(), "kid": KEY.kid})
    signature, _, _ = OTHER_KEY.seal(ORDER).partition(".")
    with pytest.raises(MessageRefused, match="signature"):
        TRUSTED.open(f"{signature}.{text}")


def test_signature_of_another_message_is_refused() -> None:
    signature, _, _ = KEY.seal(ORDER).partition(".")
    _, _, text = KEY.seal(NOTE).partition(".")
    with pytest.raises(MessageRefused, match="signature"):
        TRUSTED.open(f"{signature}.{text}")


def test_two_keys_are_trusted_while_keys_are_rolled() -> None:
    both = TrustedKeys([KEY.public_text(), OTHER_KEY.public_text()])
    assert both.order(KEY.seal(ORDER), DOM0) == both.order(OTHER_KEY.seal(ORDER), DOM0)


def test_other_dom0_is_refused() -> None:
    with pytest.raises(MessageRefused, match=str(DOM0)):
        TRUSTED.order(KEY.seal(ORDER), OTHER_DOM0)
    with pytest.raises(MessageRefused, match=str(DOM0)):
        TRUSTED.note(KEY.seal(NOTE), OTHER_DOM0)


def test_note_is_no_order_and_order_is_no_note() -> None:
    with pytest.raises(MessageRefused):
        TRUSTED.order(KEY.seal(NOTE), DOM0)
    with pytest.raises(MessageRefused):
        TRUSTED.note(KEY.seal(ORDER), DOM0)


def test_huge_envelope_is_refused_before_it_is_read() -> None:
    order = Order(OPERATION, DOM0, DOMU, Verb.START, Generation(0, 0), 0, {"x": "y" * MAX_ENVELOPE})
    with pytest.raises(MessageRefused, match="too long"):
        TRUSTED.open(KEY.seal(order))


@pytest.mark.parametrize(
    "envelope",
    [
        pytest.param("", id="empty"),
        pytest.param("{}", id="no signature"),
        pytest.param(".", id="nothing on both sides"),
        pytest.param("AAAA.not json", id="no JSON"),
        pytest.param("AAAA.[1,2]", id="a list"),
        pytest.param("AAAA.null", id="null"),
        pytest.param("AAAA." + "[" * 100_000, id="deep"),
        pytest.param('AAAA.{"kid":["x"]}', id="kid is a list"),
        pytest.param(f'AAAA.{{"kid":"{KEY.kid}"}}', id="short signature"),
        pytest.param(f'\xe9.{{"kid":"{KEY.kid}"}}', id="signature is no base64"),
        pytest.param(f'AAAA.{{"kid":"{KEY.kid}","x":"\ud800"}}', id="half a character"),
    ],
)
def test_rubbish_is_refused(envelope: str) -> None:
    with pytest.raises(MessageRefused):
        TRUSTED.open(envelope)


def test_bytes_are_refused() -> None:
    with pytest.raises(MessageRefused):
        TRUSTED.open(KEY.seal(NOTE).encode())  # type: ignore[arg-type]


def _signed(value: dict[str, Any]) -> str:
    """An envelope of any content under the trusted key."""

    class Raw:
        def as_dict(self) -> dict[str, Any]:
            return value

    return KEY.seal(Raw())  # type: ignore[arg-type]


BAD_FIELDS: list[tuple[str, Any]] = [
    ("v", 2),
    ("v", None),
    ("v", "1"),
    ("operation", "no uuid"),
    ("operation", 7),
    ("operation", None),
    ("dom0", ["x"]),
    ("domu", ""),
    ("domu", {}),
    ("verb", "rm"),
    ("verb", "START"),
    ("verb", None),
    ("verb", ["start"]),
    ("generation", 12),
    ("generation", [1]),
    ("generation", [1, 2, 3]),
    ("generation", [1, -1]),
    ("generation", [True, 1]),
    ("generation", [1, 1.5]),
    ("generation", [1, 2**63]),
    ("generation", "11"),
    ("not_after", "soon"),
    ("not_after", -1),
    ("not_after", True),
    ("not_after", 1.5),
    ("not_after", 10**30),
    ("body", None),
    ("body", []),
    ("body", "x"),
]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS, ids=[f"{f}={v!r:.20}" for f, v in BAD_FIELDS])
def test_signed_order_of_the_wrong_form_is_refused(field: str, value: Any) -> None:
    with pytest.raises(MessageRefused):
        TRUSTED.order(_signed({**ORDER.as_dict(), field: value}), DOM0)


@pytest.mark.parametrize("field", sorted(set(TAMPERED) - {"kid", "request_id"}))
def test_signed_order_that_lacks_a_field_is_refused(field: str) -> None:
    value = ORDER.as_dict()
    del value[field]
    with pytest.raises(MessageRefused):
        TRUSTED.order(_signed(value), DOM0)


@given(BODIES)
def test_signed_rubbish_is_refused_and_nothing_else_is_raised(value: dict[str, Any]) -> None:
    for read in (TRUSTED.order, TRUSTED.note):
        with pytest.raises(MessageRefused):
            read(_signed(value), DOM0)


@given(st.sampled_from(sorted(ORDER.as_dict())), JSON)
def test_any_value_in_a_field_is_read_or_refused(field: str, value: Any) -> None:
    try:
        order = TRUSTED.order(_signed({**ORDER.as_dict(), field: value}), DOM0)
    except MessageRefused:
        return
    assert TRUSTED.order(KEY.seal(order), DOM0) == order


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("v", 99),
        ("note", "shout"),
        ("dom0", "x"),
        ("not_after", None),
        ("body", 3),
    ],
)
def test_signed_note_of_the_wrong_form_is_refused(field: str, value: Any) -> None:
    with pytest.raises(MessageRefused):
        TRUSTED.note(_signed({**NOTE.as_dict(), field: value}), DOM0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("v", 0, id="schema"),
        pytest.param("dom0", "", id="dom0"),
        pytest.param("journal", None, id="journal"),
        pytest.param("seq", -1, id="seq negative"),
        pytest.param("seq", True, id="seq true"),
        pytest.param("seq", 2**63, id="seq beyond a column"),
        pytest.param("kind", "rumour", id="kind"),
        pytest.param("at", "now", id="at"),
        pytest.param("at", 10**40, id="at beyond a column"),
        pytest.param("body", [], id="body"),
    ],
)
def test_report_of_the_wrong_form_is_refused(field: str, value: Any) -> None:
    with pytest.raises(MessageRefused):
        Report.parse(canonical({**json.loads(REPORT.as_text()), field: value}))


@pytest.mark.parametrize("text", ["", "x", "[]", "1" * 5000, '{"v":1}', "NaN"], ids=lambda text: text[:8])
def test_report_that_is_rubbish_is_refused(text: str) -> None:
    with pytest.raises(MessageRefused):
        Report.parse(text)


def test_generations_are_ordered_by_epoch_first() -> None:
    assert Generation(1, 999) < Generation(2, 0) < Generation(2, 1)
    assert Generation.of(Generation(2, 1).as_list()) == Generation(2, 1)


def test_key_is_kept_as_32_bytes() -> None:
    made = SigningKey.generate()
    assert SigningKey.of(made.raw()).public == made.public
    assert len(made.raw()) == 32
    assert made.kid == key_id(made.public)


@pytest.mark.parametrize("raw", [b"", b"x" * 31, b"x" * 33])
def test_key_of_the_wrong_length_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="32"):
        SigningKey.of(raw)


@pytest.mark.parametrize("text", ["no base64!", base64.b64encode(b"short").decode()])
def test_trusted_key_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        TrustedKeys([text])


def test_acl_names_the_five_keys_of_this_dom0_and_no_script() -> None:
    channels = Channels(DOM0)
    acl = channels.acl(redis_user(DOM0), "0" * 64)
    assert [item for item in acl if item.startswith("~")] == [
        f"~d0:{DOM0}:{name}" for name in ("orders", "taken", "line", "out", "con")
    ]
    commands = {item[1:] for item in acl if item.startswith("+")}
    assert commands == {"ping", "llen", "blmove", "lmove", "rpop", "brpop", "xadd", "time"}
    assert acl[:2] == [f"dom0-{DOM0}", "reset"]
    assert acl.index("-@all") < min(acl.index(f"+{command}") for command in commands)


@pytest.mark.parametrize("make", [lambda: ORDER, lambda: NOTE], ids=["order", "note"])
def test_schema_travels_with_every_message(make: Callable[[], Order | Note]) -> None:
    assert make().as_dict()["v"] == SCHEMA


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        [1],
        [1, "a" * 63],
        [1, "A" * 64],
        ["1", "a" * 64],
        [0, "a" * 64],
        [True, "a" * 64],
        [2**63, "a" * 64],
    ],
)
def test_a_head_that_cannot_be_read_is_none_and_the_order_stands(value: object) -> None:
    assert Head.of(value) is None
    told = Order(OPERATION, DOM0, DOMU, Verb.START, Generation(1, 1), 1, {}).as_dict()
    assert Order.of({**told, "head": value}).head is None


def test_an_order_carries_the_head_of_the_events() -> None:
    order = Order(OPERATION, DOM0, DOMU, Verb.START, Generation(1, 1), 1, {}, head=Head(5, "a" * 64))
    assert Order.of(order.as_dict()) == order
    assert "head" not in Order(OPERATION, DOM0, DOMU, Verb.START, Generation(1, 1), 1, {}).as_dict()


def test_fields_of_a_newer_release_are_passed_over() -> None:
    """An agent one release older reads what today's web sends, and the web what a newer agent says."""
    newer = {"comes": "later"}
    assert Order.of({**ORDER.as_dict(), **newer}) == ORDER
    assert Note.of({**NOTE.as_dict(), **newer}) == NOTE
    assert Report.parse(canonical({**json.loads(REPORT.as_text()), **newer})) == REPORT


def test_a_report_tells_the_oldest_that_is_kept_or_nothing_of_it() -> None:
    assert "oldest" not in REPORT.as_text()
    told = replace(REPORT, oldest=3)
    assert Report.parse(told.as_text()) == told
    with pytest.raises(MessageRefused):
        Report.parse(told.as_text().replace('"oldest":3', '"oldest":"3"'))
