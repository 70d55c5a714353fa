"""The verbs that change domains: create, shutdown, reboot, destroy, pause, unpause, sim-reset."""

# pathlib would cost every domain, and every `xl list`, memory and milliseconds.
# ruff: noqa: PTH208
from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
import uuid
from typing import Any

from vps.agent.sim import domains
from vps.agent.sim.host import Machine, read_json, write_json
from vps.agent.sim.options import Usage, options


def xl_create(machine: Machine, arguments: list[str]) -> int:
    file = ""
    if arguments and not arguments[0].startswith("-") and "=" not in arguments[0]:
        file, arguments = arguments[0], arguments[1:]
    found, rest = options("create", arguments)
    file = found.get("f", file)
    extra = []
    for word in rest:
        if "=" in word:
            extra.append(word)
        elif file:
            raise Usage("create", 2)
        else:
            file = word
    if not file:
        print("Config file not specified and none in save file", file=sys.stderr)
        return 6
    from vps.agent.sim.create import CreateRefused, create

    with_console = "c" in found
    try:
        domid = create(
            machine,
            file,
            "\n".join(extra),
            paused="p" in found or with_console,
            quiet="q" in found,
        )
    except CreateRefused as refused:
        for line in refused.lines:
            print(line, file=sys.stderr)
        return refused.code
    if with_console:
        from vps.agent.sim.attach import attach

        def unpause() -> None:
            if "p" not in found:
                _tell(machine, domid, "unpause")

        return attach(machine, domid, unpause)
    if "F" in found:
        _wait_gone(machine, domid, None)
    return 0


def _find(machine: Machine, text: str) -> int | None:
    """xl's find_domain: a number is believed, a name is looked up."""
    domid = domains.domid_of(machine, text)
    if domid is None:
        print(f"{text} is an invalid domain identifier (rc=-6)", file=sys.stderr)
    return domid


def _connect(machine: Machine, domid: int, name: str = "control.sock") -> socket.socket | None:
    """Reach a domain's process by a socket in its directory, whatever the length of its path."""
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.chdir(machine.domain_path(domid))
        client.connect(name)
    except OSError:
        client.close()
        return None
    finally:
        os.fchdir(here)
        os.close(here)
    return client


def _tell(machine: Machine, domid: int, verb: str, timeout: float | None = 30.0) -> dict[str, Any] | None:
    """Ask a domain's process for something. None: it did not answer in time; {}: it is gone."""
    client = _connect(machine, domid)
    if client is None:
        return {}
    with client:
        client.settimeout(timeout)
        try:
            client.sendall(verb.encode())
            data = client.recv(4096)
        except TimeoutError:
            return None
        except OSError:
            return {}
    return dict(json.loads(data)) if data else {}


def xl_shutdown(machine: Machine, arguments: list[str]) -> int:
    return _power(machine, "shutdown", "poweroff", arguments)


def xl_reboot(machine: Machine, arguments: list[str]) -> int:
    return _power(machine, "reboot", "reboot", arguments)


def _power(machine: Machine, verb: str, request: str, arguments: list[str]) -> int:
    found, rest = options(verb, arguments)
    if not rest and "a" not in found:
        print("You must specify -a or a domain id.\n", file=sys.stderr)
        return 1
    if "a" in found:
        targets = [domain.domid for domain in domains.guests(machine)]
    else:
        target = _find(machine, rest[0])
        if target is None:
            return 1
        targets = [target]
    for domid in targets:
        print(
            f"{'Shutting down' if verb == 'shutdown' else 'Rebooting'} domain {domid}",
            file=sys.stderr,
            flush=True,
        )
        domain = domains.get(machine, domid)
        if domain is None or domid == 0:
            print(
                f"{domains.NO_TYPE}{domid}\n{verb} failed (rc=-3)",
                file=sys.stderr,
            )
            return 1
        machine.effect(verb, domain.record)
        if _tell(machine, domid, request, machine.time("ack")) is None:
            print(
                "libxl: error: libxl_domain.c:854:pvcontrol_cb: "
                f"guest didn't acknowledge control request: -9\n{verb} failed (rc=-9)",
                file=sys.stderr,
            )
            return 1
    if "w" in found:
        print(f"Waiting for {len(targets)} domains", file=sys.stderr, flush=True)
        for domid in targets:
            _wait_down(machine, domid)
    return 0


