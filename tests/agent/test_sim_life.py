from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sim_kernels
from sim_dom0 import Console, SimDom0, until

from vps.xen.xlparse import parse_list, parse_shutdown_log


@pytest.fixture
def dom0(tmp_path: Path) -> Iterator[SimDom0]:
    dom0 = SimDom0.make(tmp_path)
    yield dom0
    dom0.end()


def linux(dom0: SimDom0, **more: object) -> Path:
    kernel = dom0.file("vmlinuz", sim_kernels.linux())
    return dom0.config("web1", kernel, {"xvda": dom0.disk()}, extra="root=/dev/xvda1", **more)


def netbsd(dom0: SimDom0, **more: object) -> Path:
    kernel = dom0.file("netbsd", sim_kernels.netbsd())
    return dom0.config("web1", kernel, {"xvda": dom0.disk()}, **more)


def shell(dom0: SimDom0, config: Path) -> Console:
    dom0.ok("create", str(config))
    console = dom0.console("web1")
    if "netbsd" in config.read_text():
        console.expect("login: ")
        console.type("root\r")
    console.expect("# ")
    return console


def gone(dom0: SimDom0) -> None:
    until(lambda: dom0.flags("web1") == "", "the domain is gone")
    until(lambda: not list((dom0.directory / "domains").iterdir()), "and its directory")


def log(dom0: SimDom0, suffix: str = "") -> str:
    return (dom0.directory / "log" / f"xl-web1.log{suffix}").read_text()


@pytest.mark.parametrize(
    ("command", "reason", "last"),
    [
        pytest.param("poweroff", 0, "System halted", id="poweroff"),
        pytest.param("halt -p", 0, "System halted", id="halt -p"),
        pytest.param("reboot", 1, "Restarting system", id="reboot"),
        pytest.param("crash", 3, "Kernel panic - not syncing", id="crash"),
    ],
)
def test_a_linux_guest_ends_itself(dom0: SimDom0, command: str, reason: int, last: str) -> None:
    console = shell(dom0, linux(dom0))
    console.type(f"{command}\r")
    console.expect(last)
    gone(dom0)
    assert [line["reason"] for line in dom0.effects("ended")] == [reason]
    lines = log(dom0).splitlines()
    assert lines[0].startswith("Waiting for domain web1 (domid 1) to die [pid ")
    assert lines[1:] == [
        f"Domain 1 has shut down, reason code {reason} 0x{reason:x}",
        f"Action for shutdown reason code {reason} is destroy",
        "Domain 1 needs to be cleaned up: destroying the domain",
        "Done. Exiting now",
    ]
    ending = parse_shutdown_log(log(dom0), 1)
    assert ending is not None


@pytest.mark.parametrize(("command", "reason"), [("poweroff", 0), ("reboot", 1), ("crash", 3)])
def test_a_netbsd_guest_ends_itself(dom0: SimDom0, command: str, reason: int) -> None:
    console = shell(dom0, netbsd(dom0))
    console.type(f"{command}\r")
    gone(dom0)
    assert [line["reason"] for line in dom0.effects("ended")] == [reason]


def test_shutdown_returns_before_the_domain_is_gone(dom0: SimDom0) -> None:
    shell(dom0, linux(dom0))
    done = dom0.xl("shutdown", "web1")
    assert (done.returncode, done.stderr) == (0, "Shutting down domain 1\n")
    assert dom0.flags("web1") != ""
    gone(dom0)
    assert [line["reason"] for line in dom0.effects("ended")] == [0]


def test_shutdown_and_wait_returns_before_it_is_gone_too(dom0: SimDom0) -> None:
    """LAB-FACTS, trap 2: a create at once fails."""
    dom0.set(times=dict(dom0.settings["times"], cleanup=2.0))
    config = linux(dom0)
    shell(dom0, config)
    done = dom0.xl("shutdown", "-w", "web1")
    assert done.returncode == 0
    assert "Domain 1 has been shut down, reason code 0" in done.stderr
    assert "already exists" in dom0.xl("create", str(config)).stderr
    gone(dom0)
    dom0.ok("create", str(config))


