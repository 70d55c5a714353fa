"""The hosts' pages: enrolling shows the credential once, a new one takes its name, room is what was promised."""

from __future__ import annotations

import tomllib
from html import unescape
from typing import Any
from uuid import UUID

import pytest
import redis
from django.urls import reverse

from tests.conftest import RedisServer
from tests.web.conftest import Browser, Cast
from tests.web.test_request import text
from tests.web.world import Mouth
from vps.enrolment import end_old_credentials
from vps.models import Dom0, Domu, Event, Operation
from vps.redis import acl_users, admit, client
from vps.xen.messages import ReportKind, redis_user


def toml_of(answer: Any) -> dict[str, Any]:
    page = answer.content.decode()
    return tomllib.loads(
        unescape(page.split('<pre class="text" id="toml" tabindex="0">')[1].split("</pre>")[0])
    )


def test_enrolling_shows_the_configuration_once(browser: Browser, cast: Cast, web_redis: RedisServer) -> None:
    answer = browser(cast.operator).post(reverse("dom0_enrol"), {"name": "host1", "bridge": "xenbr1"})
    assert answer.status_code == 200 and answer["Cache-Control"] == "no-store"
    dom0, told = Dom0.objects.get(), toml_of(answer)
    assert (told["name"], told["dom0"], dom0.bridge) == ("host1", str(dom0.pk), "xenbr1")
    assert Dom0.digest(told["secret"]) == dom0.secret_sha256
    assert redis_user(dom0.pk) in {str(name) for name in acl_users()} | {
        name.decode() for name in acl_users() if isinstance(name, bytes)
    }
    page = text(browser(cast.operator).get(reverse("dom0", args=[dom0.pk])))
    assert told["secret"] not in page and "Its agent was never heard." in page
    assert Event.objects.get(kind="dom0.enrolled").actor == cast.operator


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"name": ""}, "Give the dom0 a name such as host1.", id="no name"),
        pytest.param({"name": "../x"}, "small letters, digits and hyphens", id="path"),
        pytest.param({"name": "-x"}, "small letters, digits and hyphens", id="option"),
        pytest.param({"name": "x" * 64}, "at most 63", id="long"),
        pytest.param({"name": "dom0-a"}, "dom0-a is enrolled already", id="taken"),
        pytest.param({"bridge": ""}, "Name the bridge", id="no bridge"),
        pytest.param({"bridge": "a,script=x"}, "A bridge has a name of at most 15", id="bridge with a comma"),
        pytest.param({"bridge": "b" * 16}, "A bridge has a name of at most 15", id="long bridge"),
    ],
)
def test_bad_input(browser: Browser, cast: Cast, mouth: Mouth, changes: dict[str, str], words: str) -> None:
    data = {"name": "host1", "bridge": "xenbr0", **changes}
    answer = browser(cast.operator).post(reverse("dom0_enrol"), data)
    assert answer.status_code == 422 and words in text(answer)
    assert Dom0.objects.count() == 1


def test_without_redis_nothing_is_enrolled(browser: Browser, cast: Cast, settings: Any) -> None:
    settings.BERTH_REDIS_URL = "redis://127.0.0.1:1/0"
    client.cache_clear()
    answer = browser(cast.operator).post(reverse("dom0_enrol"), {"name": "host1", "bridge": "xenbr0"})
    client.cache_clear()
    assert answer.status_code == 503 and "Redis does not answer" in text(answer)
    assert not Dom0.objects.exists() and not Event.objects.filter(kind="dom0.enrolled").exists()


def test_a_new_credential_takes_its_name(
    browser: Browser, cast: Cast, mouth: Mouth, web_redis: RedisServer
) -> None:
    url = reverse("dom0_credential", args=[mouth.dom0.pk])
    old = mouth.dom0.secret_sha256
    assert browser(cast.operator).post(url, {"name": "another"}).status_code == 422
    mouth.dom0.refresh_from_db()
    assert mouth.dom0.secret_sha256 == old
    told = toml_of(browser(cast.operator).post(url, {"name": "dom0-a"}))
    mouth.dom0.refresh_from_db()
    assert mouth.dom0.secret_sha256 == Dom0.digest(told["secret"]) != old
    # The agent goes on with the old one until it has the new one.
    assert mouth.dom0.knows("s3cret") and mouth.dom0.knows(told["secret"]) and not mouth.dom0.knows("else")
    assert agent_logs_in(web_redis, mouth.dom0, "s3cret") and agent_logs_in(
        web_redis, mouth.dom0, told["secret"]
    )
    assert end_old_credentials() == 0
    mouth.inventory({}, credential=Dom0.digest(told["secret"])[:16])
    assert end_old_credentials() == 1 and end_old_credentials() == 0
    mouth.dom0.refresh_from_db()
    assert not mouth.dom0.knows("s3cret")
    assert not agent_logs_in(web_redis, mouth.dom0, "s3cret")
    assert agent_logs_in(web_redis, mouth.dom0, told["secret"])


