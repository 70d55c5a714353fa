"""`python -m vps.xen.inspect FILE [--plain OUT]`: the report on a kernel as one JSON object.
`python -m vps.xen.inspect --part ramdisk|modules FILE`: the same on what may stand beside a kernel.

Exit 0: ok. 1: refused. 2: the file cannot be read (a sentence on stderr), or the command is wrong.

--plain writes the plain ELF of a bzImage, gzipped, where a path is better off with it; the report then says `plain`,
and judges the paths with it. OUT is made anew, and is left alone when there is nothing to write. For FILE and OUT
/dev/fd/N is the descriptor N itself: nothing is opened.

Safe on its own: it limits its cpu time, address space and files before it reads a byte of FILE. The only module of
vps.xen that touches files.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import resource
import signal
import stat
import sys
from typing import TYPE_CHECKING

from vps.xen.inspect import limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from vps.xen.inspect.inspection import Examined
    from vps.xen.inspect.parts import PartReport
    from vps.xen.inspect.report import Report
    from vps.xen.inspect.verdicts import Refusal

USAGE = "usage: python -m vps.xen.inspect FILE [--plain OUT] | --part ramdisk|modules FILE"
GRACE_SECONDS = 2


class OutOfTime(Exception):
    """SIGXCPU came."""


class CannotRead(Exception):
    """A sentence about a file."""


_DESCRIPTOR = re.compile(r"/dev/fd/([0-9]+)")


def main(argv: list[str], further: Callable[[], object] = lambda: None) -> int:
    """`further` is done behind the limits and before FILE is read: what the caller does to confine the process."""
    if argv[:1] == ["--part"] and len(argv) == 3 and argv[1] in ("ramdisk", "modules") and argv[2]:
        return main_of_part(argv[1], argv[2], further)
    try:
        path, plain = arguments(argv)
    except ValueError:
        print(USAGE, file=sys.stderr)
        return 2
    confine(limits.UNPACKED_LIMIT + limits.MIB if plain else limits.MIB)
    further()
    try:
        report = look(path, plain)
    except CannotRead as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(report.as_dict()))
    return 0 if report.ok else 1


def main_of_part(part: str, path: str, further: Callable[[], object]) -> int:
    confine(limits.MIB, limits.MODULES_CPU_SECONDS if part == "modules" else limits.CPU_SECONDS)
    further()
    try:
        report = look_at_part(part, path)
    except CannotRead as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(report.as_dict()))
    return 0 if report.ok else 1


def look_at_part(name: str, path: str) -> PartReport:
    """The report on a ramdisk or an archive of modules. Raises CannotRead."""
    from vps.xen.inspect.parts import Part, inspect_part, refused_part

    part, size = Part(name), 0
    try:
        descriptor, size = open_file(path)
        try:
            if not 0 < size <= limits.FILE_LIMIT:
                return inspect_part(part, b"") if not size else refused_part(part, too_long(size), size)
            return inspect_part(part, memoryview(mmap.mmap(descriptor, size, prot=mmap.PROT_READ)))
        finally:
            os.close(descriptor)
    except OutOfTime:
        return refused_part(part, "The file takes too long to unpack and read: use a smaller one.", size)
    except (OSError, MemoryError):
        return refused_part(part, "The file needs more memory to read than inspection may use.", size)


def too_long(size: int) -> str:
    from vps.xen.inspect.verdicts import mib

    return f"The file is {mib(size)}; the limit is {mib(limits.FILE_LIMIT)}."


def arguments(argv: list[str]) -> tuple[str, str | None]:
    """FILE and OUT. Raises ValueError when they are not there as the usage says."""
    rest, plain = list(argv), None
    if "--plain" in rest:
        at = rest.index("--plain")
        plain = rest[at + 1 : at + 2][0] if rest[at + 1 :] else None
        if not plain:
            raise ValueError
        del rest[at : at + 2]
    if rest[:1] == ["--"]:
        del rest[0]
    elif rest[:1] and rest[0].startswith("-") and len(rest[0]) > 1:
        raise ValueError
    (path,) = rest
    if not path:
        raise ValueError
    return path, plain


def confine(file_size: int, cpu: int = limits.CPU_SECONDS) -> None:
    """No more than these, from here on: cpu, memory, size of files written; no core."""
    lower(resource.RLIMIT_CPU, cpu, cpu + GRACE_SECONDS)
    lower(resource.RLIMIT_AS, limits.ADDRESS_SPACE, limits.ADDRESS_SPACE)
    lower(resource.RLIMIT_CORE, 0, 0)
    lower(resource.RLIMIT_FSIZE, file_size, file_size)
    signal.signal(signal.SIGXCPU, out_of_time)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def lower(what: int, soft: int, hard: int) -> None:
    """Sets a limit, but never above the one that somebody else has set."""
    _, ceiling = resource.getrlimit(what)
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(what, (soft, hard))


def out_of_time(number: int, frame: FrameType | None) -> None:
    raise OutOfTime


def look(path: str, plain: str | None) -> Report:
    """The report on a file. Raises CannotRead."""
    from vps.xen.inspect.inspection import refused, too_large
    from vps.xen.inspect.verdicts import Code, Refusal

    size = 0
    try:
        descriptor, size = open_file(path)
        try:
            if size > limits.FILE_LIMIT:
                return refused(too_large(size), size, digest_of(descriptor))
            return look_at(descriptor, size, plain)
        finally:
            os.close(descriptor)
    except OutOfTime:
        sentence = (
            f"The file takes more than {limits.CPU_SECONDS} s to unpack and read: use a smaller kernel."
        )
        refusal: Refusal = Refusal(Code.NO_TIME, sentence)
    except MemoryError:
        sentence = "The file needs more memory to unpack than inspection may use: use a smaller kernel."
        refusal = Refusal(Code.NO_MEMORY, sentence)
    return refused(refusal, size)


def open_file(path: str) -> tuple[int, int]:
    """A descriptor and the size of a regular file. Raises CannotRead."""
    given = _DESCRIPTOR.fullmatch(path)
    try:
        # O_NONBLOCK: a FIFO would wait for somebody to write.
        descriptor = int(given[1]) if given else os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        status = os.fstat(descriptor)
    except FileNotFoundError:
        raise CannotRead(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise CannotRead(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if stat.S_ISREG(status.st_mode):
        return descriptor, status.st_size
    os.close(descriptor)
    kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a file"
    raise CannotRead(f"{path}: is {kind}; give a kernel's file")


def digest_of(descriptor: int) -> str | None:
    """The sum of a file that is too large to inspect; None when it is so large that not even that is worth it."""
    if os.fstat(descriptor).st_size > 4 * limits.FILE_LIMIT:
        return None
    with open(descriptor, "rb", closefd=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def look_at(descriptor: int, size: int, plain: str | None) -> Report:
    from vps.xen.inspect.inspection import examine

    if size == 0:
        return examine(b"").report
    try:
        data = mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
    except OSError as error:
        raise MemoryError from error
    examined = examine(memoryview(data))
    if plain is None or examined.plain is None:
        return examined.report
    return write_plain(examined, plain)


def write_plain(examined: Examined, path: str) -> Report:
    """Writes the gzipped ELF and says so in the report. Raises CannotRead when it cannot be written."""
    from vps.xen.inspect.report import Plain
    from vps.xen.inspect.streams import gzip_pieces

    assert examined.plain is not None
    digest, size = hashlib.sha256(), 0
    given = _DESCRIPTOR.fullmatch(path)
    try:
        with open(int(given[1]) if given else path, "wb", closefd=True) as file:  # noqa: PTH123
            file.truncate(0)
            for piece in gzip_pieces(examined.plain):
                file.write(piece)
                digest.update(piece)
                size += len(piece)
    except (OSError, OutOfTime, MemoryError) as error:
        # Who gave a descriptor looks at the exit code.
        if not given and os.path.isfile(path):  # noqa: PTH113
            os.unlink(path)  # noqa: PTH108
        if isinstance(error, OSError):
            raise CannotRead(f"{path}: cannot be written ({error.strerror})") from None
        raise
    return examined.with_plain(Plain(digest.hexdigest(), size))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
