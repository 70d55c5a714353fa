"""Linux as a guest, and whatever is not NetBSD: its boot log up to a root shell."""

from __future__ import annotations

import re
import time

from vps.agent.sim.disks import disk_number
from vps.agent.sim.guest import Running, Shell, crash
from vps.agent.sim.wire import Ended, Line, Wait

_STEP = 0.113  # s of kernel time from line to line


def start(running: Running) -> Line:
    """Boot, mount the root (or panic for it), and be a shell."""
    log = _log(running)
    yield from running.lines(log)
    running.started = min(running.started, time.time() - _STEP * len(log))  # stamps go on from the log's
    root = running.argument("root")
    ramdisk = running.kernel.get("ramdisk_size")
    if ramdisk is None and not _root_exists(running, root):
        yield from crash(running, f'VFS: Unable to mount root fs on unknown-block(0,0) (root="{root or ""}")')
    if ramdisk is not None:
        log.append(_stamp(running, f"Trying to unpack rootfs image as initramfs... {ramdisk} bytes"))
        log.append(_stamp(running, "Run /init as init process"))
    else:
        log.append(_stamp(running, f"VFS: Mounted root (ext4 filesystem) readonly on {root}."))
        log.append(_stamp(running, "Run /sbin/init as init process"))
    running.say("\n".join(log[-2:]) + "\n")
    running.say(f"\nBerth simulated guest: boot {running.count}, kernel {running.digest}\n\n")
    while True:
        yield from Shell(running, "/ # ", log, lambda reason: _power(running, reason)).run()


def _log(running: Running) -> list[str]:
    record, kernel = running.domain.record, running.kernel
    configuration = f" ({running.configuration})" if running.configuration else ""
    name = "Linux" if "linux" in str(kernel.get("guest_os") or "linux").lower() else str(kernel["guest_os"])
    pvh = record["type"] == "pvh"
    texts = [
        f"{name} version {running.release}{configuration} (simulated@berth) sha256 {running.digest}",
        f"Command line: {running.arguments}",
        f"Berth simulated guest: boot {running.count} of this server",
        f"Hypervisor detected: Xen {'HVM' if pvh else 'PV'}",
        *([f"RAMDISK: {kernel['ramdisk_size']} bytes"] if "ramdisk_size" in kernel else []),
        f"smpboot: Allowing {record['vcpus']} CPUs, 0 hotplug CPUs",
        f"Booting kernel on Xen{' PVH' if pvh else ''}",
        f"Xen version: {running.domain.machine.settings['xen_version']} (preserve-AD)",
        f"Kernel command line: {running.arguments}",
        f"Memory: {max(4, record['memory'] - 64) * 1024}K/{record['memory'] * 1024}K available",
        "printk: console [hvc0] enabled",
        "Freeing unused kernel image (initmem) memory: 2824K",
    ]
    for disk in record["disks"]:
        mode = "" if disk["writable"] else "read-only, "
        texts.append(
            f"blkfront: {_device(disk['device'])}: {mode}flush diskcache: enabled; persistent grants: enabled"
        )
    if record["nics"]:
        texts.append("xen_netfront: Initialising Xen virtual ethernet driver")
    texts += [
        f"xen_netfront: eth{index} {nic['mac'] or 'random'}" for index, nic in enumerate(record["nics"])
    ]
    return [f"[{index * _STEP:12.6f}] {text}" for index, text in enumerate(texts)]


def _stamp(running: Running, text: str) -> str:
    return f"[{running.age:12.6f}] {text}"


def _device(vdev: str) -> str:
    number = disk_number(vdev)
    return f"xvd{chr(ord('a') + number)}" if number is not None and number < 26 else vdev


def _root_exists(running: Running, root: str | None) -> bool:
    """Whether root= names something that this domain has."""
    if root is None:
        return False
    if re.match(r"/dev/ram|(PART)?UUID=|(PART)?LABEL=|/dev/mapper/|/dev/disk/", root):
        return True
    match = re.fullmatch(r"(?:/dev/)?((?:xvd|hd|sd)[a-z])\d*", root)
    devices = {_device(disk["device"]) for disk in running.domain.record["disks"]}
    return bool(match) and re.sub("^(hd|sd)", "xvd", match[1]) in devices  # type: ignore[index]


def panic(running: Running, why: str) -> list[str]:
    texts = [
        f"Kernel panic - not syncing: {why}",
        f"CPU: 0 PID: 1 Comm: swapper/0 Not tainted {running.release} #1",
        "Call Trace:",
        " panic+0x118/0x2f0",
        "Kernel Offset: disabled",
    ]
    return [_stamp(running, text) for text in texts]


def _power(running: Running, reason: int) -> Line:
    # As busybox's init says it on Xen (recorded): a PV domain is halted, Xen takes that for a power-off.
    running.say("\n\rThe system is going down NOW!\n\rSent SIGTERM to all processes\n")
    yield Wait(running.domain.machine.time("shutdown"), keys=False)
    running.say(f"\rRequesting system {'reboot' if reason == 1 else 'poweroff'}\n")
    what = "Restarting system" if reason == 1 else "System halted"
    running.say(_stamp(running, f"reboot: {what}") + "\n")
    raise Ended(reason)