def test_a_credential_in_wrong_hands_ends_at_once(
    browser: Browser, cast: Cast, mouth: Mouth, web_redis: RedisServer
) -> None:
    admit(mouth.dom0)
    assert agent_logs_in(web_redis, mouth.dom0, "s3cret")
    url = reverse("dom0_credential", args=[mouth.dom0.pk])
    assert browser(cast.operator).post(url, {"name": "dom0-a", "at_once": "on"}).status_code == 200
    mouth.dom0.refresh_from_db()
    assert not mouth.dom0.knows("s3cret") and not agent_logs_in(web_redis, mouth.dom0, "s3cret")


def test_a_new_credential_that_was_lost_is_replaced_and_the_agents_own_stays(
    browser: Browser, cast: Cast, mouth: Mouth, web_redis: RedisServer
) -> None:
    url = reverse("dom0_credential", args=[mouth.dom0.pk])
    lost = toml_of(browser(cast.operator).post(url, {"name": "dom0-a"}))["secret"]
    found = toml_of(browser(cast.operator).post(url, {"name": "dom0-a"}))["secret"]
    mouth.dom0.refresh_from_db()
    assert [mouth.dom0.knows(secret) for secret in ("s3cret", lost, found)] == [True, False, True]


def agent_logs_in(server: RedisServer, dom0: Dom0, secret: str) -> bool:
    """Whether Redis takes the dom0's user with this credential."""
    agent = redis.Redis(
        port=server.port, username=redis_user(dom0.pk), password=secret, protocol=2, driver_info=None
    )
    try:
        return bool(agent.ping())
    except redis.AuthenticationError:
        return False
    finally:
        agent.close()


def test_its_page_says_what_is_promised_and_what_is_wrong(
    browser: Browser, cast: Cast, mouth: Mouth, running: Domu
) -> None:
    inventory = {
        **Dom0.objects.get().inventory,
        "alarms": [{"code": "x", "text": "The pool is nearly full."}],
    }
    stranger = {"uuid": str(UUID(int=9)), "name": "stranger", "domid": 9, "memory_mib": 128}
    inventory["domains"].append({**stranger, "state": "running"})
    Dom0.objects.update(inventory=inventory, foreign=[stranger])
    for name, args in (("dom0", [mouth.dom0.pk]), ("dom0s", []), ("today", [])):
        page = text(browser(cast.operator).get(reverse(name, args=args)))
        assert '256 MiB <span class="of">of 3.5 GiB' in page, name
        assert "The pool is nearly full." in page, name
    page = text(browser(cast.operator).get(reverse("dom0", args=[mouth.dom0.pk])))
    assert "web1" in page and ">stranger<" in page
    assert "4.17.7" in page


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(
            {"xen": None, "error": "The dom0 runs without Xen, or its Xen services are not started."},
            "The dom0 runs without Xen",
            id="without Xen",
        ),
        pytest.param(
            {"xen": None, "error": "xl does not answer; see what it waits for on the dom0."},
            "xl does not answer",
            id="xl hangs",
        ),
        pytest.param(
            {"xen": None, "error": "xl list -v did not begin with its headline but with &#x27;lp0&#x27;."},
            "did not begin with its headline",
            id="xl prints rubbish",
        ),
        pytest.param(
            {"alarms": [{"code": "skew", "text": "The dom0's clock is 3600 s off; set it, and run NTP."}]},
            "clock is 3600 s off",
            id="wrong clock",
        ),
        pytest.param(
            {"alarms": [{"code": "disk", "text": "The pool /srv has 12 MiB left."}]},
            "has 12 MiB left",
            id="full disk",
        ),
        pytest.param(
            {"alarms": [{"code": "memory", "text": "7 MiB of memory are free, and more is needed."}]},
            "7 MiB of memory are free",
            id="memory used up",
        ),
        pytest.param(
            {"bridges": ["other0"]},
            "The bridge xenbr0 of its servers is not there; make it on the dom0. It has other0.",
            id="bridge missing",
        ),
        pytest.param({"bridges": []}, "It has none.", id="no bridge at all"),
    ],
)
def test_what_is_wrong_with_it_is_said_and_nothing_counts_as_gone(
    browser: Browser, cast: Cast, mouth: Mouth, running: Domu, changes: dict[str, Any], words: str
) -> None:
    body = {**Dom0.objects.get().inventory, **changes}
    if body["xen"] is None:
        body |= {"domains": [], "domus": []}
    for _ in range(3):
        mouth.say(ReportKind.INVENTORY, body, kept=False)
    for name, args in (("dom0", [mouth.dom0.pk]), ("dom0s", []), ("today", [])):
        assert words in text(browser(cast.operator).get(reverse(name, args=args))), name
    running.refresh_from_db()
    assert (running.wanted, running.observed) == ("running", "running")
    assert not Event.objects.filter(kind__startswith="report.refused").exists()


