"""The whole way, in steps that tests, the demo and the lab share: ask, approve, upload, choose, start."""

from __future__ import annotations

from pathlib import Path

from tests.story.browser import Browser, NotAsExpected, Page


def ask(
    customer: Browser, name: str, guest_os: str = "linux", memory: int = 256, disk: int = 64, vcpus: int = 1
) -> str:
    """Ask for a server; gives the address of the request's page."""
    page = customer.get("/ask/")
    form = page.form(having="guest_os")
    answer = customer.submit(
        form,
        name=name,
        guest_os=guest_os,
        offer="own",
        memory_mib=str(memory),
        vcpus=str(vcpus),
        disk_mib=str(disk),
        why="the whole way",
    )
    return answer.address


def approve(operator: Browser, request: str, dom0: str = "") -> Page:
    """Approve a request as it stands, on the dom0 of that name or the one that is offered first."""
    page = operator.get(request)
    form = page.form(action="/approve/")
    values = {"dom0": dom0_id(operator, dom0)} if dom0 else {}
    return operator.submit(form, **values)


def dom0_id(operator: Browser, name: str) -> str:
    """The id of a dom0 by its name."""
    page = operator.get("/dom0s/")
    for address, text in page.links:
        if text == name:
            return address.rstrip("/").rsplit("/", 1)[-1]
    raise NotAsExpected(f"There is no dom0 {name} on {page.address}.")


def server_of(customer: Browser, name: str) -> str:
    """The address of a server's page by its name."""
    page = customer.get("/servers/?q=" + name)
    for address, text in page.links:
        if text == name and "/servers/" in address:
            return address
    raise NotAsExpected(f"There is no server {name} on {page.address}: {page.text[:400]}")


def upload(
    customer: Browser, path: Path, kernel: str, seconds: float = 60, stop_at: int | None = None
) -> Page:
    """Upload a kernel and wait for its verdict; gives the version's page."""
    version = customer.upload(path, kernel, stop_at=stop_at)
    return customer.wait_state(version, "can boot", "cannot boot", seconds=seconds)


def choose(
    customer: Browser,
    server: str,
    version: str,
    arguments: str = "",
    method: str = "pvgrub",
    *,
    own_kind: str = "pv64",
    expect: int = 200,
) -> Page:
    """Make a version the only entry of a server's boot menu, and have it prepared.

    For the method `own_disk` there is no version, and `own_kind` says how the kernel there starts.
    """
    page = customer.get(server.rstrip("/") + "/boot/")
    form = page.form(having="seen_serial")
    if version and "key" not in form.fields:
        # The menu before was the one on the server's own disk, which has no entries here.
        page = customer.submit(form, method=method, do="add")
        form = page.form(having="seen_serial")
    identity = version.rstrip("/").rsplit("/", 1)[-1]
    filled = {"version": identity, "title": "", "arguments": arguments}
    chosen = {"method": method, "own_kind": own_kind, "do": "save", **filled}
    return customer.submit(form, expect=expect, **chosen)


def press(customer: Browser, server: str, verb: str) -> Page:
    """Press a verb's button on a server's page."""
    page = customer.get(server)
    return customer.submit(page.form(action=f"/{verb}/"))


def name_again(customer: Browser, server: str, verb: str, name: str) -> Page:
    """Destroy, delete or purge: the page that wants the name typed."""
    page = customer.get(f"{server.rstrip('/')}/{verb}/")
    return customer.submit(page.form(having="name"), name=name)


def delete_and_purge(customer: Browser, server: str, name: str, seconds: float = 120) -> None:
    """Delete a server, and have its disks wiped at once."""
    name_again(customer, server, "delete", name)
    customer.wait_state(server, "deleted but kept", seconds=seconds)
    name_again(customer, server, "purge", name)
    customer.wait_state(server, "deleted", seconds=seconds)
