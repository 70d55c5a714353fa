"""The simulated xl against what the real one said (tests/lab/recorded, Xen 4.17)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sim_kernels
from sim_dom0 import SimDom0, until

RECORDED = Path(__file__).parents[1] / "lab" / "recorded"
ALPHA = "018f3e6a-0000-7000-8000-00000000000a"


@pytest.fixture
def dom0(tmp_path: Path) -> Iterator[SimDom0]:
    dom0 = SimDom0.make(tmp_path)
    yield dom0
    dom0.end()


def recorded(name: str) -> str:
    return (RECORDED / f"xl-4.17-{name}.txt").read_text()


def plain(text: str, dom0: SimDom0 | None = None) -> str:
    """Without what differs from run to run: numbers of domains and processes, paths, seconds."""
    if dom0 is not None:
        text = text.replace(f"{dom0.files}/alpha.cfg", "/etc/xen/alpha").replace(
            str(dom0.files), "/var/lib/guests"
        )
    text = re.sub(r"\b([Dd]omain|pid|domid) \d+", r"\1 N", text)
    text = re.sub(r"xenconsole\.\d+", "xenconsole.N", text)
    return re.sub(r"\[\d+\]", "[N]", text)


@pytest.mark.parametrize(
    ("situation", "more", "data"),
    [
        pytest.param("no-kernel-file", {"kernel": "no-such-kernel"}, None, id="no kernel file"),
        pytest.param("kernel-is-text", {}, b"text\n", id="text"),
        pytest.param("kernel-empty", {}, b"", id="empty"),
        pytest.param("missing-disk", {"disk": "nothing.img"}, sim_kernels.linux(), id="missing disk"),
        pytest.param(
            "missing-bridge",
            {"vif": ["mac=00:16:3e:00:00:01,bridge=nobridge"]},
            sim_kernels.linux(),
            id="bridge",
        ),
        pytest.param("bad-type", {"type": "frob"}, sim_kernels.linux(), id="type"),
        pytest.param("no-kernel-setting", {"kernel": None}, None, id="no kernel"),
    ],
)
def test_refusals(dom0: SimDom0, situation: str, more: dict[str, object], data: bytes | None) -> None:
    dom0.set(bridges=["xenbr0"])
    kernel = dom0.files / str(more.pop("kernel", "kernel") or "none")
    if data is not None:
        kernel.write_bytes(data)
    disks = {"xvda": dom0.files / str(more.pop("disk"))} if "disk" in more else {}
    config = dom0.config("alpha", kernel, disks, **more)
    if situation == "no-kernel-setting":
        config.write_text(re.sub("(?m)^kernel.*\n", "", config.read_text()))
    done = dom0.xl("create", str(config))
    said, real = plain(done.stderr, dom0), plain(recorded(f"create-{situation}.err"))
    if situation == "kernel-empty":
        said = said.replace("/var/lib/guests/kernel", "/dev/null")
    assert said == real
    assert done.returncode == (1 if situation in ("bad-type", "no-kernel-setting") else 3)


def test_a_taken_name_and_the_second_console(dom0: SimDom0) -> None:
    kernel = dom0.file("vmlinuz", sim_kernels.linux())
    config = dom0.config("alpha", kernel, extra="root=/dev/ram0")
    created = dom0.xl("create", str(config))
    assert plain(created.stderr, dom0) == recorded("create.err")
    again = dom0.xl("create", str(config))
    assert (plain(again.stderr, dom0), again.returncode) == (plain(recorded("create-name-taken.err")), 3)
    console = dom0.console("alpha")
    console.expect("/ # ")
    second = dom0.xl("console", "alpha")
    assert (plain(second.stderr), second.returncode) == (plain(recorded("console-second.err")), 11)
    lists = [plain(text).splitlines() for text in (dom0.ok("list"), recorded("list-one"))]
    assert lists[0][0] == lists[1][0]
    shapes = [[re.sub(r"\S", "x", re.sub(r"\d+(?=\.)", "", line))[:60] for line in lines] for lines in lists]
    assert [len(line) for line in shapes[0]] == [len(line) for line in shapes[1]]


def test_the_long_list(dom0: SimDom0) -> None:
    kernel = dom0.file("vmlinux.gz", sim_kernels.linux())
    dom0.file("rd.gz", b"r")
    config = dom0.config(
        "alpha",
        kernel,
        {"xvda": dom0.disk("alpha.img")},
        uuid=ALPHA,
        extra="console=hvc0 berth.name=alpha",
        ramdisk=str(dom0.files / "rd.gz"),
        vif=["mac=00:16:3e:00:00:01,bridge=xenbr0"],
    )
    dom0.ok("create", str(config))
    said = dom0.ok("list", "-l", "alpha").replace(str(dom0.files), "/var/lib/guests")
    assert said == recorded("list-long-alpha").replace('"domid": 12,', '"domid": 1,')


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("domid-unknown.err", ["domid", "nobody"]),
        ("domname-unknown.err", ["domname", "77"]),
        ("list-unknown.err", ["list", "nobody"]),
        ("console-unknown.err", ["console", "nobody"]),
        ("destroy-unknown.err", ["destroy", "nobody"]),
        ("shutdown-unknown.err", ["shutdown", "nobody"]),
        ("reboot-unknown.err", ["reboot", "nobody"]),
        ("pause-unknown.err", ["pause", "nobody"]),
        ("unpause-unknown.err", ["unpause", "nobody"]),
        ("unknown-command.err", ["frobnicate"]),
    ],
)
def test_words_on_nobody(dom0: SimDom0, name: str, words: list[str]) -> None:
    done = dom0.xl(*words)
    assert (done.stderr, done.returncode) == (recorded(name), 1)


def test_info_has_the_same_fields(dom0: SimDom0) -> None:
    names = [
        [line.split(":")[0] for line in text.splitlines()] for text in (dom0.ok("info"), recorded("info"))
    ]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("command", "name"), [("poweroff", "poweroff"), ("reboot", "reboot"), ("crash", "crash")]
)
def test_logs_of_endings(dom0: SimDom0, command: str, name: str) -> None:
    kernel = dom0.file("vmlinuz", sim_kernels.linux())
    dom0.ok("create", str(dom0.config("alpha", kernel, extra="root=/dev/ram0")))
    console = dom0.console("alpha")
    console.expect("/ # ")
    console.type(f"{command}\r")
    until(lambda: dom0.flags("alpha") == "", "gone")
    assert plain((dom0.directory / "log" / "xl-alpha.log").read_text()) == plain(recorded(f"log-{name}"))


def test_words_of_shutdown(dom0: SimDom0) -> None:
    kernel = dom0.file("vmlinuz", sim_kernels.linux())
    config = dom0.config("alpha", kernel, extra="root=/dev/ram0")
    dom0.ok("create", str(config))
    dom0.ok("pause", "alpha")
    deaf = dom0.xl("shutdown", "alpha")
    assert (plain(deaf.stderr), deaf.returncode) == (plain(recorded("shutdown-deaf.err")), 1)
    dom0.ok("unpause", "alpha")
    waited = dom0.xl("shutdown", "-w", "alpha")
    assert (plain(waited.stderr), waited.returncode) == (plain(recorded("shutdown-wait.err")), 0)


def test_columns_of_uptime_and_vcpus(dom0: SimDom0) -> None:
    def shape(text: str) -> list[str]:
        return [re.sub(r"\d", "9", line)[:64].rstrip() for line in text.splitlines()[:2]]

    uptime = recorded("uptime-empty")
    assert [line[:40] for line in shape(dom0.ok("uptime"))] == [line[:40] for line in shape(uptime)]
    said, real = shape(dom0.ok("vcpu-list")), shape(recorded("vcpu-list"))
    assert said[0] == real[0]
    assert re.sub(" +9", " 9", said[1]) == re.sub(" +999", " 9", real[1]) or said[1][:57] == real[1][:57]


def test_no_memory(dom0: SimDom0) -> None:
    kernel = dom0.file("vmlinuz", sim_kernels.linux())
    done = dom0.xl("create", str(dom0.config("alpha", kernel, memory=9000)))
    real = recorded("create-memory-used-up.err").replace("/etc/xen/beta", "/etc/xen/alpha")
    assert (plain(done.stderr, dom0), done.returncode) == (plain(real), 3)
