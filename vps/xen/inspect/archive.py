"""A tar archive of modules, listed and judged without unpacking it to anywhere.

Format: POSIX ustar and pax, and GNU's long names (`info tar`, "Basic Tar Format", "GNU Extensions"). The guest's root
says `tar -C / -xf` on it, so that every member must lie where modules lie, and no link may lead out of there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vps.xen.inspect.streams import StreamError, pieces
from vps.xen.inspect.verdicts import Compression, mib

BLOCK = 512
MAX_MEMBERS = 100_000
MAX_NAME = 4096  # bytes
MAX_EXTENSION = 1 << 20  # bytes of a pax header or a long name

ROOTS = (("lib", "modules"), ("usr", "lib", "modules"), ("stand",))
"""Where modules lie: Linux, Linux with /usr merged, NetBSD (/stand/amd64/10.1/modules)."""

_KINDS = {
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a sparse file",
    b"V": "a volume label",
    b"M": "a piece of a file",
    b"D": "a GNU directory",
}
_FILE, _HARD, _SYMBOLIC, _FOLDER = (b"0", b"\0", b"7"), b"1", b"2", b"5"


class ArchiveRefused(Exception):
    """The text is a sentence that names the member and the cure."""


@dataclass(frozen=True)
class Listing:
    """`size` of all files in bytes; `releases`: the folders in which modules lie; `own_lib`: has an entry `lib`."""

    files: int
    size: int
    releases: tuple[str, ...]
    own_lib: bool


def list_archive(method: Compression, data: memoryview, room: int) -> Listing:
    """List an archive of at most `room` bytes unpacked. Raises ArchiveRefused, MemoryError."""
    flow = _Flow(pieces(method, data, room), room)
    files = size = members = 0
    releases: dict[str, None] = {}
    own_lib = False
    for member in _members(flow):
        members += 1
        if members > MAX_MEMBERS:
            raise ArchiveRefused(f"The archive has more than {MAX_MEMBERS} members: put in fewer.")
        parts = _placed(member)
        if parts in (["lib"], ["usr"], ["usr", "lib"]):
            own_lib = own_lib or parts == ["lib"]
            continue
        if member.kind in _FILE:
            files += 1
            size += member.size
            if release := _release(parts):
                releases[release] = None
    flow.end()
    if not members:
        raise ArchiveRefused("The archive is empty: pack the folder lib/modules/RELEASE into it.")
    if not releases:
        raise ArchiveRefused(
            "There is no file in lib/modules/RELEASE of the archive: pack that folder, with its name, into it."
        )
    return Listing(files, size, tuple(releases), own_lib)


@dataclass(frozen=True)
class _Member:
    name: str
    kind: bytes
    size: int
    link: str


class _Flow:
    """The archive's bytes in order, counted."""

    def __init__(self, source: Iterator[bytes | memoryview], room: int) -> None:
        self._source, self._room = source, room
        self._rest: memoryview = memoryview(b"")
        self.read_so_far = 0

    def take(self, count: int) -> bytes:
        """`count` bytes, or fewer at the end."""
        found = []
        while count and (piece := self._next(count)):
            found.append(bytes(piece))
            count -= len(piece)
        return b"".join(found)

    def skip(self, count: int) -> bool:
        """Whether there were that many."""
        while count and (piece := self._next(count)):
            count -= len(piece)
        return not count

    def end(self) -> None:
        """Read on to the end, where sums are checked and nothing may follow."""
        while self._next(BLOCK * 1024):
            pass

    def _next(self, count: int) -> memoryview:
        if not self._rest:
            try:
                self._rest = memoryview(next(self._source, b""))
            except StreamError as error:
                how = "cut short" if error.short else "damaged"
                raise ArchiveRefused(f"The archive is {how}: upload it again.") from error
        piece, self._rest = self._rest[:count], self._rest[count:]
        self.read_so_far += len(piece)
        if self.read_so_far >= self._room:
            raise ArchiveRefused(f"The archive unpacks to more than {mib(self._room)}: put in fewer modules.")
        return piece


