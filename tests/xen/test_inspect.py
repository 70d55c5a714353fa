"""What inspection says of kernels: each fact, each refusal, each path."""

from __future__ import annotations

import gzip
import hashlib
import struct

import pytest

from tests import kernels
from tests.kernels import compress, grub, linux_bzimage, linux_elf, netbsd
from vps.xen.inspect import Plain, Report, examine, inspect
from vps.xen.inspect.identity import netbsd_release
from vps.xen.inspect.inspection import refused, too_large
from vps.xen.inspect.verdicts import Code

OK = {"pvgrub": "ok", "direct_pv": "ok", "direct_pvh": "ok"}


def codes(report: Report) -> tuple[str | None, ...]:
    return tuple(report.path_codes[path] for path in ("pvgrub", "direct_pv", "direct_pvh"))


@pytest.mark.parametrize(
    ("kernel", "facts"),
    [
        pytest.param(
            netbsd(),
            {
                "guest_type": "xen-3.0-x86_64",
                "architecture": "x86_64",
                "pv": True,
                "pvh": False,
                "release": "10.1",
                "role": "domU",
            },
            id="NetBSD 10 amd64, notes",
        ),
        pytest.param(
            netbsd(release="6.1.5"),
            {
                "guest_type": "xen-3.0-x86_64",
                "pv": True,
                "guest_os": "NetBSD",
                "release": "6.1.5",
                "configuration": "XEN3_DOMU",
            },
            id="NetBSD 6 amd64, string",
        ),
        pytest.param(
            netbsd("i386", config="XEN3PAE_DOMU", release="6.1.5"),
            {
                "guest_type": "xen-3.0-x86_32p",
                "architecture": "x86_32",
                "pae": True,
                "configuration": "XEN3PAE_DOMU",
            },
            id="NetBSD 6 i386 PAE, string",
        ),
        pytest.param(
            netbsd("i386", config="XEN3PAE_DOMU"),
            {"guest_type": "xen-3.0-x86_32p", "architecture": "x86_32", "pae": True, "release": "10.1"},
            id="NetBSD 10 i386 PAE, notes",
        ),
        pytest.param(
            netbsd(config="INSTALL_XEN3_DOMU"), {"role": "installer", "verdict": "ok"}, id="NetBSD installer"
        ),
        pytest.param(
            netbsd(config="GENERIC"),
            {
                "guest_type": "hvm-3.0-x86_32",
                "pv": False,
                "pvh": True,
                "role": "domU",
                "configuration": "GENERIC",
            },
            id="NetBSD 10 GENERIC: PVH only",
        ),
        pytest.param(
            netbsd(notes_in="section"),
            {"guest_type": "xen-3.0-x86_64", "pv": True},
            id="notes in a section alone",
        ),
        pytest.param(
            netbsd(reproducible=True, release="7.99.4"),
            {"release": "7.99.4", "configuration": "XEN3_DOMU"},
            id="reproducible version string",
        ),
        pytest.param(
            netbsd(version_string=False),
            {"release": "10.1", "configuration": None, "role": "unknown"},
            id="ident note alone",
        ),
        pytest.param(
            netbsd(version_string=False, embedded_config=True, config="MINE"),
            {"configuration": "MINE", "role": "domU"},
            id="name from the embedded configuration",
        ),
        pytest.param(
            netbsd(release="10.1_STABLE"), {"release": "10.1_STABLE"}, id="the string is finer than the note"
        ),
        pytest.param(
            linux_elf(),
            {
                "guest_type": "xen-3.0-x86_64",
                "pv": True,
                "pvh": True,
                "guest_os": "Linux",
                "release": "6.1.0-56-amd64",
            },
            id="Linux vmlinux",
        ),
        pytest.param(
            linux_bzimage("xz"),
            {
                "format": "bzImage",
                "compression": "xz",
                "file_compression": "none",
                "release": "6.1.0-56-amd64",
                "role": "domU",
            },
            id="Linux bzImage",
        ),
        pytest.param(
            linux_bzimage(arch="i386", release="6.1.0-50-686-pae"),
            {"guest_type": "hvm-3.0-x86_32", "pv": False, "pvh": True, "architecture": "x86_32", "pae": None},
            id="Linux i386: PVH only",
        ),
        pytest.param(
            linux_bzimage("lz4", elf=linux_elf("i386", pv=True)),
            {"guest_type": "xen-3.0-x86_32p", "pv": True, "pvh": True, "pae": True},
            id="Linux i386 before 5.9",
        ),
        pytest.param(
            compress(linux_bzimage("xz"), "gzip"),
            {"format": "bzImage", "compression": "xz", "file_compression": "gzip"},
            id="gzip around a bzImage",
        ),
        pytest.param(
            grub(), {"role": "loader", "guest_os": "GRUB", "guest_type": "xen-3.0-x86_64"}, id="GRUB 64"
        ),
        pytest.param(
            grub("i386"),
            {"role": "loader", "guest_os": "GRUB", "guest_type": "xen-3.0-x86_32p"},
            id="GRUB 32",
        ),
        pytest.param(
            grub("pvh"), {"role": "loader", "guest_os": "GRUB", "pv": False, "pvh": True}, id="GRUB PVH"
        ),
        pytest.param(kernels.minios(), {"role": "loader", "guest_os": "Mini-OS"}, id="Mini-OS"),
        pytest.param(
            kernels.gnumach(),
            {"guest_os": "GNU Mach", "pv": True, "role": "domU"},
            id="GNU Mach: notes of another owner",
        ),
    ],
)
def test_facts(kernel: bytes, facts: dict[str, object]) -> None:
    report = inspect(kernel)
    assert report.verdict == "ok", report.reason
    assert report.reason is None and report.code is None
    assert {name: getattr(report, name) for name in facts} == facts
    assert report.sha256 == hashlib.sha256(kernel).hexdigest()
    assert report.size == len(kernel)


