"""Fuzzing of inspection with atheris: `make fuzz [SECONDS=3600]`, which installs it into an environment of its own.

    python -m tests.fuzz.inspect_kernels CORPUS [libFuzzer's options]

Whatever the bytes, a report comes back, in little time and memory, and says no two things at once. Where libxen-dev
is installed, libxenguest is asked as well (set BERTH_FUZZ_ORACLE=0 to leave it out): nothing is offered for direct
boot that it refuses. A mutant is made by libFuzzer or, as often, by a rule of tests.oracle.mutants, which knows where
a header ends and packs anew, so that no sum stands in the way.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["vps.xen.inspect"]):
    from vps.xen.inspect import bzimage, containers, examine, unwrap

from tests import kernels
from tests.oracle.differences import PV, PVH, agrees
from tests.oracle.library import NoOracle, Oracle
from tests.oracle.mutants import NOTHING_THERE, RULES, synthetic
from vps.xen.inspect import Plain

ROOM = 8 << 20  # bytes that a file may unpack to here: the limits themselves are tested elsewhere
SECONDS = 5.0  # of cpu for one input; on a machine of nothing else it takes some ms
LONGEST = 1 << 20
ORACLE: Oracle | None = None


def seeds() -> dict[str, bytes]:
    """What the corpus begins with: every synthetic kernel, and two of them in every wrapping."""
    out = dict(synthetic())
    for name in ("netbsd notes amd64 XEN3_DOMU", "linux amd64"):
        for method in kernels.COMPRESSIONS:
            out[f"{name} {method}"] = kernels.compress(out[name], method)
            out[f"{name} {method} gzip"] = kernels.compress(out[f"{name} {method}"], "gzip")
            out[f"{name} bzImage {method}"] = kernels.linux_bzimage(method, elf=out[name])
    return out


def one_input(data: bytes) -> None:
    began = time.process_time()
    examined = examine(data)
    report = examined.report
    taken = time.process_time() - began
    json.dumps(report.as_dict())
    offered = [path for path, word in report.original_paths.items() if word == "ok"]
    assert (report.verdict == "ok") == bool(offered), report
    assert set(report.path_files) == set(offered), report
    for path, code in report.path_codes.items():
        assert (code is None) == (path in offered), report
        assert report.original_paths[path], report
    if report.verdict == "refused":
        assert report.reason and report.code and report.reason.isprintable(), report
        assert report.code not in ("no-time", "no-memory"), report
    assert report.size == len(data) and report.summary.isprintable(), report
    if examined.plain is not None:
        served = examined.with_plain(Plain("0" * 64, 1))
        assert served.verdict == "ok" and "plain" in served.path_files.values(), served
        assert set(offered) <= set(served.path_files), served
    assert taken < SECONDS, f"{taken:.1f} s of cpu"
    if ORACLE is not None:
        pv, pvh = ORACLE.ask(data)
        for path, answer in ((PV, pv), (PVH, pvh)):
            word = str(agrees(path, report, answer))
            assert not word.startswith("WRONG"), f"{path}: {word}"


def mutate(data: bytes, room: int, seed: int) -> bytes:
    dice = random.Random(seed)
    if dice.random() < 0.5:
        return bytes(atheris.Mutate(data, room))
    try:
        made = dice.choice(list(RULES.values()))(bytes(data), dice)
    except NOTHING_THERE:
        return bytes(atheris.Mutate(data, room))  # no ELF file, or one that the rule finds nothing in
    return made if len(made) <= room else bytes(atheris.Mutate(data, room))


def main() -> None:
    global ORACLE
    if sys.argv[1:] and not sys.argv[1].startswith("-"):
        corpus = Path(sys.argv[1])
        corpus.mkdir(parents=True, exist_ok=True)
        for name, kernel in seeds().items():
            (corpus / name.replace(" ", "-")).write_bytes(kernel)
    # Every module that reads a limit has its own name for it.
    for module in (bzimage, containers, unwrap):
        if hasattr(module, "UNPACKED_LIMIT"):
            module.UNPACKED_LIMIT = ROOM
    if os.environ.get("BERTH_FUZZ_ORACLE") != "0":
        try:
            ORACLE = Oracle()
        except NoOracle as error:
            print(f"without libxenguest: {error}", file=sys.stderr)
    options = [f"-max_len={LONGEST}", "-timeout=1200", "-rss_limit_mb=2048", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, *sys.argv[1:]], one_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
