"""The quick start with the real product."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import time
import tomllib
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.kernels import linux_elf
from tests.product import Login, Product, end, product
from tests.story import way
from tests.story.browser import Browser
from vps.quickstart import leftovers


def logged_in(web: str, login: Login) -> bool:
    """Whether the form takes that person."""
    with httpx.Client(base_url=web, timeout=30) as client:
        page = client.get("/log-in/")
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token is not None, page.text
        form = {"csrfmiddlewaretoken": token[1], "login": login.email, "password": login.password}
        client.post("/log-in/", data=form, headers={"Referer": f"{web}/log-in/"})
        return "sessionid" in client.cookies


def test_ready_means_that_all_of_it_answers(running_product: Product) -> None:
    assert httpx.get(f"{running_product.web}/healthz").status_code == 200
    assert httpx.get(running_product.gateway.replace("ws://", "http://") + "/healthz").status_code == 200
    ready = httpx.get(f"{running_product.web}/readyz").json()
    assert ready["dom0s"] == ready["dom0s_heard"] == 1
    assert set(running_product.running()["children"]) == {
        *("redis", "web", "gateway", "agent", "collector", "worker")
    }


@pytest.mark.parametrize("role", ["operator", "owner"])
def test_the_printed_passwords_log_in(running_product: Product, role: str) -> None:
    login = running_product.login(role)
    assert f"{login.email}" in running_product.printed.read_text()
    assert logged_in(running_product.web, login)
    assert not logged_in(running_product.web, Login(role, login.email, login.password + "x"))


def test_the_passwords_are_written_down_nowhere(running_product: Product) -> None:
    handed_out = {running_product.printed, running_product.data / "announced.json"}
    secret = [login.password.encode() for login in running_product.logins]
    secret += [
        path.read_bytes().strip()
        for path in (running_product.data / "secrets").iterdir()
        if path.name != "redis-url"
    ]
    for path in running_product.data.rglob("*"):
        if path.is_file() and path not in handed_out and path.parent.name not in ("secrets", "redis"):
            if path.name == "running.json":  # mode 0600; has the address of Redis
                continue
            content = path.read_bytes()
            assert not [word for word in secret if word in content], path


def test_no_log_has_a_secret(running_product: Product) -> None:
    """Of whatever ran so far: neither Redis's password nor the agent's credential."""
    agent = tomllib.loads((running_product.data / "dom0" / "sim" / "agent.toml").read_text())
    password = urlsplit(running_product.redis_url).password
    assert password and agent["secret"]
    logs = [path for path in (running_product.data / "log").rglob("*") if path.is_file()]
    assert any(path.name.startswith("web") and path.stat().st_size for path in logs)
    for path in (*logs, running_product.printed):
        content = path.read_text(errors="replace")
        assert password not in content and agent["secret"] not in content, path


def test_what_is_killed_comes_back(running_product: Product) -> None:
    """One after the other, and Redis last: it has lost every key then."""
    for name in ("web", "gateway", "agent", "collector", "worker", "redis"):
        running_product.wait_for_restart(name, running_product.kill(name))
    killed = time.time()
    give_up = time.monotonic() + 60
    with sqlite3.connect(running_product.data / "berth.sqlite3") as rows:
        while True:
            heard = rows.execute("SELECT strftime('%s', heard_at) FROM vps_dom0").fetchone()[0]
            if heard and int(heard) > killed:
                break
            assert time.monotonic() < give_up, "the dom0 was not heard again"
            time.sleep(0.1)
    rows.close()
    assert httpx.get(f"{running_product.web}/healthz").status_code == 200


def running_server(product: Product, folder: Path) -> str:
    """A server that runs, by the way that people go; gives the path of its page."""
    with (
        closing(Browser(product.web, product.gateway)) as operator,
        closing(Browser(product.web, product.gateway)) as owner,
    ):
        for browser, role in ((operator, "operator"), (owner, "owner")):
            browser.log_in(product.login(role).email, product.login(role).password)
        way.approve(operator, way.ask(owner, "kept", memory=64, disk=8))
        server = way.server_of(owner, "kept")
        owner.wait_state(server, "stopped")
        kernel = folder / "kernel.elf"
        kernel.write_bytes(linux_elf())
        page = way.upload(owner, kernel, "kept")
        assert page.state == "can boot", page.text
        way.choose(owner, server, page.address, "console=hvc0 root=/dev/xvda1 ro")
        owner.wait_state(server, "stopped")
        way.press(owner, server, "start")
        owner.wait_state(server, "running")
        return urlsplit(server).path


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_second_run_keeps_everything_and_starts_what_ran(tmp_path: Path) -> None:
    data = tmp_path / "berth"
    with product(data) as first:
        logins = first.logins
        assert [login.role for login in logins] == ["operator", "owner"]
        config = (data / "dom0" / "sim" / "agent.toml").read_text()
        server = running_server(first, tmp_path)
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(30) == 0
        assert leftovers.find(str(data)) == []
    with product(data) as second:
        assert second.logins == ()
        assert "Bringing the database up to date" not in second.printed.read_text()
        assert "make password NAME=" in second.printed.read_text()
        for line in (data / "dom0" / "sim" / "agent.toml").read_text().splitlines():
            assert line in config.splitlines() or line.startswith(("web = ", "redis = "))
        with closing(Browser(second.web, second.gateway)) as owner:
            owner.log_in(logins[1].email, logins[1].password)
            owner.wait_state(server, "running")
            give_up = time.monotonic() + 60
            while boots(data) != ["start", "autostart"]:  # not a crash: the dom0 was off
                assert time.monotonic() < give_up, boots(data)
                time.sleep(0.1)
            owner.wait_state(server, "running")
        end(second.process)
    assert leftovers.find(str(data)) == []


def boots(data: Path) -> list[str]:
    """Why each domain was built, in order, as the agent reported it."""
    with closing(sqlite3.connect(data / "berth.sqlite3")) as rows:
        found = rows.execute("SELECT after FROM vps_event WHERE kind = 'domu.booted' ORDER BY id").fetchall()
    return [json.loads(after)["why"] for (after,) in found]
