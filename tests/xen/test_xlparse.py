from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vps.xen.endings import Ending, EndReason, code_word, reason_of
from vps.xen.xlparse import (
    MAX_WORDS,
    DomainRow,
    DomainState,
    ParseError,
    create_error,
    parse_info,
    parse_list,
    parse_shutdown_log,
    state_of,
    xl_error,
)

U0 = UUID(int=0)
U1 = UUID("0192f0c0-0000-7000-8000-000000000001")
U2 = UUID("0192f0c0-0000-7000-8000-000000000002")

HEAD = (
    "Name                                        ID   Mem VCPUs\tState\tTime(s)   UUID"
    "                            Reason-Code\tSecurity Label\n"
)


def line(
    name: str,
    domid: int,
    uuid: UUID,
    state: str = "-b----",
    reason: str = "-",
    label: str = "-",
    memory: int = 256,
) -> str:
    """As xl prints it (xen 4.17: tools/xl/xl_info.c, list_domains)."""
    return (
        f"{name:<40} {domid:5d} {memory:5d} {1:5d}     {state}  {12.3:8.1f} {uuid} {reason:>8} {label:>16}\n"
    )


DOM0 = line("Domain-0", 0, U0, "r-----", memory=768)


def test_list_of_a_dom0_alone() -> None:
    assert parse_list(HEAD + DOM0) == (DomainRow(U0, "Domain-0", 0, 768, 1, DomainState.RUNNING, 12.3),)


def test_list_without_labels_is_read_too() -> None:
    """Xen 4.1's xl list -v ends with the reason."""
    text = f"{HEAD.replace('Security Label', '')}Domain-0   0  768  1     r-----      13.7 {U0}        -\n"
    assert parse_list(text)[0].seconds == 13.7


@pytest.mark.parametrize(
    ("letters", "state"),
    [
        ("r-----", DomainState.RUNNING),
        ("-b----", DomainState.RUNNING),
        ("------", DomainState.RUNNING),
        ("rb----", DomainState.RUNNING),
        ("--p---", DomainState.PAUSED),
        ("-bp---", DomainState.PAUSED),
        ("---s--", DomainState.SHUTDOWN),
        ("--ps--", DomainState.SHUTDOWN),
        ("---sr-", DomainState.SHUTDOWN),
        ("---ss-", DomainState.SHUTDOWN),
        ("---sS-", DomainState.SHUTDOWN),
        ("---s?-", DomainState.SHUTDOWN),
        ("--psc-", DomainState.CRASHED),
        ("---sc-", DomainState.CRASHED),
        ("----c-", DomainState.CRASHED),
        ("---sw-", DomainState.CRASHED),
        ("-----d", DomainState.DYING),
        ("--pscd", DomainState.DYING),
        ("----?-", DomainState.UNKNOWN),
        ("x-----", DomainState.UNKNOWN),
        ("-r----", DomainState.UNKNOWN),
        ("-b---", DomainState.UNKNOWN),
        ("", DomainState.UNKNOWN),
    ],
)
def test_state(letters: str, state: DomainState) -> None:
    assert state_of(letters) is state


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        ("--psc-", "3", (DomainState.CRASHED, 3)),
        ("---s--", "0", (DomainState.SHUTDOWN, 0)),
        ("---s?-", "fc", (DomainState.SHUTDOWN, 252)),
        ("---s?-", "ffffffff", (DomainState.SHUTDOWN, -1)),
        ("zzzzzz", "-", (DomainState.UNKNOWN, None)),
    ],
)
def test_state_and_reason_of_a_row(state: str, reason: str, expected: tuple[DomainState, int | None]) -> None:
    row = parse_list(HEAD + DOM0 + line("web1", 7, U1, state, reason))[1]
    assert (row.state, row.reason) == expected


