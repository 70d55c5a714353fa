"""NetBSD as a guest: its boot log, the questions it asks when it finds no root, and a shell."""

from __future__ import annotations

import re

from vps.agent.sim.disks import disk_number
from vps.agent.sim.guest import Running, Shell
from vps.agent.sim.pvgrub import read_line
from vps.agent.sim.wire import Ended, Line, Wait


def start(running: Running) -> Line:
    """Boot, find the root or ask for it, log in, and be a shell."""
    running.newline = "\n\r"
    log = _log(running)
    yield from running.lines(log)
    if running.kernel["role"] == "dom0":
        yield from _in_ddb(running)
    root = running.argument("root") or running.argument("bootdev") or "xbd0a"
    while not _root_exists(running, root):
        running.say(f"boot device: {root if _looks_right(root) else '<unknown>'}\n")
        root = yield from _ask(running)
    log += [
        f"root on {root} dumps on {root[:-1]}b",
        "root file system type: ffs",
    ]
    running.say("\n".join(log[-2:]) + "\n")
    single = any(word in running.arguments.split() for word in ("-s", "single"))
    while True:
        if single:
            running.say("Enter pathname of shell or RETURN for /bin/sh: ")
        else:
            running.say(
                "Starting root file system check:\nStarting local daemons:.\n"
                f"\n\nNetBSD/amd64 ({running.domain.record['name']}) (constty)\n\nlogin: "
            )
        yield from _line(running)
        running.say(f"\nBerth simulated guest: boot {running.count}, kernel {running.digest}\n\n")
        yield from Shell(running, "# ", log, lambda reason: _power(running, reason)).run()
        single = False


def _in_ddb(running: Running) -> Line:
    """A DOM0 kernel as a domU faults while it looks for hardware, and stays in its debugger."""
    running.say(
        "fatal page fault in supervisor mode\ntrap type 6 code 0 rip 0xffffffff80226d4e\n"
        "Stopped in pid 0.1 (system) at netbsd:ipmi_probe+0x4f: movzbl 0(%rax),%eax\ndb{0}> "
    )
    running.domain.listen(False)
    running.domain.spin(True)
    while True:
        yield from read_line(running.domain)
        running.say("db{0}> ")


def _log(running: Running) -> list[str]:
    record = running.domain.record
    name = running.configuration or "XEN3_DOMU"
    lines = [
        "Loaded initial symtab at 0xffffffff80c3f8a8, strtab at 0xffffffff80cfe2f0, # entries 33034",
        "Copyright (c) 1996, 1997, 1998, 1999, 2000, 2001, 2002, 2003,",
        "    2004, 2005, 2006, 2007, 2008, 2009, 2010, 2011, 2012, 2013,",
        "    2014, 2015, 2016, 2017, 2018, 2019, 2020, 2021, 2022, 2023,",
        "    2024",
        "    The NetBSD Foundation, Inc.  All rights reserved.",
        "Copyright (c) 1982, 1986, 1989, 1991, 1993",
        "    The Regents of the University of California.  All rights reserved.",
        "",
        f"NetBSD {running.release} ({name}) #0: simulated, sha256 {running.digest}",
        f"total memory = {record['memory']}.00 MB",
        f"avail memory = {max(1, record['memory'] - 14)}.00 MB",
        "mainbus0 (root)",
        "hypervisor0 at mainbus0: Xen version 4.17",
        *(f"vcpu{index} at hypervisor0" for index in range(record["vcpus"])),
        "xenbus0 at hypervisor0: Xen Virtual Bus Interface",
        "xencons0 at hypervisor0: Xen Virtual Console Driver",
    ]
    for index, disk in enumerate(_disks(running)):
        lines.append(f"xbd{index} at xenbus0 id {index}: Xen Virtual Block Device Interface ({disk})")
    for index, nic in enumerate(record["nics"]):
        lines.append(f"xennet{index} at xenbus0 id {index}: Xen Virtual Network Interface")
        lines.append(f"xennet{index}: MAC address {nic['mac'] or 'random'}")
    lines.append(f"Kernel command line: {running.arguments}; boot {running.count} of this server")
    return lines


def _disks(running: Running) -> list[str]:
    """The disks in device order: xbdN counts them."""
    disks = sorted(running.domain.record["disks"], key=lambda disk: disk_number(disk["device"]) or 0)
    return [disk["device"] for disk in disks]


def _looks_right(root: str) -> bool:
    return bool(re.fullmatch(r"(?:/dev/)?xbd\d+[a-h]?", root))


def _root_exists(running: Running, root: str) -> bool:
    if root.startswith("md0") and "INSTALL" in running.configuration:
        return True
    if "INSTALL" in running.configuration:
        return True  # the miniroot is in the kernel
    match = re.fullmatch(r"(?:/dev/)?xbd(\d+)[a-h]?", root)
    return match is not None and int(match[1]) < len(_disks(running))


def _ask(running: Running) -> Line:
    """At a prompt of its kernel NetBSD polls: a whole cpu, and deaf to xl shutdown."""
    running.domain.listen(False)
    running.domain.spin(True)
    running.say("root device (default xbd0a): ")
    answer = yield from read_line(running.domain)
    if answer.strip() in ("halt", "reboot"):
        raise Ended(1 if answer.strip() == "reboot" else 0)
    running.domain.spin(False)
    running.domain.listen(True)
    return answer.strip() or "xbd0a"


def _line(running: Running) -> Line:
    """A line typed at login:, where xl shutdown is heard too."""
    typed = b""
    while not typed.endswith((b"\r", b"\n")):
        event = yield Wait()
        if event.power:
            yield from _power(running, 1 if event.power == "reboot" else 0)
        running.domain.write(event.keys.replace(b"\r", b"\n\r"))
        typed += event.keys


def panic(running: Running, why: str) -> list[str]:
    return [
        f"[{running.age:12.6f}] panic: {why}",
        f"[{running.age:12.6f}] cpu0: Begin traceback...",
        "vpanic() at netbsd:vpanic+0x183",
        f"[{running.age:12.6f}] cpu0: End traceback...",
        "rebooting...",
    ]


def _power(running: Running, reason: int) -> Line:
    running.say("\nShutdown NOW!\nsyncing disks... done\n")
    yield Wait(running.domain.machine.time("shutdown"), keys=False)
    running.say("rebooting...\n" if reason == 1 else "The operating system has halted; powering off.\n")
    raise Ended(reason)
