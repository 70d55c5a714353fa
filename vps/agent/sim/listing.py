"""The verbs that only look: list, info, domid, domname, uptime, vcpu-list, dmesg (xen: tools/xl/xl_info.c)."""

from __future__ import annotations

import re
import sys
import time

from vps.agent.sim import domains
from vps.agent.sim.domains import Listed
from vps.agent.sim.host import Machine, read_json
from vps.agent.sim.options import Usage, options

_HEAD = "Name                                        ID   Mem VCPUs\tState\tTime(s)"


def xl_list(machine: Machine, arguments: list[str]) -> int:
    found, rest = options("list", arguments)
    if len(rest) > 1:
        raise Usage("list", 1)
    if rest:
        domid = domains.domid_of(machine, rest[0])
        if domid is None:
            print(f"{rest[0]} is an invalid domain identifier (rc=-6)", file=sys.stderr)
            return 1
        domain = domains.get(machine, domid)
        if domain is None:
            print(f"Error: Domain '{rest[0]}' does not exist.", file=sys.stderr)
            return 1
        shown = [domain]
    else:
        shown = [domains.dom0(machine), *domains.guests(machine)]
    if "l" in found:
        return _details(shown)
    print(_HEAD + ("   UUID                            Reason-Code\tSecurity Label" if "v" in found else ""))
    for domain in shown:
        print(_line(domain, "v" in found))
    return 0


def _line(domain: Listed, verbose: bool) -> str:
    line = (
        f"{domain.name or '(null)':<40} {domain.domid:5} {domain.memory:5} {domain.vcpus:5}"
        f"     {domain.flags}  {domain.seconds:8.1f}"
    )
    if verbose:
        reason = "-" if domain.shutdown is None else f"{domain.shutdown:x}"
        line += f" {domain.uuid} {reason:>8} {'-':>16}"
    return line


def _details(shown: list[Listed]) -> int:
    """The configuration as libxl keeps it: JSON as yajl writes it, no run state in it."""
    import json
    import re

    text = json.dumps([{"domid": domain.domid, "config": _config(domain)} for domain in shown], indent=4)
    print(re.sub(r"(?m)^( *)(.*)\{\}", r"\1\2{\n\n\1}", text), end="\n\n")
    return 0


def _config(domain: Listed) -> dict[str, object]:
    record = domain.record
    sched = {"sched": "credit2", "weight": 256, "cap": 0}
    if not record:
        sizes = {"max_memkb": domain.memory * 1024, "target_memkb": domain.memory * 1024 - 1}
        build = {**sizes, "sched_params": sched, "type.pv": {}, "arch_arm": {}, "arch_x86": {}}
        return {"c_info": {"type": "pv", "name": domain.name}, "b_info": build}
    info = {
        "type": record["type"],
        "name": domain.name,
        "domid": 4294967295,
        "uuid": domain.uuid,
        "run_hotplug_scripts": "True",
    }
    build = {
        "max_vcpus": domain.vcpus,
        "avail_vcpus": list(range(domain.vcpus)),
        "max_memkb": record["maxmem"] * 1024,
        "target_memkb": domain.memory * 1024,
        "video_memkb": 0,
        "sched_params": sched,
        "claim_mode": "True",
        "kernel": record["kernel_path"],
        **({"cmdline": record["command"]} if record["command"] else {}),
        **({"ramdisk": record["ramdisk_path"]} if record["ramdisk_path"] else {}),
        f"type.{record['type']}": {},
        "arch_arm": {},
        "arch_x86": {"msr_relaxed": "False"},
    }
    disks = [
        {
            "pdev_path": disk["target"],
            "vdev": disk["device"],
            "format": "raw",
            **({"readwrite": 1} if disk["writable"] else {}),
            "colo_restore_enable": "False",
        }
        for disk in record["disks"]
    ]
    nics = [
        {"devid": index, "mac": nic["mac"], "bridge": nic["bridge"], "nictype": "vif"}
        for index, nic in enumerate(record["nics"])
    ]
    actions = {
        key: action.replace("-", "_") for key, action in record["actions"].items() if action != "destroy"
    }
    return {
        "c_info": info,
        "b_info": build,
        **({"disks": disks} if disks else {}),
        **({"nics": nics} if nics else {}),
        **actions,
    }


def xl_vm_list(machine: Machine, arguments: list[str]) -> int:
    options("vm-list", arguments)
    print("UUID                                  ID    name")
    for domain in [domains.dom0(machine), *domains.guests(machine)]:
        print(f"{domain.uuid}  {domain.domid}    {domain.name or '(null)':<30}")
    return 0


def xl_domid(machine: Machine, arguments: list[str]) -> int:
    _, rest = options("domid", arguments, 1)
    named = {domain.name: domain.domid for domain in [domains.dom0(machine), *domains.guests(machine)]}
    if rest[0] not in named:
        print(
            f"Can't get domid of domain name '{rest[0]}', maybe this domain does not exist.", file=sys.stderr
        )
        return 1
    print(named[rest[0]])
    return 0


def xl_domname(machine: Machine, arguments: list[str]) -> int:
    _, rest = options("domname", arguments, 1)
    if not rest[0][:1].isdigit():
        print("Invalid domain id.\n", file=sys.stderr)
        return 1
    domid = int("".join(letter for letter in rest[0] if letter.isdigit()))
    domain = domains.get(machine, domid)
    if domain is None or domain.name is None:
        print(
            f"Can't get domain name of domain id '{domid}', maybe this domain does not exist.",
            file=sys.stderr,
        )
        return 1
    print(domain.name)
    return 0


