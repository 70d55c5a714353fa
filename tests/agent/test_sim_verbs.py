from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sim_kernels
from sim_dom0 import SimDom0, until

from vps.agent.sim import domains
from vps.agent.sim.loader import placeholder, placeholder_kind
from vps.xen.xlparse import DomainState, parse_info, parse_list


@pytest.fixture
def dom0(tmp_path: Path) -> Iterator[SimDom0]:
    dom0 = SimDom0.make(tmp_path)
    yield dom0
    dom0.end()


@pytest.fixture
def guest(dom0: SimDom0) -> Path:
    """A configuration that boots Linux directly."""
    kernel = dom0.file("vmlinuz", sim_kernels.linux())
    return dom0.config("web1", kernel, {"xvda": dom0.disk()}, extra="root=/dev/xvda1")


def test_an_empty_directory_becomes_a_machine(dom0: SimDom0) -> None:
    (dom0.directory / "host.json").unlink()
    info = parse_info(dom0.ok("info"))
    assert (info.version, info.cpus, info.total_memory_mib) == ("4.17.7", 4, 8192)
    assert "xen-3.0-x86_64" in info.caps
    assert json.loads((dom0.directory / "host.json").read_text())["nr_cpus"] == 4
    rows = parse_list(dom0.ok("list", "-v"))
    assert [(row.name, row.domid, row.state) for row in rows] == [("Domain-0", 0, DomainState.RUNNING)]


def test_info_of_one_thing(dom0: SimDom0) -> None:
    dom0.set(total_memory=4096, dom0_memory=512)
    assert dom0.ok("info", "total_memory") == "4096\n"
    assert dom0.ok("info", "free_memory") == f"{4096 - 512 - 23}\n"


def test_list_has_xls_columns(dom0: SimDom0, guest: Path) -> None:
    dom0.ok("create", str(guest))
    until(lambda: dom0.flags("web1") == "-b----", "the guest idles")
    head, first, second = dom0.ok("list").splitlines()
    assert head == "Name                                        ID   Mem VCPUs\tState\tTime(s)"
    assert first.startswith("Domain-0                                     0   768     1     r-----  ")
    assert second.startswith("web1                                         1   128     1     -b----  ")
    assert len(second) == len(first)
    assert dom0.ok("list", "web1").splitlines()[1].split()[:5] == ["web1", "1", "128", "1", "-b----"]
    (row,) = [row for row in parse_list(dom0.ok("list", "-v")) if row.domid]
    uuid = str(row.uuid)
    assert f'uuid = "{uuid}"' in guest.read_text()
    (details,) = [entry for entry in json.loads(dom0.ok("list", "-l")) if entry["domid"] == 1]
    info = details["config"]["c_info"]
    assert (info["type"], info["name"], info["uuid"]) == ("pv", "web1", uuid)
    assert details["config"]["b_info"]["max_memkb"] == 128 * 1024
    assert dom0.ok("domid", "web1") == "1\n"
    assert dom0.ok("domname", "1") == "web1\n"
    assert dom0.ok("list", uuid).splitlines()[1].startswith("web1 ")
    assert dom0.ok("vcpu-list", "web1").splitlines()[1].split()[:2] == ["web1", "1"]
    assert "web1" in dom0.ok("uptime")


@pytest.mark.parametrize(
    ("words", "status", "stderr"),
    [
        pytest.param(["foo"], 1, "command not implemented\n", id="unknown verb"),
        pytest.param(["list", "-x"], 2, "option `x' not supported.\n", id="unknown option"),
        pytest.param(
            ["list", "nope"], 1, "nope is an invalid domain identifier (rc=-6)\n", id="unknown name"
        ),
        pytest.param(["list", "99"], 1, "Error: Domain '99' does not exist.\n", id="unknown number"),
        pytest.param(["list", "a", "b"], 1, "", id="too many"),
        pytest.param(["domid", "nope"], 1, "Can't get domid of domain name 'nope',", id="domid"),
        pytest.param(["domid"], 2, "'xl domid' requires at least 1 argument.\n\n", id="domid of nothing"),
        pytest.param(["domname", "x"], 1, "Invalid domain id.\n\n", id="domname"),
        pytest.param(["domname", "7"], 1, "Can't get domain name of domain id '7',", id="domname of nobody"),
        pytest.param(["shutdown"], 1, "You must specify -a or a domain id.\n\n", id="shutdown of nothing"),
        pytest.param(
            ["shutdown", "nope"], 1, "nope is an invalid domain identifier (rc=-6)\n", id="shutdown"
        ),
        pytest.param(["destroy", "nope"], 1, "nope is an invalid domain identifier (rc=-6)\n", id="destroy"),
        pytest.param(["destroy", "0"], 1, "Not destroying domain 0; use -f to force.\n", id="destroy dom0"),
        pytest.param(["console", "nope"], 1, "nope is an invalid domain identifier (rc=-6)\n", id="console"),
        pytest.param(["console", "-t", "foo", "x"], 1, "console type supported are: pv", id="console type"),
        pytest.param(["create"], 6, "Config file not specified and none in save file\n", id="create nothing"),
        pytest.param(
            ["create", "/nonexistent"],
            3,
            "Failed to read config file: /nonexistent: No such file or directory\n",
            id="create from no file",
        ),
        pytest.param(["-x", "list"], 1, "", id="unknown global option"),
    ],
)
def test_mistakes_in_xls_words(dom0: SimDom0, words: list[str], status: int, stderr: str) -> None:
    done = dom0.xl(*words)
    assert (done.returncode, done.stderr[: len(stderr)]) == (status, stderr)
    assert dom0.effects() == []