@pytest.mark.parametrize(
    "name",
    [
        "web1",
        "two words",
        "x" * 60,
        "a 1 2 3",
        "-rf",
        "(odd)",
        "ünï",
        "a\tb",
        "%s%n",
        "Name",
        "0",
        "a\x85b\u2028c\x0cd\x1ee",
        "",
    ],
)
def test_name_of_a_domain_may_be_odd(name: str) -> None:
    row = parse_list(HEAD + DOM0 + line(name, 7, U1))[1]
    assert (row.name, row.domid, row.uuid) == (name, 7, U1)


def test_name_that_looks_like_a_row_is_a_name() -> None:
    name = line("web9", 9, U2).rstrip()
    row = parse_list(HEAD + DOM0 + line(name, 7, U1))[1]
    assert (row.name, row.domid, row.uuid) == (name, 7, U1)


def test_domain_that_has_no_name_now() -> None:
    assert parse_list(HEAD + DOM0 + line("(null)", 7, U1))[1].name == ""


def test_label_of_a_domain_is_passed_over() -> None:
    assert parse_list(HEAD + DOM0 + line("web1", 7, U1, label="system_u:system_r:domU_t"))[1].uuid == U1


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("\n", id="one empty line"),
        pytest.param("xc: error: Could not obtain handle\n", id="an error"),
        pytest.param(HEAD, id="nothing but the headline"),
        pytest.param("Name    ID   Mem VCPUs\tState\tTime(s)\nDomain-0 0 768 1 r----- 1.0\n", id="no uuids"),
        pytest.param(HEAD + line("web1", 7, U1), id="no Domain-0"),
        pytest.param((HEAD + DOM0)[:-1], id="no end of line"),
        pytest.param((HEAD + DOM0 + line("web1", 7, U1))[:-30], id="broken off"),
        pytest.param(HEAD + DOM0 + "web1 7 256\n", id="short line"),
        pytest.param(HEAD + DOM0 + "libxl: error: something\n", id="an error inside"),
        pytest.param(HEAD + DOM0 + line("web1", 7, U1).replace("12.3", "nan"), id="seconds"),
        pytest.param(HEAD + DOM0 + line("web1", 7, U1).replace("-8000-", "-80-"), id="uuid"),
        pytest.param(HEAD + DOM0 + line("web1", 7, U1) + line("web2", 7, U2), id="one id twice"),
        pytest.param(HEAD + DOM0 + line("web1", 7, U1).replace(" 7 ", " ٧ "), id="digits of another script"),
        pytest.param("\x7fELF\x00\x00", id="bytes"),
    ],
)
def test_list_that_cannot_be_trusted_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match=r"^xl list -v .*\.$"):
        parse_list(text)


def test_refusal_shows_the_line() -> None:
    with pytest.raises(ParseError, match="what is this"):
        parse_list(HEAD + DOM0 + "what is this\n")


# xl pads a name with spaces, so that those at its ends cannot be told from the padding.
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=20).filter(
    lambda name: name == name.strip(" \t\r\v\f") and name != "(null)"
)


@given(
    st.lists(
        st.tuples(
            NAMES,
            st.integers(1, 99999),
            st.uuids(),
        ),
        max_size=6,
        unique_by=lambda row: row[1],
    )
)
def test_any_list_is_read_as_it_was_written(rows: list[tuple[str, int, UUID]]) -> None:
    text = HEAD + DOM0 + "".join(line(name, domid, uuid) for name, domid, uuid in rows)
    assert [(row.name, row.domid, row.uuid) for row in parse_list(text)[1:]] == rows


@given(st.integers(0, 400), st.text(max_size=3))
def test_damaged_list_is_read_or_refused(place: int, inserted: str) -> None:
    text = HEAD + DOM0 + line("web1", 7, U1)
    try:
        rows = parse_list(text[:place] + inserted + text[place + 1 :])
    except ParseError:
        return
    assert 0 in {row.domid for row in rows}


