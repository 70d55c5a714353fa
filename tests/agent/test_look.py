"""Reading Xen's words: dmesg and logs of the dom0, never anything else of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from agent_rig import Rig

from vps.agent.verbs.look import LIMIT, logs
from vps.xen.messages import Order, Verb
from vps.xen.names import NameRefused, check_log_name


def begin(rig: Rig) -> Path:
    """Start the agent; gives the folder of its logs."""
    rig.config.xl_log_dir.mkdir(parents=True, exist_ok=True)
    rig.start()
    return rig.config.xl_log_dir


def look(rig: Rig, **body: Any) -> dict[str, Any]:
    return rig.ended(rig.web.give(rig.web.order(Verb.LOOK, None, operation=uuid4(), body=body)))


def test_dmesg_and_logs_newest_first(rig: Rig) -> None:
    folder = begin(rig)
    for age, name in enumerate(("xl-web1.log", "xl-web1.log.1", "xenstored-trace.log")):
        (folder / name).write_text(f"words of {name}\n")
        os.utime(folder / name, (1_700_000_000 - age, 1_700_000_000 - age))
    last = look(rig, what="dmesg")
    assert last["outcome"] == "done" and last["domu"] is None
    assert "(XEN) Xen version 4.17.7" in last["result"]["text"] and not last["result"]["cut"]
    assert [log["name"] for log in last["result"]["files"]] == [
        "xl-web1.log",
        "xl-web1.log.1",
        "xenstored-trace.log",
    ]
    assert last["result"]["files"][0]["at"] == 1_700_000_000
    last = look(rig, what="log", name="xl-web1.log.1")
    assert (last["result"]["text"], last["result"]["name"]) == ("words of xl-web1.log.1\n", "xl-web1.log.1")


def test_of_a_long_log_the_end_is_told(rig: Rig) -> None:
    folder = begin(rig)
    line = b"x" * 99 + b"\n"
    (folder / "long.log").write_bytes(b"first\n" + line * 2000 + b"\0\xfflast\n")
    result = look(rig, what="log", name="long.log")["result"]
    assert result["cut"] and result["size"] == 6 + 200_000 + 7
    assert len(result["text"].encode()) <= LIMIT + 10
    assert result["text"].startswith("xxx") and result["text"].endswith("��last\n")


@pytest.mark.parametrize(
    "name",
    [
        "../agent.toml",
        "/etc/shadow",
        "..",
        ".log",
        "a/b.log",
        "a.log\n",
        "a.log/../../x.log",
        "agent.toml",
        "x" * 300 + ".log",
        "",
        None,
        7,
        "a\0.log",
        "-r.log",
    ],
)
def test_no_other_file_is_read(name: object) -> None:
    with pytest.raises(NameRefused, match="is no log's name"):
        check_log_name(name)


def test_a_name_that_is_no_logs_is_refused_on_the_dom0(rig: Rig) -> None:
    rig.start()
    last = look(rig, what="log", name="../agent.toml")
    assert last["outcome"] == "refused" and "is no log's name" in last["error"]["text"]
    last = look(rig, what="shadow")
    assert last["outcome"] == "failed" and "neither dmesg nor a log" in last["error"]["text"]


def test_neither_links_nor_pipes_are_followed(rig: Rig) -> None:
    folder = begin(rig)
    (folder / "link.log").symlink_to(rig.toml)
    os.mkfifo(folder / "pipe.log")
    assert logs(folder) == []
    for name in ("link.log", "pipe.log", "gone.log"):
        last = look(rig, what="log", name=name)
        assert last["outcome"] == "failed", last
        assert last["error"]["code"] == "no_log" and "secret" not in str(last)


def test_an_order_for_a_look_is_done_once(rig: Rig) -> None:
    rig.start()
    order: Order = rig.web.order(Verb.LOOK, None, operation=UUID(int=5), body={"what": "dmesg"})
    rig.web.give(order)
    rig.ended(order)
    before = len(rig.of(order))
    rig.web.give(order)
    rig.ended(order)
    assert {body["outcome"] for body in rig.of(order)[before:]} <= {"done"}