def test_help(dom0: SimDom0) -> None:
    assert dom0.xl().returncode == 1
    assert "xl full list of subcommands:" in dom0.ok("help")
    assert dom0.ok("list", "-h").startswith("Usage: xl [-vtT] list [options] [Domain]\n")
    assert dom0.ok("help", "foo") == 'command "foo" not implemented\n'


def test_state_directory_from_the_environment(dom0: SimDom0) -> None:
    argv = [word for word in dom0.argv("list") if word not in ("--state", str(dom0.directory))]
    named = {**os.environ, "BERTH_SIM_STATE": str(dom0.directory)}
    assert subprocess.run(argv, capture_output=True, env=named, check=True).stdout.startswith(b"Name")
    nameless = {key: value for key, value in named.items() if key != "BERTH_SIM_STATE"}
    done = subprocess.run(argv, capture_output=True, env=nameless, check=False)
    assert done.returncode == 1
    assert b"--state DIR" in done.stderr


def _refused(dom0: SimDom0, config: Path, status: int, *words: str) -> None:
    free = domains.free_memory(dom0.machine)
    done = dom0.xl("create", str(config))
    assert done.returncode == status, done
    for word in words:
        assert word in done.stderr
    assert domains.guests(dom0.machine) == []
    assert domains.free_memory(dom0.machine) == free
    assert dom0.effects() == []
    assert [path.name for path in (dom0.directory / "domains").iterdir()] == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"just text\n" * 9, ["xc_dom_find_loader: no loader found: Invalid kernel"], id="text"),
        pytest.param(b"", ["xg_dom_core.c:230: ", "zero length file"], id="empty"),
        pytest.param(None, ["xg_dom_core.c:205: failed to open file"], id="missing"),
        pytest.param(sim_kernels.linux()[:100], ["no loader found: Invalid kernel"], id="truncated"),
        pytest.param(
            sim_kernels.netbsd(wide=False),
            ["guest type xen-3.0-x86_32p not supported by xen kernel, sorry: Invalid kernel"],
            id="32 bits on a Xen without",
        ),
        pytest.param(
            sim_kernels.linux(pv=False, pvh=True), ["no loader found: Invalid kernel"], id="PVH only as PV"
        ),
    ],
)
def test_create_refuses_a_bad_kernel(dom0: SimDom0, data: bytes | None, words: list[str]) -> None:
    kernel = dom0.files / "kernel" if data is None else dom0.file("kernel", data)
    _refused(dom0, dom0.config("web1", kernel), 3, *words, "cannot (re-)build domain: -3")


def test_create_refuses_what_does_not_fit_in_memory(dom0: SimDom0) -> None:
    kernel = dom0.file("vmlinuz", sim_kernels.linux())
    free = int(dom0.ok("info", "free_memory"))
    _refused(dom0, dom0.config("web1", kernel, memory=free + 1), 3, "cannot (re-)build domain: -3")
    dom0.ok("create", str(dom0.config("web1", kernel, memory=free, extra="root=/dev/ram0")))
    assert dom0.ok("info", "free_memory") == "0\n"


def test_create_refuses_a_missing_disk(dom0: SimDom0) -> None:
    kernel = dom0.file("vmlinuz", sim_kernels.linux())
    config = dom0.config("web1", kernel, {"xvda": dom0.files / "nothing"})
    _refused(dom0, config, 3, "Disk vdev=xvda failed to stat: ", "No such file or directory")


