"""`xl create`: reads the configuration, checks what Xen would check, and starts the domain's process."""

# pathlib would cost every domain, and every `xl list`, memory and milliseconds.
# ruff: noqa: PTH100, PTH102, PTH104, PTH110, PTH118, PTH120, PTH123
from __future__ import annotations

import os
import select
import shutil
import sys
import time
import uuid
from dataclasses import asdict
from typing import Any

from vps.agent.sim import domains
from vps.agent.sim.config import Config, ConfigError, parse
from vps.agent.sim.disks import Disk, Nic, disk_number, parse_disk, parse_nic
from vps.agent.sim.host import Machine, read_json, write_json

_ACTIONS = (
    "destroy",
    "restart",
    "rename-restart",
    "preserve",
    "coredump-destroy",
    "coredump-restart",
    "soft-reset",
)
_DEFAULT_ACTIONS = {
    "on_poweroff": "destroy",
    "on_reboot": "restart",
    "on_watchdog": "destroy",
    "on_crash": "destroy",
    "on_soft_reset": "soft-reset",
}


class CreateRefused(Exception):
    """xl refuses: `lines` go to stderr, `code` is its exit status."""

    def __init__(self, code: int, *lines: str) -> None:
        super().__init__(lines)
        self.code = code
        self.lines = lines


def create(machine: Machine, file: str, extra: str, *, paused: bool, quiet: bool) -> int:
    """Build a domain from a configuration file. Returns its number; raises CreateRefused."""
    try:
        with open(file, "rb") as source:
            data = source.read() if file != "/dev/null" else b""
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise CreateRefused(3, f"Failed to read config file: {file}: {why}") from error
    text = data.decode("utf-8", "surrogateescape")
    if extra:
        text += f"\n{extra}\n"
    if not quiet:
        print(f"Parsing config from {file}", file=sys.stderr, flush=True)
    try:
        record = describe(parse(text, file))
    except ConfigError as error:
        raise CreateRefused(1, *str(error).split("\n")) from error
    record["config_file"] = file
    record["paused"] = paused
    with machine.lock("create"):
        domid = _make(machine, record)
        time.sleep(float(machine.faults.get("slow_create", 0)))
        _start(machine, domid)
    return domid


def describe(config: Config) -> dict[str, Any]:
    """What a configuration asks for. Raises ConfigError with xl's words; warnings go to stderr."""
    name = config.string("name")
    if not name:
        raise ConfigError("Domain name must be specified.")
    given = config.string("uuid")
    try:
        identity = str(uuid.UUID(given)) if given else str(uuid.uuid4())
    except ValueError as error:
        raise ConfigError(f"Failed to parse UUID: {given}") from error
    kind = config.string("type") or {"hvm": "hvm"}.get(config.string("builder") or "", "pv")
    if kind not in ("pv", "pvh", "hvm"):
        raise ConfigError(f"Invalid domain type {kind}.")
    kernel = config.string("kernel")
    if not kernel and kind != "hvm":
        raise ConfigError("Neither kernel nor bootloader specified")
    memory = config.number("memory") or config.number("maxmem") or 0
    actions = {}
    for key, default in _DEFAULT_ACTIONS.items():
        actions[key] = config.string(key) or default
        if actions[key] not in _ACTIONS:
            raise ConfigError(f'Unknown {key} action "{actions[key]}" specified')
    disks = [parse_disk(spec, config.source) for spec in config.strings("disk")]
    nics = [parse_nic(spec) for spec in config.strings("vif")]
    record = {
        "name": name,
        "uuid": identity,
        "type": kind,
        "kernel_path": kernel or "",
        "ramdisk_path": config.string("ramdisk") or "",
        "command": _command(config),
        "memory": memory,
        "maxmem": config.number("maxmem") or memory,
        "vcpus": config.number("vcpus") or 1,
        "actions": actions,
        "disks": [asdict(disk) for disk in disks],
        "nics": [asdict(nic) for nic in nics],
    }
    for warning in config.warnings:
        print(warning, file=sys.stderr)
    return record


def _command(config: Config) -> str:
    """The kernel's arguments, put together as xl does."""
    command, root, extra = config.string("cmdline"), config.string("root"), config.string("extra")
    if command is not None:
        if root or extra:
            print("Warning: ignoring root= and extra= in favour of cmdline=", file=sys.stderr)
        return command
    return " ".join(part for part in (f"root={root}" if root else "", extra or "") if part)