INFO = """\
host                   : dom0
release                : 6.1.0-41-amd64
version                : #1 SMP PREEMPT_DYNAMIC Debian 6.1.158-1
machine                : x86_64
nr_cpus                : 2
max_cpu_id             : 1
nr_nodes               : 1
cores_per_socket       : 1
threads_per_core       : 1
cpu_mhz                : 2400.000
hw_caps                : 178bfbff:76d8220b:2fd3fbff:000004f7:0000000f:219c05a9:0040069c:00000100
virt_caps              : pv hvm hap shadow gnttab-v1 gnttab-v2
total_memory           : 2047
free_memory            : 1187
sharing_freed_memory   : 0
outstanding_claims     : 0
free_cpus              : 0
xen_major              : 4
xen_minor              : 17
xen_extra              : .7
xen_version            : 4.17.7
xen_caps               : xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64
xen_scheduler          : credit2
xen_pagesize           : 4096
platform_params        : virt_start=0xffff800000000000
xen_changeset          :
xen_commandline        : placeholder dom0_mem=768M,max:768M console=com1 com1=115200,8n1
cc_compiler            : x86_64-linux-gnu-gcc
xend_config_format     : 4
"""


def test_info() -> None:
    info = parse_info(INFO)
    assert info.version == "4.17.7"
    assert info.caps == ("xen-3.0-x86_64", "hvm-3.0-x86_32", "hvm-3.0-x86_32p", "hvm-3.0-x86_64")
    assert info.virt_caps == ("pv", "hvm", "hap", "shadow", "gnttab-v1", "gnttab-v2")
    assert (info.total_memory_mib, info.free_memory_mib, info.cpus) == (2047, 1187, 2)
    assert (info.host, info.release, info.machine) == ("dom0", "6.1.0-41-amd64", "x86_64")
    assert info.scheduler == "credit2"
    assert info.commandline.startswith("placeholder dom0_mem=768M,max:768M console")


@pytest.mark.parametrize("key", ["virt_caps", "xen_commandline", "host"])
def test_info_of_an_older_xen_may_lack(key: str) -> None:
    lines = [text for text in INFO.splitlines(keepends=True) if not text.startswith(key)]
    assert parse_info("".join(lines)).version == "4.17.7"


@pytest.mark.parametrize("key", ["xen_version", "total_memory", "free_memory", "nr_cpus"])
@pytest.mark.parametrize("value", [None, "", "-1", "many", "0x10", "٣"])
def test_info_without_what_is_needed_is_refused(key: str, value: str | None) -> None:
    lines = [text for text in INFO.splitlines(keepends=True) if not text.startswith(key)]
    if value is not None:
        lines.append(f"{key} : {value}\n")
    with pytest.raises(ParseError):
        parse_info("".join(lines))


@pytest.mark.parametrize("text", ["", "\x00", "xc: error: x", "no colon here"])
def test_info_that_is_rubbish_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match="xl info"):
        parse_info(text)


def _log(domid: int, *lines: str) -> str:
    return f"Waiting for domain web1 (domid {domid}) to die [pid 1234]\n" + "".join(f"{x}\n" for x in lines)


@pytest.mark.parametrize(
    ("text", "ending"),
    [
        (_log(7), None),
        ("", None),
        (
            _log(
                7,
                "Domain 7 has shut down, reason code 0 0x0",
                "Action for shutdown reason code 0 is destroy",
                "Domain 7 needs to be cleaned up: destroying the domain",
                "Done. Exiting now",
            ),
            Ending(EndReason.POWEROFF, 0),
        ),
        (_log(7, "Domain 7 has shut down, reason code 1 0x1"), Ending(EndReason.REBOOT, 1)),
        (_log(7, "Domain 7 has shut down, reason code 3 0x3"), Ending(EndReason.CRASH, 3)),
        (_log(7, "Domain 7 has shut down, reason code 4 0x4"), Ending(EndReason.CRASH, 4)),
        (_log(7, "Domain 7 has shut down, reason code 252 0xfc"), Ending(EndReason.UNKNOWN, 252)),
        (_log(7, "Domain 7 has shut down, reason code -1 0xffffffff"), Ending(EndReason.UNKNOWN, -1)),
        (_log(7, "Domain 7 has been destroyed."), Ending(EndReason.DESTROY)),
        (
            _log(7, "Domain 7 has shut down, reason code 3 0x3", "Domain 7 has been destroyed."),
            Ending(EndReason.CRASH, 3),
        ),
        (_log(7, "Domain 17 has shut down, reason code 0 0x0"), None),
        (_log(7, "Domain 7 has shut down, reason code 0 0x0") + _log(7), None),
        (
            _log(7, "Domain 7 has shut down, reason code 0 0x0") + _log(8),
            Ending(EndReason.POWEROFF, 0),
        ),
        ("Domain 7 has shut down, reason code 1 0x1\n", Ending(EndReason.REBOOT, 1)),
        (_log(7, "Domain 7 has shut down, reason code"), None),
        ("\x00\xff rubbish \n" * 3, None),
    ],
)
def test_ending_from_the_log(text: str, ending: Ending | None) -> None:
    assert parse_shutdown_log(text, 7) == ending