def _members(flow: _Flow) -> Iterator[_Member]:
    """The members; long names and pax headers are already put where they belong."""
    said: dict[str, str] = {}
    while (header := flow.take(BLOCK)) and any(header):
        if len(header) < BLOCK:
            raise ArchiveRefused("The archive is cut short: upload it again.")
        if not _sum_holds(header):
            raise ArchiveRefused("This is no tar archive: make one of the folder lib/modules/RELEASE.")
        kind, size = header[156:157], _number(header[124:136])
        if kind in (b"L", b"K"):
            said["path" if kind == b"L" else "linkpath"] = _text(_extension(flow, size).rstrip(b"\0"))
            continue
        if kind == b"x":
            said |= _pax(_extension(flow, size))
            continue
        if kind == b"g":
            _extension(flow, size)
            continue
        if "size" in said:
            size = int(said["size"]) if said["size"].isdigit() and len(said["size"]) < 20 else -1
        member = _Member(
            said.get("path") or _name(header),
            kind,
            size,
            said.get("linkpath") or _text(_until_nul(header[157:257])),
        )
        said = {}
        yield member
        if size < 0 or not flow.skip(-(-size // BLOCK) * BLOCK if kind in _FILE else 0):
            raise ArchiveRefused("The archive is cut short: upload it again.")


def _extension(flow: _Flow, size: int) -> bytes:
    if not 0 <= size <= MAX_EXTENSION:
        raise ArchiveRefused("The archive has a name that is too long: make it anew with tar.")
    data = flow.take(-(-size // BLOCK) * BLOCK)
    if len(data) < size:
        raise ArchiveRefused("The archive is cut short: upload it again.")
    return data[:size]


def _pax(data: bytes) -> dict[str, str]:
    """path, linkpath and size of a pax header: lines of "LENGTH KEY=VALUE"."""
    found: dict[str, str] = {}
    while data:
        length, space, _ = data.partition(b" ")
        if (
            not space
            or not length.isdigit()
            or len(length) > 8
            or not len(length) + 1 < int(length) <= len(data)
        ):
            raise ArchiveRefused("The archive has a header that cannot be read: make it anew with tar.")
        key, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        if key.startswith(b"GNU.sparse"):
            raise ArchiveRefused("The archive has a sparse file: make it anew without --sparse.")
        if key in (b"path", b"linkpath", b"size"):
            found[key.decode()] = _text(value)
        data = data[int(length) :]
    return found


def _sum_holds(header: bytes) -> bool:
    return _number(header[148:156]) == sum(header) - sum(header[148:156]) + 8 * 0x20


def _number(field: bytes) -> int:
    """Octal, or GNU's base 256; -1 when it is neither."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    digits = field.strip(b" \0")
    if not digits:
        return 0
    return int(digits, 8) if all(c in b"01234567" for c in digits) else -1


def _name(header: bytes) -> str:
    name = _until_nul(header[:100])
    prefix = _until_nul(header[345:500]) if header[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _until_nul(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _text(raw: bytes) -> str:
    if len(raw) > MAX_NAME:
        raise ArchiveRefused("The archive has a name that is too long: make it anew with tar.")
    text = raw.decode("utf-8", "replace")
    if not text.isprintable():
        raise ArchiveRefused(f"The archive has a member with a name that cannot be shown: {text[:80]!a}.")
    return text


def _placed(member: _Member) -> list[str]:
    """The member's path in its parts. Raises ArchiveRefused for what does not lie, or does not stay, with modules."""
    shown = member.name[:120]
    if member.kind in _KINDS or member.kind not in (*_FILE, _HARD, _SYMBOLIC, _FOLDER):
        what = _KINDS.get(member.kind, "a member of an unknown kind")
        raise ArchiveRefused(f"{shown} in the archive is {what}; modules are files only.")
    parts = _inside(member.name, f"{shown} in the archive")
    if member.kind == _FOLDER and any(list(root[: len(parts)]) == parts for root in ROOTS):
        return parts
    root = next(
        (root for root in ROOTS if tuple(parts[: len(root)]) == root and len(parts) > len(root)), None
    )
    if root is None:
        raise ArchiveRefused(
            f"{shown} in the archive does not lie in lib/modules, usr/lib/modules or stand: pack modules only."
        )
    if member.kind == _HARD:
        target = _inside(member.link, f"The target of {shown}")
        if tuple(target[: len(root)]) != root:
            raise ArchiveRefused(
                f"{shown} in the archive is a link to {member.link[:120]}, which is no module."
            )
    # depmod's own: /lib/modules/RELEASE/build leads to where the kernel was built, and nothing is loaded from there.
    if member.kind == _SYMBOLIC and parts[-1] not in ("build", "source"):
        _stays(parts, member.link, root, shown)
    return parts


def _inside(name: str, what: str) -> list[str]:
    if name.startswith("/"):
        raise ArchiveRefused(
            f"{what} begins with /: make the archive with tar -C / and names that begin with lib/."
        )
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ArchiveRefused(f"{what} has .. in its path: make the archive anew with tar -C /.")
    return parts


def _stays(parts: list[str], link: str, root: tuple[str, ...], shown: str) -> None:
    here = parts[:-1]
    steps = link.split("/")
    if link.startswith("/"):
        here = []
    for step in steps:
        if step == ".." and here:
            here = here[:-1]
        elif step not in ("", ".", ".."):
            here = [*here, step]
    if tuple(here[: len(root)]) != root:
        raise ArchiveRefused(f"{shown} in the archive is a link to {link[:120]}, which is no module.")


def _release(parts: list[str]) -> str:
    """lib/modules/RELEASE/..., or stand/ARCH/RELEASE/modules/...: the release."""
    if parts[0] == "stand":
        return parts[2] if len(parts) > 4 and parts[3] == "modules" else ""
    start = 3 if parts[0] == "usr" else 2
    return parts[start] if len(parts) > start + 1 else ""