@pytest.mark.parametrize(
    ("kernel", "code", "words"),
    [
        pytest.param(b"", Code.EMPTY, "The file is empty", id="empty"),
        pytest.param(b"hello\nworld\n", Code.NOT_A_KERNEL, "This is a text file", id="text"),
        pytest.param(b"\0\1\2\3" * 99, Code.NOT_A_KERNEL, "neither an ELF kernel nor", id="something"),
        pytest.param(
            gzip.compress(b"070701" + bytes(600)), Code.NOT_A_KERNEL, "a ramdisk (cpio)", id="ramdisk"
        ),
        pytest.param(b"\x7fELF\2\1\1", Code.CUT_SHORT, "ends inside its header", id="seven bytes of ELF"),
        pytest.param(netbsd()[:-70], Code.CUT_SHORT, "it is cut short or damaged", id="ELF cut short"),
        pytest.param(
            compress(netbsd(), "gzip")[:-20], Code.CUT_SHORT, "gzip data ends early", id="gzip cut short"
        ),
        pytest.param(
            linux_bzimage("xz")[:-500], Code.CUT_SHORT, "payload reaches to byte", id="bzImage cut short"
        ),
        pytest.param(
            compress(netbsd(), "gzip") + b"x",
            Code.TRAILING_BYTES,
            "1 bytes behind the end",
            id="bytes behind gzip",
        ),
        pytest.param(
            compress(compress(netbsd(), "gzip"), "gzip"),
            Code.NESTED,
            "packed twice, with gzip",
            id="gzip in gzip",
        ),
        pytest.param(compress(netbsd(), "bzip2"), Code.WHOLE_FILE, "bunzip2", id="whole file bzip2"),
        pytest.param(compress(netbsd(), "zstd"), Code.WHOLE_FILE, "unzstd", id="whole file zstd"),
        pytest.param(compress(netbsd(), "lz4"), Code.WHOLE_FILE, "lz4 -d", id="whole file lz4"),
        pytest.param(compress(netbsd(), "lzma"), Code.WHOLE_FILE, "unlzma", id="whole file lzma"),
        pytest.param(
            linux_bzimage(protocol=0x0207), Code.OLD_PROTOCOL, "boot protocol 2.07", id="old boot protocol"
        ),
        pytest.param(
            netbsd(config="XEN3_DOM0"), Code.DOM0_KERNEL, "use XEN3_DOMU of the same release", id="DOM0 amd64"
        ),
        pytest.param(
            netbsd("i386", config="XEN3PAE_DOM0", release="6.1.5"),
            Code.DOM0_KERNEL,
            "(XEN3PAE_DOM0), and does not run in a server: use XEN3PAE_DOMU",
            id="DOM0 i386",
        ),
        pytest.param(
            netbsd(config="MINE", embedded_config=True, dom0=True),
            Code.DOM0_KERNEL,
            "(MINE)",
            id="DOM0 by its options",
        ),
        pytest.param(
            netbsd(config="MINE", symbols=True, dom0=True),
            Code.DOM0_KERNEL,
            "(MINE)",
            id="DOM0 by its symbols",
        ),
        pytest.param(
            netbsd("i386", release="5.2", pae=False),
            Code.NON_PAE,
            "(NetBSD 5.2 XEN3_DOMU) is built without PAE, and an i386 guest must have it unless Xen 3.1 runs in",
            id="i386 without PAE, string",
        ),
        pytest.param(netbsd("i386", pae=False), Code.NON_PAE, "without PAE", id="i386 without PAE, notes"),
        pytest.param(kernels.hypervisor(), Code.HYPERVISOR, "the Xen hypervisor itself", id="hypervisor"),
        pytest.param(
            compress(kernels.hypervisor(pvh=True), "gzip"),
            Code.HYPERVISOR,
            "hypervisor itself",
            id="hypervisor, PVH",
        ),
        pytest.param(linux_bzimage(xen=False), Code.NOT_FOR_XEN, "not built for Xen", id="Linux not for Xen"),
        pytest.param(
            linux_bzimage(arch="i386", xen=False, release="6.1.0-50-686"),
            Code.NOT_FOR_XEN,
            "i386 kernel (Linux 6.1.0-50-686) is not built for Xen",
            id="Linux 686",
        ),
        pytest.param(
            kernels.bzimage_of(b"\xfd7zXZ\0" + bytes(99) + struct.pack("<I", 9)),
            Code.DAMAGED,
            "xz payload is damaged",
            id="damaged payload",
        ),
        pytest.param(
            kernels.bzimage_of(kernels.compress(netbsd(), "xz") + bytes(4)),
            Code.DAMAGED,
            "xz payload goes on behind the size it says",
            id="payload that says no size",
        ),
        pytest.param(
            kernels.bzimage_of(compress(b"no kernel at all", "gzip")),
            Code.PAYLOAD,
            "no ELF kernel",
            id="odd payload",
        ),
    ],
)
def test_refusals(kernel: bytes, code: Code, words: str) -> None:
    report = inspect(kernel)
    assert (report.verdict, report.code) == ("refused", code), report.reason
    assert report.reason is not None and words in report.reason
    assert "ok" not in report.paths.values()
    assert report.path_files == {}
    assert report.reason.endswith(".") and ": " in report.reason, "a sentence with what to do"