def test_create_refuses_a_missing_bridge(dom0: SimDom0) -> None:
    kernel = dom0.file("vmlinuz", sim_kernels.linux())
    config = dom0.config("web1", kernel, vif=["mac=aa:00:00:00:00:01,bridge=br7"])
    dom0.set(bridges=["br0"])
    _refused(dom0, config, 3, "Could not find bridge device br7", "unable to add vif devices")
    dom0.set(bridges=None, faults={"no_bridge": True})
    _refused(dom0, config, 3, "Could not find bridge device br7")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param('name = "a\n', "lexical error", id="syntax"),
        pytest.param('kernel = "/x"\n', "Domain name must be specified.", id="no name"),
        pytest.param('name = "a"\n', "Neither kernel nor bootloader specified", id="no kernel"),
        pytest.param('name="a"\nkernel="/x"\nuuid="1-2"\n', "Failed to parse UUID: 1-2", id="uuid"),
        pytest.param('name="a"\nkernel="/x"\ntype="qq"\n', "Invalid domain type qq.", id="type"),
        pytest.param(
            'name="a"\nkernel="/x"\non_crash="explode"\n',
            'Unknown on_crash action "explode" specified',
            id="action",
        ),
        pytest.param('name="a"\nkernel="/x"\ndisk=["vdev=q"]\n', "disk specification: no target", id="disk"),
    ],
)
def test_create_refuses_a_bad_configuration(dom0: SimDom0, text: str, words: str) -> None:
    _refused(dom0, dom0.file("bad.cfg", text.encode()), 1, words)


def test_a_name_is_taken_once(dom0: SimDom0, guest: Path) -> None:
    dom0.ok("create", str(guest))
    again = dom0.xl("create", str(guest))
    assert again.returncode == 3
    assert 'Domain with name "web1" already exists.' in again.stderr
    assert len(dom0.effects("create")) == 1


def test_a_uuid_is_not(dom0: SimDom0, guest: Path) -> None:
    """xl 4.17 built a second domain with the uuid of a first one (recorded): only the agent keeps them apart."""
    dom0.ok("create", str(guest))
    dom0.ok("create", str(guest), 'name="web2"', "disk=[]", 'extra="root=/dev/ram0"')
    assert len({line.split()[6] for line in dom0.ok("list", "-v").splitlines()[2:]}) == 1


def test_a_disk_that_somebody_writes(dom0: SimDom0, guest: Path) -> None:
    """Debian's dom0 lets a second domain have it (recorded); the block script means to refuse it."""
    dom0.ok("create", str(guest))
    dom0.ok("create", str(guest), 'name="web2"')
    dom0.set(refuse_shared_disks=True)
    shared = dom0.xl("create", str(guest), 'name="web3"')
    assert shared.returncode == 3
    assert "which is mounted in a guest domain, and so cannot be mounted now." in shared.stderr
    assert "unable to add disk devices" in shared.stderr
    assert len(dom0.ok("list").splitlines()) == 4


def test_a_disk_may_be_read_by_several(dom0: SimDom0) -> None:
    dom0.set(refuse_shared_disks=True)
    kernel, disk = dom0.file("vmlinuz", sim_kernels.linux()), dom0.disk()
    for name in ("a1", "a2"):
        config = dom0.config(name, kernel, {"xvdz": disk}, extra="root=/dev/ram0")
        dom0.ok("create", str(config))
    assert len(dom0.ok("list").splitlines()) == 4


def test_overrides_on_the_command_line(dom0: SimDom0, guest: Path) -> None:
    dom0.ok("create", str(guest), "memory=64", 'name="other"')
    assert dom0.ok("list", "other").splitlines()[1].split()[2] == "64"


def test_effects_tell_of_creates_and_boots(dom0: SimDom0, guest: Path) -> None:
    before = time.time()
    dom0.ok("create", str(guest))
    (boot,) = until(lambda: dom0.effects("boot"), "the boot is logged")
    (create,) = dom0.effects("create")
    assert before - 1 < create["time"] <= boot["time"]
    assert create["config"] == str(guest)
    assert create["uuid"] == boot["uuid"]
    assert (create["domid"], create["name"], boot["boot"]) == (1, "web1", 1)
    assert create["kernel"] == boot["kernel"]
    dom0.ok("destroy", "web1")
    assert dom0.flags("web1") == ""
    dom0.ok("create", str(guest))
    until(lambda: [line["boot"] for line in dom0.effects("boot")] == [1, 2], "boots are counted over domains")
    assert dom0.ok("domid", "web1") == "2\n"


