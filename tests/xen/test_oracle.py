"""Inspection against the real loaders, on synthetic kernels and their mutants. `python -m tests.oracle` does more."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import kernels
from tests.oracle.__main__ import main
from tests.oracle.differences import DIFFERENCES, GRUB_DIFFERENCES, agrees, agrees_with_grub
from tests.oracle.library import Answer, NoOracle, Oracle, binary, grub_takes
from tests.oracle.mutants import RULES, full_size, mutants, synthetic
from vps.xen.inspect import inspect
from vps.xen.inspect.verdicts import Code

WAYS = ("direct_pv", "direct_pvh")
MUTANTS = 1500
GRUB_MUTANTS = 300


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
    for name in ("netbsd notes amd64 XEN3_DOMU", "linux amd64"):
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
    word = agrees_with_grub(inspect(PACKINGS[name]), grub_takes(PACKINGS[name], grub))
    assert word in (None, "grub: dom0 kernel", "grub: PVH only"), word


@pytest.mark.timeout(300)
def test_mutants_are_judged_as_libxenguest_does(oracle: Oracle) -> None:
    rules: Counter[str] = Counter()
    accepted = 0
    for mutant in mutants(synthetic(), range(MUTANTS), seed=11):
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
def test_mutants_are_judged_as_grub_does(grub: Path) -> None:
    both = 0
    for mutant in mutants(synthetic(), range(GRUB_MUTANTS), seed=12):
        report = inspect(mutant.data)
        taken = grub_takes(mutant.data, grub)
        word = str(agrees_with_grub(report, taken))
        assert not word.startswith("WRONG"), f"{mutant.rule}/{mutant.base}/{mutant.number}: {word}"
        both += taken and report.path_codes["pvgrub"] is None
    assert both * 5 >= GRUB_MUTANTS


def test_the_command_prints_every_rule(
    oracle: Oracle, grub: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--synthetic", "--small", "60", "--seed", "5"]) == 0
    printed = capsys.readouterr().out
    for rule in RULES:
        assert re.search(rf"^{rule} +[34] ", printed, re.MULTILINE), rule
    assert re.search(r"^all +60 ", printed, re.MULTILINE)


def test_full_size_mutants_are_of_every_rule() -> None:
    elf = kernels.linux_elf()
    seen = Counter(
        mutant.rule for mutant in full_size({"a": (kernels.linux_bzimage(elf=elf), elf)}, range(69))
    )
    assert set(seen) >= {f"full size: {rule}" for rule in RULES}
    assert set(seen.values()) == {3}


def test_a_wrong_answer_is_called_so() -> None:
    """The judge itself: were it to nod at everything, the counts would be worth nothing."""
    taken, refused = Answer("xen-3.0-x86_64", "ELF-generic", ""), Answer(None, None, "no")
    ok, bad = inspect(kernels.netbsd()), inspect(b"text")
    assert agrees("direct_pv", ok, taken) is None and agrees("direct_pv", bad, refused) is None
    other = Answer("xen-3.0-x86_32p", "ELF-generic", "")
    for word in (
        agrees("direct_pv", ok, refused),
        agrees("direct_pv", bad, taken),
        agrees("direct_pv", ok, other),
    ):
        assert str(word).startswith("WRONG")
    assert str(agrees("direct_pvh", inspect(kernels.linux_elf()), taken)).startswith("WRONG type")
    assert str(agrees_with_grub(ok, False)).startswith("WRONG")
    assert str(agrees_with_grub(bad, True)).startswith("WRONG")


DIFFERENT = {
    "dom0 kernel": ("direct_pv", kernels.netbsd(config="XEN3_DOM0")),
    "PVH only, offered as PV": ("direct_pv", kernels.netbsd(config="GENERIC")),
    "hypervisor": ("direct_pvh", kernels.hypervisor()),
    "firmware": ("direct_pvh", kernels.netbsd("i386", "string")),
    "size": ("direct_pv", kernels.compress(kernels.netbsd(), "gzip")),
    # The fuzzer's find, once it asked libxenguest too.
    "two forms at once": ("direct_pv", b"\x7fELF" + kernels.linux_bzimage("xz")[4:]),
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


def test_bytes_behind_gzip_that_claim_much_room_are_a_difference(oracle: Oracle) -> None:
    """A fuzzer's find: libxenguest makes the room that the last four bytes say, and boots from the beginning of it."""
    kernel = kernels.compress(kernels.netbsd(), "gzip") + b"more" + (300 << 20).to_bytes(4, "little")
    report, answer = inspect(kernel), oracle.ask(kernel)[0]
    assert answer.accepted and agrees("direct_pv", report, answer) == "size"
    assert report.reason and "8 bytes behind the end of the gzip data" in report.reason
    assert "unpacks to 300 MiB; the limit is 256 MiB" in report.reason


