"""The agent's version: that of the installed package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def agent_version() -> str:
    """The version of the package; "0" in a tree that is not installed."""
    try:
        return version("berth")
    except PackageNotFoundError:
        return "0"
