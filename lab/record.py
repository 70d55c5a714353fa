"""Record what the real xl prints and how it ends: test data for parsers and for the simulated xl.

    python -m lab record tests/lab/recorded

Each case is one file of standard output (and one of standard error, if there is any) and an entry of index.json.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from lab.errors import LabError
from lab.machine import Machine
from lab.ssh import Done, Ssh

PLACE = "/var/lib/guests"
IMAGES = "/srv/images"
UUIDS = {
    "alpha": "018f3e6a-0000-7000-8000-00000000000a",
    "beta": "018f3e6a-0000-7000-8000-00000000000b",
}


class Recorder:
    """Runs commands in dom0 and writes down what came of them."""

    def __init__(self, ssh: Ssh, folder: Path) -> None:
        self.ssh = ssh
        self.folder = folder
        self.cases: list[dict[str, object]] = []
        self.version = "?"

    def run(self, situation: str, argv: Sequence[str], *, note: str = "", timeout: float = 180) -> Done:
        """Record `argv`; the files are called after Xen's version and `situation`."""
        begin = time.monotonic()
        done = self.ssh.run(
            ["timeout", "-k", "5", str(int(timeout)), *argv], timeout=timeout + 30, check=False
        )
        self._write(situation, argv, done, time.monotonic() - begin, note)
        return done

    def keep(self, situation: str, argv: Sequence[str], done: Done, seconds: float, note: str = "") -> None:
        """Record what was run in another way."""
        self._write(situation, argv, done, seconds, note)

    def save(self) -> None:
        index = {"xen": self.version, "cases": self.cases}
        (self.folder / "index.json").write_text(json.dumps(index, indent=1) + "\n")

    def _write(self, situation: str, argv: Sequence[str], done: Done, seconds: float, note: str) -> None:
        name = f"xl-{self.version}-{situation}"
        entry: dict[str, object] = {
            "file": f"{name}.txt",
            "argv": list(argv),
            "exit": done.exit,
            "stdout": f"{name}.txt",
            "stderr": None,
            "seconds": round(seconds, 1),
        }
        (self.folder / f"{name}.txt").write_bytes(done.stdout)
        if done.stderr:
            entry["stderr"] = f"{name}.err.txt"
            (self.folder / f"{name}.err.txt").write_bytes(done.stderr)
        if note:
            entry["note"] = note
        self.cases.append(entry)
        self.save()
        print(f"{situation}: exit {done.exit} in {seconds:.1f} s", flush=True)


def record(machine: Machine, folder: Path) -> None:
    """Record everything anew into `folder`, which is emptied of older recordings first."""
    ssh = machine.ssh()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("xl-*"):
        old.unlink()
    recorder = Recorder(ssh, folder)
    info = ssh.run(["xl", "info"]).text
    found = re.search(r"^xen_version\s*:\s*(\d+\.\d+)", info, re.MULTILINE)
    recorder.version = found[1] if found else "?"
    prepare(ssh)
    for part in (_idle, _refusals, _life, _shutdowns, _endings, _paused, _deaf, _memory):
        part(recorder)
        for name in ssh.shell("xl list | awk 'NR > 2 { print $1 }'").text.split():
            ssh.run(["xl", "destroy", name], check=False)
            wait_gone(ssh, name)
    (folder / "README.md").write_text(_README.format(version=recorder.version))


_README = """# What the real xl says

Recorded by `python -m lab record` from Xen {version} as Debian ships it, in the lab (docs/lab.md). For each case
`index.json` has the command, the exit code, the files with standard output and standard error, and the seconds it
took under emulation. What xl said was not edited.
"""


def prepare(ssh: Ssh) -> None:
    """Make the disks that the recorded guests have."""
    ssh.shell(
        f"mkdir -p {PLACE}; truncate -s 16M {PLACE}/alpha.img {PLACE}/beta.img; echo hello >{PLACE}/text;"
        f"head -c 1000000 {IMAGES}/vmlinux.gz >{PLACE}/truncated.gz"
    )