@pytest.mark.parametrize(
    "kernel",
    [kernels.netbsd(), kernels.linux_bzimage("xz"), bytes(64) + b"\x90" * 8192],
    ids=["elf", "bzimage", "alone"],
)
def test_a_raw_xen_binary_is_a_difference(oracle: Oracle, kernel: bytes) -> None:
    magic, flags = 0x336EC578, 0x10000 | 2 << 14
    words = (magic, flags, -(magic + flags) & 0xFFFFFFFF, 0x1000, 0x1000, 0, 0, 0x1000)
    table = b"".join(word.to_bytes(4, "little") for word in words)
    at = kernel.index(b"\x90" * 64)
    at += -at % 4
    binary_too = kernel[:at] + table + kernel[at + len(table) :]
    report = inspect(binary_too)
    for way, answer in zip(WAYS, oracle.ask(binary_too), strict=True):
        assert report.path_codes[way] == Code.XEN_BINARY
        assert answer.loader == "multiboot-binary" or not answer.accepted


def test_nothing_is_made_of_a_raw_xen_binary(oracle: Oracle) -> None:
    """In a bzImage the loader that reads no such tables may have it; so may nobody where there is no other kernel."""
    image = bytearray(kernels.linux_bzimage("xz"))
    image[0x40:0x4C] = b"".join(
        word.to_bytes(4, "little") for word in (0x336EC578, 0, -0x336EC578 & 0xFFFFFFFF)
    )
    assert inspect(bytes(image)).original_paths["pvgrub"] == "ok"
    assert not oracle.ask(bytes(image))[0].accepted
    alone = inspect(bytes(image[:0x1F0]))
    assert (alone.verdict, alone.code) == ("refused", Code.XEN_BINARY)
    assert [alone.path_codes[way] for way in WAYS] == [Code.XEN_BINARY] * 2
    assert alone.path_codes["pvgrub"] == Code.NOT_A_KERNEL


def test_lz4_with_half_its_magic_is_damaged(oracle: Oracle) -> None:
    """Found by the mutants: two bytes of it tell the method, and the decoder wants all four."""
    payload = bytearray(kernels.compress_payload(kernels.linux_elf(), "lz4"))
    payload[3] ^= 4
    kernel = kernels.bzimage_of(bytes(payload))
    assert inspect(kernel).path_codes["direct_pv"] == Code.DAMAGED
    assert not oracle.ask(kernel)[0].accepted


def test_zstd_that_an_older_library_makes_something_of(oracle: Oracle) -> None:
    """Found by the rule "two forms": without a checksum, cut in the middle by 32 other bytes."""
    payload = (Path(__file__).parent / "damaged.zst").read_bytes()
    kernel = kernels.bzimage_of(payload)
    answer = oracle.ask(kernel)[0]
    assert answer.accepted and agrees("direct_pv", inspect(kernel), answer) == "damaged zstd"


def test_a_compression_that_this_libxenguest_lacks_is_refused_where_another_build_takes_it() -> None:
    """Debian's own refuses it, too (the packings above): what is asked is what a build with bzip2 would say."""
    for method in ("bzip2", "lzo"):
        report = inspect(kernels.linux_bzimage(method))
        taken = Answer("xen-3.0-x86_64", "Linux bzImage", "")
        assert report.path_codes["direct_pv"] == Code.PAYLOAD_METHOD
        assert agrees("direct_pv", report, taken) == "compression that Debian's libxenguest lacks"


def far_away() -> bytes:
    """A kernel whose segment is to be loaded at 16 TiB."""
    elf = bytearray(kernels.netbsd())
    at = int.from_bytes(elf[32:40], "little")
    elf[at + 24 : at + 32] = (16 << 40).to_bytes(8, "little")
    return bytes(elf)


