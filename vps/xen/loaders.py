"""Which of Berth's loaders starts a kernel, by what inspection said of it. Pure.

The PV loaders are GRUB for the xen platform, of which inspection's path `pvgrub` speaks. The PVH loader is the ordinary
i386 GRUB: on real Xen it booted a bzImage, and hung silently on an ELF kernel (docs/lab.md). It hands the bzImage over
as it is, packed by whatever method, for the kernel unpacks itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class LoaderKind(StrEnum):
    """What a loader is and starts: PV of 64 or 32 bits, or PVH of both."""

    PV64 = "pv64"
    PV32 = "pv32"
    PVH = "pvh"


PVGRUB_PVH = "pvgrub_pvh"  # the path of a kernel through the PVH loader, beside vps.xen.inspect's own


def pv_kind(architecture: str) -> LoaderKind:
    """The PV loader for kernels of an architecture: one of 64 bits reads none of 32, nor the reverse."""
    return LoaderKind.PV32 if architecture == "x86_32" else LoaderKind.PV64


def why_not_pvh(report: Mapping[str, Any]) -> str:
    """Why the PVH loader cannot start a kernel with this report; "" when it can."""
    direct = str((report.get("paths") or {}).get("direct_pvh") or "It has not been inspected yet.")
    if direct != "ok":
        return direct
    if report.get("format") != "bzImage" or report.get("file_compression") not in (None, "", "none"):
        return (
            "The PVH loader starts a Linux bzImage as the build leaves it, and nothing else: "
            "start it directly as PVH."
        )
    return ""