def config(name: str, **settings: str) -> str:
    """An xl configuration as the product writes them; a setting is replaced by its keyword, or left out when empty."""
    number = 1 + sorted(UUIDS).index(name) if name in UUIDS else 9
    values = {
        "name": f'"{name}"',
        "uuid": f'"{UUIDS.get(name, "018f3e6a-0000-7000-8000-0000000000ff")}"',
        "type": '"pv"',
        "kernel": f'"{IMAGES}/vmlinux.gz"',
        "ramdisk": f'"{IMAGES}/rd.gz"',
        "extra": f'"console=hvc0 berth.name={name}"',
        "memory": "128",
        "vcpus": "1",
        "vif": f"[ 'mac=00:16:3e:00:00:0{number},bridge=xenbr0' ]",
        "disk": f"[ 'format=raw,vdev=xvda,access=rw,target={PLACE}/{name}.img' ]",
        "on_poweroff": '"destroy"',
        "on_reboot": '"destroy"',
        "on_crash": '"destroy"',
        "on_watchdog": '"destroy"',
        **settings,
    }
    return "".join(f"{key} = {value}\n" for key, value in values.items() if value)


def put_config(ssh: Ssh, name: str, **settings: str) -> str:
    path = f"/etc/xen/{name}"
    ssh.put(config(name, **settings).encode(), path)
    return path