def nothing_to_load() -> bytes:
    elf = bytearray(kernels.netbsd())
    at = int.from_bytes(elf[32:40], "little")
    elf[at : at + 4] = b"\x06\0\0\0"  # PT_PHDR where PT_LOAD was
    return bytes(elf)


def long_last_note() -> bytes:
    """The last Xen note's owner reaches behind the note segment."""
    kernel = kernels.netbsd(style="notes")
    segment = int.from_bytes(kernel[32:40], "little") + 56
    size = int.from_bytes(kernel[segment + 32 : segment + 40], "little")
    return kernel[: segment + 32] + (size - 16).to_bytes(8, "little") + kernel[segment + 40 :]


def bimodal() -> bytes:
    kernel = kernels.netbsd("i386", "string", symbols=True)
    said, says = b"PAE=yes[extended-cr3],BSD_SYMTAB=yes", b"PAE=bimodal,BSD_SYMTAB=yes"
    return kernel.replace(said, says.ljust(len(said), b"\0"))


GRUB_DIFFERENT = {
    "grub: dom0 kernel": lambda: kernels.netbsd(config="XEN3_DOM0"),
    "grub: PVH only": lambda: kernels.netbsd(config="GENERIC"),
    "grub: cut short or damaged": lambda: kernels.netbsd(style="notes")[:-8],
    "grub: headers": nothing_to_load,
    "grub: addresses": far_away,
    "grub: notes": long_last_note,
    "grub: PAE or not": bimodal,
    "grub: two forms at once": lambda: kernels.netbsd()[:0x202] + b"HdrS" + kernels.netbsd()[0x206:],
    "grub: size": lambda: kernels.compress(kernels.netbsd(), "gzip"),
}


@pytest.mark.parametrize("name", [difference.name for difference in GRUB_DIFFERENCES])
def test_each_difference_from_grub_is_one(name: str, grub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = GRUB_DIFFERENT[name]()
    if name == "grub: size":
        from vps.xen.inspect import containers

        monkeypatch.setattr(containers, "UNPACKED_LIMIT", 4096)
    assert grub_takes(kernel, grub)
    assert agrees_with_grub(inspect(kernel), True) == name


def test_a_last_note_whose_description_lies_behind_is_refused(grub: Path, oracle: Oracle) -> None:
    """Found by the whole oracle: GRUB's own PAE_MODE, whose segment ends where the word begins."""
    kernel = bytearray(kernels.grub("i386"))
    segment = int.from_bytes(kernel[28:32], "little") + 32
    size = int.from_bytes(kernel[segment + 16 : segment + 20], "little")
    kernel[segment + 16 : segment + 20] = (size - 4).to_bytes(4, "little")
    report = inspect(bytes(kernel))
    assert report.path_codes["pvgrub"] == Code.NOTES
    assert not str(agrees_with_grub(report, grub_takes(bytes(kernel), grub))).startswith("WRONG")
    assert agrees("direct_pv", report, oracle.ask(bytes(kernel))[0]) is None


def test_a_guest_that_calls_itself_xen_is_not_the_hypervisor(grub: Path) -> None:
    """Found by the whole oracle: an owner of boundless length, so that "Xen" reads as the name of the system."""
    kernel = kernels.linux_elf()
    at = kernel.index(b"Xen\0") - 12
    broken = kernel[:at] + b"\xff" * 4 + kernel[at + 4 :]
    assert inspect(broken).path_codes["pvgrub"] == Code.NOTES
    assert agrees_with_grub(inspect(broken), grub_takes(broken, grub)) == "grub: notes"


def test_a_header_that_grub_cannot_read_is_no_lack_of_notes() -> None:
    """Found by the whole oracle: program headers of 34 bytes, where libxenguest finds nothing and says so."""
    kernel = bytearray(kernels.netbsd("i386", config="XEN3PAE_DOMU"))
    kernel[42], kernel[48:50] = 34, b"\0\0"
    codes = inspect(bytes(kernel)).path_codes
    assert (codes["direct_pv"], codes["pvgrub"]) == (Code.NOT_FOR_XEN, Code.HEADERS)


def test_the_written_list_is_the_list_of_the_code() -> None:
    text = (Path(__file__).parents[2] / "docs" / "kernels.md").read_text()
    listed = re.findall(r"^\| \*\*(.+?)\*\* \|", text, re.MULTILINE)
    assert listed == [difference.name for difference in (*DIFFERENCES, *GRUB_DIFFERENCES)]