def _make(machine: Machine, record: dict[str, Any]) -> int:
    """Check everything in libxl's order, then let the domain exist."""
    disks = [Disk(**disk) for disk in record["disks"]]
    if record["type"] == "hvm":
        raise CreateRefused(
            6,
            "libxl: error: libxl_create.c:172:libxl__domain_build_info_setdefault: "
            "direct boot parameters specified but kernel missing",
            "libxl: error: libxl_create.c:1241:libxl__domain_config_setdefault: "
            "Unable to set domain build info defaults",
        )
    with machine.lock("state"):
        domid = machine.next_domid()
    others = domains.guests(machine)
    # A uuid may be taken: xl builds a second domain with it (recorded).
    if any(other.name == record["name"] for other in others):
        raise _undone(
            domid,
            f"libxl: error: libxl_domain.c:81:libxl__domain_rename: Domain {domid}:"
            f'Domain with name "{record["name"]}" already exists.',
            f"libxl: error: libxl_create.c:1296:initiate_domain_create: Domain {domid}:cannot make domain: -6",
        )
    _check_disks(disks, domid)
    record["kernel"] = _kernel(machine, record, domid)
    _check_memory(machine, record, domid, others)
    _check_size(record, domid)
    _check_devices(disks, domid)
    if machine.settings["refuse_shared_disks"]:
        _check_sharing(disks, domid, others)
    _check_bridges(machine, [Nic(**nic) for nic in record["nics"]], domid)
    record |= {"domid": domid, "created": time.time()}
    place = machine.path("domains", f".new-{domid}")
    shutil.rmtree(place, ignore_errors=True)
    os.mkdir(place, 0o700)
    write_json(os.path.join(place, "domain.json"), record)
    machine.effect(
        "create",
        record,
        kernel=record["kernel"]["sha256"],
        config=record["config_file"],
        memory=record["memory"],
        paused=record["paused"],
    )
    os.rename(place, machine.domain_path(domid))
    return domid


def _undone(domid: int, *lines: str) -> CreateRefused:
    """The end of every create that fails after the domain was begun."""
    return CreateRefused(
        3,
        *lines,
        f"libxl: error: libxl_domain.c:1183:libxl__destroy_domid: Domain {domid}:Non-existant domain",
        f"libxl: error: libxl_domain.c:1137:domain_destroy_callback: Domain {domid}:Unable to destroy guest",
        f"libxl: error: libxl_domain.c:1064:domain_destroy_cb: Domain {domid}:Destruction of domain failed",
    )


def _check_disks(disks: list[Disk], domid: int) -> None:
    for index, disk in enumerate(disks):
        if disk.target and not os.path.exists(disk.target):
            raise _undone(
                domid,
                "libxl: error: libxl_device.c:455:libxl__device_disk_set_backend: "
                f"Disk vdev={disk.device} failed to stat: {disk.target}: No such file or directory",
                "libxl: error: libxl_create.c:1318:initiate_domain_create: "
                f"Domain {domid}:Unable to set disk defaults for disk {index}",
            )


def _check_devices(disks: list[Disk], domid: int) -> None:
    """A vdev must be one, and no two the same."""
    unable = (
        f"libxl: error: libxl_create.c:1672:domcreate_launch_dm: Domain {domid}:unable to add disk devices"
    )
    numbers = [disk_number(disk.device) for disk in disks]
    for disk, number in zip(disks, numbers, strict=True):
        if number is None:
            invalid = f"Domain {domid}:Invalid or unsupported virtual disk identifier {disk.device}"
            raise _undone(
                domid,
                f"libxl: error: libxl_disk.c:214:libxl__device_from_disk: {invalid}",
                f"libxl: error: libxl_disk.c:335:device_disk_add: {invalid}",
                unable,
            )
    if len(set(numbers)) != len(numbers):
        raise _undone(
            domid,
            f"libxl: error: libxl_device.c:290:device_add_domain_config: Domain {domid}:"
            "device already exists in xenstore",
            unable,
        )


def _kernel(machine: Machine, record: dict[str, Any], domid: int) -> dict[str, Any]:
    """Judge the kernel as libxenguest would; returns its facts."""
    from vps.agent.sim.kernels import KernelRefused, judge, read

    path = record["kernel_path"]
    try:
        facts = judge(read(path)) | {"path": path}
        if record["ramdisk_path"]:
            facts["ramdisk_size"] = len(read(record["ramdisk_path"]))
    except KernelRefused as refused:
        raise _not_built(
            domid,
            str(refused),
            "libxl_dom.c:646:libxl__build_pv: xc_dom_kernel_file failed: No such file or directory",
        ) from refused
    pvh = record["type"] == "pvh"
    if facts["paths"]["direct_pvh" if pvh else "direct_pv"] != "ok":
        raise _not_built(
            domid,
            "xc: error: panic: xg_dom_core.c:689: xc_dom_find_loader: no loader found: Invalid kernel",
            "libxl_dom.c:571:libxl__build_dom: xc_dom_parse_image failed",
        )
    wanted = "hvm-3.0-x86_32" if pvh else facts.get("guest_type")
    if wanted and wanted not in machine.settings["xen_caps"].split():
        raise _not_built(
            domid,
            f"xc: error: panic: xg_dom_boot.c:86: xc_dom_compat_check: guest type {wanted}"
            " not supported by xen kernel, sorry: Invalid kernel",
            "libxl_dom.c:571:libxl__build_dom: xc_dom_parse_image failed",
        )
    return facts