def wait_until(
    what: str, condition: Callable[[], bool], deadline: float = 180, *, pause: float = 0.2
) -> float:
    """Poll, with `pause` seconds between looks; returns the seconds it took. Raises LabError."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > deadline:
            raise LabError(f"After {deadline:.0f} s still waiting for: {what}")
        time.sleep(pause)
    return time.monotonic() - begin


def wait_gone(ssh: Ssh, name: str) -> float:
    return wait_until(f"{name} gone", lambda: ssh.run(["xl", "domid", name], check=False).exit != 0)


class Console:
    """An `xl console` in dom0 with a terminal, read as it comes."""

    def __init__(self, ssh: Ssh, name: str, *, line: str | None = None) -> None:
        self.process = ssh.popen(line or f"exec xl console {name}", tty=True)
        self.said = b""
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)

    def read(self) -> bytes:
        assert self.process.stdout is not None
        self.said += self.process.stdout.read() or b""
        return self.said

    def wait(self, text: bytes, deadline: float = 180) -> float:
        """Seconds until `text` was on the console. Raises LabError with what was there instead."""
        try:
            return wait_until(f"{text!r} on the console", lambda: text in self.read(), deadline)
        except LabError as error:
            raise LabError(f"{error}\nIts end was: {self.said[-1000:]!r}") from None

    def type(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()

    def close(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(30)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        return code


def _idle(recorder: Recorder) -> None:
    run = recorder.run
    run("list-empty", ["xl", "list"])
    run("list-verbose-empty", ["xl", "list", "-v"])
    run("list-long-empty", ["xl", "list", "-l"])
    run("info", ["xl", "info"])
    run("info-numa", ["xl", "info", "-n"])
    run("uptime-empty", ["xl", "uptime"])
    run("domid-unknown", ["xl", "domid", "nobody"])
    run("domname-unknown", ["xl", "domname", "77"])
    run("list-unknown", ["xl", "list", "nobody"])
    run("console-unknown", ["xl", "console", "nobody"])
    run("destroy-unknown", ["xl", "destroy", "nobody"])
    run("shutdown-unknown", ["xl", "shutdown", "nobody"])
    run("reboot-unknown", ["xl", "reboot", "nobody"])
    run("pause-unknown", ["xl", "pause", "nobody"])
    run("unpause-unknown", ["xl", "unpause", "nobody"])
    run("dmesg", ["sh", "-c", "xl dmesg | head -60"])
    run("no-command", ["xl"])
    run("unknown-command", ["xl", "frobnicate"])


def _refusals(recorder: Recorder) -> None:
    ssh, run = recorder.ssh, recorder.run

    def refused(situation: str, note: str = "", **settings: str) -> None:
        path = put_config(ssh, "alpha", **settings)
        run(f"create-{situation}", ["xl", "create", path], note=note)
        run(f"list-after-{situation}", ["xl", "list"])
        if situation == "bad-mac":
            attached("network-list", situation)
        if ssh.run(["xl", "destroy", "alpha"], check=False).exit == 0:
            wait_gone(ssh, "alpha")

    def attached(what: str, situation: str) -> None:
        run(f"{what}-after-{situation}", ["xl", what, "alpha"])

    run("create-no-config", ["xl", "create", "/etc/xen/nothing-here"])
    refused("no-kernel-file", kernel=f'"{PLACE}/no-such-kernel"')
    refused("kernel-is-text", kernel=f'"{PLACE}/text"', ramdisk="")
    refused("kernel-empty", kernel='"/dev/null"', ramdisk="")
    refused("kernel-is-hypervisor", kernel=f'"{IMAGES}/xen"', ramdisk="")
    refused("kernel-is-ramdisk", kernel=f'"{IMAGES}/rd.gz"', ramdisk="")
    refused("kernel-truncated", kernel=f'"{PLACE}/truncated.gz"', ramdisk="")
    refused("kernel-wrong-bitness", kernel=f'"{IMAGES}/berth-pv32.bin"', ramdisk="", disk="", vif="")
    refused("kernel-larger-than-memory", memory="32", disk="", vif="")
    refused("no-kernel-setting", kernel="", ramdisk="")
    refused("missing-disk", disk=f"[ 'format=raw,vdev=xvda,access=rw,target={PLACE}/nothing.img' ]")
    refused("missing-phy-disk", disk="[ 'format=raw,vdev=xvda,access=rw,target=/dev/nothing' ]")
    refused("missing-bridge", vif="[ 'mac=00:16:3e:00:00:01,bridge=nobridge' ]")
    refused("bad-mac", vif="[ 'mac=00:16:3e:00:00,bridge=xenbr0' ]")
    refused("syntax-error", memory="= 128")
    refused("bad-vdev", disk=f"[ 'format=raw,vdev=xyz,access=rw,target={PLACE}/alpha.img' ]")
    refused("no-memory", memory="9000")
    refused("bad-type", type='"frob"')
    refused("hvm-without-model", type='"hvm"', kernel="", ramdisk="")


def _life(recorder: Recorder) -> None:
    ssh, run = recorder.ssh, recorder.run
    alpha, beta = put_config(ssh, "alpha"), put_config(ssh, "beta")
    run("create", ["xl", "create", alpha])
    run("list-one", ["xl", "list"])
    console = Console(ssh, "alpha")
    console.wait(b"berth-guest: up")
    run("console-second", ["xl", "console", "alpha"])
    run("create-name-taken", ["xl", "create", alpha])
    run(
        "create-uuid-taken",
        ["xl", "create", put_config(ssh, "gamma", uuid=f'"{UUIDS["alpha"]}"', disk="", vif="")],
    )
    run("list-verbose-uuid-twice", ["xl", "list", "-v"])
    run("destroy-uuid-twice", ["xl", "destroy", "gamma"])
    run("create-disk-taken", ["xl", "create", put_config(ssh, "delta", disk=_disk("alpha"), vif="")])
    run("block-list-disk-taken", ["xl", "block-list", "alpha", "delta"])
    run("list-disk-taken", ["xl", "list"])
    ssh.run(["xl", "destroy", "delta"], check=False)
    run("create-beta", ["xl", "create", beta])
    run("list", ["xl", "list"])
    run("list-verbose", ["xl", "list", "-v"])
    run("list-long", ["xl", "list", "-l"])
    run("list-long-alpha", ["xl", "list", "-l", "alpha"])
    run("domid", ["xl", "domid", "alpha"])
    run("uptime", ["xl", "uptime"])
    run("info-with-guests", ["xl", "info"])
    run("vcpu-list", ["xl", "vcpu-list"])
    run("block-list", ["xl", "block-list", "alpha"])
    run("network-list", ["xl", "network-list", "alpha"])
    run("pause", ["xl", "pause", "alpha"])
    run("list-paused", ["xl", "list"])
    run("unpause", ["xl", "unpause", "alpha"])
    run("list-unpaused", ["xl", "list"])
    run("unpause-running", ["xl", "unpause", "alpha"])
    run("list-unpaused-twice", ["xl", "list"])
    ssh.run(["xl", "pause", "alpha"])
    run("pause-paused", ["xl", "pause", "alpha"])
    run("unpause-paused-twice", ["xl", "unpause", "alpha"])
    run("list-unpaused-once-of-two", ["xl", "list"], note="pauses are counted: it is still paused")
    run("unpause-second-of-two", ["xl", "unpause", "alpha"])
    run("list-unpaused-two-of-two", ["xl", "list"])
    run("network-list-beta", ["xl", "network-list", "beta"])
    run("destroy", ["xl", "destroy", "beta"])
    run("list-after-destroy", ["xl", "list"])
    run("log-destroy", ["cat", "/var/log/xen/xl-beta.log"])
    console.close()
    console = Console(ssh, "alpha")
    console.type("\n")
    console.wait(b"berth-guest:/# ")
    console.type("\x1d")
    code = console.process.wait(30)
    console.read()
    recorder.keep(
        "console-left", ["xl", "console", "alpha"], Done(code, console.said, b""), 0, "left with ^]"
    )


def _disk(name: str) -> str:
    return f"[ 'format=raw,vdev=xvda,access=rw,target={PLACE}/{name}.img' ]"


def _start(recorder: Recorder, name: str, **settings: str) -> Console:
    recorder.ssh.run(["xl", "create", put_config(recorder.ssh, name, **settings)])
    console = Console(recorder.ssh, name)
    console.type("\n")
    console.wait(b"berth-guest:/# ")
    return console


def _watch(recorder: Recorder, name: str, command: str) -> None:
    """Every different `xl list -v` and `xl domid` while `name` ends."""
    script = f"""
