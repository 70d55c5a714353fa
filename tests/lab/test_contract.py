"""What the toolstack must do, asked of the simulated xl and of the real one by the same functions.

The agent's adapter (vps.agent.xl.Xl) is what is asked; xl's own words are held against what was recorded
(tests/lab/recorded). Without BERTH_LAB=1 only the simulated one is asked.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from uuid import UUID

import pytest

from tests.lab.hosts import NO_DEVICES, OWN, Guest, Host, Real, Said, Simulated, recorded
from vps.agent.toolstack import ToolstackError
from vps.xen.endings import Ending, EndReason
from vps.xen.xlparse import DomainState, parse_list, xl_error

pytestmark = pytest.mark.timeout(900)
ci = pytest.mark.lab_ci


@pytest.fixture(
    scope="module", params=[pytest.param("simulated"), pytest.param("real", marks=pytest.mark.lab)]
)
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("contract")
    made: Simulated | Real
    made = Simulated(folder) if request.param == "simulated" else Real(request.getfixturevalue("xen"), folder)
    yield made
    made.close()


running: dict[str, Guest] = {}


@pytest.fixture(scope="module")
def kept(host: Host) -> Iterator[dict[str, Guest]]:
    """Guests that one test leaves to the next, for a boot costs half a minute on the real one."""
    yield running
    for guest in running.values():
        guest.console.close()
    running.clear()


@pytest.fixture
def alpha(host: Host, kept: dict[str, Guest]) -> Guest:
    """A guest with a disk and an interface that has come as far as its shell."""
    found = kept.get("alpha")
    row = host.row("alpha")
    if found is not None and row is not None and row.domid == found.domid:
        return found
    if found is not None:
        found.console.close()
    host.destroy_all()
    host.take_long_to_clear_away(True)
    kept["alpha"] = boot(host, "alpha")
    host.take_long_to_clear_away(False)
    return kept["alpha"]


def boot(host: Host, name: str, **settings: str) -> Guest:
    """As the agent starts a server: built paused, its console taken, then let run."""
    host.toolstack.create(host.config(name, **settings), lambda pid: None)
    row = host.row(name)
    assert row is not None
    assert (row.uuid, row.state) == (UUID(OWN[name]), DomainState.PAUSED)
    guest = Guest(host, name, row.domid, host.console(name))
    host.toolstack.unpause(row.domid)
    guest.wait(host.prompt)
    return guest


def refused(host: Host, **settings: str) -> ToolstackError:
    config = host.config("alpha", **settings)
    with pytest.raises(ToolstackError) as error:
        host.toolstack.create(config, lambda pid: None)
    return error.value


@ci
def test_info(host: Host) -> None:
    info = host.toolstack.info()
    assert info.version.startswith("4.17.")
    assert {"xen-3.0-x86_64", "hvm-3.0-x86_32"} <= set(info.caps)
    assert "pv" in info.virt_caps
    assert 0 < info.free_memory_mib < info.total_memory_mib
    assert info.cpus >= 1
    said, known = host.xl("info").out, recorded("info")
    assert [line.split(":")[0] for line in said.splitlines()] == [
        line.split(":")[0] for line in known.splitlines()
    ]


@ci
@pytest.mark.parametrize("verb", ["list", "console", "destroy", "shutdown", "reboot", "pause", "unpause"])
def test_nobody_is_refused(host: Host, verb: str) -> None:
    assert host.xl(verb, "nobody") == Said(1, "", recorded(f"{verb}-unknown.err"))


@ci
@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("domid", "nobody"), id="domid"),
        pytest.param(("domname", "77"), id="domname"),
    ],
)
def test_nobody_is_found(host: Host, words: tuple[str, ...]) -> None:
    assert host.xl(*words) == Said(1, "", recorded(f"{words[0]}-unknown.err"))


@ci
def test_an_unknown_command(host: Host) -> None:
    assert host.xl("frobnicate") == Said(1, "", recorded("unknown-command.err"))


@ci
@pytest.mark.parametrize(
    ("verb", "code"),
    [
        pytest.param("destroy", "no_domain", id="destroy"),
        pytest.param("shutdown", "no_domain", id="shutdown"),
        pytest.param("reboot", "no_domain", id="reboot"),
        # xl does not look whether these worked.
        pytest.param("pause", None, id="pause"),
        pytest.param("unpause", None, id="unpause"),
        pytest.param("console", "no_domain", id="console"),
    ],
)
def test_a_number_that_nobody_has(host: Host, verb: str, code: str | None) -> None:
    """The agent names domains by their number, which may be gone a moment later."""
    said = host.xl(verb, "7777")
    assert said == Said(1 if code else 0, "", recorded(f"{verb}-no-such-number.err"))
    assert code is None or xl_error(verb, "", said.words, said.exit).code == code


REFUSALS = {
    "no-kernel-file": ("kernel_unreadable", {"kernel": '"/var/lib/guests/no-such-kernel"'}),
    "kernel-is-text": ("kernel_refused", {"kernel": '"/var/lib/guests/text"', "ramdisk": ""}),
    "kernel-empty": ("kernel_empty", {"kernel": '"/dev/null"', "ramdisk": ""}),
    "kernel-is-hypervisor": ("kernel_refused", {"kernel": '"/srv/images/xen"', "ramdisk": ""}),
    "kernel-is-ramdisk": ("kernel_refused", {"kernel": '"/srv/images/rd.gz"', "ramdisk": ""}),
    "kernel-wrong-bitness": (
        "guest_type",
        {"kernel": '"/srv/images/berth-pv32.bin"', "ramdisk": "", **NO_DEVICES},
    ),
    "kernel-truncated": ("kernel_refused", {"kernel": '"/var/lib/guests/truncated.gz"', "ramdisk": ""}),
    "kernel-larger-than-memory": ("too_small", {"memory": "32", **NO_DEVICES}),
    "no-kernel-setting": ("configuration", {"kernel": "", "ramdisk": ""}),
    "missing-disk": (
        "disk_missing",
        {"disk": "[ 'format=raw,vdev=xvda,access=rw,target=/var/lib/guests/nothing.img' ]"},
    ),
    "missing-phy-disk": (
        "disk_missing",
        {"disk": "[ 'format=raw,vdev=xvda,access=rw,target=/dev/nothing' ]"},
    ),
    "syntax-error": ("configuration", {"memory": "= 128"}),
    "bad-type": ("configuration", {"type": '"frob"'}),
    "no-memory": ("memory", {"memory": "9000", **NO_DEVICES}),
    "bad-vdev": (
        "disk_script",
        {"disk": "[ 'format=raw,vdev=xyz,access=rw,target=/var/lib/guests/alpha.img' ]"},
    ),
    "missing-bridge": (
        "bridge_missing",
        {"disk": "", "vif": "[ 'mac=00:16:3e:00:00:01,bridge=nobridge' ]"},
    ),
}
DEAR = {"no-memory", "bad-vdev", "missing-bridge"}  # ten to forty seconds each on the real one


@pytest.mark.parametrize(
    "situation", [pytest.param(name, marks=() if name in DEAR else ci) for name in REFUSALS]
)
def test_what_cannot_be_built_is_refused_and_leaves_nothing(host: Host, situation: str) -> None:
    code, settings = REFUSALS[situation]
    error = refused(host, **settings)
    assert error.code == code, error.output
    assert host.plain(error.output) == recorded(f"create-{situation}.err").strip("\n")
    assert host.row("alpha") is None


@ci
def test_a_configuration_that_is_not_there(host: Host) -> None:
    said = host.xl("create", "/etc/xen/nothing-here")
    assert said == Said(3, "", recorded("create-no-config.err"))
    assert xl_error("create", "", said.words, said.exit).code == "configuration"


@ci
def test_the_first_byte_is_on_the_console_and_bytes_go_both_ways(host: Host, alpha: Guest) -> None:
    assert alpha.console.read().startswith(b"[    0.000000] Linux version 6.1.0-")
    assert b"Command line: console=hvc0 berth.name=alpha\r\n" in alpha.console.read()
    alpha.ask("echo one  two", b"two\r\n")
    alpha.ask("cat /proc/cmdline", b"console=hvc0 berth.name=alpha\r\n")


@ci
def test_what_runs_is_listed(host: Host, alpha: Guest) -> None:
    host.until("it is idle", lambda: host.guests() == {"alpha": DomainState.RUNNING})
    rows = {row.domid: row for row in host.toolstack.domains()}
    assert rows[0].name == "Domain-0"
    assert rows[0].uuid == UUID(int=0)
    row = rows[alpha.domid]
    assert (row.name, row.uuid, row.memory_mib, row.vcpus, row.reason) == (
        "alpha",
        UUID(OWN["alpha"]),
        128,
        1,
        None,
    )
    assert host.xl("domid", "alpha").out == f"{alpha.domid}\n"
    assert host.xl("domname", str(alpha.domid)).out == "alpha\n"
    assert parse_list(host.xl("list", "-v").out)[-1].domid == alpha.domid
    assert host.toolstack.info().free_memory_mib <= host.toolstack.info().total_memory_mib - 768 - 128


@ci
def test_a_second_console_is_kept_away(host: Host, alpha: Guest) -> None:
    assert host.xl("console", "alpha") == Said(11, "", recorded("console-second.err"))
    alpha.ask("echo still  here", b"here\r\n")


@ci
def test_pauses_count(host: Host, alpha: Guest) -> None:
    def state() -> DomainState:
        return host.guests()["alpha"]

    host.toolstack.pause(alpha.domid)
    assert state() is DomainState.PAUSED
    host.toolstack.pause(alpha.domid)
    host.toolstack.unpause(alpha.domid)
    assert state() is DomainState.PAUSED
    alpha.console.type("echo paused\r")
    host.toolstack.unpause(alpha.domid)
    assert state() is DomainState.RUNNING
    alpha.wait(b"paused\r\npaused\r\n")
    assert host.xl("unpause", "alpha") == Said(0, "", recorded("unpause-running.err"))


@ci
def test_a_name_that_is_taken(host: Host, alpha: Guest) -> None:
    error = refused(host, **NO_DEVICES)
    assert error.code == "exists"
    assert host.plain(error.output) == recorded("create-name-taken.err").strip("\n")
    row = host.row("alpha")
    assert row is not None and row.domid == alpha.domid


@ci
def test_xl_builds_a_second_domain_of_a_uuid(host: Host, alpha: Guest) -> None:
    """It protects from nothing: the agent must."""
    host.toolstack.create(host.config("gamma", uuid=f'"{OWN["alpha"]}"', **NO_DEVICES), lambda pid: None)
    twice = [row for row in host.toolstack.domains() if row.uuid == UUID(OWN["alpha"])]
    assert {row.name for row in twice} == {"alpha", "gamma"}
    gamma = next(row for row in twice if row.name == "gamma")
    host.toolstack.destroy(gamma.domid)
    host.gone("gamma")
    assert set(host.guests()) == {"alpha"}


@ci
def test_memory_that_others_have_is_not_given_away(host: Host, alpha: Guest) -> None:
    free = host.toolstack.info().free_memory_mib
    with pytest.raises(ToolstackError) as error:
        host.toolstack.create(host.config("beta", memory=str(free + 64), **NO_DEVICES), lambda pid: None)
    assert error.value.code == "memory"
    assert host.plain(error.value.output) == recorded("create-memory-used-up.err").strip("\n")
    assert set(host.guests()) == {"alpha"}
    # What was taken to see that it does not do is given back.
    host.until("memory is free again", lambda: host.toolstack.info().free_memory_mib >= free - 2)


@ci
def test_shutdown_returns_before_the_domain_is_gone_and_a_create_at_once_fails(
    host: Host, alpha: Guest
) -> None:
    host.toolstack.shutdown(alpha.domid, threading.Event())
    error = refused(host, **NO_DEVICES)
    assert error.code == "exists"
    seen = host.gone("alpha")
    assert set(seen) <= {DomainState.RUNNING, DomainState.SHUTDOWN, DomainState.DYING}
    assert host.ending("alpha", alpha.domid) == Ending(EndReason.POWEROFF, 0)
    assert host.plain(host.log("alpha")) == recorded("log-shutdown")
    host.until("the console ends by itself", lambda: alpha.console.over() is not None)
    assert alpha.console.over() == 0
    assert b"System halted" in alpha.console.read()


def small(host: Host, name: str, kept: dict[str, Guest], **settings: str) -> Guest:
    host.destroy_all()
    if name in kept:
        kept.pop(name).console.close()
    kept[name] = boot(host, name, **{**NO_DEVICES, **settings})
    return kept[name]


@ci
def test_xl_reboot_ends_the_domain(host: Host, kept: dict[str, Guest]) -> None:
    beta = small(host, "beta", kept)
    host.toolstack.reboot(beta.domid, threading.Event())
    host.gone("beta")
    assert host.ending("beta", beta.domid) == Ending(EndReason.REBOOT, 1)
    assert host.plain(host.log("beta")) == recorded("log-xl-reboot").replace("alpha", "beta")


@ci
@pytest.mark.parametrize(
    ("command", "ending"),
    [
        pytest.param("poweroff", Ending(EndReason.POWEROFF, 0), id="poweroff"),
        pytest.param("reboot", Ending(EndReason.REBOOT, 1), id="reboot"),
        pytest.param("crash", Ending(EndReason.CRASH, 3), id="crash"),
    ],
)
def test_a_guest_ends_itself(host: Host, kept: dict[str, Guest], command: str, ending: Ending) -> None:
    guest = small(host, "alpha", kept)
    guest.console.type(f"{command}\r")
    seen = host.gone("alpha")
    # Each is seen for some seconds or not at all: under emulation a look takes as long.
    ended = DomainState.CRASHED if command == "crash" else DomainState.SHUTDOWN
    assert set(seen) <= {DomainState.RUNNING, ended, DomainState.DYING}
    assert host.ending("alpha", guest.domid) == ending
    assert host.plain(host.log("alpha")) == recorded(f"log-{command}")
    host.until("the console ends by itself", lambda: guest.console.over() is not None)
    last = {"poweroff": b"System halted", "reboot": b"Restarting system", "crash": b"Kernel panic"}
    assert last[command] in guest.console.read()


@ci
def test_a_kernel_that_panics_at_once_is_no_failure_of_create(host: Host) -> None:
    host.destroy_all()
    config = host.config("alpha", ramdisk="", extra='"console=hvc0 root=/dev/nothing"', **NO_DEVICES)
    assert host.xl("create", "-p", str(config)) == Said(0, "", recorded("create-crashes-at-once.err"))
    row = host.row("alpha")
    assert row is not None
    console = host.console("alpha")
    host.toolstack.unpause(row.domid)
    host.gone("alpha")
    assert host.ending("alpha", row.domid) == Ending(EndReason.CRASH, 3)
    assert b"VFS: Unable to mount root fs" in console.read()
    console.close()


@ci
def test_a_deaf_guest_is_told_and_destroy_helps(host: Host) -> None:
    """A loader that waits for a key polls, and hears nothing."""
    host.destroy_all()
    host.toolstack.create(
        host.config("beta", kernel='"/srv/images/berth-pv64.bin"', ramdisk="", extra="", **NO_DEVICES),
        lambda pid: None,
    )
    row = host.row("beta")
    assert row is not None
    guest = Guest(host, "beta", row.domid, host.console("beta"))
    host.toolstack.unpause(row.domid)
    guest.wait(b"Press Enter for GRUB's own prompt.")
    assert b"Berth loader: there is no boot disk (xvdz)" in guest.console.read()
    assert re.search(r"^beta .* r-----", host.xl("list").out, re.MULTILINE)
    began = time.monotonic()
    with pytest.raises(ToolstackError) as error:
        host.toolstack.shutdown(row.domid, threading.Event())
    assert time.monotonic() - began >= host.deaf
    assert error.value.code == "deaf"
    assert host.plain(error.value.output) == recorded("shutdown-deaf.err").strip("\n")
    assert host.guests() == {"beta": DomainState.RUNNING}
    host.toolstack.destroy(row.domid)
    host.gone("beta")
    assert host.ending("beta", row.domid) == Ending(EndReason.DESTROY)
    assert host.plain(host.log("beta")) == recorded("log-destroy-deaf")
    host.until("the console ends by itself", lambda: guest.console.over() is not None)
    guest.console.close()


def test_what_never_ran_is_destroyed(host: Host) -> None:
    host.destroy_all()
    host.toolstack.create(host.config("beta", **NO_DEVICES), lambda pid: None)
    assert host.guests() == {"beta": DomainState.PAUSED}
    row = host.row("beta")
    assert row is not None
    host.toolstack.destroy(row.domid)
    host.gone("beta")
    assert host.ending("beta", row.domid) == Ending(EndReason.DESTROY)


def test_a_crashed_domain_that_is_kept_keeps_its_name(host: Host, kept: dict[str, Guest]) -> None:
    guest = small(host, "alpha", kept, on_crash='"preserve"')
    guest.console.type("crash\r")
    host.until("it has crashed", lambda: host.guests() == {"alpha": DomainState.CRASHED})
    error = refused(host, **NO_DEVICES)
    assert error.code == "exists"
    row = host.row("alpha")
    assert row is not None and row.reason == 3
    host.toolstack.destroy(row.domid)
    host.gone("alpha")


def test_two_domains_may_write_to_one_disk(host: Host) -> None:
    """Debian's block script does not see it (recorded): only the agent keeps them apart."""
    host.destroy_all()
    shared = "[ 'format=raw,vdev=xvda,access=rw,target=/var/lib/guests/alpha.img' ]"
    for name in ("alpha", "beta"):
        host.toolstack.create(host.config(name, disk=shared, vif=""), lambda pid: None)
    assert set(host.guests()) == {"alpha", "beta"}
    host.destroy_all()