def _not_built(domid: int, first: str, second: str) -> CreateRefused:
    return _undone(
        domid,
        first,
        f"libxl: error: {second}",
        f"libxl: error: libxl_create.c:1640:domcreate_rebuild_done: Domain {domid}:cannot (re-)build domain: -3",
    )


def _check_memory(machine: Machine, record: dict[str, Any], domid: int, others: list[domains.Listed]) -> None:
    if not 0 < record["memory"] <= domains.free_memory(machine, others):
        raise _not_built(
            domid,
            "xc: error: panic: xg_dom_boot.c:119: xc_dom_boot_mem_init: can't allocate low memory for domain:"
            " Out of memory",
            "libxl_dom.c:586:libxl__build_dom: xc_dom_boot_mem_init failed: Cannot allocate memory",
        )


def _check_size(record: dict[str, Any], domid: int) -> None:
    """A PV kernel must fit into the domain's memory, where its addresses put it."""
    start, count, total = (
        record["kernel"].get("start", 0),
        record["kernel"].get("pages", 0),
        record["memory"] << 8,
    )
    if record["type"] == "pv" and count > total - start:
        raise _not_built(
            domid,
            "xc: error: panic: xg_dom_core.c:536: xc_dom_chk_alloc_pages: segment kernel too large"
            f" (0x{count:x} > 0x{total:x} - 0x{start:x} pages): Out of memory",
            "libxl_dom.c:594:libxl__build_dom: xc_dom_build_image failed: No such file or directory",
        )


def _hotplug(domid: int, script: str, why: str, unable: str, *after: str) -> CreateRefused:
    """A hotplug script failed; `why` is what it said, `after` what is run to clean up and fails too."""
    lines = [
        f"libxl: error: libxl_exec.c:117:libxl_report_child_exitstatus: /etc/xen/scripts/{name}"
        f" [{os.getpid()}] exited with error status 1\n"
        f"libxl: error: libxl_device.c:1337:device_hotplug_child_death_cb: script: {why}"
        for name in (script, *after)
    ]
    created = f"libxl: error: libxl_create.c:1921:domcreate_attach_devices: Domain {domid}:"
    return _undone(domid, lines[0], f"{created}unable to add {unable} devices", *lines[1:])


def _check_sharing(disks: list[Disk], domid: int, others: list[domains.Listed]) -> None:
    """The block script's rule: a disk may be shared only by domains that all read it."""
    taken: dict[str, bool] = {}
    for other in others:
        for disk in other.record["disks"]:
            path = os.path.realpath(disk["target"])
            taken[path] = taken.get(path, False) or disk["writable"]
    for disk in (disk for disk in disks if disk.target):
        path = os.path.realpath(disk.target)
        if path in taken and (disk.writable or taken[path]):
            raise _hotplug(
                domid,
                "block add",
                f"File {path} is loopback-mounted through /dev/loop0, "
                "which is mounted in a guest domain, and so cannot be mounted now.",
                "disk",
            )
        taken[path] = taken.get(path, False) or disk.writable


def _check_bridges(machine: Machine, nics: list[Nic], domid: int) -> None:
    known, none = machine.settings["bridges"], machine.faults.get("no_bridge")
    for nic in nics:
        if none or (known is not None and nic.bridge not in known and (nic.bridge or not known)):
            why = f"Could not find bridge device {nic.bridge}"
            if not nic.bridge:
                why = "Could not find bridge, and none was specified"
            raise _hotplug(domid, "vif-bridge online", why, "vif", "vif-bridge offline")


def _start(machine: Machine, domid: int) -> None:
    """Start the domain's process: its own session, no file of ours, gone from us before it runs."""
    record = read_json(machine.domain_path(domid, "domain.json"))
    if record is None:  # destroyed while it was being built
        raise CreateRefused(3, f"libxl: error: libxl_domain.c:1183:domain_destroy_cb: Domain {domid} is gone")
    machine.rotate_log(record["name"])
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                _become(machine, domid, writer)
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    ready, _, _ = select.select([reader], [], [], 60)
    lives = bool(ready) and os.read(reader, 1) == b"1"
    os.close(reader)
    if not lives:
        domains.remove(machine, domid)
        raise CreateRefused(3, f"The process of simulated domain {domid} did not start; see process.log")


def _become(machine: Machine, domid: int, ready: int) -> None:
    log = os.open(machine.path("log", "process.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDWR)
    for file, number in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(file, number)
    top = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
    os.set_inheritable(ready, True)
    program = (
        f"import sys; sys.path.insert(0, {top!r}); from vps.agent.sim.life import main;"
        f" main({machine.directory!r}, {domid}, {ready})"
    )
    # Without `site` a process is half as large and starts in half the time.
    os.execv(sys.executable, [sys.executable, "-S", "-E", "-c", program])  # noqa: S606