def test_shutdown_at_the_login_prompt(dom0: SimDom0) -> None:
    dom0.ok("create", str(netbsd(dom0)))
    console = dom0.console("web1")
    console.expect("login: ")
    dom0.ok("shutdown", "web1")
    console.expect(r"Shutdown NOW!\n\rsyncing disks\.\.\. done\n\r")
    gone(dom0)


def test_xl_reboot(dom0: SimDom0) -> None:
    shell(dom0, linux(dom0))
    done = dom0.xl("reboot", "web1")
    assert (done.returncode, done.stderr) == (0, "Rebooting domain 1\n")
    gone(dom0)
    assert [line["reason"] for line in dom0.effects("ended")] == [1]


DEAF = "guest didn't acknowledge control request: -9\n{0} failed (rc=-9)\n"


@pytest.mark.parametrize("verb", ["shutdown", "reboot"])
def test_a_guest_that_hangs_does_not_hear(dom0: SimDom0, verb: str) -> None:
    console = shell(dom0, linux(dom0))
    console.type("hang\r")
    console.expect("hanging")
    until(lambda: dom0.flags("web1") == "r-----", "it polls")
    before = time.monotonic()
    done = dom0.xl(verb, "web1")
    assert time.monotonic() - before >= 0.5
    assert done.returncode == 1
    assert done.stderr.endswith(DEAF.format(verb))
    first = float(dom0.ok("list", "web1").splitlines()[1].split()[-1])
    until(lambda: float(dom0.ok("list", "web1").splitlines()[1].split()[-1]) > first + 0.3, "it uses its cpu")
    dom0.ok("destroy", "web1")
    gone(dom0)


def test_a_halted_netbsd_waits_for_a_key(dom0: SimDom0) -> None:
    console = shell(dom0, netbsd(dom0))
    console.type("halt\r")
    console.expect(r"Please press any key to reboot\.")
    until(lambda: dom0.flags("web1") == "r-----", "it polls")
    assert dom0.xl("shutdown", "web1").returncode == 1
    console.type("x")
    gone(dom0)
    assert [line["reason"] for line in dom0.effects("ended")] == [1]


def test_a_paused_guest_does_not_hear(dom0: SimDom0) -> None:
    shell(dom0, linux(dom0))
    dom0.ok("pause", "web1")
    assert dom0.xl("shutdown", "web1").returncode == 1
    dom0.ok("unpause", "web1")
    assert dom0.flags("web1") == "-b----"


def test_a_shutdown_that_waits_does_not_keep_destroy_away(dom0: SimDom0) -> None:
    dom0.set(times=dict(dom0.settings["times"], ack=60))
    console = shell(dom0, linux(dom0))
    console.type("hang\r")
    console.expect("hanging")
    waiting = subprocess.Popen(dom0.argv("shutdown", "web1"), stderr=subprocess.DEVNULL)
    until(lambda: dom0.effects("shutdown"), "shutdown waits")
    dom0.ok("destroy", "web1")
    waiting.wait(10)
    gone(dom0)


def test_a_crash_is_seen_for_a_while(dom0: SimDom0) -> None:
    dom0.set(times=dict(dom0.settings["times"], crash=4.0))
    console = shell(dom0, linux(dom0))
    console.type("crash\r")
    until(lambda: dom0.flags("web1") == "--psc-", "crashed")
    (row,) = [row for row in parse_list(dom0.ok("list", "-v")) if row.domid]
    assert (row.state.value, row.reason) == ("crashed", 3)
    gone(dom0)


