"""Forms of the simulated xl against the real one's (tests/lab/recorded, Xen 4.17).

What it does and how it refuses is asked of both in tests/lab/test_contract.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sim_kernels
from sim_dom0 import SimDom0

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


def test_words_of_create_and_columns_of_the_list(dom0: SimDom0) -> None:
    kernel = dom0.file("vmlinuz", sim_kernels.linux())
    config = dom0.config("alpha", kernel, extra="root=/dev/ram0")
    created = dom0.xl("create", str(config))
    assert plain(created.stderr, dom0) == recorded("create.err")
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