def test_sentences_do_not_run_over_lines() -> None:
    """Every refusal of every kind of file is one line of printable text."""
    for kernel in (
        b"",
        b"\x7fELF",
        netbsd(config="XEN3_DOM0"),
        b"GUEST_OS=\x1b[31m" * 9,
        compress(b"\x1b[2J", "gzip"),
    ):
        for sentence in inspect(kernel).paths.values():
            assert sentence.isprintable()


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        pytest.param(netbsd(), (None, None, Code.NOT_PVH), id="PV alone"),
        pytest.param(linux_elf(), (None, None, None), id="PV and PVH"),
        pytest.param(
            netbsd(config="GENERIC"), (Code.PVH_ONLY, Code.PVH_ONLY, None), id="PVH only, with PV's words"
        ),
        pytest.param(linux_elf("i386"), (Code.PVH_ONLY, Code.PVH_ONLY, None), id="PVH only"),
        pytest.param(linux_bzimage("none"), (None, None, None), id="bzImage, payload not packed"),
        pytest.param(linux_bzimage("gzip"), (None, None, None), id="bzImage gzip"),
        pytest.param(linux_bzimage("xz"), (None, None, None), id="bzImage xz"),
        pytest.param(linux_bzimage("lz4"), (Code.PAYLOAD_METHOD, None, None), id="bzImage lz4"),
        pytest.param(linux_bzimage("zstd"), (Code.PAYLOAD_METHOD, None, None), id="bzImage zstd"),
        pytest.param(linux_bzimage("lzma"), (Code.PAYLOAD_METHOD, None, None), id="bzImage lzma"),
        pytest.param(linux_bzimage("bzip2"), (Code.PAYLOAD_METHOD,) * 3, id="bzImage bzip2"),
        pytest.param(linux_bzimage("lzo"), (Code.PAYLOAD_METHOD,) * 3, id="bzImage lzo"),
        pytest.param(compress(netbsd(), "gzip"), (None, None, Code.NOT_PVH), id="gzip"),
        pytest.param(compress(netbsd(), "gzip") * 2, (None, None, Code.NOT_PVH), id="two gzip members"),
        pytest.param(compress(netbsd(), "xz"), (None, Code.WHOLE_FILE, Code.NOT_PVH), id="whole file xz"),
        pytest.param(
            compress(linux_elf(), "lzo"), (None, Code.WHOLE_FILE, Code.WHOLE_FILE), id="whole file lzo"
        ),
        pytest.param(
            compress(compress(linux_elf(), "xz"), "gzip"),
            (None, Code.NESTED, Code.NESTED),
            id="xz in gzip: GRUB's two",
        ),
    ],
)
def test_each_path(kernel: bytes, expected: tuple[Code | None, ...]) -> None:
    report = inspect(kernel)
    assert codes(report) == expected
    assert report.verdict == ("ok" if None in expected else "refused")
    for path, code in report.path_codes.items():
        assert (report.paths[path] == "ok") == (code is None)
        assert report.path_files.get(path) == ("original" if code is None else None)


