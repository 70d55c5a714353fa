"""The refusal to write a text that could mean something else than it says."""

from __future__ import annotations


class RenderRefused(ValueError):
    """A configuration or menu that cannot be written exactly as given; rendering never repairs."""
