"""Inspection against the real loaders, on synthetic kernels and their mutants. `python -m tests.oracle` does more."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import kernels
from tests.oracle.differences import DIFFERENCES, agrees
from tests.oracle.library import NoOracle, Oracle, binary, grub_takes
from tests.oracle.mutants import RULES, mutants, synthetic
from vps.xen.inspect import inspect
from vps.xen.inspect.verdicts import Code

WAYS = ("direct_pv", "direct_pvh")
MUTANTS = 1500
GRUB_MUTANTS = 300

# What Berth refuses although grub-file takes it: grub-file reads the headers alone, GRUB then loads and boots.
STRICTER_THAN_GRUB_FILE = {
    Code.DOM0_KERNEL,
    Code.PVH_ONLY,
    Code.CUT_SHORT,
    Code.DAMAGED,
    Code.TRAILING_BYTES,
    Code.ADDRESSES,
    Code.HEADERS,
    Code.NOTES,
}


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    try:
        binary()
    except NoOracle as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"libxenguest cannot be asked: {error}")
    with Oracle() as running:
        yield running


@pytest.fixture
def grub(tmp_path: Path) -> Path:
    try:
        grub_takes(b"x", tmp_path)
    except NoOracle as error:
        pytest.skip(f"GRUB cannot be asked: {error}")
    return tmp_path


def packings() -> dict[str, bytes]:
    """Every synthetic kernel plain, and two of them in every wrapping."""
    out = dict(synthetic())
    for name in ("netbsd amd64 notes", "linux amd64"):
        kernel = out[name]
        for method in kernels.COMPRESSIONS:
            out[f"{name}, {method}"] = kernels.compress(kernel, method)
            out[f"{name}, {method} in gzip"] = kernels.compress(kernels.compress(kernel, method), "gzip")
            out[f"{name}, bzImage {method}"] = kernels.linux_bzimage(method, elf=kernel)
        out[f"{name}, bzImage"] = kernels.linux_bzimage("none", elf=kernel)
        out[f"{name}, bzImage in gzip"] = kernels.compress(kernels.linux_bzimage("xz", elf=kernel), "gzip")
        out[f"{name}, twice gzip behind itself"] = kernels.compress(kernel, "gzip") * 2
        out[f"{name}, old protocol"] = kernels.linux_bzimage("gzip", elf=kernel, protocol=0x0207)
    return out


PACKINGS = packings()


@pytest.mark.parametrize("name", PACKINGS)
def test_libxenguest_says_the_same(name: str, oracle: Oracle) -> None:
    report = inspect(PACKINGS[name])
    for way, answer in zip(WAYS, oracle.ask(PACKINGS[name]), strict=True):
        assert not str(agrees(way, report, answer)).startswith("WRONG"), agrees(way, report, answer)


@pytest.mark.parametrize("name", PACKINGS)
def test_grub_says_the_same(name: str, grub: Path) -> None:
    report = inspect(PACKINGS[name])
    taken = grub_takes(PACKINGS[name], grub)
    code = report.path_codes["pvgrub"]
    assert taken == (code is None) or (taken and code in (Code.DOM0_KERNEL, Code.PVH_ONLY)), code


@pytest.mark.timeout(300)
def test_mutants_are_judged_as_libxenguest_does(oracle: Oracle) -> None:
    rules: Counter[str] = Counter()
    accepted = 0
    for mutant in mutants(synthetic(), MUTANTS, seed=11):
        report = inspect(mutant.data)
        answers = oracle.ask(mutant.data)
        rules[mutant.rule] += 1
        accepted += any(answer.accepted for answer in answers)
        for way, answer in zip(WAYS, answers, strict=True):
            word = str(agrees(way, report, answer))
            assert not word.startswith("WRONG"), f"{mutant.rule}/{mutant.base}/{mutant.number} {way}: {word}"
    assert set(rules) == set(RULES)
    assert accepted * 5 >= sum(rules.values()), "a fifth of the mutants must be kernels still"


@pytest.mark.timeout(300)
def test_nothing_is_offered_to_grub_that_grub_refuses(grub: Path) -> None:
    both = 0
    for mutant in mutants(synthetic(), GRUB_MUTANTS, seed=12):
        code = inspect(mutant.data).path_codes["pvgrub"]
        taken = grub_takes(mutant.data, grub)
        where = f"{mutant.rule}/{mutant.base}/{mutant.number}: {code}"
        assert taken or code is not None, where
        assert not taken or code is None or code in STRICTER_THAN_GRUB_FILE, where
        both += taken and code is None
    assert both * 5 >= GRUB_MUTANTS


DIFFERENT = {
    "dom0 kernel": ("direct_pv", kernels.netbsd(config="XEN3_DOM0")),
    "PVH only, offered as PV": ("direct_pv", kernels.netbsd(config="GENERIC")),
    "hypervisor": ("direct_pvh", kernels.hypervisor()),
    "firmware": ("direct_pvh", kernels.netbsd("i386", "string")),
    "size": ("direct_pv", kernels.compress(kernels.netbsd(), "gzip")),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_each_difference_is_one(name: str, oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    """That libxenguest takes what Berth refuses: else the difference would be none, and its reason wrong."""
    way, kernel = DIFFERENT[name]
    if name == "size":
        from vps.xen.inspect import containers

        monkeypatch.setattr(containers, "UNPACKED_LIMIT", 4096)
    answer = oracle.ask(kernel)[WAYS.index(way)]
    assert answer.accepted
    assert agrees(way, inspect(kernel), answer) == name


def test_a_raw_xen_binary_is_a_difference(oracle: Oracle) -> None:
    magic, flags = 0x336EC578, 0x10000 | 2 << 14
    words = (magic, flags, -(magic + flags) & 0xFFFFFFFF, 0x1000, 0x1000, 0, 0, 0x1000)
    table = b"".join(word.to_bytes(4, "little") for word in words)
    kernel = kernels.netbsd()
    at = kernel.index(b"\x90" * 64)
    at += -at % 4
    binary_too = kernel[:at] + table + kernel[at + len(table) :]
    report = inspect(binary_too)
    assert report.path_codes["direct_pv"] == Code.XEN_BINARY
    answer = oracle.ask(binary_too)[0]
    assert answer.loader == "multiboot-binary" or not answer.accepted


def test_the_written_list_is_the_list_of_the_code() -> None:
    text = (Path(__file__).parents[2] / "docs" / "kernels.md").read_text()
    listed = re.findall(r"^\| \*\*(.+?)\*\* \|", text, re.MULTILINE)
    assert listed == [difference.name for difference in DIFFERENCES]
