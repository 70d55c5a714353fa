"""`python -m tests.oracle [--full N] [--small N] [--seed N]`: inspection against the loaders, with counts by rule.

Judges: libxenguest for direct boot, verdict and guest type; grub-file for the way through pvgrub. Judged: every kernel
that Debian ships (as it came, and its plain ELF), 20,000 mutants of small kernels (synthetic ones, and Debian's GNU
Mach and GRUB), 300 mutants of full-size ones. Those come last, and take seconds each.

Exit 0 when all agree but for the written differences, and a fifth or more was accepted; 1 when not; 2 when a judge or
Debian's kernels cannot be had (`--synthetic` does without the kernels).
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
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


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.oracle")
    parser.add_argument("--full", type=int, default=300, help="mutants of full-size kernels")
    parser.add_argument("--small", type=int, default=20_000, help="mutants of kernels of 1 MiB and less")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--synthetic", action="store_true", help="without the kernels that Debian ships")
    wanted = parser.parse_args(argv)
    began = time.monotonic()
    tally = Tally()
    try:
        shipped = {} if wanted.synthetic else debian()
        with Oracle() as oracle, tempfile.TemporaryDirectory() as folder:
            for mutant in judged(shipped, wanted.small, 0 if wanted.synthetic else wanted.full, wanted.seed):
                tally.judge(mutant, oracle, Path(folder))
    except (NoOracle, CannotFetch) as error:
        print(error, file=sys.stderr)
        return 2
    tally.print()
    print(f"{time.monotonic() - began:.0f} s, seed {wanted.seed}")
    return 1 if tally.wrong or tally.share < ENOUGH else 0


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


def judged(shipped: dict[str, tuple[bytes, bytes]], small: int, full: int, seed: int) -> Iterator[Mutant]:
    """Everything, the quick ones first."""
    for number, (name, (image, elf)) in enumerate(shipped.items()):
        yield Mutant("as Debian ships it", name, number, image)
        if elf:
            yield Mutant("its plain ELF", name, number, elf)
    bases = synthetic()
    bases |= {f"Debian's {name}": elf for name, (_, elf) in shipped.items() if 0 < len(elf) <= SMALL}
    yield from mutants(bases, small, seed)
    large = {name: pair for name, pair in shipped.items() if len(pair[1]) > SMALL}
    if large:
        yield from full_size(large, full, seed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