def xl_xenstore_read(machine: Machine, arguments: list[str]) -> int:
    """As the program `xenstore-read` does; guests have nothing in the store here but what they wrote into data/."""
    _, rest = options("xenstore-read", arguments, 1)
    match = re.fullmatch(r"/local/domain/(\d+)/data/(.+)", rest[0])
    found = read_json(machine.domain_path(int(match[1]), "xenstore.json")) if match else None
    value = (found or {}).get(match[2]) if match else None
    if value is None:
        print(f"xenstore-read: couldn't read path {rest[0]}", file=sys.stderr)
        return 1
    print(value)
    return 0


def xl_info(machine: Machine, arguments: list[str]) -> int:
    found, rest = options("info", arguments)
    settings = machine.settings
    major, minor, extra = _version(settings["xen_version"])
    free = domains.free_memory(machine)
    cpus, khz = settings["nr_cpus"], settings["cpu_khz"]
    lines = {
        "host": settings["hostname"],
        "release": settings["release"],
        "version": "#1 SMP simulated",
        "machine": settings["machine"],
        "nr_cpus": cpus,
        "max_cpu_id": cpus - 1,
        "nr_nodes": 1,
        "cores_per_socket": cpus,
        "threads_per_core": 1,
        "cpu_mhz": f"{khz // 1000}.{khz % 1000:03d}",
        "hw_caps": ":".join(["00000000"] * 8),
        "virt_caps": settings["virt_caps"],
        "total_memory": settings["total_memory"],
        "free_memory": free,
        "sharing_freed_memory": 0,
        "sharing_used_memory": 0,
        "outstanding_claims": 0,
        "free_cpus": 0,
        "xen_major": major,
        "xen_minor": minor,
        "xen_extra": extra,
        "xen_version": settings["xen_version"],
        "xen_caps": settings["xen_caps"],
        "xen_scheduler": "credit2",
        "xen_pagesize": 4096,
        "platform_params": "virt_start=0xffff800000000000",
        "xen_changeset": "",
        "xen_commandline": settings["xen_commandline"],
        "cc_compiler": "simulated",
        "cc_compile_by": "berth",
        "cc_compile_domain": "",
        "cc_compile_date": "",
        "build_id": "0" * 40,
        "xend_config_format": 4,
    }
    wanted = rest[0] if rest and "n" not in found else None
    for name, value in lines.items():
        if wanted is None:
            print(f"{name:<23}: {value}")
        elif name.startswith(wanted):
            print(value)
    return 0


def _version(text: str) -> tuple[str, str, str]:
    major, _, rest = text.partition(".")
    minor = "".join(letter for letter in rest[:2] if letter.isdigit())
    return major, minor, rest[len(minor) :]


def xl_uptime(machine: Machine, arguments: list[str]) -> int:
    found, rest = options("uptime", arguments)
    shown = [domains.dom0(machine), *domains.guests(machine)]
    if rest:
        chosen = []
        for text in rest:
            domid = domains.domid_of(machine, text)
            if domid is None:
                print(f"{text} is an invalid domain identifier (rc=-6)", file=sys.stderr)
                return 1
            chosen += [domain for domain in shown if domain.domid == domid]
        shown = chosen
    if "s" not in found:
        print(f"{'Name':<33} {'ID':>4} Uptime")
    for domain in shown:
        seconds = time.time() - domain.record["created"] if domain.record else time.monotonic()
        name = domain.name or "(null)"
        if "s" in found:
            now = time.strftime("%H:%M:%S")
            print(f" {now} up {_duration(seconds, False)}, {name} ({domain.domid})")
        else:
            print(f"{name:<33} {domain.domid:4} {_duration(seconds, True)}")
    return 0


def _duration(seconds: float, full: bool) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    text = f"{hour:2}:{minute:02}" + (f":{second:02}" if full else "")
    return f"{days} day{'s' if days > 1 else ''}, {text}" if days else text


def xl_vcpu_list(machine: Machine, arguments: list[str]) -> int:
    _, rest = options("vcpu-list", arguments)
    shown = [domains.dom0(machine), *domains.guests(machine)]
    if rest:
        wanted = [domains.domid_of(machine, text) for text in rest]
        for text, domid in zip(rest, wanted, strict=True):
            if domid is None:
                print(f"{text} is an invalid domain identifier (rc=-6)", file=sys.stderr)
                return 1
        shown = [domain for domain in shown if domain.domid in wanted]
    print(f"{'Name':<32} {'ID':>5} {'VCPU':>5} {'CPU':>5} {'State':>5} {'Time(s)':>9} Affinity (Hard / Soft)")
    for domain in shown:
        for vcpu in range(domain.vcpus):
            state = ("r" if domain.running else "-") + ("b" if domain.blocked else "-") + "-"
            seconds = domain.seconds if vcpu == 0 else 0.0
            print(
                f"{domain.name or '(null)':<32} {domain.domid:5} {vcpu:5} {vcpu % machine.settings['nr_cpus']:4}"
                f"   {state} {seconds:9.1f}  all / all"
            )
    return 0


def xl_dmesg(machine: Machine, arguments: list[str]) -> int:
    options("dmesg", arguments)
    print(f"(XEN) Xen version {machine.settings['xen_version']} (simulated by berth-sim-xl)")
    print(f"(XEN) Command line: {machine.settings['xen_commandline']}")
    print(f"(XEN) System RAM: {machine.settings['total_memory']}MB")
    return 0