name={name}
last=
{{ {command} >/tmp/watch.out 2>/tmp/watch.err; echo $? >/tmp/watch.exit; }} &
for i in $(seq 1 120); do
    now=$(xl list -v 2>&1 | sed -e '/Domain-0/d' -e 1d)
    if [ "$now" != "$last" ]; then read -r up _ </proc/uptime; echo "at $up:"; echo "$now"; last=$now; fi
    [ -z "$now" ] && break
done
wait
echo "exit $(cat /tmp/watch.exit)"; cat /tmp/watch.out /tmp/watch.err
"""
    done = recorder.ssh.shell(script, timeout=300, check=False)
    recorder.keep(f"watched-{command.replace(' ', '-')}", ["sh", "-c", script], done, 0)


def _shutdowns(recorder: Recorder) -> None:
    ssh, run = recorder.ssh, recorder.run
    _start(recorder, "alpha").close()
    run("shutdown", ["xl", "shutdown", "alpha"])
    wait_gone(ssh, "alpha")
    run("log-shutdown", ["cat", "/var/log/xen/xl-alpha.log"])
    _start(recorder, "alpha").close()
    run("shutdown-wait", ["xl", "shutdown", "-w", "alpha"])
    run("domid-just-after-shutdown", ["xl", "domid", "alpha"])
    run("create-just-after-shutdown", ["xl", "create", "/etc/xen/alpha"], note="the race of `shutdown -w`")
    run("list-just-after-shutdown", ["xl", "list"])
    wait_gone(ssh, "alpha")
    _start(recorder, "alpha").close()
    _watch(recorder, "alpha", "xl shutdown -w alpha")
    _start(recorder, "alpha").close()
    _watch(recorder, "alpha", "xl destroy alpha")
    _start(recorder, "alpha").close()
    run("reboot", ["xl", "reboot", "alpha"], note='on_reboot="destroy"')
    wait_gone(ssh, "alpha")
    run("log-xl-reboot", ["cat", "/var/log/xen/xl-alpha.log"])


def _endings(recorder: Recorder) -> None:
    ssh, run = recorder.ssh, recorder.run
    for ending in ("poweroff", "reboot", "crash"):
        console = _start(recorder, "alpha")
        console.type(f"{ending}\n")
        seconds = wait_gone(ssh, "alpha")
        run(f"log-{ending}", ["cat", "/var/log/xen/xl-alpha.log"], note=f"gone after {seconds:.1f} s")
        wait_until("the console's end", lambda c=console: c.process.poll() is not None, 60)
        console.read()
        done = Done(console.process.returncode, console.said, b"")
        recorder.keep(f"console-{ending}", ["xl", "console", "alpha"], done, seconds)
    console = _start(recorder, "alpha", on_crash='"preserve"')
    console.type("crash\n")
    wait_until(
        "crashed", lambda: "c-" in ssh.shell("xl list alpha", check=False).text.splitlines()[-1].split()[4]
    )
    run("list-crashed-preserved", ["xl", "list"])
    run("list-verbose-crashed-preserved", ["xl", "list", "-v"])
    run("list-long-crashed-preserved", ["xl", "list", "-l"])
    run("log-crash-preserved", ["cat", "/var/log/xen/xl-alpha.log"])
    console.close()
    run("shutdown-crashed", ["xl", "shutdown", "alpha"], timeout=90)
    run("pause-crashed", ["xl", "pause", "alpha"])
    run("create-name-taken-by-crashed", ["xl", "create", "/etc/xen/alpha"])
    run("destroy-crashed", ["xl", "destroy", "alpha"])
    run("log-destroy-crashed", ["cat", "/var/log/xen/xl-alpha.log"])
    path = put_config(ssh, "alpha", extra='"console=hvc0 berth.end=crash"')
    run("create-crashes-at-once", ["xl", "create", path])
    wait_gone(ssh, "alpha")
    run("log-crashes-at-once", ["cat", "/var/log/xen/xl-alpha.log"])


def _paused(recorder: Recorder) -> None:
    ssh, run = recorder.ssh, recorder.run
    path = put_config(ssh, "alpha")
    run("create-paused", ["xl", "create", "-p", path])
    run("list-created-paused", ["xl", "list"])
    run("list-verbose-created-paused", ["xl", "list", "-v"])
    console = Console(ssh, "alpha")
    # Paused, nothing comes; that the client is attached shows in the lock it holds.
    wait_until(
        "the client",
        lambda: ssh.shell("ls /run/lock/xenconsole.* /var/lock/xenconsole.*", check=False).stdout != b"",
    )
    run("unpause-created-paused", ["xl", "unpause", "alpha"])
    console.wait(b"berth-guest: up")
    first = console.read()[:60]
    note = f"create -p, console, unpause; the first bytes were {first!r}"
    recorder.keep("console-from-first-byte", ["xl", "console", "alpha"], Done(0, console.said, b""), 0, note)
    run("destroy-with-console", ["xl", "destroy", "alpha"])
    wait_until("the console's end", lambda: console.process.poll() is not None, 60)
    path = put_config(ssh, "beta")
    ssh.run(["xl", "create", "-p", path])
    run("destroy-created-paused", ["xl", "destroy", "beta"])
    ssh.run(["xl", "create", "-p", path])
    run("shutdown-created-paused", ["xl", "shutdown", "beta"], timeout=120)


def _deaf(recorder: Recorder) -> None:
    ssh, run = recorder.ssh, recorder.run
    path = put_config(ssh, "beta", kernel=f'"{IMAGES}/berth-pv64.bin"', ramdisk="", extra="", disk="")
    ssh.run(["xl", "create", path])
    console = Console(ssh, "beta")
    console.wait(b"Press Enter")
    run("list-polling", ["xl", "list"], note="a loader at its prompt")
    run("shutdown-deaf", ["xl", "shutdown", "beta"], timeout=120)
    run("shutdown-wait-deaf", ["xl", "shutdown", "-w", "beta"], timeout=120)
    run("reboot-deaf", ["xl", "reboot", "beta"], timeout=120)
    run("list-deaf", ["xl", "list"])
    console.read()
    recorder.keep("console-loader-no-disk", ["xl", "console", "beta"], Done(0, console.said, b""), 0)
    run("destroy-deaf", ["xl", "destroy", "beta"])
    run("log-destroy-deaf", ["cat", "/var/log/xen/xl-beta.log"])
    console.close()


def _memory(recorder: Recorder) -> None:
    ssh, run = recorder.ssh, recorder.run
    ssh.run(["xl", "create", "-p", put_config(ssh, "alpha", memory="900", disk="", vif="")])
    run("create-memory-used-up", ["xl", "create", put_config(ssh, "beta", memory="900", disk="", vif="")])
    run("list-memory-used-up", ["xl", "list"])
    run("info-memory-used-up", ["xl", "info"])