@pytest.mark.parametrize(
    ("code", "word", "reason"),
    [
        (0, "poweroff", EndReason.POWEROFF),
        (1, "reboot", EndReason.REBOOT),
        (2, "suspend", EndReason.UNKNOWN),
        (3, "crash", EndReason.CRASH),
        (4, "watchdog", EndReason.CRASH),
        (5, "soft_reset", EndReason.REBOOT),
        (6, "unknown", EndReason.UNKNOWN),
        (252, "unknown", EndReason.UNKNOWN),
        (-1, "unknown", EndReason.UNKNOWN),
        (None, "unknown", EndReason.UNKNOWN),
    ],
)
def test_shutdown_code(code: int | None, word: str, reason: EndReason) -> None:
    assert code_word(code) == word
    assert reason_of(code) is reason


INVALID = (
    "xc: error: panic: xg_dom_core.c:689: xc_dom_find_loader: no loader found: Invalid kernel\n"
    "libxl: error: libxl_dom.c:571:libxl__build_dom: xc_dom_parse_image failed\n"
    "libxl: error: libxl_create.c:1640:domcreate_rebuild_done: Domain 3:cannot (re-)build domain: -3\n"
)
GUEST_TYPE = INVALID.replace(
    "xg_dom_core.c:689: xc_dom_find_loader: no loader found",
    "xg_dom_boot.c:86: xc_dom_compat_check: guest type xen-3.0-x86_32p not supported by xen kernel, sorry",
)
SAID = {
    "kernel_refused": INVALID,
    "guest_type": GUEST_TYPE,
    "kernel_refused ": (
        "xc: error: panic: xg_dom_core.c:374: xc_dom_do_gunzip: inflate failed (rc=-3): Internal error\n"
        "libxl: error: libxl_dom.c:646:libxl__build_pv: xc_dom_kernel_file failed: No such file\n"
    ),
    "kernel_empty": "xc: error: panic: xg_dom_core.c:230: '/x/k': zero length file: Invalid kernel\n",
    "kernel_unreadable": "xc: error: panic: xg_dom_core.c:205: failed to open file '/x/k': No such file\n",
    "exists": 'libxl: error: libxl_domain.c:95: Domain with name "web1" already exists.\n',
    "memory": "failed to free memory for the domain\n",
    "no_xen": (
        "xencall: error: Could not obtain handle on privileged command interface: No such file or directory\n"
        "libxl: error: libxl.c:102:libxl_ctx_alloc: cannot open libxc handle: No such file or directory\n"
    ),
    "disk_missing": (
        "libxl: error: libxl_disk.c:333:disk_try_backend: Disk vdev=xvda failed to stat: /x/d: No such file\n"
        "libxl: error: libxl_create.c:1: cannot add disk 0 to domain: -6\n"
    ),
    "bridge_missing": (
        "libxl: error: libxl_exec.c:117:libxl_report_child_exitstatus: /etc/xen/scripts/vif-bridge online"
        " [1234] exited with error status 1\n"
        "libxl: error: libxl_device.c:1341:device_hotplug_child_death_cb: script: Could not find bridge"
        " device br7\n"
    ),
    "disk_busy": (
        "libxl: error: libxl_device.c:1237:device_hotplug_child_death_cb: script: File /images/a.img is"
        " loopback-mounted through 7:0,\n"
        "which is mounted in the privileged domain,\n"
        "and so cannot be mounted now.\n"
    ),
    "disk_script": (
        "libxl: error: libxl_exec.c:117:libxl_report_child_exitstatus: /etc/xen/scripts/block add [99]"
        " exited with error status 1\n"
    ),
}


