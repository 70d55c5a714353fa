"""Which loader starts which kernel, by real reports of inspection."""

from __future__ import annotations

import pytest

from tests import kernels
from vps.xen.inspect import inspect
from vps.xen.loaders import LoaderKind, pv_kind, why_not_pvh

I386 = kernels.linux_elf("i386", filler=512)  # as Debian's 686-pae: PVH only


@pytest.mark.parametrize("method", ["none", "gzip", "xz", "zstd", "lz4"])
def test_a_bzimage_starts_through_the_pvh_loader_however_it_is_packed(method: str) -> None:
    report = inspect(kernels.linux_bzimage(method, elf=I386)).as_dict()
    assert (report["pv"], report["pvh"]) == (False, True)
    assert report["paths"]["pvgrub"] != "ok" and why_not_pvh(report) == ""


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(I386, "a Linux bzImage as the build leaves it", id="ELF"),
        pytest.param(kernels.compress(I386, "gzip"), "a Linux bzImage", id="gzipped ELF"),
        pytest.param(
            kernels.compress(kernels.linux_bzimage("gzip", elf=I386), "gzip"), "", id="gzipped bzImage"
        ),
        pytest.param(kernels.linux_elf(pvh=False, filler=512), "no PVH entry", id="PV only"),
        pytest.param(b"text", "", id="no kernel"),
    ],
)
def test_what_the_pvh_loader_does_not_start(data: bytes, words: str) -> None:
    why = why_not_pvh(inspect(data).as_dict())
    assert why and words in why


def test_what_was_never_inspected() -> None:
    assert why_not_pvh({}) == "It has not been inspected yet."


def test_the_pv_loader_is_of_the_kernels_bits() -> None:
    assert (pv_kind("x86_64"), pv_kind("x86_32")) == (LoaderKind.PV64, LoaderKind.PV32)