def test_no_xen_and_rubbish_and_hanging(dom0: SimDom0) -> None:
    dom0.set(faults={"no_xen": True})
    done = dom0.xl("list")
    assert done.returncode == 1
    assert done.stderr.endswith("cannot init xl context\n")
    dom0.set(faults={"rubbish": True})
    assert not dom0.xl("list").stdout.startswith("Name")
    dom0.set(faults={"hang": 60})
    with pytest.raises(subprocess.TimeoutExpired):
        dom0.xl("list", timeout=0.5)


def test_an_xl_that_is_killed_leaves_a_half_built_domain(dom0: SimDom0, guest: Path) -> None:
    dom0.set(faults={"slow_create": 60})
    creating = subprocess.Popen(dom0.argv("create", str(guest)), stderr=subprocess.DEVNULL)
    until(lambda: dom0.flags("web1") == "--p---", "the domain is being built")
    creating.kill()
    creating.wait()
    dom0.set(faults={})
    assert dom0.flags("web1") == "--p---"
    assert dom0.effects("boot") == []
    assert dom0.xl("create", str(guest)).returncode != 0
    dom0.ok("destroy", "web1")
    dom0.ok("create", str(guest))
    assert len(dom0.effects("create")) == 2


def _pid(dom0: SimDom0, domid: int) -> int:
    state = json.loads((dom0.directory / "domains" / str(domid) / "state.json").read_text())
    return int(state["pid"])


def test_a_killed_domain_is_gone_as_after_a_power_cut(dom0: SimDom0, guest: Path) -> None:
    dom0.ok("create", str(guest))
    os.kill(_pid(dom0, 1), signal.SIGKILL)
    until(lambda: dom0.flags("web1") == "", "the domain is gone")
    assert [line["domid"] for line in dom0.effects("lost")] == [1]
    assert list((dom0.directory / "domains").iterdir()) == []
    dom0.ok("create", str(guest))


def test_a_stopped_process_is_destroyed_too(dom0: SimDom0, guest: Path) -> None:
    dom0.ok("create", str(guest))
    pid = _pid(dom0, 1)
    os.kill(pid, signal.SIGSTOP)
    dom0.ok("destroy", "web1")
    assert dom0.flags("web1") == ""
    until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text(), "killed")


def test_reset_ends_everything(dom0: SimDom0, guest: Path) -> None:
    dom0.ok("create", str(guest))
    pid = _pid(dom0, 1)
    dom0.ok("sim-reset")
    assert len(dom0.ok("list").splitlines()) == 2
    until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text(), "ended")
    dom0.ok("create", str(guest))
    assert dom0.ok("domid", "web1") == "1\n"


def test_a_domain_is_small_and_quiet(dom0: SimDom0, guest: Path) -> None:
    dom0.ok("create", str(guest))
    until(lambda: dom0.flags("web1") == "-b----", "the guest idles")
    status = Path(f"/proc/{_pid(dom0, 1)}/status").read_text()
    (memory,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
    assert memory < 20 * 1024


def test_pause_and_unpause(dom0: SimDom0, guest: Path) -> None:
    dom0.ok("create", "-p", str(guest))
    assert dom0.flags("web1") == "--p---"
    assert dom0.effects("boot") == []
    dom0.ok("unpause", "web1")
    until(lambda: dom0.flags("web1") == "-b----" and dom0.effects("boot"), "it runs")
    dom0.ok("unpause", "web1")
    dom0.ok("pause", "web1")
    dom0.ok("pause", "web1")
    dom0.ok("unpause", "web1")
    assert dom0.flags("web1") == "--p---"  # Xen counts (recorded)
    dom0.ok("unpause", "web1")
    assert dom0.flags("web1") == "-b----"


def test_many_at_once(dom0: SimDom0) -> None:
    kernel = dom0.file("vmlinuz", sim_kernels.linux())
    configs = [dom0.config(f"d{number}", kernel, extra="root=/dev/ram0") for number in range(6)]
    running = [subprocess.Popen(dom0.argv("create", "-q", str(config))) for config in configs]
    assert [process.wait(60) for process in running] == [0] * 6
    rows = parse_list(dom0.ok("list", "-v"))
    assert sorted(row.domid for row in rows) == list(range(7))
    ending = [subprocess.Popen(dom0.argv("destroy", f"d{number}")) for number in range(6)]
    assert [process.wait(60) for process in ending] == [0] * 6
    assert len(parse_list(dom0.ok("list", "-v"))) == 1


@pytest.mark.parametrize("kind", ["pv64", "pv32", "pvh"])
def test_the_placeholder_is_none_to_others(kind: str) -> None:
    assert placeholder_kind(placeholder(kind)) == kind
    assert placeholder_kind(b"BERTH SIMULATED LOADER other\n") is None
    with pytest.raises(ValueError, match="no simulated loader"):
        placeholder("other")
