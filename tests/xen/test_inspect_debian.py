"""The kernels that Debian ships, as XEN-FACTS has them in its table; each is asked of libxenguest and GRUB as well."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.debian_kernels import CannotFetch, fetch
from tests.oracle.differences import agrees
from tests.oracle.library import NoOracle, Oracle, grub_takes
from vps.xen.inspect import Plain, examine
from vps.xen.inspect.verdicts import Code

PV64, PV32P, PVH = "xen-3.0-x86_64", "xen-3.0-x86_32p", "hvm-3.0-x86_32"

# name, guest type, pv, pvh, role, what each path says of the file as it came: pvgrub, direct PV, direct PVH
TABLE = [
    ("linux-amd64", PV64, True, True, "domU", (None, None, None)),
    ("linux-cloud", PV64, True, True, "domU", ("payload-compression", None, None)),
    ("linux-cloud-newer", PV64, True, True, "domU", ("payload-compression", None, None)),
    ("linux-686-pae", PVH, False, True, "domU", ("pvh-only", "pvh-only", None)),
    ("linux-686", None, False, False, "domU", ("not-for-xen",) * 3),
    ("grub-x86_64", PV64, True, False, "loader", (None, None, "not-pvh")),
    ("grub-i386", PV32P, True, False, "loader", (None, None, "not-pvh")),
    ("grub-pvh", PVH, False, True, "loader", ("pvh-only", "pvh-only", None)),
    ("gnumach-xen", PV64, True, False, "domU", (None, None, "not-pvh")),
    ("gnumach-xen-i386", PV32P, True, False, "domU", (None, None, "not-pvh")),
    ("gnumach", None, False, False, "unknown", ("not-for-xen",) * 3),
    ("xen", None, False, False, "unknown", ("hypervisor",) * 3),
    ("xen-efi", None, False, False, "unknown", ("hypervisor",) * 3),
]

pytestmark = pytest.mark.timeout(900)  # the first time downloads 200 MB


def kernel(name: str) -> Path:
    try:
        return fetch([name])[name]
    except CannotFetch as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"Debian's kernels cannot be fetched: {error}")


@pytest.mark.parametrize(
    ("name", "guest_type", "pv", "pvh", "role", "codes"), [pytest.param(*row, id=row[0]) for row in TABLE]
)
def test_debian(
    name: str, guest_type: str | None, pv: bool, pvh: bool, role: str, codes: tuple[str | None, ...]
) -> None:
    path = kernel(name)
    examined = examine(path.read_bytes())
    report = examined.report
    assert (report.guest_type, report.pv, report.pvh, report.role) == (guest_type, pv, pvh, role)
    assert tuple(report.path_codes.values()) == codes
    assert report.verdict == ("ok" if None in codes else "refused")
    if report.format == "bzImage":
        assert report.release == path.name.removeprefix("vmlinuz-")
        assert report.features["multiprocessor"] is True
    if examined.plain is not None:
        served = examined.with_plain(Plain("0" * 64, 1))
        assert set(served.paths.values()) == {"ok"} and served.path_files["pvgrub"] == "plain"
    _as_the_loaders(path)


def _as_the_loaders(path: Path) -> None:
    report = examine(path.read_bytes()).report
    try:
        with Oracle() as oracle:
            answers = oracle.ask(path)
    except NoOracle:
        assert os.environ.get("CI") != "true", "CI has libxen-dev"
    else:
        for way, answer in zip(("direct_pv", "direct_pvh"), answers, strict=True):
            assert not str(agrees(way, report, answer)).startswith("WRONG"), agrees(way, report, answer)
    try:
        taken = grub_takes(path)
    except NoOracle:
        return
    # grub-file looks for Xen notes, not for a PV entry among them.
    assert taken == (report.path_codes["pvgrub"] is None) or (
        taken and report.path_codes["pvgrub"] == Code.PVH_ONLY
    )


def test_the_plain_elf_of_a_cloud_kernel_is_taken_by_every_loader(tmp_path: Path) -> None:
    from vps.xen.inspect.streams import gzip_pieces

    examined = examine(kernel("linux-cloud").read_bytes())
    assert examined.plain is not None
    plain = tmp_path / "plain.gz"
    plain.write_bytes(b"".join(gzip_pieces(examined.plain)))
    report = examine(plain.read_bytes()).report
    assert set(report.paths.values()) == {"ok"}
    _as_the_loaders(plain)
