"""Rolling the signing key: begun, told until it is trusted, finished, retired; all believe what is signed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from tests.conftest import RedisServer
from tests.web.world import Mouth, make_dom0
from vps import enrolment, signing
from vps.models import Dom0, Event
from vps.redis import client
from vps.signing import signing_key
from vps.trust import tell_keys
from vps.xen.messages import Channels, Note, NoteKind, TrustedKeys

pytestmark = pytest.mark.usefixtures("web_redis")


@pytest.fixture
def keys(tmp_path: Path, settings: Any) -> Path:
    settings.BERTH_SIGNING_KEY_FILE = tmp_path / "signing.key"
    return tmp_path


@pytest.fixture
def told(keys: Path, web_redis: RedisServer, mouth: Mouth) -> Mouth:
    """A dom0 that trusts the present key and says so."""
    mouth.inventory({}, keys=[signing_key().kid])
    return mouth


def notes(dom0: Dom0, *trusted: str) -> list[Note]:
    """What lies on a dom0's line, read with these public keys; fails for what they did not seal."""
    found = []
    while sealed := client().rpop(Channels(dom0.pk).line):
        found.append(TrustedKeys(trusted).note(sealed.decode(), dom0.pk))
    return found


def test_the_whole_way(told: Mouth, capsys: pytest.CaptureFixture[str]) -> None:
    first = signing_key()
    assert tell_keys() == 0
    call_command("roll_signing_key", "begin")
    following = signing.other_key("next")
    assert following is not None and signing_key().kid == first.kid
    assert tell_keys() == 1 and tell_keys() == 1  # again until the dom0 says that it does
    for note in notes(told.dom0, first.public_text()):
        assert (note.kind, note.body) == (NoteKind.TRUST, {"key": following.public_text()})
    with pytest.raises(CommandError, match="not trusted yet by: dom0-a"):
        call_command("roll_signing_key", "finish")
    told.inventory({}, keys=[first.kid, following.kid])
    assert tell_keys() == 0
    call_command("roll_signing_key", "finish")
    assert signing_key().kid == following.kid  # read again, without a restart
    call_command("roll_signing_key", "retire")
    assert tell_keys() == 1
    (drop,) = notes(told.dom0, following.public_text())
    assert drop.body == {"drop": first.kid}
    told.inventory({}, keys=[following.kid])
    assert tell_keys() == 0
    assert not list(Path(signing._path("old").parent).glob("*.old"))
    kinds = list(
        Event.objects.filter(kind__startswith="signing.").order_by("pk").values_list("kind", flat=True)
    )
    assert kinds == ["signing.begun", "signing.finished", "signing.retired"]
    assert "dom0-a: trusts" in capsys.readouterr().out


def test_a_dom0_that_was_silent_meanwhile_is_told_with_the_key_it_knows(told: Mouth) -> None:
    first = signing_key()
    late = Mouth(make_dom0("late"))
    late.inventory({}, keys=[first.kid])
    Dom0.objects.filter(name="late").update(heard_at=timezone.now() - timezone.timedelta(days=1))
    call_command("roll_signing_key", "begin")
    following = signing.other_key("next")
    assert following is not None
    told.inventory({}, keys=[first.kid, following.kid])
    with pytest.raises(CommandError, match="late"):
        call_command("roll_signing_key", "finish")
    call_command("roll_signing_key", "finish", "--without", "late")
    with pytest.raises(CommandError, match="late"):
        call_command("roll_signing_key", "retire")
    assert tell_keys() == 0
    late.inventory({}, keys=[first.kid])
    assert tell_keys() == 1
    (note,) = notes(late.dom0, first.public_text())
    assert note.body == {"key": following.public_text()}


def test_steps_out_of_order_say_so_and_change_nothing(told: Mouth) -> None:
    first = signing_key().kid
    for step, words in (("finish", "begin first"), ("retire", "nothing was changed")):
        with pytest.raises(CommandError, match=words):
            call_command("roll_signing_key", step)
    with pytest.raises(CommandError, match="no dom0 named"):
        call_command("roll_signing_key", "finish", "--without", "nobody")
    assert signing_key().kid == first and not Event.objects.filter(kind__startswith="signing.").exists()
    call_command("roll_signing_key", "begin")
    following = signing.other_key("next")
    call_command("roll_signing_key", "begin")
    assert following is not None and signing.other_key("next").kid == following.kid  # type: ignore[union-attr]


def test_a_dom0_enrolled_in_between_trusts_both(told: Mouth) -> None:
    signing.begin_roll()
    text = enrolment.agent_toml(told.dom0, "secret")
    following = signing.other_key("next")
    assert following is not None
    assert signing_key().public_text() in text and following.public_text() in text
