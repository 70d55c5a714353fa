"""The placeholder that stands for a pvgrub image; nothing but the simulated dom0 takes it for one."""

from __future__ import annotations

KINDS = ("pv64", "pv32", "pvh")
_FIRST = "BERTH SIMULATED LOADER"


def placeholder(kind: str) -> bytes:
    """The placeholder loader for guests of one kind: `pv64`, `pv32` or `pvh`. Raises ValueError for others."""
    if kind not in KINDS:
        raise ValueError(f"There is no simulated loader for {kind!r}; there are {', '.join(KINDS)}.")
    text = f"{_FIRST} {kind}\n\nThis stands for a pvgrub image. Only the simulated dom0 can run it; Xen refuses it.\n"
    return text.encode()


def placeholder_kind(data: bytes) -> str | None:
    """Which placeholder this is, or None."""
    first = data[:64].split(b"\n", 1)[0].decode("ascii", "replace")
    prefix, _, kind = first.rpartition(" ")
    return kind if prefix == _FIRST and kind in KINDS else None
