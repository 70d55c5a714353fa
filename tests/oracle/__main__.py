"""`python -m tests.oracle [COUNT] [SEED]`: inspection against libxenguest on mutants of small kernels; counts by rule.

Exit 0 when they agree everywhere but for the written differences; 1 when not; 2 without libxen-dev.
"""

from __future__ import annotations

import sys
import time
from collections import Counter

from tests.oracle.differences import agrees
from tests.oracle.library import NoOracle, Oracle
from tests.oracle.mutants import Mutant, mutants, synthetic
from vps.xen.inspect import inspect


def main(argv: list[str]) -> int:
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
    wrong: list[tuple[Mutant, str, str]] = []
    with oracle:
        for mutant in mutants(synthetic(), count, seed):
            report = inspect(mutant.data)
            answers = dict(zip(("direct_pv", "direct_pvh"), oracle.ask(mutant.data), strict=True))
            seen[mutant.rule] += 1
            accepted[mutant.rule] += any(answer.accepted for answer in answers.values())
            for path, answer in answers.items():
                word = agrees(path, report, answer)
                if word and word.startswith("WRONG"):
                    wrong.append((mutant, path, word))
                elif word:
                    differing[f"{word} ({path})"] += 1
    print(f"{'rule':24} {'mutants':>8} {'accepted':>8} {'wrong':>6}")
    for rule in seen:
        bad = sum(mutant.rule == rule for mutant, _, _ in wrong)
        print(f"{rule:24} {seen[rule]:8} {accepted[rule]:8} {bad:6}")
    share = sum(accepted.values()) / max(1, sum(seen.values()))
    print(
        f"{'all':24} {sum(seen.values()):8} {sum(accepted.values()):8} {len(wrong):6}   {share:.0%} accepted"
    )
    for name, number in sorted(differing.items()):
        print(f"on purpose: {name}: {number}")
    for mutant, path, word in wrong[:20]:
        print(f"{mutant.rule} / {mutant.base} / {mutant.number}: {path}: {word}")
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
