from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sim_kernels
from sim_dom0 import Console, SimDom0, until


@pytest.fixture
def dom0(tmp_path: Path) -> Iterator[SimDom0]:
    dom0 = SimDom0.make(tmp_path)
    yield dom0
    dom0.end()


@pytest.fixture
def guest(dom0: SimDom0) -> Path:
    kernel = dom0.file("vmlinuz", sim_kernels.linux())
    return dom0.config("web1", kernel, {"xvda": dom0.disk()}, extra="root=/dev/xvda1")


def shell(dom0: SimDom0, guest: Path) -> Console:
    dom0.ok("create", str(guest))
    console = dom0.console("web1")
    console.expect("/ # ")
    return console


def test_the_first_bytes_wait_for_a_console(dom0: SimDom0, guest: Path) -> None:
    dom0.ok("create", str(guest))
    until(lambda: dom0.effects("boot"), "booted")
    time.sleep(0.3)
    console = dom0.console("web1")
    console.expect(r"^\[    0\.000000\] Linux version 6\.1\.0-test .*/ # ")


def test_no_more_than_a_ring_is_kept(dom0: SimDom0, guest: Path) -> None:
    console = shell(dom0, guest)
    console.type("yes 400000\r")
    console.expect("yyyy")
    console.leave()
    later = dom0.console("web1")
    text = later.ask("echo over\r", r"^.*over\r\n/ # ")[0]
    assert len(text) < 20_000 + 65_536  # the ring, and what was on its way


def test_left_by_its_key_and_joined_again(dom0: SimDom0, guest: Path) -> None:
    console = shell(dom0, guest)
    assert console.leave() == 0
    again = dom0.console("web1")
    again.ask("echo hello there\r", r"echo hello there\r\nhello there\r\n/ # ")


def test_what_is_typed_goes_through_unchanged(dom0: SimDom0, guest: Path) -> None:
    """The terminal is raw: ^C is the guest's, and the guest alone echoes."""
    console = shell(dom0, guest)
    console.type("echo wrong\x7f\x7f\x7f\x7f\x7fright\r")
    console.expect(r"\r\nright\r\n/ # ")
    console.type("abc\x03")
    console.expect(r"abc\^C\r\n/ # ")


def test_a_second_console_is_turned_away(dom0: SimDom0, guest: Path) -> None:
    console = shell(dom0, guest)
    second = dom0.xl("console", "web1")
    assert second.returncode == 11
    assert (
        second.stderr
        == "xenconsole: Could not lock /var/lock/xenconsole.1: Resource temporarily unavailable\n"
    )
    console.type("echo still here\r")
    console.expect(r"\r\nstill here\r\n")
    console.leave()
    third = dom0.console("web1")
    third.ask("\r", "/ # ")


def test_a_console_that_is_killed_gives_its_place_up(dom0: SimDom0, guest: Path) -> None:
    console = shell(dom0, guest)
    console.pty.kill(9)
    console.pty.wait()
    again = dom0.console("web1")
    again.ask("echo back\r", r"\r\nback\r\n/ # ")


def test_it_ends_with_the_domain_after_the_last_words(dom0: SimDom0, guest: Path) -> None:
    console = shell(dom0, guest)
    console.type("poweroff\r")
    assert re.search(rb"reboot: System halted\r\n$", console.rest())
    console.pty.wait()
    assert console.pty.exitstatus == 0


def test_it_ends_when_the_domain_is_destroyed(dom0: SimDom0, guest: Path) -> None:
    console = shell(dom0, guest)
    dom0.ok("destroy", "web1")
    console.rest()
    console.pty.wait()
    assert console.pty.exitstatus == 0


def test_without_a_terminal(dom0: SimDom0, guest: Path) -> None:
    dom0.ok("create", str(guest))
    console = subprocess.Popen(dom0.argv("console", "1"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert console.stdin and console.stdout
    console.stdin.write(b"echo piped\r")
    console.stdin.flush()
    text = b""
    while b"\r\npiped\r\n" not in text:
        text += os.read(console.stdout.fileno(), 4096)
    console.stdin.close()
    console.stdout.close()
    assert console.wait(10) == 0


def test_create_with_console_shows_everything(dom0: SimDom0, guest: Path) -> None:
    console = dom0.on_pty("create", "-c", "-q", str(guest))
    console.expect(r"^\[    0\.000000\] Linux version .*/ # ")
    assert console.leave() == 0
    assert dom0.flags("web1") == "-b----"


def test_bulk_output_is_neither_lost_nor_early(dom0: SimDom0, guest: Path) -> None:
    console = shell(dom0, guest)
    console.type("yes 3000000\r")
    console.expect(r"yes 3000000\r\n")
    text = console.expect(r"^.*/ # ", 60)[0]
    assert text.count(b"y") + text.count(b"\n") - 1 == 3_000_000


def test_a_reader_that_stops_holds_the_guest_up(dom0: SimDom0, guest: Path) -> None:
    console = shell(dom0, guest)
    console.type("yes 50000000\r")
    select.select([console.pty.fd], [], [], 10)
    time.sleep(0.5)
    (memory,) = [
        int(line.split()[1])
        for line in Path(f"/proc/{_pid(dom0)}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    ]
    assert memory < 24 * 1024


def _pid(dom0: SimDom0) -> int:
    import json

    return int(json.loads((dom0.directory / "domains" / "1" / "state.json").read_text())["pid"])


def test_nobody_elses_number(dom0: SimDom0) -> None:
    assert dom0.xl("console", "77").returncode != 0


def test_the_console_of_dom0(dom0: SimDom0) -> None:
    assert dom0.xl("console", "0").returncode != 0


def test_a_long_path_to_the_state(tmp_path: Path) -> None:
    """A unix socket's name may have 107 bytes; the state directory may lie deeper."""
    dom0 = SimDom0.make(tmp_path / ("d" * 60) / ("e" * 60))
    kernel = dom0.file("vmlinuz", sim_kernels.linux())
    dom0.ok("create", str(dom0.config("web1", kernel, extra="root=/dev/ram0")))
    dom0.console("web1").expect("/ # ")
    dom0.end()
