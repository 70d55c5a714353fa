"""The words of the pages: every state has its look; times and sizes as people read them."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone

from vps.models import KernelVersion, Operation, Request
from vps.templatetags import berth
from vps.xen.messages import Verb
from vps.xen.reconcile import Status


def test_every_state_has_shape_tone_and_word() -> None:
    for looks, states in (
        (berth.DOMU, [*Status, "kept", "deleted"]),
        (berth.OPERATION, Operation.State.values),
        (berth.REQUEST, Request.State.values),
        (berth.KERNEL, KernelVersion.State.values),
    ):
        assert set(looks) == set(states)
        for look in looks.values():
            assert look.shape in berth.SHAPES and str(look.word)
    # No two states of a server differ by colour alone.
    told = [(look.shape, str(look.word)) for look in berth.DOMU.values()]
    assert len(told) == len(set(told))


def test_every_tone_stands_in_the_style() -> None:
    style = (Path(settings.BASE_DIR) / "static/css/parts.css").read_text()
    looks = [*berth.DOMU.values(), *berth.OPERATION.values(), *berth.REQUEST.values(), *berth.DOM0.values()]
    for tone in {look.tone for look in looks}:
        assert f".tone-{tone} > .shape" in style, tone


def test_a_state_is_drawn_for_the_eye_and_said_in_a_word() -> None:
    text = berth.state(Status.STARTING)
    assert 'aria-hidden="true"' in text and ">starting</span>" in text and "moving" in text
    with pytest.raises(TypeError):
        berth.state("running")


def test_every_verb_has_a_name_and_a_button() -> None:
    assert all(berth.verb_name(verb) and berth.verb_button(verb) for verb in Verb)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, ""),
        (0, "0.0 s"),
        (-0.04, "0.0 s"),
        (0.44, "0.4 s"),
        (59.9, "59 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (7265, "2 h 1 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_spans(value: float | None, words: str) -> None:
    assert berth.seconds(value) == words


@pytest.mark.parametrize(
    ("back", "words"),
    [
        (timedelta(seconds=1), "just now"),
        (timedelta(seconds=-30), "just now"),  # another clock
        (timedelta(seconds=42), "42 s ago"),
        (timedelta(minutes=3), "3 min ago"),
        (timedelta(hours=5), "5 h ago"),
        (timedelta(days=3), "3 days ago"),
    ],
)
def test_times_are_relative_with_the_exact_one_at_hand(back: timedelta, words: str) -> None:
    moment = timezone.now() - back
    text = berth.ago(moment)
    assert f">{words}</time>" in text
    assert f'datetime="{moment.isoformat(timespec="seconds")}"' in text
    assert f'title="{moment:%Y-%m-%d %H:%M:%S} UTC"' in text


def test_never() -> None:
    assert berth.ago(None) == "never"


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, ""), (0, "0 MiB"), (16, "16 MiB"), (1024, "1 GiB"), (1536, "1.5 GiB"), (2**20, "1.0 TiB")],
)
def test_sizes(value: int | None, words: str) -> None:
    assert berth.mib(value) == words


@pytest.mark.parametrize(
    ("used", "total", "plus", "over"),
    [(0, 0, 0, False), (1, 2, 1, False), (2, 2, 1, True), (-1, 2, 0, False), (5, 2, 0, True)],
)
def test_a_meter_never_leaves_its_rail(used: int, total: int, plus: int, over: bool) -> None:
    meter = berth.meter("memory", used, total, "memory_mib", plus)
    assert meter["used_part"] >= 0 and meter["used_part"] + meter["plus_part"] <= 100.01
    assert meter["over"] is over


def test_no_template_has_a_script_or_a_style_of_its_own() -> None:
    for path in (Path(settings.BASE_DIR) / "templates").rglob("*.html"):
        text = path.read_text()
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), path
        assert not re.search(r"\sstyle=|<style|\son\w+=|hx-on|javascript:", text), path