@pytest.mark.parametrize("method", ["lz4", "zstd", "lzma", "bzip2", "lzo"])
def test_plain_elf_serves_where_the_payload_is_not_read(method: str) -> None:
    elf = linux_elf()
    examined = examine(linux_bzimage(method, elf=elf))
    assert examined.plain is not None and bytes(examined.plain) == elf
    before = examined.report
    report = examined.with_plain(Plain("0" * 64, 99))
    assert report.verdict == "ok" and report.paths == OK
    assert report.original_paths == before.original_paths == before.paths
    assert report.path_files["pvgrub"] == "plain"
    assert report.path_files["direct_pv"] == ("plain" if method in ("bzip2", "lzo") else "original")
    assert report.plain == Plain("0" * 64, 99, "gzip")


def test_plain_elf_of_xz_is_for_grub_alone_because_it_loads_faster() -> None:
    report = _with_plain(linux_bzimage("xz"))
    assert report.path_files == {"pvgrub": "plain", "direct_pv": "original", "direct_pvh": "original"}


@pytest.mark.parametrize(
    "kernel",
    [
        pytest.param(netbsd(), id="ELF"),
        pytest.param(linux_bzimage("gzip"), id="everybody reads gzip"),
        pytest.param(linux_bzimage("none"), id="not packed"),
        pytest.param(linux_bzimage("lz4", xen=False), id="not for Xen"),
        pytest.param(linux_bzimage("lz4", arch="i386"), id="PVH only: direct boot reads lz4"),
        pytest.param(compress(netbsd(), "bzip2"), id="whole file: that is the uploader's"),
    ],
)
def test_no_plain_elf_without_use(kernel: bytes) -> None:
    assert examine(kernel).plain is None


def test_a_dom0_kernel_in_a_bzimage_stays_refused_with_its_plain_elf() -> None:
    examined = examine(linux_bzimage("lz4", elf=netbsd(config="XEN3_DOM0")))
    assert examined.plain is None
    assert codes(examined.report) == (Code.DOM0_KERNEL,) * 3


def _with_plain(kernel: bytes) -> Report:
    examined = examine(kernel)
    assert examined.plain is not None
    return examined.with_plain(Plain("0" * 64, 1))


@pytest.mark.parametrize(
    ("kernel", "features"),
    [
        pytest.param(
            netbsd(embedded_config=True, features=("npf", "multiprocessor")),
            {"npf": True, "ipsec": False, "xpci": False, "multiprocessor": True},
            id="embedded configuration",
        ),
        pytest.param(
            netbsd(symbols=True, features=("ipsec", "xpci")),
            {"npf": False, "ipsec": True, "xpci": True, "multiprocessor": False},
            id="symbols",
        ),
        pytest.param(
            netbsd(), {"npf": None, "ipsec": None, "xpci": None, "multiprocessor": None}, id="stripped"
        ),
        pytest.param(
            linux_bzimage(),
            {"npf": None, "ipsec": None, "xpci": None, "multiprocessor": True},
            id="Linux says SMP",
        ),
    ],
)
def test_features(kernel: bytes, features: dict[str, bool | None]) -> None:
    assert inspect(kernel).features == features


