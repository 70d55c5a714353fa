"""The project's agent in the lab's dom0, installed as on any: /opt/berth has its dependencies, the wheel comes last."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lab import cache
from lab.errors import LabError
from lab.record import wait_until
from lab.ssh import Ssh
from lab.wheels import wheel

# QEMU's user network: there the host's loopback is this address.
HOST = "10.0.2.2"
CONFIG = "/etc/berth/agent.toml"
LOG = "/var/log/berth/agent.log"


def install(ssh: Ssh) -> None:
    """Have the project's wheel as it is now, and nothing else, in dom0's environment; the image may have it already."""
    built = wheel()
    place = f"/root/{built.name}"
    there = ssh.shell(f"sha256sum {place} && test -e /opt/berth/bin/berth-agent", check=False)
    if there.exit == 0 and there.text.split()[0] == cache.file_digest(built):
        return
    ssh.put(built.read_bytes(), place)
    pip = "/opt/berth/bin/pip --quiet --disable-pip-version-check --no-cache-dir install --no-compile"
    ssh.shell(f"{pip} --no-index --no-deps --force-reinstall {place}", timeout=600)


def configured(text: str) -> str:
    """An agent.toml of the operator's page as dom0 needs it: the host's loopback is 10.0.2.2 there."""
    text = re.sub(
        r"(?m)^((?:web|redis)\s*=\s*\"\w+://)(?:127\.0\.0\.1|localhost)(?=[:/\"])", rf"\g<1>{HOST}", text
    )
    if not re.search(r"(?m)^tsc_native\s*=", text):
        text += "tsc_native = true\n"
    return text


def start(ssh: Ssh, config: str, *, deadline: float = 600) -> float:
    """Write the configuration, start the agent as a service; returns seconds to its first inventory. Raises LabError.

    `config` is the text of agent.toml as enrolling gives it.
    """
    ssh.put(configured(config).encode(), CONFIG, mode="600")
    ssh.run(["sh", "-c", f"mkdir -p /var/log/berth; : >{LOG}"])
    ssh.run(["lab-agent", "start"])
    # Each look costs dom0 a good part of a second, which the agent needs itself.
    return wait_until("the agent", lambda: _running(ssh), deadline, pause=3)


def _running(ssh: Ssh) -> bool:
    """Whether the agent got as far as its journal, which it opens after reading everything else."""
    line = "lab-agent status >/dev/null && test -s /var/lib/berth/journal.sqlite3"
    if ssh.shell(line, check=False).exit == 0:
        return True
    said = ssh.shell(f"tail -n 5 {LOG}", check=False).text
    if "the agent ended with 2" in said:
        raise LabError(f"The agent does not start:\n{said}")
    return False


def stop(ssh: Ssh) -> None:
    ssh.run(["lab-agent", "stop"], timeout=60)


def check(ssh: Ssh) -> tuple[int, str]:
    """`berth-agent check` in dom0: exit code and lines."""
    done = ssh.run(["/opt/berth/bin/berth-agent", "check", "--config", CONFIG], timeout=180, check=False)
    return done.exit, done.text + done.stderr.decode(errors="replace")


@dataclass(frozen=True)
class Memory:
    """Of all processes of the agent, in KiB; `pss` shares out what several map."""

    processes: int
    pss: int
    rss: int


def memory(ssh: Ssh) -> Memory:
    """What the agent and the programs it runs take in dom0."""
    script = (Path(__file__).parent / "dom0" / "agent-memory.py").read_text()
    count, pss, rss = ssh.run(["python3", "-"], stdin=script.encode(), timeout=60).text.split()
    return Memory(int(count), int(pss), int(rss))