def _wait_down(machine: Machine, domid: int) -> None:
    """`-w` returns when the guest has shut down, which is before its domain is gone."""
    while True:
        if not domains.alive(machine, domid):
            print(f"Domain {domid} has been destroyed", file=sys.stderr)
            return
        reason = (read_json(machine.domain_path(domid, "state.json")) or {}).get("shutdown")
        if reason is not None:
            print(f"Domain {domid} has been shut down, reason code {reason}", file=sys.stderr)
            return
        time.sleep(0.05)


def xl_destroy(machine: Machine, arguments: list[str]) -> int:
    found, rest = options("destroy", arguments, 1)
    domid = _find(machine, rest[0])
    if domid is None:
        return 1
    if domid == 0:
        if "f" not in found:
            print(
                "Not destroying domain 0; use -f to force.\n"
                "This can only be done when using a disaggregated hardware domain and toolstack.\n",
                file=sys.stderr,
            )
        return 1
    domain = domains.get(machine, domid)
    if domain is None:
        print(
            f"libxl: error: libxl_domain.c:1183:libxl__destroy_domid: Domain {domid}:Non-existant domain\n"
            f"libxl: error: libxl_domain.c:1137:domain_destroy_callback: Domain {domid}:Unable to destroy guest\n"
            f"libxl: error: libxl_domain.c:1064:domain_destroy_cb: Domain {domid}:Destruction of domain failed\n"
            "destroy failed (rc=-21)",
            file=sys.stderr,
        )
        return 1
    end(machine, domid)
    machine.effect("destroy", domain.record)
    return 0


def end(machine: Machine, domid: int) -> None:
    """End a domain now: its process is asked, then killed."""
    _tell(machine, domid, "destroy", 5.0)
    if not _wait_gone(machine, domid, 5.0):
        pid = (read_json(machine.domain_path(domid, "state.json")) or {}).get("pid")
        if pid and domains.alive(machine, domid):  # whoever holds the lock is this process
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            _wait_gone(machine, domid, 5.0)
    with machine.lock("state"):
        domains.remove(machine, domid)


def _wait_gone(machine: Machine, domid: int, seconds: float | None) -> bool:
    deadline = None if seconds is None else time.monotonic() + seconds
    while domains.alive(machine, domid):
        if deadline is not None and time.monotonic() > deadline:
            return False
        pid = (read_json(machine.domain_path(domid, "state.json")) or {}).get("pid")
        try:
            handle = os.pidfd_open(pid or 0)
        except (OSError, AttributeError):
            time.sleep(0.02)
            continue
        select.select([handle], [], [], 0.5)
        os.close(handle)
    return True


def xl_pause(machine: Machine, arguments: list[str]) -> int:
    return _hold(machine, "pause", arguments)


def xl_unpause(machine: Machine, arguments: list[str]) -> int:
    return _hold(machine, "unpause", arguments)


def _hold(machine: Machine, verb: str, arguments: list[str]) -> int:
    _, rest = options(verb, arguments, 1)
    domid = _find(machine, rest[0])
    if domid is None:
        return 1
    domain = domains.get(machine, domid)
    if domain is None:
        pausing = f"libxl: error: libxl_domain.c:587:libxl_domain_pause: Domain {domid}:Pausing domain: No such process"
        print(pausing if verb == "pause" else f"{domains.NO_TYPE}{domid}", file=sys.stderr)
    elif verb == "unpause" and not domain.paused:
        print(
            f"libxl: error: libxl_domain.c:688:domain_unpause_done: Domain {domid}:Unpausing domain: Invalid argument",
            file=sys.stderr,
        )
    elif domid != 0:
        _tell(machine, domid, verb)
        machine.effect(verb, domain.record)
    return 0  # xl does not look whether it worked


def xl_sim_reset(machine: Machine, arguments: list[str]) -> int:
    """As if dom0 had been rebooted: no domain is left, and numbers begin anew."""
    options("sim-reset", arguments)
    with machine.lock("state"):
        write_json(machine.path("boot_id"), str(uuid.uuid4()))
    for name in os.listdir(machine.path("domains")):
        if name.isdigit():
            end(machine, int(name))
    with machine.lock("state"):
        write_json(machine.path("next_domid"), 0)
    machine.effect("reset")
    return 0