def test_preserve_keeps_a_crashed_domain(dom0: SimDom0) -> None:
    console = shell(dom0, linux(dom0, on_crash="preserve"))
    console.type("crash\r")
    until(lambda: dom0.flags("web1") == "---sc-", "preserved")
    time.sleep(1.0)
    assert dom0.flags("web1") == "---sc-"
    assert log(dom0).endswith("Action for shutdown reason code 3 is preserve\nDone. Exiting now\n")
    assert dom0.xl("shutdown", "web1").returncode == 1
    dom0.ok("destroy", "web1")
    gone(dom0)


def test_restart_is_a_new_number_and_has_no_brake(dom0: SimDom0) -> None:
    config = linux(dom0, on_crash="restart")
    text = config.read_text().replace("root=/dev/xvda1", "root=/dev/nonexistent")
    config.write_text(text)
    dom0.ok("create", str(config))
    until(lambda: len(dom0.effects("boot")) >= 3, "it boots again and again", 30)
    assert [line["boot"] for line in dom0.effects("boot")][:3] == [1, 2, 3]
    assert [line["domid"] for line in dom0.effects("boot")][:3] == [1, 2, 3]
    assert len(dom0.effects("create")) == 1
    assert "Done. Rebooting now" in log(dom0)
    dom0.ok("sim-reset")
    boots = len(dom0.effects("boot"))
    time.sleep(1.5)
    assert len(dom0.effects("boot")) == boots


def test_xls_own_reboot_shows_null_for_a_moment(dom0: SimDom0) -> None:
    dom0.set(times=dict(dom0.settings["times"], restart=4.0))
    console = shell(dom0, linux(dom0, on_reboot="restart"))
    console.type("reboot\r")
    until(lambda: "(null)" in dom0.ok("list"), "(null)")
    console.rest()
    until(lambda: dom0.flags("web1") == "-b----" and dom0.ok("domid", "web1") == "2\n", "back as number 2")
    again = dom0.console("web1")
    again.expect(r"boot 2 of this server.*/ # ")


def test_logs_are_rotated(dom0: SimDom0) -> None:
    config = linux(dom0)
    for _ in range(3):
        dom0.ok("create", str(config))
        dom0.ok("destroy", "web1")
    assert log(dom0).endswith("Domain 3 has been destroyed.\n")
    assert log(dom0, ".1").endswith("Domain 2 has been destroyed.\n")
    assert log(dom0, ".2").endswith("Domain 1 has been destroyed.\n")
    folder = dom0.directory / "log"
    for number in range(3, 11):
        (folder / f"xl-web1.log.{number}").write_text(f"old {number}\n")
    dom0.ok("create", str(config))
    assert (folder / "xl-web1.log.10").read_text() == "old 9\n"
    assert len(list(folder.glob("xl-web1.log*"))) == 11


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        pytest.param("echo a  b", r"a  b\r\n", id="echo"),
        pytest.param("uname -a", r"Linux web1 6\.1\.0-test [0-9a-f]{12} amd64\r\n", id="uname"),
        pytest.param("cat /proc/cmdline", r"root=/dev/xvda1\r\n", id="cmdline"),
        pytest.param(
            "cat /etc/passwd", r"cat: can't open '/etc/passwd': No such file or directory\r\n", id="cat"
        ),
        pytest.param("dmesg", r"Linux version 6\.1\.0-test .*Run /sbin/init", id="dmesg"),
        pytest.param("uptime", r"boot 1 of this server\r\n", id="uptime"),
        pytest.param("date", r"UTC \d{4}\r\n", id="date"),
        pytest.param("yes 10", r"yyyyyyyyyy\r\n", id="yes"),
        pytest.param("yes no", r"y{63}\n", id="yes of no number"),
        pytest.param("frob", r"frob: not found\r\n", id="unknown"),
        pytest.param("exit", r"Berth simulated guest|/ # ", id="exit"),
        pytest.param("", r"", id="nothing"),
    ],
)
def test_the_shell(dom0: SimDom0, typed: str, answer: str) -> None:
    console = shell(dom0, linux(dom0))
    console.type(typed + "\r")
    console.expect(rf"{typed and ''}\r\n.*{answer}.*/ # " if typed != "exit" else "/ # ")
