"""One id leads from a click to xl's exit: through the web's log, the worker's, and the agent's on the dom0."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.product import Product
from tests.story.browser import Browser


def lines(product: Product, name: str, word: str) -> list[str]:
    logs: Path = product.data / "log"
    return [
        line
        for path in sorted(logs.glob(f"{name}*.log"))
        for line in path.read_text(errors="replace").splitlines()
        if word in line
    ]


def wait_for(product: Product, name: str, word: str, pattern: str, seconds: float = 90.0) -> str:
    give_up = time.monotonic() + seconds
    while True:
        found = [line for line in lines(product, name, word) if re.search(pattern, line)]
        if found:
            return found[0]
        assert time.monotonic() < give_up, (name, pattern, lines(product, name, word))
        time.sleep(0.2)


@pytest.fixture
def operator(running_product: Product) -> Iterator[Browser]:
    with closing(Browser(running_product.web)) as browser:
        yield browser


@pytest.fixture
def customer(running_product: Product) -> Iterator[Browser]:
    with closing(Browser(running_product.web)) as browser:
        yield browser


@pytest.mark.slow
def test_one_id_from_a_click_to_the_exit_of_xl(
    running_product: Product, operator: Browser, customer: Browser, tmp_path: Path
) -> None:
    login = running_product.login("operator")
    operator.log_in(login.email, login.password)
    (dom0,) = {
        address
        for address, _text in operator.get("/dom0s/").links
        if re.search(r"/dom0s/[0-9a-f-]{36}/$", address)
    }
    page = operator.get(dom0)
    click = f"click-{int(time.time())}-dom0"
    operator.http.headers["X-Request-ID"] = click
    operator.submit(page.form(action="/look/"), what="dmesg")
    wait_for(running_product, "web", click, r"POST /dom0s/.*/look/: 302")
    wait_for(running_product, "web", click, r"sent look ")
    agent = wait_for(running_product, "agent", click, r"xl dmesg: exit status 0")
    assert re.search(r"operation=[0-9a-f-]{36}", agent)
    give_up = time.monotonic() + 60
    while "(XEN) Xen version" not in operator.get(dom0).text:
        assert time.monotonic() < give_up, "the page shows what was read"
        time.sleep(0.5)
    del operator.http.headers["X-Request-ID"]

    owner = running_product.login("owner")
    customer.log_in(owner.email, owner.password)
    kernel = tmp_path / "rubbish"
    kernel.write_bytes(b"no kernel at all" * 100)
    click = f"click-{int(time.time())}-kernel"
    customer.http.headers["X-Request-ID"] = click
    customer.upload(kernel, "rubbish")
    wait_for(running_product, "web", click, r"/kernels/uploads/")
    wait_for(running_product, "worker", click, r"inspect")