def test_a_simulated_dom0_has_no_bridges_of_its_own(mouth: Mouth, running: Domu) -> None:
    dom0 = Dom0.objects.get()
    dom0.inventory["bridges"] = []
    dom0.simulated = True
    assert dom0.alarms == []


def test_taking_no_new_servers(browser: Browser, cast: Cast, mouth: Mouth) -> None:
    url = reverse("dom0_accept", args=[mouth.dom0.pk])
    operator = browser(cast.operator)
    for value, takes in (("no", False), ("no", False), ("yes", True)):
        assert operator.post(url, {"accepts_new": value}).status_code == 302
        mouth.dom0.refresh_from_db()
        assert mouth.dom0.accepts_new is takes
    assert Event.objects.filter(kind="dom0.accepts").count() == 2
    assert operator.get(url).status_code == 405


def test_lists_search_and_end(browser: Browser, cast: Cast, mouth: Mouth) -> None:
    operator = browser(cast.operator)
    assert "dom0-a" in text(operator.get(reverse("dom0s"), {"q": "DOM0"}))
    assert "No dom0 has “zzz” in its name." in text(operator.get(reverse("dom0s"), {"q": "zzz"}))


def test_many_dom0s_take_as_many_queries_as_few(
    browser: Browser, cast: Cast, mouth: Mouth, django_assert_max_num_queries: Any
) -> None:
    operator = browser(cast.operator)
    Dom0.objects.bulk_create(Dom0(name=f"host{n:03}", secret_sha256="x") for n in range(70))
    for name in ("dom0s", "today"):
        with django_assert_max_num_queries(20):
            page = text(operator.get(reverse(name)))
    assert "dom0-a" in page and "51 more" in page


# Xen's own words


def look(browser: Browser, cast: Cast, mouth: Mouth, what: str) -> Any:
    return browser(cast.operator).post(reverse("dom0_look", args=[mouth.dom0.pk]), {"what": what})


def test_xens_words_are_asked_for_and_shown(
    browser: Browser, cast: Cast, mouth: Mouth, rung: list[Operation], django_capture_on_commit_callbacks: Any
) -> None:
    url = reverse("dom0", args=[mouth.dom0.pk])
    assert "Nothing was read yet." in text(browser(cast.operator).get(url))
    with django_capture_on_commit_callbacks(execute=True):
        assert look(browser, cast, mouth, "dmesg").status_code == 302
    (row,) = rung
    assert (row.verb, row.lane, row.body, row.domu) == ("look", "dom0", {"what": "dmesg"}, None)
    assert "Being read" in text(browser(cast.operator).get(url))
    answer = look(browser, cast, mouth, "xl-web1.log")
    assert answer.status_code == 409 and "is being read already" in text(answer)
    result = {
        "what": "dmesg",
        "name": "",
        "text": "(XEN) <script>alert(1)</script>\n",
        "size": 70_000,
        "cut": True,
        "files": [{"name": "xl-web1.log", "size": 2048, "at": 1}],
    }
    mouth.outcome(row, "done", result=result)
    page = text(browser(cast.operator).get(url))
    assert "&lt;script&gt;" in page and "<script>alert" not in page
    assert "the end of 68.4 KiB" in page and 'value="xl-web1.log"' in page
    with django_capture_on_commit_callbacks(execute=True):
        assert look(browser, cast, mouth, "xl-web1.log").status_code == 302
    assert rung[-1].body == {"what": "log", "name": "xl-web1.log"}
    mouth.outcome(rung[-1], "failed", error={"code": "no_log", "text": "No log xl-web1.log any more."})
    page = text(browser(cast.operator).get(url))
    assert "No log xl-web1.log any more." in page and "(XEN)" in page, "what was read last stays"


@pytest.mark.parametrize("name", ["../agent.toml", "/etc/passwd", "x.log\n", "", "a/b.log", "x.txt"])
def test_no_other_file_is_asked_for(browser: Browser, cast: Cast, mouth: Mouth, name: str) -> None:
    answer = look(browser, cast, mouth, name)
    assert answer.status_code == 409 and "is no log" in text(answer)
    assert not Operation.objects.exists()


def test_an_agent_that_cannot_look_is_not_asked(browser: Browser, cast: Cast, mouth: Mouth) -> None:
    inventory = Dom0.objects.get().inventory
    inventory["agent"]["verbs"].remove("look")
    Dom0.objects.update(inventory=inventory)
    page = text(browser(cast.operator).get(reverse("dom0", args=[mouth.dom0.pk])))
    assert reverse("dom0_look", args=[mouth.dom0.pk]) not in page
    answer = look(browser, cast, mouth, "dmesg")
    assert answer.status_code == 409 and "cannot read logs yet" in text(answer)


def test_a_result_that_is_too_long_is_refused(mouth: Mouth, cast: Cast) -> None:
    row = Operation.look(mouth.dom0, "dmesg", "", cast.operator)
    mouth.outcome(row, "done", result={"text": "x" * 700_000})
    row.refresh_from_db()
    assert row.is_open and Event.objects.filter(kind="report.refused").exists()
