"""`python -m lab COMMAND`: see docs/lab.md."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lab import cache, dom0_agent, prerequisites
from lab.commands import PATH
from lab.disks import KINDS, disk
from lab.dom0_image import dom0
from lab.errors import LabError
from lab.guests import guests
from lab.images import images
from lab.join import Product, join
from lab.loaders import loaders
from lab.machine import Machine
from lab.record import record


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code. Errors for people go to stderr."""
    options = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description="A real Xen under QEMU's emulation.")
    parser.add_argument("--name", default="lab", help="which machine, where several run beside each other")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, function: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=function)
        return sub

    add("install-packages", _install, "install the host's packages that are missing (root)")
    add("build", _build, "download and build everything into the cache folder")
    start = add("start", _start, "start Xen and wait for a working xl")
    start.add_argument("--fresh", action="store_true", help="boot, even where a snapshot would do")
    start.add_argument("--beside", type=Path, metavar="DATA", help="first see that a product runs there")
    add("stop", _stop, "end Xen; what was changed in dom0 is gone")
    add("status", _status, "say what runs")
    ssh = add("ssh", _ssh, "a shell in dom0, or one command line for it")
    ssh.add_argument("line", nargs="*")
    runs = add("run", _run, "run a command in dom0: run -- xl list")
    runs.add_argument("argv", nargs="+")
    add("test-images", _test_images, "build the guest kernels, ramdisks and disks of the tests")
    agent = add("agent", _agent, "install the project's agent in dom0 and start it")
    agent.add_argument("--config", type=Path, required=True, help="agent.toml as enrolling gives it")
    joining = add("join", _join, "bring the dom0 to a running product, as one that an operator enrols")
    joining.add_argument("--data", type=Path, default=Path("var/berth"), help="the product's data folder")
    joining.add_argument("--dom0", default="lab", help="what the dom0 is called there")
    recording = add("record", _record, "record what the real xl says, for tests/lab/recorded")
    recording.add_argument("folder", type=Path)
    return parser


def _install(options: argparse.Namespace) -> int:
    print(prerequisites.install_packages())
    return 0


def _build(options: argparse.Namespace) -> int:
    begin = time.monotonic()
    prerequisites.check_build()
    with cache.lock():
        made = dom0()
        images(made)
    print(f"Built in {time.monotonic() - begin:.1f} s: {made.disk.parent}")
    return 0


def _start(options: argparse.Namespace) -> int:
    if options.beside:
        Product.of(options.beside)
    machine = Machine(options.name)
    if state := machine.state():
        print(f"Xen is running already ({options.name}, SSH on 127.0.0.1:{state.ssh_port}).")
        return 0
    prerequisites.check_build()
    prerequisites.check_start()
    with cache.lock():
        image = dom0()
        state = machine.start(image, fresh=options.fresh)
    how = "from the snapshot" if state.from_snapshot else "booted"
    print(f"Xen runs ({how} in {state.seconds:.1f} s to a working xl, SSH on 127.0.0.1:{state.ssh_port}).")
    return 0


def _join(options: argparse.Namespace) -> int:
    product = Product.of(options.data)
    machine = Machine(options.name)
    machine.running()
    seconds = join(product, machine.ssh(), options.dom0)
    print(f"The dom0 {options.dom0} joined in {seconds:.1f} s: {product.web}/dom0s/")
    return 0


def _stop(options: argparse.Namespace) -> int:
    machine = Machine(options.name)
    was = machine.state() is not None
    machine.stop()
    print("Xen was stopped." if was else "Xen was not running.")
    return 0


def _status(options: argparse.Namespace) -> int:
    state = Machine(options.name).state()
    if state is None:
        print("Xen is not running.")
        return 3
    print(f"Xen runs as process {state.pid}, SSH on 127.0.0.1:{state.ssh_port}, sockets in {state.sockets}.")
    return 0


def _ssh(options: argparse.Namespace) -> int:
    argv = [*Machine(options.name).ssh().argv("-t"), *options.line]
    os.execvpe(argv[0], argv, {**os.environ, "PATH": PATH})


def _run(options: argparse.Namespace) -> int:
    done = Machine(options.name).ssh().shell(shlex.join(options.argv), timeout=600, check=False)
    sys.stdout.buffer.write(done.stdout)
    sys.stdout.flush()
    sys.stderr.buffer.write(done.stderr)
    return done.exit


def _test_images(options: argparse.Namespace) -> int:
    prerequisites.check_build()
    with cache.lock():
        print(loaders().place)
        print(guests().place)
        for name in KINDS:
            print(disk(name))
        print(images(dom0()))
    return 0


def _agent(options: argparse.Namespace) -> int:
    try:
        text = options.config.read_text()
    except OSError as error:
        raise LabError(f"{options.config} cannot be read: {error.strerror}.") from None
    ssh = Machine(options.name).ssh()
    begin = time.monotonic()
    dom0_agent.stop(ssh)
    dom0_agent.install(ssh)
    dom0_agent.start(ssh, text)
    code, lines = dom0_agent.check(ssh)
    print(lines, end="")
    used = dom0_agent.memory(ssh)
    print(
        f"The agent runs in dom0 after {time.monotonic() - begin:.1f} s; "
        f"its {used.processes} process(es) take {used.pss / 1024:.0f} MiB (PSS)."
    )
    return code


def _record(options: argparse.Namespace) -> int:
    record(Machine(options.name), options.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
