"""`berth-agent check`: what this dom0 has and lacks, a line for each item, with the cure."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from vps.agent import bootdisk
from vps.agent.blobs import tls
from vps.agent.clock import Clock
from vps.agent.config import Config
from vps.agent.files import free_bytes
from vps.agent.inventory import bridges
from vps.agent.link import RedisError, connect, hear_time
from vps.agent.toolstack import ToolstackError
from vps.agent.xl import Xl

_SKEW = 5.0  # seconds
_SPACE = 2 * 1024**3  # bytes that a pool should have free
_PATH = re.compile(r"(/[A-Za-z0-9._+@-]+)+", re.ASCII)  # what vps.xen.xlcfg lets into a configuration


class Verdict(StrEnum):
    """How an item stands; only MISSING keeps servers from running."""

    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"


@dataclass(frozen=True)
class Item:
    """One line of the check."""

    verdict: Verdict
    name: str
    text: str


def check(config: Config, say: Callable[[str], object] = print) -> int:
    """Look at everything. Gives 1 when something is missing, else 0."""
    missing = 0
    for item in items(config):
        say(f"{item.verdict.value:8} {item.name:15} {item.text}")
        missing += item.verdict is Verdict.MISSING
    if missing:
        say(f"{missing} of what this dom0 needs is missing.")
    return 1 if missing else 0


def items(config: Config) -> Iterator[Item]:
    """The lines, each as soon as it is known."""
    yield _ok(
        "configuration", f"{config.path}: dom0 {config.name}, {len(config.trusted_keys)} trusted key(s)"
    )
    yield from _toolstack(config)
    yield from _folders(config)
    yield from _tools()
    yield from _redis(config)
    yield from _web(config)
    if not config.simulated:
        yield from _linux(config) if sys.platform.startswith("linux") else _netbsd()


def _ok(name: str, text: str) -> Item:
    return Item(Verdict.OK, name, text)


def _warning(name: str, text: str) -> Item:
    return Item(Verdict.WARNING, name, text)


def _missing(name: str, text: str) -> Item:
    return Item(Verdict.MISSING, name, text)


def _toolstack(config: Config) -> Iterator[Item]:
    xl = Xl(config.xl, config.xl_log_dir)
    try:
        info = xl.info()
        domains = xl.domains()
    except ToolstackError as error:
        yield _missing("xl", f"{' '.join(config.xl)}: {error.text}")
        return
    yield _ok("xl", f"Xen {info.version}, {len(domains) - 1} domU(s), {' '.join(info.caps) or 'no xen_caps'}")
    if info.free_memory_mib < 64:
        yield _warning(
            "memory", f"{info.free_memory_mib} MiB are free; give dom0 a fixed dom0_mem on Xen's line."
        )
    else:
        yield _ok("memory", f"{info.free_memory_mib} of {info.total_memory_mib} MiB are free")


def _folders(config: Config) -> Iterator[Item]:
    for name, folder in (
        ("state_dir", config.state_dir),
        ("disk_dir", config.disk_dir),
        ("config_dir", config.config_dir),
    ):
        made = name != "config_dir"  # the others are made by the agent
        yield _folder(name, folder, made)
    if config.xl_log_dir.is_dir():
        yield _ok("xl_log_dir", f"{config.xl_log_dir}")
    else:
        yield _missing(
            "xl_log_dir", f"{config.xl_log_dir} is not there; how servers ended could not be told. mkdir it."
        )
    there = next(path for path in (config.disk_dir, *config.disk_dir.parents) if path.exists())
    free = free_bytes(there)
    text = f"{free // 2**20} MiB are free in {there}"
    yield (
        _ok("space", text)
        if free >= _SPACE
        else _warning("space", f"{text}; free some for disks and boot disks.")
    )


def _folder(name: str, folder: Path, made: bool) -> Item:
    if not _PATH.fullmatch(str(folder)):
        return _missing(
            name, f"{folder} holds characters that xl's configuration cannot carry; choose another path."
        )
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if there != folder and not made:
        return _missing(name, f"{folder} is not there; mkdir it, or mend {name} in the configuration.")
    probe = there / f".berth-{secrets.token_hex(4)}"
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        return _missing(
            name, f"{there} cannot be written: {error.strerror}. Run the agent as root, or mend the folder."
        )
    return _ok(name, f"{folder} can be written" if there == folder else f"{folder} will be made")


def _tools() -> Iterator[Item]:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    lacking = [tool for tool in bootdisk.tools() if shutil.which(tool, path=path) is None]
    if lacking:
        yield _missing("e2fsprogs", f"{', '.join(lacking)} cannot be found; install e2fsprogs.")
    else:
        yield _ok("e2fsprogs", "mke2fs, e2fsck and debugfs are there")


def _redis(config: Config) -> Iterator[Item]:
    clock = Clock()
    client = connect(config)
    try:
        client.ping()
        hear_time(client, clock)
    except RedisError as error:
        yield _missing("redis", f"{config.redis}: {error}. See address, secret, and the network between.")
        return
    finally:
        client.close()
    yield _ok("redis", f"{config.redis} answers")
    if config.redis.startswith("redis://") and not re.match(
        r"redis://(127\.|localhost|\[::1\])", config.redis
    ):
        yield _warning("redis", "The connection is not encrypted; use rediss://.")
    skew = (clock.skew_ms or 0) / 1000
    if abs(skew) > _SKEW:
        yield _warning("clock", f"The dom0's clock is {skew:.1f} s off; set it, and run NTP.")
    else:
        yield _ok("clock", f"{skew:+.2f} s from the web's")


def _web(config: Config) -> Iterator[Item]:
    import httpx

    try:
        answer = httpx.get(
            f"{config.web}/agent/blobs/{'0' * 64}",
            headers={"Authorization": f"Bearer {config.dom0}:{config.secret}"},
            timeout=10,
            verify=tls(config.web_ca),
            trust_env=False,
        )
    except httpx.HTTPError as error:
        yield _missing("web", f"{config.web}: {type(error).__name__} {error}. See address and network.")
        return
    if answer.status_code == 404:
        yield _ok("web", f"{config.web} answers and knows this dom0")
    elif answer.status_code in (401, 403):
        yield _missing("web", f"{config.web} refuses this dom0's secret; enrol the dom0 again.")
    else:
        yield _missing("web", f"{config.web} answers with HTTP {answer.status_code}; see the web's log.")


def _linux(config: Config) -> Iterator[Item]:
    if Path("/proc/xen/capabilities").exists() or Path("/sys/hypervisor/type").exists():
        yield _ok("xen", "the kernel runs under Xen")
    else:
        yield _missing("xen", "the kernel runs without Xen; boot the entry with Xen.")
    if any(
        Path(path).exists()
        for path in ("/run/xenstored.pid", "/var/run/xenstored.pid", "/run/xenstored/socket")
    ):
        yield _ok("xenstored", "runs")
    else:
        yield _warning("xenstored", "no sign of it; start the xen service (systemctl enable --now xen).")
    if Path("/dev/loop-control").exists():
        yield _ok("loop", "loop devices can be made")
    else:
        yield _missing("loop", "/dev/loop-control is not there; modprobe loop.")
    found = bridges(config.bridges)
    if found:
        yield _ok("bridges", ", ".join(found))
    else:
        yield _warning("bridges", "there is none; make one, for example xenbr0 in /etc/network/interfaces.")
    yield _xendomains(Path("/etc/default/xendomains"))


def _xendomains(path: Path) -> Item:
    """xendomains saves running domains at shutdown, unless it is told not to (HOWTO, H15)."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return _ok("xendomains", "is not there; the agent starts what is wanted")
    values = dict(re.findall(r"^\s*(XENDOMAINS_\w+)=(\S*)", text, re.MULTILINE))
    if values.get("XENDOMAINS_SAVE", "").strip("\"'"):
        return _warning("xendomains", f"{path} saves domains at shutdown; write XENDOMAINS_SAVE= there.")
    return _ok("xendomains", "saves no domains")


def _netbsd() -> Iterator[Item]:
    try:
        text = Path("/etc/rc.conf").read_text(errors="replace")
    except OSError:
        yield _warning("rc.conf", "/etc/rc.conf cannot be read.")
        return
    values = {
        key.lower(): value.strip("\"'").lower()
        for key, value in re.findall(r"^(\w+)=(\S*)", text, re.MULTILINE)
    }
    if values.get("xencommons") in ("yes", "true", "on", "1"):
        yield _ok("xencommons", "is on")
    else:
        yield _missing("xencommons", "write xencommons=YES into /etc/rc.conf, and start it.")
    if values.get("xend") in ("yes", "true", "on", "1"):
        yield _missing("xend", "xl does not work beside xend; take xend=YES out of /etc/rc.conf.")
    for device in ("/dev/xencons", "/kern/xen/privcmd"):
        if Path(device).exists():
            yield _ok(Path(device).name, device)
        else:
            yield _warning(
                Path(device).name, f"{device} is not there; see MAKEDEV xen, and kernfs in /etc/fstab."
            )
    found = bridges(())
    yield (
        _ok("bridges", ", ".join(found))
        if found
        else _warning("bridges", "there is none; see /etc/ifconfig.bridge0 in the HOWTO.")
    )
