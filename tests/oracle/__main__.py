"""`python -m tests.oracle [--full N] [COUNT] [SEED]`: inspection against libxenguest on mutants; counts by rule.

COUNT mutants of small kernels (20,000), and N of kernels that Debian ships (0; each takes a second or two).

Exit 0 when they agree everywhere but for the written differences; 1 when not; 2 without libxen-dev.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import chain

from tests.debian_kernels import fetch
from tests.oracle.differences import agrees
from tests.oracle.library import NoOracle, Oracle
from tests.oracle.mutants import Mutant, full_size, mutants, synthetic
from vps.xen.inspect import examine, inspect

FULL = ("linux-amd64", "linux-cloud", "linux-cloud-newer")


def real_ones(count: int, seed: int) -> Iterator[Mutant]:
    images = {}
    for name, path in fetch(FULL).items() if count else ():
        data = path.read_bytes()
        plain = examine(data).plain
        assert plain is not None
        images[name] = (data, bytes(plain))
    return full_size(images, count, seed)


def main(argv: list[str]) -> int:
    full = 0
    if argv[:1] == ["--full"]:
        full, argv = int(argv[1]), argv[2:]
    count = int(argv[0]) if argv else 20_000
    seed = int(argv[1]) if argv[1:] else 1
    try:
        oracle = Oracle()
    except NoOracle as error:
        print(error, file=sys.stderr)
        return 2
    began = time.monotonic()
    seen: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    differing: Counter[str] = Counter()
    wrong: list[tuple[str, str]] = []
    with oracle:
        for mutant in chain(mutants(bases(), count, seed), real_ones(full, seed)):
            report = inspect(mutant.data)
            answers = dict(zip(("direct_pv", "direct_pvh"), oracle.ask(mutant.data), strict=True))
            seen[mutant.rule] += 1
            accepted[mutant.rule] += any(answer.accepted for answer in answers.values())
            for path, answer in answers.items():
                word = agrees(path, report, answer)
                if word and word.startswith("WRONG"):
                    wrong.append((mutant.rule, f"{mutant.base} / {mutant.number}: {path}: {word}"))
                elif word:
                    differing[f"{word} ({path})"] += 1
    print(f"{'rule':28} {'mutants':>8} {'accepted':>8} {'wrong':>6}")
    for rule in seen:
        bad = sum(name == rule for name, _ in wrong)
        print(f"{rule:28} {seen[rule]:8} {accepted[rule]:8} {bad:6}")
    share = sum(accepted.values()) / max(1, sum(seen.values()))
    print(
        f"{'all':28} {sum(seen.values()):8} {sum(accepted.values()):8} {len(wrong):6}   {share:.0%} accepted"
    )
    for name, number in sorted(differing.items()):
        print(f"on purpose: {name}: {number}")
    for rule, word in wrong[:20]:
        print(f"{rule} / {word}")
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


def bases() -> dict[str, bytes]:
    """Synthetic kernels, and GNU Mach's where Debian's package can be had."""
    import gzip

    from tests.debian_kernels import CannotFetch

    out = synthetic()
    try:
        out["Debian's gnumach-xen"] = gzip.decompress(fetch(["gnumach-xen"])["gnumach-xen"].read_bytes())
    except CannotFetch as error:
        print(f"without Debian's GNU Mach: {error}", file=sys.stderr)
    return out


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
