"""A domain's life: what runs in it, and what xl's own monitor does at its end (on_poweroff, on_reboot, on_crash).

Entry of a domain's process: `main(directory, domid, ready)`.
"""

# pathlib would cost every domain, and every `xl list`, memory and milliseconds.
# ruff: noqa: PTH102, PTH104, PTH118
from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable

from vps.agent.sim.domains import CRASH, POWEROFF, REBOOT, remove
from vps.agent.sim.host import Machine, write_json
from vps.agent.sim.process import Domain
from vps.agent.sim.wire import Guest

_POLICY = {POWEROFF: "on_poweroff", REBOOT: "on_reboot", CRASH: "on_crash"}


def main(directory: str, domid: int, ready: int) -> None:
    """Be the domain until it is gone for good; one byte to the file `ready` says that it lives."""
    machine = Machine(directory)
    domain = Domain(machine, domid)
    log = _log(domain)
    log(f"Waiting for domain {domain.record['name']} (domid {domid}) to die [pid {os.getpid()}]")
    os.write(ready, b"1")
    os.close(ready)
    while True:
        reason = domain.run(guest_of(domain))
        if reason == -1:
            log(f"Domain {domain.domid} has been destroyed.")
            break
        if not _ended(domain, reason):
            break
    domain.state["dying"] = True
    with contextlib.suppress(OSError):
        domain.save()
    domain.close()
    with machine.lock("state"):
        remove(machine, domain.domid)


def guest_of(domain: Domain) -> Guest:
    """What the domain's kernel is: the loader, which reads a boot disk, or a guest."""
    kernel = domain.record["kernel"]
    if kernel["role"] == "loader":
        from vps.agent.sim.pvgrub import loader

        return loader(domain, kernel)
    from vps.agent.sim.guest import boot

    return boot(domain, kernel, domain.record["command"])


def _log(domain: Domain) -> Callable[[str], None]:
    name, machine = domain.record["name"], domain.machine
    return lambda line: machine.log(name, line)


def _ended(domain: Domain, reason: int) -> bool:
    """Do what the configuration says at an end. True: the domain was built anew and goes on."""
    log = _log(domain)
    action = domain.record["actions"].get(_POLICY.get(reason, ""), "destroy")
    domain.spin(False)
    domain.state["shutdown"] = reason
    domain.save()
    domain.machine.effect("ended", domain.record, reason=reason)
    log(f"Domain {domain.domid} has shut down, reason code {reason} 0x{reason:x}")
    log(f"Action for shutdown reason code {reason} is {action}")
    if action == "preserve":
        log("Done. Exiting now")  # xl no longer watches: nothing is logged when it is destroyed at last
        domain.idle(None)
        return False
    log(f"Domain {domain.domid} needs to be cleaned up: destroying the domain")
    domain.state["paused"] = True
    domain.save()
    domain.idle(domain.machine.time("crash" if reason == CRASH else "cleanup"))
    if "restart" not in action:
        log("Done. Exiting now")
        return False
    log("Done. Rebooting now")
    return _rebuild(domain)


def _rebuild(domain: Domain) -> bool:
    """xl's own restart: the same configuration under a new number. Ends when the machine was reset meanwhile."""
    machine, record, old = domain.machine, domain.record, domain.domid
    domain.state |= {"unnamed": True, "dying": True}
    domain.save()
    domain.close()
    time.sleep(machine.time("restart") / 4)  # here xl list shows (null)
    os.chdir(machine.directory)
    with machine.lock("state"):
        remove(machine, old)
    os.close(domain.lock)
    time.sleep(machine.time("restart") * 3 / 4)
    with machine.lock("state"):
        if machine.boot_id() != domain.boot_id:
            raise SystemExit(0)
        domid = machine.next_domid()
        new = {**record, "domid": domid, "paused": False, "created": time.time()}
        place = machine.path("domains", f".new-{domid}")
        shutil.rmtree(place, ignore_errors=True)
        os.mkdir(place)
        write_json(os.path.join(place, "domain.json"), new)
        os.rename(place, machine.domain_path(domid))
    machine.effect("restart", new)
    domain.settle(domid)
    _log(domain)(f"Waiting for domain {new['name']} (domid {domid}) to die [pid {os.getpid()}]")
    return True