def test_linux_configuration_in_the_kernel() -> None:
    config = gzip.compress(b"CONFIG_SMP=y\n# CONFIG_INET_ESP is not set\nCONFIG_XEN_PCIDEV_FRONTEND=m\n")
    elf = kernels.linux_elf(extra=b"IKCFG_ST" + config + b"IKCFG_ED")
    assert inspect(elf).features == {"npf": None, "ipsec": False, "xpci": True, "multiprocessor": True}


@pytest.mark.parametrize(
    ("kernel", "line"),
    [
        pytest.param(netbsd(), "NetBSD 10.1, XEN3_DOMU, amd64. Boots as PV.", id="NetBSD"),
        pytest.param(
            netbsd("i386", config="INSTALL_XEN3PAE_DOMU", release="6.1.5"),
            "NetBSD 6.1.5, INSTALL_XEN3PAE_DOMU, i386 PAE, an installer. Boots as PV.",
            id="installer",
        ),
        pytest.param(
            netbsd(config="GENERIC"), "NetBSD 10.1, GENERIC, amd64. Boots as PVH only.", id="PVH only"
        ),
        pytest.param(linux_bzimage(), "Linux 6.1.0-56-amd64, amd64. Boots as PV and PVH.", id="Linux"),
        pytest.param(grub("i386"), "GRUB, i386 PAE, a boot loader. Boots as PV.", id="loader"),
        pytest.param(netbsd(config="XEN3_DOM0"), "NetBSD 10.1, XEN3_DOM0, amd64. Refused.", id="DOM0"),
        pytest.param(b"text", "Not a kernel for a server. Refused.", id="no kernel"),
        pytest.param(kernels.hypervisor(), "The Xen hypervisor. Refused.", id="hypervisor"),
    ],
)
def test_summary(kernel: bytes, line: str) -> None:
    assert inspect(kernel).summary == line


def test_pae_at_the_end_of_the_string_is_not_seen_by_grub() -> None:
    """grub-file says so as well; libxenguest has no trouble with it."""
    kernel = netbsd("i386", config="XEN3PAE_DOMU", release="6.1.5")
    last = kernel.replace(b"PAE=yes[extended-cr3],BSD_SYMTAB=yes", b"BSD_SYMTAB=yes,PAE=yes[extended-cr3]")
    report = inspect(last)
    assert codes(report) == (Code.NOTES, None, Code.NOT_PVH)
    assert report.pae is True and "at the very end of its __xen_guest string" in report.paths["pvgrub"]


def test_a_name_is_stronger_than_symbols() -> None:
    assert inspect(netbsd(config="XEN3_DOMU", symbols=True, dom0=True)).role == "domU"


def test_segments_that_are_not_there_are_grubs_refusal_and_xens_warning() -> None:
    """libxenguest loads such a kernel without a word; GRUB reads and says so."""
    kernel = bytearray(netbsd())
    struct.pack_into("<Q", kernel, 64 + 8, len(kernel) + 5)  # p_offset of the first segment
    report = inspect(bytes(kernel))
    assert codes(report) == (Code.CUT_SHORT, None, Code.NOT_PVH)
    assert len(report.warnings) == 1 and "Xen loads it all the same" in report.warnings[0]


@pytest.mark.parametrize(
    ("version", "release"),
    [
        (799000400, "7.99.4"),
        (1001000000, "10.1"),
        (601000500, "6.1.5"),
        (1000000000, "10.0"),
        (500000200, "5.0.2"),
    ],
)
def test_netbsd_release(version: int, release: str) -> None:
    assert netbsd_release(version) == release


def test_too_large_says_both_sizes() -> None:
    report = refused(too_large(300 << 20), 300 << 20)
    assert report.reason == (
        "The file is 300 MiB; the limit is 256 MiB: use a smaller kernel, or strip its debug symbols."
    )
    assert (report.verdict, report.code, report.sha256) == ("refused", "too-large", None)


def test_a_second_gzip_member_must_have_the_sum_of_the_first_for_grub() -> None:
    """It looks for size and sum in the last eight bytes; libxenguest for the size alone (seen with GNU Mach)."""
    kernel = netbsd()
    same = inspect(compress(kernel, "gzip") * 2)
    assert same.path_codes["pvgrub"] is same.path_codes["direct_pv"] is None
    other = inspect(compress(kernel, "gzip") + compress(bytes(len(kernel)), "gzip"))
    assert (other.path_codes["pvgrub"], other.path_codes["direct_pv"]) == (Code.TRAILING_BYTES, None)
    assert other.verdict == "ok"
