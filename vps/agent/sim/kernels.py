"""What a kernel file is to this dom0: the placeholder loader, or what `vps.xen.inspect` says of it."""

from __future__ import annotations

import hashlib
import os
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
    names = ("architecture", "guest_type", "guest_os", "release", "configuration", "summary", "pv", "pvh")
    facts |= {name: getattr(report, name) for name in names}
    facts["role"] = str(report.role)
    # The file as it came: the plain ELF that inspection made of it is another file.
    facts["paths"] = dict(report.original_paths)
    if facts["role"] == "dom0" and facts["pv"]:
        facts["paths"] |= {"direct_pv": "ok", "pvgrub": "ok"}  # Xen does not refuse it, the product does
    if facts["role"] == "loader":
        facts["kind"] = "pvh" if not facts["pv"] else "pv32" if facts["architecture"] == "x86_32" else "pv64"
    return facts


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
