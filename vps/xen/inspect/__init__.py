"""Kernel inspection: what a file is, and for each way to boot whether that way can boot it.

    python -m vps.xen.inspect FILE [--plain OUT]     the report as JSON (see __main__)
    inspect(data) -> Report                          the same of bytes; pure, never raises
    examine(data) -> Examined                        also the plain ELF of a bzImage

docs/kernels.md has the rules and their sources. Nothing is imported before it is asked for: this package is loaded by
processes that live a few milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vps.xen.inspect.inspection import Examined, examine, inspect
    from vps.xen.inspect.report import Plain, Report

__all__ = ["Examined", "Plain", "Report", "examine", "inspect"]

_HOMES = {
    "Examined": "inspection",
    "examine": "inspection",
    "inspect": "inspection",
    "Plain": "report",
    "Report": "report",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(f"vps.xen.inspect.{_HOMES[name]}"), name)
