"""`make demo`: the whole way as a browser goes it, with kernels that Debian ships; a line for each step.

Against a running product (--url with the two log-ins), or one that it starts for itself. Ends with 1 at the first
thing that is not as it should be.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests import debian_kernels
from tests.product import product
from tests.story import way
from tests.story.browser import Browser, NotAsExpected

BEGAN = time.monotonic()


@contextlib.contextmanager
def step(text: str) -> Iterator[list[str]]:
    """Print a line for a step with its seconds; what is put into the list is printed behind it."""
    began = time.monotonic()
    more: list[str] = []
    if sys.stdout.isatty():
        print(f"  ... {text}", end="\r", flush=True)
    try:
        yield more
    except BaseException:
        print(f"  NOT {text}")
        raise
    print(f"{time.monotonic() - began:5.1f} {text}" + (f": {' '.join(more)}" if more else ""), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="of a running product; without it one is started")
    parser.add_argument("--gateway", default="", help="ws://... where it is not of the same origin")
    parser.add_argument("--operator", help="e-mail:password")
    parser.add_argument("--owner", help="e-mail:password")
    parser.add_argument("--dom0", default="", help="where the server is put")
    options = parser.parse_args()
    try:
        if options.url:
            if not (options.operator and options.owner):
                parser.error("--url needs --operator and --owner")
            go(options.url, options.gateway, options.operator, options.owner, options.dom0)
        else:
            with tempfile.TemporaryDirectory(prefix="berth-demo-") as folder:
                print("Starting a product for this demo.", flush=True)
                with product(Path(folder)) as started:
                    operator, owner = (
                        f"{login.email}:{login.password}"
                        for login in (started.login("operator"), started.login("owner"))
                    )
                    go(started.web, started.gateway, operator, owner, "")
    except (NotAsExpected, debian_kernels.CannotFetch) as error:
        print(f"Not as it should be: {error}", file=sys.stderr)
        return 1
    print(f"{time.monotonic() - BEGAN:5.1f} s in all; everything was as it should be.")
    return 0


def go(url: str, gateway: str, operator_login: str, owner_login: str, dom0: str) -> None:
    """The whole way. Raises NotAsExpected."""
    name = f"demo-{secrets.token_hex(3)}"
    with step("fetch three kernels that Debian ships") as more:
        kernels = debian_kernels.fetch(["linux-amd64", "linux-cloud", "xen"])
        more.append(", ".join(path.name for path in kernels.values()))
    with (
        contextlib.closing(Browser(url, gateway)) as operator,
        contextlib.closing(Browser(url, gateway)) as owner,
    ):
        with step("log in, operator and owner"):
            operator.log_in(*operator_login.split(":", 1))
            owner.log_in(*owner_login.split(":", 1))
        with step(f"ask for {name}"):
            request = way.ask(owner, name, memory=192, disk=32)
        with step("approve it"):
            way.approve(operator, request, dom0)
            server = way.server_of(owner, name)
            owner.wait_state(server, "stopped", seconds=60)
        try:
            boot_all(owner, server, kernels)
        finally:
            with step("delete it, with its disks"):
                way.delete_and_purge(owner, server, name)


def boot_all(owner: Browser, server: str, kernels: dict[str, Path]) -> None:
    """The three kernels: two that boot, one that must be refused."""
    with step("upload the Xen hypervisor, which must be refused") as more:
        page = way.upload(owner, kernels["xen"], "demo-xen")
        if page.state != "cannot boot":
            raise NotAsExpected(f"the hypervisor was taken: {page.text[:400]}")
        more.append(sentence(page.html))
    for number, key in enumerate(("linux-amd64", "linux-cloud"), start=1):
        path = kernels[key]
        with step(f"upload {path.name}, broken off half-way and gone on with") as more:
            page = way.upload(owner, path, f"demo-{key}", stop_at=path.stat().st_size // 2)
            if page.state != "can boot":
                raise NotAsExpected(f"{path.name} was refused: {page.text[:400]}")
            more.append(sentence(page.html))
        with step("put it into the boot menu, wait until the dom0 has it"):
            way.choose(owner, server, page.address, "console=hvc0 root=/dev/xvda1 ro")
            owner.wait_state(server, "stopped", seconds=120)
        with step("start"):
            way.press(owner, server, "start")
            owner.wait_state(server, "running", seconds=120)
        with owner.console(server) as console:
            with step("read its boot on the console, from its first line") as more:
                text = console.wait(r"Linux version (\S+)", 90)
                more.append(text[text.index("Linux version") :].split("\n")[0][:60])
                console.wait(r"[#$] $", 90)
            with step("type on the console"):
                console.ask("uname -a", r"\nLinux \S+ \d+\.\d+", 30)
            if number == 1:
                with step("reboot from inside; the domain is built anew"):
                    console.type("reboot\r")
                    console.wait_told("ended", 60)
                    console.wait_told("run", 120)
                owner.wait_state(server, "running", seconds=120)
                continue_in(console)
            with step("power off from inside; it stays off"):
                console.type("poweroff\r")
                console.wait_told("ended", 60)
                owner.wait_state(server, "stopped", seconds=60)


def continue_in(console: object) -> None:
    """Wait until the rebooted guest has its prompt again."""
    with step("wait for its prompt again"):
        console.wait(r"Linux version[\s\S]*[#$] $", 90, since=len(console.text) - 1)  # type: ignore[attr-defined]


def sentence(html: str) -> str:
    """The verdict's sentence of a version's page."""
    import re

    found = re.search(r'<p class="verdict"[^>]*>(.*?)</p>', html, re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", found.group(1)).split()) if found else ""


if __name__ == "__main__":
    sys.exit(main())
