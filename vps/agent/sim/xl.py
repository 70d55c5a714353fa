"""`berth-sim-xl --state DIR VERB …`: stands in for `xl`, with its words and its exit statuses (xl 4.17).

Each verb is imported when it is used, for `xl list` is called often and must start fast.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence

from vps.agent.sim.host import Machine
from vps.agent.sim.options import Usage

VERBS = {
    "create": "vps.agent.sim.verbs",
    "list": "vps.agent.sim.listing",
    "vm-list": "vps.agent.sim.listing",
    "destroy": "vps.agent.sim.verbs",
    "shutdown": "vps.agent.sim.verbs",
    "reboot": "vps.agent.sim.verbs",
    "pause": "vps.agent.sim.verbs",
    "unpause": "vps.agent.sim.verbs",
    "console": "vps.agent.sim.attach",
    "vcpu-list": "vps.agent.sim.listing",
    "info": "vps.agent.sim.listing",
    "domid": "vps.agent.sim.listing",
    "domname": "vps.agent.sim.listing",
    "dmesg": "vps.agent.sim.listing",
    "uptime": "vps.agent.sim.listing",
    "xenstore-read": "vps.agent.sim.listing",
    "sim-reset": "vps.agent.sim.verbs",
}
_NO_XEN = """\
xencall: error: Could not obtain handle on privileged command interface: No such file or directory
libxl: error: libxl.c:102:libxl_ctx_alloc: cannot open libxc handle: No such file or directory
cannot init xl context
"""
_RUBBISH = b"\x00\xff{[(Name\n\tID Mem\x1b[2J\n-1 %s %n\n\xfe\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns xl's exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    directory = os.environ.get("BERTH_SIM_STATE", "")
    while arguments and arguments[0].startswith("-"):
        option = arguments.pop(0)
        if option == "--state" and arguments:
            directory = arguments.pop(0)
        elif option.startswith("--state="):
            directory = option.removeprefix("--state=")
        elif option == "--version":
            from importlib.metadata import version

            print(f"berth-sim-xl {version('berth')}, standing in for xl 4.17")
            return 0
        elif option == "--help":
            return _help(0)
        elif not set(option[1:]) <= set("vftTN"):
            print(f"xl: invalid option -- '{option[1:2]}'\nunknown global option", file=sys.stderr)
            return 1
    if not arguments:
        return _help(1)
    if not directory:
        print("Name the state directory: --state DIR, or BERTH_SIM_STATE.", file=sys.stderr)
        return 1
    return _dispatch(Machine(directory), arguments[0], arguments[1:])


def _dispatch(machine: Machine, verb: str, arguments: list[str]) -> int:
    if verb != "sim-reset":
        if machine.faults.get("hang"):
            time.sleep(float(machine.faults["hang"]))
        if machine.faults.get("no_xen"):
            sys.stderr.write(_NO_XEN)
            return 1
        if machine.faults.get("rubbish"):
            sys.stdout.buffer.write(_RUBBISH)
            sys.stdout.flush()
            return 0
    if verb == "help":
        if arguments and arguments[0] not in VERBS:
            print(f'command "{arguments[0]}" not implemented')
            return 0
        if arguments:
            print(Usage.of(arguments[0]))
            return 0
        return _help(0)
    if verb not in VERBS:
        print("command not implemented", file=sys.stderr)
        return 1
    from importlib import import_module

    run: Callable[[Machine, list[str]], int] = getattr(
        import_module(VERBS[verb]), f"xl_{verb.replace('-', '_')}"
    )
    try:
        return run(machine, arguments)
    except Usage as usage:
        return usage.show()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def _help(status: int) -> int:
    print("Usage xl [-vfNtT] <subcommand> [args]\n\nxl full list of subcommands:\n")
    for verb in VERBS:
        print(f" {verb:<19} {Usage.summary(verb)}")
    return status


if __name__ == "__main__":
    sys.exit(main())