SAID_OF_A_DOMAIN = {
    "deaf": (
        "libxl: error: libxl_domain.c:1: Domain 3:guest didn't acknowledge control request: -9\n"
        "shutdown failed (rc=-9)\n"
    ),
    "no_domain": "web1 is an invalid domain identifier (rc=-6)\n",
    "no_domain ": (
        "libxl: error: libxl_domain.c:1183:libxl__destroy_domid: Domain 8:Non-existant domain\n"
        "destroy failed (rc=-3)\n"
    ),
    "no_domain  ": (
        "Shutting down domain 7\n"
        "libxl: error: libxl_dom.c:40:libxl__domain_type: unable to get domain type for domid=7\n"
        "shutdown failed (rc=-3)\n"
    ),
    "no_domain   ": "Can't get domid of domain name 'nobody', maybe this domain does not exist.\n",
    "no_xen": SAID["no_xen"],
}


@pytest.mark.parametrize("code", SAID_OF_A_DOMAIN)
def test_failure_of_another_command_is_said_too(code: str) -> None:
    failure = xl_error("shutdown", "", SAID_OF_A_DOMAIN[code], 1)
    assert failure.code == code.strip()


def test_end_of_a_failed_create_is_not_taken_for_its_cause() -> None:
    said = SAID_OF_A_DOMAIN["no_domain "]
    assert create_error("", "something new\n" + said, 3).code == "xl_failed"


@pytest.mark.parametrize("code", SAID)
def test_failure_is_said_in_plain_words_and_in_xens(code: str) -> None:
    failure = create_error("Parsing config from /etc/xen/web1\n", SAID[code], 3)
    assert failure.code == code.strip()
    sentence, _, xens = failure.text.partition(" Xen says: ")
    assert sentence.endswith(".")
    assert xens in SAID[code].splitlines()
    assert SAID[code].strip() in failure.words
    assert failure.as_dict() == {"code": code.strip(), "text": failure.text, "output": failure.words}


def test_first_line_of_an_invalid_kernel_is_the_one_that_matters() -> None:
    assert "no loader found" in str(create_error("", INVALID, 3))
    assert "xen-3.0-x86_32p" in str(create_error("", GUEST_TYPE, 3)).partition(" Xen says: ")[0]


def test_unknown_failure_tells_the_first_error() -> None:
    failure = create_error("Parsing config\n", "note\nlibxl: error: new.c:1: something new\nmore\n", 1)
    assert failure.code == "xl_failed"
    assert failure.text == (
        "xl create failed with exit status 1. Xen says: libxl: error: new.c:1: something new"
    )


def test_silent_failure_says_where_to_look() -> None:
    assert "/var/log/xen" in xl_error("destroy", "", "", 1).text


def test_call_that_took_too_long() -> None:
    assert xl_error("list", "", "", None).code == "timeout"
    assert create_error("", INVALID, None).code == "kernel_refused"


@given(st.text(max_size=300), st.text(max_size=300), st.none() | st.integers(-9, 255))
def test_any_words_give_a_sentence_that_can_be_shown(out: str, err: str, exit_code: int | None) -> None:
    failure = create_error(out, err, exit_code)
    assert failure.text.isprintable()
    assert all(character.isprintable() or character == "\n" for character in failure.words)


def test_words_are_kept_within_bounds() -> None:
    failure = create_error("", "x" * 10**6, 1)
    assert len(failure.words) == MAX_WORDS
    assert len(failure.text) < 500
