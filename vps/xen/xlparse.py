"""Reading what xl says: its list, its information, its log of a domain, and its errors.

Nothing is guessed: a line that is not of the known form raises ParseError, for a wrong reading of `xl list`
would start a server twice. Formats: xen: tools/xl/xl_info.c (list_domains, output_xeninfo,
output_physinfo), tools/xl/xl_vmcontrol.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from vps.xen.endings import Ending, EndReason, reason_of

MAX_WORDS = 8 * 1024  # characters of xl's own words that are kept of a failure


class ParseError(ValueError):
    """Output of xl that is not of the known form; shows the line."""


class DomainState(StrEnum):
    """What a domain does. A state that this agent does not know is UNKNOWN, never stopped."""

    RUNNING = "running"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"
    DYING = "dying"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class DomainRow:
    """A line of `xl list -v`. `name` is "" where xl says nothing or `(null)`; `reason` is the shutdown code or None."""

    uuid: UUID
    name: str
    domid: int
    memory_mib: int
    vcpus: int
    state: DomainState
    seconds: float
    reason: int | None = None


@dataclass(frozen=True)
class HostInfo:
    """What `xl info` tells. Memory in MiB."""

    version: str
    caps: tuple[str, ...]
    virt_caps: tuple[str, ...]
    total_memory_mib: int
    free_memory_mib: int
    cpus: int
    host: str = ""
    release: str = ""
    machine: str = ""
    scheduler: str = ""
    commandline: str = ""


# A name may hold anything but a newline, spaces too, or be empty: the line is read from its end.
_ROW = re.compile(
    r"(?:(?P<name>.*\S)\s+|\s+)(?P<domid>\d+)\s+(?P<memory>\d+)\s+(?P<vcpus>\d+)\s+(?P<state>[^\s\d]{6})\s+"
    r"(?P<seconds>\d+\.\d)\s+(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\s+(?P<reason>-|[0-9a-f]{1,8})"
    r"(?:\s+\S+)?\s*",
    re.ASCII,
)
_STATE = re.compile(r"[r-][b-][p-][s-][-rscwS?][d-]", re.ASCII)


def parse_list(text: str) -> tuple[DomainRow, ...]:
    """Read `xl list -v`.

    Raises ParseError, also for a list without Domain-0 or with its last line broken off: a list that is cut
    short would tell that servers are gone which run.
    """
    lines = text.split("\n")
    if not lines[0].startswith("Name") or "UUID" not in lines[0]:
        raise ParseError(f"xl list -v did not begin with its headline but with {_shown(lines[0])}.")
    if not text.endswith("\n"):
        raise ParseError(f"xl list -v broke off at {_shown(lines[-1])}.")
    rows = tuple(_row(line) for line in lines[1:] if line.strip())
    ids = {row.domid for row in rows}
    if len(ids) != len(rows):
        raise ParseError("xl list -v names a domain id twice.")
    if 0 not in ids:
        raise ParseError("xl list -v does not name Domain-0, so it cannot be complete.")
    return rows


def _row(line: str) -> DomainRow:
    match = _ROW.fullmatch(line)
    if match is None:
        raise ParseError(f"xl list -v has a line that cannot be read: {_shown(line)}.")
    name = "" if match["name"] in (None, "(null)") else match["name"]
    # xl prints the code in hexadecimal (%8x), -1 (unknown) as ffffffff.
    reason = None if match["reason"] == "-" else int(match["reason"], 16)
    if reason is not None and reason >= 1 << 31:
        reason -= 1 << 32
    return DomainRow(
        UUID(match["uuid"]),
        name,
        int(match["domid"]),
        int(match["memory"]),
        int(match["vcpus"]),
        state_of(match["state"]),
        float(match["seconds"]),
        reason,
    )


def state_of(letters: str) -> DomainState:
    """What the six letters of `xl list` mean; `------` and `rb----` are running too (XEN-FACTS 5)."""
    if not _STATE.fullmatch(letters):
        return DomainState.UNKNOWN
    if letters[5] == "d":
        return DomainState.DYING
    if letters[4] in "cw":
        return DomainState.CRASHED
    if letters[3] == "s":
        return DomainState.SHUTDOWN
    if letters[4] != "-":
        return DomainState.UNKNOWN
    return DomainState.PAUSED if letters[2] == "p" else DomainState.RUNNING


def parse_info(text: str) -> HostInfo:
    """Read `xl info`. Raises ParseError when what Berth needs is missing."""
    facts: dict[str, str] = {}
    for line in text.split("\n"):
        key, colon, value = line.partition(":")
        if colon and key.strip() not in facts:
            facts[key.strip()] = value.strip()
    version = facts.get("xen_version", "")
    if not re.match(r"\d+\.\d+", version, re.ASCII):
        raise ParseError(f"xl info tells no version of Xen but {_shown(text)}.")
    return HostInfo(
        version,
        tuple(facts.get("xen_caps", "").split()),
        tuple(facts.get("virt_caps", "").split()),
        _whole(facts, "total_memory"),
        _whole(facts, "free_memory"),
        _whole(facts, "nr_cpus"),
        facts.get("host", ""),
        facts.get("release", ""),
        facts.get("machine", ""),
        facts.get("xen_scheduler", ""),
        facts.get("xen_commandline", ""),
    )


def _whole(facts: dict[str, str], key: str) -> int:
    value = facts.get(key, "")
    if not value.isascii() or not value.isdigit():
        raise ParseError(f"xl info says {key} is {value[:40]!a}, which is no number.")
    return int(value)


_WAITING = re.compile(r"Waiting for domain .*\(domid (\d+)\) to die", re.ASCII)
_SHUT_DOWN = re.compile(r"Domain (\d+) has shut down, reason code (-?\d+)", re.ASCII)
_DESTROYED = re.compile(r"Domain (\d+) has been destroyed", re.ASCII)


def parse_shutdown_log(text: str, domid: int) -> Ending | None:
    """How the domain ended, from /var/log/xen/xl-NAME.log; None when the log does not tell.

    Domain ids begin anew with each boot of the dom0, so that only what follows the last "Waiting for domain"
    of this id counts. A shutdown's code counts more than the destruction that follows it.
    """
    found: Ending | None = None
    for line in text.split("\n"):
        if (match := _WAITING.search(line)) and int(match[1]) == domid:
            found = None
        elif (match := _SHUT_DOWN.search(line)) and int(match[1]) == domid:
            code = int(match[2])
            found = Ending(reason_of(code), code)
        elif (match := _DESTROYED.search(line)) and int(match[1]) == domid and found is None:
            found = Ending(EndReason.DESTROY)
    return found


@dataclass(frozen=True)
class XlFailure:
    """A failure of xl: `code` for programs, `text` a sentence with the cure, `words` what xl said itself."""

    code: str
    text: str
    words: str

    def __str__(self) -> str:
        return self.text

    def as_dict(self) -> dict[str, str]:
        """The form of `error` in a report."""
        return {"code": self.code, "text": self.text, "output": self.words}


# In order of what matters: the first rule that finds a line wins, not the first line, for after the cause xl
# prints several lines about its consequences. `{type}` is a group of the pattern.
_Causes = tuple[tuple[str, str, str], ...]
_ALWAYS: _Causes = (
    (
        "no_xen",
        r"cannot open libxc handle|Could not obtain handle on privileged command interface|is Xen running",
        "The dom0 runs without Xen, or its Xen services are not started; boot it with Xen, start xencommons.",
    ),
)
# Each failed create ends with "Domain N:Non-existant domain", which means nothing there.
_CREATING: _Causes = (
    (
        "exists",
        r"[Dd]omain with name .* already exists|already exists",
        "A domain of this name exists already on the dom0; wait until it is gone, or destroy it first.",
    ),
    (
        "kernel_empty",
        r"'(?P<file>[^']*)': zero length file",
        "The kernel file on the dom0 is empty; prepare the server again.",
    ),
    (
        "kernel_unreadable",
        r"xg_dom_core.c:\d+: failed to open file",
        "The kernel or ramdisk on the dom0 cannot be opened; prepare the server again.",
    ),
    (
        "guest_type",
        r"guest type (?P<type>\S+) not supported by xen kernel",
        "The dom0's Xen does not run kernels of type {type}; choose another kernel or another dom0.",
    ),
    (
        "kernel_refused",
        r"no loader found|Invalid kernel|inflate failed|xc_dom_(?:parse_\w+|kernel_file|module_file) failed",
        "Xen cannot boot this kernel; choose a kernel that inspection calls ok for direct boot.",
    ),
    (
        "too_small",
        r"xc_dom_chk_alloc_pages: segment (?P<segment>\w+) too large",
        "The server's memory is too small for what it boots (its {segment}); give it more, or boot something smaller.",
    ),
    (
        "memory",
        r"failed to free memory for the domain|not enough (?:free )?memory|[Oo]ut of memory"
        r"|[Cc]annot allocate memory|can't allocate (?:low )?memory",
        "The dom0 has too little free memory for this server; make the server smaller or free memory there.",
    ),
    (
        "disk_missing",
        r"Disk vdev=\S+ failed to stat|failed to stat",
        "A disk of this server is missing on the dom0; restore its file or prepare the server again.",
    ),
    (
        "disk_busy",
        r"is (?:loopback-)?mounted through|cannot be mounted now|already in use by",
        "A disk of this server is in use by another domain; end that domain first.",
    ),
    (
        "bridge_missing",
        r"[Cc]ould not find bridge|bridge \S+ does not exist",
        "The dom0 lacks the network bridge of this server; make the bridge there.",
    ),
    (
        "disk_script",
        r"/block\S*[^\n]*(?:exited with error status|timed out)|unable to add disk devices",
        "The dom0 could not attach a disk; see the disk's file, loop devices and /dev there.",
    ),
    (
        "network_script",
        r"vif-\w+[^\n]*exited with error status|unable to add (?:vif|nic) devices",
        "The dom0 could not connect the network interface; see the bridge and the vif script there.",
    ),
    (
        "configuration",
        r"config(?:uration)? (?:file )?(?:parsing )?error|Failed to (?:parse|read) config|syntax error"
        r"|Neither kernel nor bootloader specified|Invalid domain type",
        "xl cannot read the server's configuration file; prepare the server again.",
    ),
)
_OTHERS: _Causes = (
    (
        "deaf",
        r"guest didn't acknowledge control request",
        "The guest does not react to the request; shut it down on its console, or destroy it.",
    ),
    (
        "no_domain",
        r"invalid domain identifier|Non-existant domain|Can't get domid of|unable to get domain type"
        r"|No such process",
        "The dom0 has no such domain; it ended already.",
    ),
)


def create_error(stdout: str, stderr: str, exit_code: int | None) -> XlFailure:
    """What went wrong when `xl create` failed: the line that matters, in plain words and in Xen's own.

    `exit_code` None is a call that was ended because it took too long.
    """
    return xl_error("create", stdout, stderr, exit_code)


def xl_error(command: str, stdout: str, stderr: str, exit_code: int | None) -> XlFailure:
    """The same for any of xl's commands."""
    words = _words(stderr, stdout)
    for code, pattern, text in (*_ALWAYS, *(_CREATING if command == "create" else _OTHERS)):
        match = re.search(pattern, words)
        if match:
            groups = {key: value or "" for key, value in match.groupdict().items()}
            return XlFailure(code, f"{text.format(**groups)} Xen says: {_line(words, match.start())}", words)
    if exit_code is None:
        return XlFailure("timeout", f"xl {command} did not end in time and was stopped; see the dom0.", words)
    lines = [line.strip() for line in words.split("\n")]
    lines = [line for line in lines if line and not line.startswith("Parsing config")]
    said = next((line for line in lines if "error" in line.lower()), lines[0] if lines else "")
    says = f" Xen says: {said[:300]}" if said else " It said nothing; see the dom0's logs in /var/log/xen."
    return XlFailure("xl_failed", f"xl {command} failed with exit status {exit_code}.{says}", words)


def _words(stderr: str, stdout: str) -> str:
    joined = "\n".join(part.strip("\n") for part in (stderr, stdout) if part.strip())
    kept = "".join(
        character if character.isprintable() or character == "\n" else "?"
        for character in joined.replace("\t", " ")
    )
    return kept[:MAX_WORDS]


def _line(words: str, place: int) -> str:
    start = words.rfind("\n", 0, place) + 1
    stop = words.find("\n", place)
    return words[start : stop if stop >= 0 else None].strip()[:300]


def _shown(text: str) -> str:
    return ascii(text[:160]) if text else "nothing"
