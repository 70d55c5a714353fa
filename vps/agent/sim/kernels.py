"""What a kernel file is to this dom0: the placeholder loader, or what `vps.xen.inspect` says of it."""

from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path
from typing import Any

from vps.agent.sim.loader import placeholder_kind


class KernelRefused(Exception):
    """No domain can be built from the file. `why` is what libxenguest says first."""


def judge(data: bytes) -> dict[str, Any]:
    """Facts on a kernel: sha256, role, paths (direct_pv, direct_pvh, pvgrub: ok or the reason), guest and release."""
    facts: dict[str, Any] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    kind = placeholder_kind(data)
    if kind is not None:
        direct = {
            "direct_pv": "ok" if kind != "pvh" else "PVH only",
            "direct_pvh": "ok" if kind == "pvh" else "PV only",
        }
        architecture = "x86_32" if kind == "pv32" else "x86_64"
        return facts | {
            "role": "loader",
            "kind": kind,
            "paths": direct | {"pvgrub": "a loader"},
            "architecture": architecture,
            "guest_type": f"xen-3.0-{architecture}" + ("p" if kind == "pv32" else ""),
            "guest_os": "",
            "release": "",
            "configuration": "",
            "summary": "simulated loader",
        }
    from vps.xen.inspect import inspect

    report = inspect(data)
    names = (
        "architecture",
        "guest_type",
        "guest_os",
        "release",
        "configuration",
        "summary",
        "pv",
        "pvh",
        "format",
    )
    facts |= {name: getattr(report, name) for name in names}
    facts["role"] = str(report.role)
    # The file as it came: the plain ELF that inspection made of it is another file.
    facts["paths"] = dict(report.original_paths)
    facts["start"], facts["pages"] = pages(data) if facts["paths"]["direct_pv"] == "ok" else (0, 0)
    if facts["role"] == "dom0" and facts["pv"]:
        facts["paths"] |= {"direct_pv": "ok", "pvgrub": "ok"}  # Xen does not refuse it, the product does
    if facts["role"] == "loader":
        facts["kind"] = "pvh" if not facts["pv"] else "pv32" if facts["architecture"] == "x86_32" else "pv64"
    return facts


def pages(data: bytes) -> tuple[int, int]:
    """First page and number of pages of a kernel that is loaded, an ELF, plain or gzipped; (0, 0) of anything else."""
    from vps.xen.inspect.elf import Blob, Elf

    if data.startswith(b"\x1f\x8b"):
        data = zlib.decompressobj(31).decompress(data, 1 << 28)
    elf = Elf(Blob(memoryview(data), len(data)))
    loaded = [segment for segment in elf.segments if segment.loadable] if elf.is_elf else []
    if not loaded:
        return 0, 0
    start = min(segment.paddr for segment in loaded) >> 12
    return start, -(-max(segment.paddr + segment.memsz for segment in loaded) >> 12) - start


def read(path: str) -> bytes:
    """The bytes of a kernel file. Raises KernelRefused with xl's first line when there is none."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise KernelRefused(
            f"xc: error: panic: xg_dom_core.c:205: failed to open file '{path}':"
            f" {os.strerror(error.errno or 0)}: Internal error"
        ) from error
    if not data:
        raise KernelRefused(
            f"xc: error: panic: xg_dom_core.c:230: '{path}': zero length file: Internal error"
        )
    return data
