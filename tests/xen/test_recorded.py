"""The parsers on what the real xl said (tests/lab/recorded; `python -m lab record` makes it anew)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vps.xen.endings import EndReason
from vps.xen.xlparse import (
    DomainState,
    ParseError,
    parse_info,
    parse_list,
    parse_shutdown_log,
    xl_error,
)

RECORDED = Path(__file__).resolve().parents[1] / "lab" / "recorded"
INDEX: dict[str, Any] = json.loads((RECORDED / "index.json").read_text())


@dataclass(frozen=True)
class Said:
    """One recorded call. `name` is the situation."""

    name: str
    argv: list[str]
    exit: int
    stdout: str
    stderr: str


def _text(file: str | None) -> str:
    return (RECORDED / file).read_bytes().decode(errors="replace") if file else ""


def _name(case: dict[str, Any]) -> str:
    return str(case["file"]).removeprefix(f"xl-{INDEX['xen']}-").removesuffix(".txt")


CASES = {
    _name(case): Said(_name(case), case["argv"], case["exit"], _text(case["stdout"]), _text(case["stderr"]))
    for case in INDEX["cases"]
}


def _of(*argv: str) -> list[Said]:
    found = [said for said in CASES.values() if said.argv[: len(argv)] == list(argv) and said.exit == 0]
    assert found, f"nothing is recorded of {argv}"
    return found


def _ids(said: Said) -> str:
    return said.name


@pytest.mark.parametrize("said", _of("xl", "list", "-v"), ids=_ids)
def test_list_is_read(said: Said) -> None:
    rows = parse_list(said.stdout)
    assert len(rows) == said.stdout.count("\n") - 1
    assert rows[0].name == "Domain-0"
    for row, line in zip(rows, said.stdout.splitlines()[1:], strict=True):
        assert line.split()[:4] == [row.name, str(row.domid), str(row.memory_mib), str(row.vcpus)]
        assert str(row.uuid) in line
        assert row.state is not DomainState.UNKNOWN


@pytest.mark.parametrize(
    ("name", "state", "reason"),
    [
        ("list-verbose-crashed-preserved", DomainState.CRASHED, 3),
        ("list-verbose-created-paused", DomainState.PAUSED, None),
    ],
)
def test_state_of_the_guest(name: str, state: DomainState, reason: int | None) -> None:
    row = parse_list(CASES[name].stdout)[-1]
    assert (row.state, row.reason) == (state, reason)


@pytest.mark.parametrize("said", [said for said in _of("xl", "list") if "-v" not in said.argv], ids=_ids)
def test_list_without_uuids_is_refused(said: Said) -> None:
    with pytest.raises(ParseError):
        parse_list(said.stdout)


@pytest.mark.parametrize("said", _of("xl", "info"), ids=_ids)
def test_info_is_read(said: Said) -> None:
    info = parse_info(said.stdout)
    assert info.version.startswith(INDEX["xen"])
    assert "xen-3.0-x86_64" in info.caps
    assert 0 <= info.free_memory_mib < info.total_memory_mib
    assert info.cpus >= 1


LOGS = {
    "log-poweroff": EndReason.POWEROFF,
    "log-shutdown": EndReason.POWEROFF,
    "log-reboot": EndReason.REBOOT,
    "log-xl-reboot": EndReason.REBOOT,
    "log-crash": EndReason.CRASH,
    "log-crash-preserved": EndReason.CRASH,
    "log-destroy-deaf": EndReason.DESTROY,
}


@pytest.mark.parametrize("name", LOGS)
def test_log_tells_the_reason(name: str) -> None:
    text = CASES[name].stdout
    domid = re.search(r"\(domid (\d+)\)", text)
    assert domid is not None
    ending = parse_shutdown_log(text, int(domid[1]))
    assert ending is not None
    assert ending.reason is LOGS[name]
    assert parse_shutdown_log(text, int(domid[1]) + 1) is None


FAILURES = {
    "create-no-config": "configuration",
    "create-syntax-error": "configuration",
    "create-no-kernel-setting": "configuration",
    "create-no-kernel-file": "kernel_unreadable",
    "create-kernel-is-text": "kernel_refused",
    "create-kernel-is-ramdisk": "kernel_refused",
    "create-kernel-empty": "kernel_empty",
    "create-missing-disk": "disk_missing",
    "create-missing-phy-disk": "disk_missing",
    "create-missing-bridge": "bridge_missing",
    "create-name-taken": "exists",
    "create-just-after-shutdown": "exists",
    "create-name-taken-by-crashed": "exists",
    "create-memory-used-up": "memory",
    "domid-unknown": "no_domain",
    "list-unknown": "no_domain",
    "console-unknown": "no_domain",
    "destroy-unknown": "no_domain",
    "shutdown-unknown": "no_domain",
    "reboot-unknown": "no_domain",
    "pause-unknown": "no_domain",
    "unpause-unknown": "no_domain",
    "shutdown-crashed": "deaf",
    "shutdown-deaf": "deaf",
    "reboot-deaf": "deaf",
}


@pytest.mark.parametrize("name", FAILURES)
def test_failure_is_understood(name: str) -> None:
    said = CASES[name]
    assert said.exit != 0
    failure = xl_error(said.argv[1], said.stdout, said.stderr, said.exit)
    assert failure.code == FAILURES[name]
    assert said.stderr.strip() in failure.words


@pytest.mark.parametrize(
    "said", [said for said in CASES.values() if said.exit and said.argv[0] == "xl"], ids=_ids
)
def test_every_failure_keeps_a_line_of_xls_own(said: Said) -> None:
    failure = xl_error(said.argv[1] if len(said.argv) > 1 else "", said.stdout, said.stderr, said.exit)
    own = failure.text.partition(" Xen says: ")[2]
    assert own
    assert own in said.stderr + said.stdout
