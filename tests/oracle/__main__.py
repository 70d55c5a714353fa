"""`python -m tests.oracle [--full N|A-B] [--small N|A-B] [--seed N] [--jobs N]`: inspection against loaders, by rule.

Judges: libxenguest for direct boot, verdict and guest type; grub-file for the way through pvgrub. Judged: every kernel
that Debian ships (as it came, and its plain ELF), 20,000 mutants of small kernels (synthetic ones, and Debian's GNU
Mach and GRUB), 300 mutants of full-size ones. Those come last, and take seconds each. Ended early (SIGTERM), it prints
how far it came. On a machine with little time it is judged in pieces: `--small 0-2000 --json FILE`, and so on, each
mutant being the same as in a whole run; what Debian ships is judged with the piece that begins at 0. `--gather FILE...`
adds them up.

Exit 0 when all agree but for the written differences, and a fifth or more was accepted; 1 when not; 2 when a judge or
Debian's kernels cannot be had (`--synthetic` does without the kernels).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path

from tests.debian_kernels import SOURCES, CannotFetch, fetch
from tests.oracle.differences import PV, PVH, agrees, agrees_with_grub
from tests.oracle.library import NoOracle, Oracle, grub_takes
from tests.oracle.mutants import Mutant, full_size, mutants, synthetic
from vps.xen.inspect import examine, inspect

SMALL = 1 << 20
"""Largest kernel, unpacked, of which many mutants are made, bytes."""
ENOUGH = 0.2
"""Share that must be accepted: mutants that everybody refuses show little."""


@dataclass
class Row:
    """One rule. `pv` to `grub`: taken by that loader; `accepted`: inspection offers it on a path as it came."""

    seen: int = 0
    pv: int = 0
    pvh: int = 0
    grub: int = 0
    accepted: int = 0
    on_purpose: int = 0
    wrong: int = 0


@dataclass
class Tally:
    rows: dict[str, Row] = field(default_factory=dict)
    differing: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def judge(self, mutant: Mutant, oracle: Oracle, folder: Path) -> None:
        report = inspect(mutant.data)
        pv, pvh = oracle.ask(mutant.data)
        grub = grub_takes(mutant.data, folder)
        row = self.rows.setdefault(mutant.rule, Row())
        row.seen += 1
        row.pv += pv.accepted
        row.pvh += pvh.accepted
        row.grub += grub
        row.accepted += "ok" in report.original_paths.values()
        words = {PV: agrees(PV, report, pv), PVH: agrees(PVH, report, pvh)}
        words["pvgrub"] = agrees_with_grub(report, grub)
        row.on_purpose += any(word and not word.startswith("WRONG") for word in words.values())
        for path, word in words.items():
            if word and word.startswith("WRONG"):
                row.wrong += 1
                self.wrong.append(f"{mutant.rule} / {mutant.base} / {mutant.number}: {path}: {word}")
            elif word:
                self.differing[f"{word} ({path})"] += 1

    def add(self, other: Tally) -> None:
        for rule, row in other.rows.items():
            mine = self.rows.setdefault(rule, Row())
            for name, count in vars(row).items():
                setattr(mine, name, getattr(mine, name) + count)
        self.differing += other.differing
        self.wrong += other.wrong

    def write(self, path: Path, **more: int) -> None:
        path.write_text(
            json.dumps(
                {
                    "rows": {rule: asdict(row) for rule, row in self.rows.items()},
                    "differing": self.differing,
                    "wrong": self.wrong,
                    **more,
                }
            )
        )

    @classmethod
    def read(cls, path: Path) -> tuple[Tally, dict[str, int]]:
        """A tally as `write` wrote it, and what was written beside it."""
        told = json.loads(path.read_text())
        rows = {rule: Row(**row) for rule, row in told.pop("rows").items()}
        return cls(rows, Counter(told.pop("differing")), told.pop("wrong")), told

    def print(self) -> None:
        names = ("mutants", "PV", "PVH", "grub", "accepted", "on purpose", "wrong")
        print(f"{'rule':28}" + "".join(f"{name:>11}" for name in names))
        total = Row()
        for rule, row in self.rows.items():
            counts = list(vars(row).items())
            print(f"{rule:28}" + "".join(f"{count:11}" for _, count in counts))
            for name, count in counts:
                setattr(total, name, getattr(total, name) + count)
        print(f"{'all':28}" + "".join(f"{count:11}" for count in vars(total).values()))
        print(f"accepted: {self.share:.0%}")
        for name, number in sorted(self.differing.items()):
            print(f"on purpose: {name}: {number}")
        for word in self.wrong[:20]:
            print(word)

    @property
    def share(self) -> float:
        return sum(row.accepted for row in self.rows.values()) / max(
            1, sum(row.seen for row in self.rows.values())
        )


@dataclass
class Bases:
    """What mutants are made of; read once, and shared with the processes that judge."""

    shipped: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    small: dict[str, bytes] = field(default_factory=dict)
    large: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)


BASES = Bases()


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.oracle")
    parser.add_argument(
        "--full", type=numbers, default=range(300), help="mutants of full-size kernels: 300, 100-200"
    )
    parser.add_argument(
        "--small", type=numbers, default=range(20_000), help="mutants of kernels of 1 MiB and less"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--synthetic", action="store_true", help="without the kernels that Debian ships")
    parser.add_argument("--json", type=Path, help="write the counts into this file, too")
    parser.add_argument("--gather", type=Path, nargs="+", help="judge nothing; add up what --json wrote")
    wanted = parser.parse_args(argv)
    if wanted.gather:
        return gather(wanted.gather)
    began = time.monotonic()
    tally = Tally()
    try:
        with Oracle():
            grub_takes(b"")
        read_bases(wanted.synthetic)
    except (NoOracle, CannotFetch) as error:
        print(error, file=sys.stderr)
        return 2
    whole = True
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    with get_context("fork").Pool(wanted.jobs) as pool:
        try:
            parts = list(work(wanted.small, wanted.full, wanted.seed))
            for number, part in enumerate(pool.imap_unordered(judge_part, parts), 1):
                tally.add(part)
                if sys.stderr.isatty():
                    print(
                        f"{number} of {len(parts)} parts, {len(tally.wrong)} wrong", end="\r", file=sys.stderr
                    )
        except KeyboardInterrupt:
            whole = False
    signal.signal(signal.SIGTERM, before)
    tally.print()
    seconds = round(time.monotonic() - began)
    if wanted.json:
        tally.write(wanted.json, seconds=seconds, seed=wanted.seed, whole=whole)
    print(f"{seconds} s, seed {wanted.seed}{'' if whole else ', ended before all was judged'}")
    return 1 if tally.wrong or tally.share < ENOUGH or not whole else 0


def numbers(text: str) -> range:
    """`300`: the first 300; `100-200`: from 100 to 199. Raises ValueError."""
    first, between, end = text.rpartition("-")
    return range(int(first) if between else 0, int(end))


def gather(paths: list[Path]) -> int:
    """The counts of a run that was made in pieces, as one."""
    tally, seconds, seeds, whole = Tally(), 0, set(), True
    for path in paths:
        part, told = Tally.read(path)
        tally.add(part)
        seconds += told["seconds"]
        seeds.add(told["seed"])
        whole = whole and bool(told["whole"])
    tally.print()
    print(f"{len(paths)} pieces, {seconds} s, seed {', '.join(map(str, sorted(seeds)))}")
    return 1 if tally.wrong or tally.share < ENOUGH or not whole else 0


def work(small: range, full: range, seed: int) -> Iterator[tuple[str, range, int]]:
    """Parts of the work, the quick ones first."""
    if 0 in small:
        yield from (("shipped", range(number, number + 1), seed) for number in range(len(BASES.shipped)))
    for start in range(small.start, small.stop, 50):
        yield "small", range(start, min(start + 50, small.stop)), seed
    for start in range(full.start, full.stop if BASES.large else full.start, 2):
        yield "full", range(start, min(start + 2, full.stop)), seed


def judge_part(part: tuple[str, range, int]) -> Tally:
    """In a process of its own."""
    kind, numbers, seed = part
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tally = Tally()
    made = {
        "shipped": lambda: as_shipped(numbers),
        "small": lambda: mutants(BASES.small, numbers, seed),
        "full": lambda: full_size(BASES.large, numbers, seed),
    }[kind]()
    with Oracle() as oracle, tempfile.TemporaryDirectory() as folder:
        for mutant in made:
            tally.judge(mutant, oracle, Path(folder))
    return tally


def as_shipped(numbers: range) -> Iterator[Mutant]:
    for number in numbers:
        name, (image, elf) = list(BASES.shipped.items())[number]
        yield Mutant("as Debian ships it", name, number, image)
        if elf:
            yield Mutant("its plain ELF", name, number, elf)


def read_bases(only_synthetic: bool) -> None:
    """Raises CannotFetch."""
    BASES.shipped = {} if only_synthetic else debian()
    BASES.small = synthetic()
    for name, (_, elf) in BASES.shipped.items():
        if 0 < len(elf) <= SMALL:
            BASES.small[f"Debian's {name}"] = elf
    BASES.large = {name: pair for name, pair in BASES.shipped.items() if len(pair[1]) > SMALL}


def debian() -> dict[str, tuple[bytes, bytes]]:
    """Of each kernel in the table of docs/kernels.md: the file, and the ELF kernel in it."""
    out = {}
    for name, path in fetch(SOURCES).items():
        data = path.read_bytes()
        if name == "xen-efi":
            out[name] = (data, b"")  # a program for the firmware: nothing in it for anybody else
        elif data[:2] == b"\x1f\x8b":
            out[name] = (data, gzip.decompress(data))
        elif data[:4] == b"\x7fELF":
            out[name] = (data, data)
        else:
            out[name] = (data, inside(data))
    return out


def inside(image: bytes) -> bytes:
    """The ELF in a bzImage. (Inspection gives it only where it is of use: Linux without Xen, from its own reader.)"""
    from vps.xen.inspect.limits import UNPACKED_LIMIT
    from vps.xen.inspect.streams import method_of, unpack

    plain = examine(image).plain
    if plain is not None:
        return bytes(plain)
    start = (image[0x1F1] + 1) * 512 + int.from_bytes(image[0x248:0x24C], "little")
    payload = memoryview(image)[start : start + int.from_bytes(image[0x24C:0x250], "little")]
    size = int.from_bytes(payload[-4:], "little")
    assert 0 < size <= UNPACKED_LIMIT
    return bytes(unpack(method_of(payload), payload, size).view)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
