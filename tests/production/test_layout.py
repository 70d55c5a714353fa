"""The production layout does what the quick start does, with two of each node and the parts of production."""

from __future__ import annotations

import secrets
import threading
import time
import tomllib
from contextlib import ExitStack
from uuid import UUID

import httpx
import pytest
import redis

from tests.kernels import linux_bzimage
from tests.production.layout import BUCKET, Layout, enrol, lose_the_dom0, programs, redis_up, storage
from tests.production.people import Sending, boot
from tests.story import way
from tests.story.browser import Browser
from vps.xen.messages import redis_user

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]
PIECE = 400  # the kernel has some 3 kB


@pytest.fixture(scope="module")
def server(site: Layout, owner: Browser, operator: Browser) -> str:
    """A server without a kernel yet."""
    name = f"prod-{secrets.token_hex(3)}"
    way.approve(operator, way.ask(owner, name, memory=128, disk=16))
    address = way.server_of(owner, name)
    owner.wait_state(address, "stopped", seconds=120)
    return address


def test_an_upload_crosses_web_nodes_and_outlives_one(site: Layout, owner: Browser, server: str) -> None:
    content = linux_bzimage()
    sending = Sending(owner, "crossing", content)
    at = 0
    for _ in range(2):
        at = sending.send(at, PIECE)
    # nginx asks the two in turn. A third piece goes straight to one of them, which is killed in the middle of it.
    direct = httpx.Client(
        base_url=f"http://127.0.0.1:{site.ports['web1']}", cookies=owner.http.cookies, timeout=20
    )
    length = min(PIECE, len(content) - at)
    broken: list[BaseException] = []

    def send_slowly() -> None:
        headers = {
            **sending.headers,
            "Host": site.url.removeprefix("https://"),
            "X-Forwarded-Proto": "https",
            "Cookie": "; ".join(f"{one.name}={one.value}" for one in owner.http.cookies.jar),
            "Upload-Offset": str(at),
            "Content-Length": str(length),
        }
        path = httpx.URL(sending.url).path
        try:
            answer = direct.put(path, content=sending.slowly(at, length, 3), headers=headers)
            broken.append(AssertionError(f"It was answered: {answer.status_code} {answer.text[:200]}"))
        except httpx.HTTPError as error:
            broken.append(error)

    thread = threading.Thread(target=send_slowly)
    thread.start()
    time.sleep(1)
    site.kill("web1")
    thread.join()
    direct.close()
    assert isinstance(broken[0], httpx.HTTPError), broken
    assert sending.stands_at() == at, "what was counted is there; the broken piece is not counted"
    while at < len(content):
        at = sending.send(at, PIECE)
    page = owner.wait_state(sending.version, "can boot", "cannot boot", seconds=120)
    assert page.state == "can boot", page.text[:600]
    web2 = site.log("web2").read_text()
    put = f"PUT {httpx.URL(sending.url).path}: 200"
    counts = [site.log(name).read_text().count(put) for name in ("web1", "web2")]
    assert counts[0] >= 1 and counts[1] >= 2, (counts, web2[-2000:])
    boot(owner, server, page.address)
    with storage(site) as client:
        names = [one["Key"] for one in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    assert any(name.startswith("blobs/") for name in names)
    assert [name for name in names if name.startswith("staging/")] == [], "no piece is left"
    # The agent fetched kernel and loader through nginx, by TLS, from the storage.
    assert list((site.folder / "dom0" / "agent" / "blobs").iterdir())
    site.start_web_side("web1")
    site.until_up("web1")


def test_a_console_crosses_the_gateways(site: Layout, owner: Browser, operator: Browser, server: str) -> None:
    with ExitStack() as stack:
        consoles = [stack.enter_context(owner.console(server)) for _ in range(2)]
        for console in consoles:
            console.wait(r"/ #", 60)
        word = secrets.token_hex(4)
        consoles[0].ask(f"echo {word}", rf"\n{word}", 30)
        consoles[1].wait(rf"\n{word}", 30)
        people = consoles[1].wait_told("people", 10)["people"]
        assert isinstance(people, list) and len(people) == 2
        assert consoles[1].told[0]["mode"] == "typing"  # the same person
        looker = stack.enter_context(operator.console(server))
        looker.wait(rf"\n{word}", 30)
        assert looker.told[0]["may_type"] is False
    opened = [site.log(name).read_text().count("opened the console") for name in ("gateway1", "gateway2")]
    assert min(opened) >= 1, opened


def test_a_killed_gateway_is_left_out(site: Layout, owner: Browser, server: str) -> None:
    site.kill("gateway1")
    try:
        for _ in range(2):
            with owner.console(server) as console:
                console.wait(r"/ #", 30)
    finally:
        site.start_web_side("gateway1")
        site.until_up("gateway1")


def test_redis_speaks_tls_only_and_to_those_who_check(site: Layout) -> None:
    password = (site.secrets / "redis-url").read_text().split(":")[2].partition("@")[0]
    port = site.ports["redis"]
    with (
        redis.Redis(port=port, password=password, socket_timeout=3) as plain,
        pytest.raises(redis.RedisError),
    ):
        plain.ping()
    stranger = redis.Redis.from_url(f"rediss://:{password}@localhost:{port}/0")
    with stranger, pytest.raises(redis.RedisError, match=r"(?i)certificate"):
        stranger.ping()


def test_a_redis_that_lost_all_gets_its_users_again(site: Layout, owner: Browser, server: str) -> None:
    site.kill("redis")
    redis_up(site, programs()[1])
    url = f"{(site.secrets / 'redis-url').read_text().strip()}?ssl_ca_certs={site.secrets / 'ca.crt'}"
    name = redis_user(dom0_id(site))
    with redis.Redis.from_url(url) as client:
        deadline = time.monotonic() + 60
        while not client.acl_getuser(name):
            assert time.monotonic() < deadline, site.words("collector")
            time.sleep(0.2)
        told = client.acl_getuser(name)
    assert told["categories"] == ["-@all"] and "+eval" not in told["commands"]
    # Orders reach the dom0 and bytes come back, over the new Redis.
    with owner.console(server) as console:
        console.wait(r"/ #", 60)
        before = len(console.told)
        way.press(owner, server, "reboot")
        console.wait_told("run", 120, since=before)
    owner.wait_state(server, "running", seconds=120)


def dom0_id(site: Layout) -> UUID:
    """From its agent's configuration."""
    return UUID(tomllib.loads((site.folder / "dom0" / "agent.toml").read_text())["dom0"])


def test_only_by_tls_and_by_its_own_name(site: Layout, owner: Browser) -> None:
    assert httpx.get(site.url, verify=site.tls).headers["strict-transport-security"]
    cookies = {one.name: one.secure for one in owner.http.cookies.jar}
    assert cookies and all(cookies.values()), cookies
    other = httpx.get(site.url, verify=site.tls, headers={"Host": "elsewhere.example.org"})
    assert other.status_code == 400


def test_a_dom0_that_is_lost_is_replaced(
    site: Layout, owner: Browser, operator: Browser, server: str
) -> None:
    """The last of this file: what docs/operations.md says under "Lose a dom0"."""
    owner.wait_state(server, "running", seconds=60)
    lose_the_dom0(site)
    enrol(site)
    deadline = time.monotonic() + 180
    page = owner.get(server)
    while not any(form.action.endswith("/start/") for form in page.forms):
        assert time.monotonic() < deadline, f"{page.state}: {page.text[:1500]}"
        time.sleep(0.5)
        page = owner.get(server)
    effects = site.folder / "dom0" / "xen" / "effects.log"
    assert not effects.exists() or '"create"' not in effects.read_text(), "nothing starts by itself"
    way.press(owner, server, "start")
    owner.wait_state(server, "running", seconds=180)
    with owner.console(server) as console:
        console.wait(r"/ #", 60)
