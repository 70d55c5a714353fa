"""What a model method raises when somebody else was first, or the thing is not in a state for it."""

from __future__ import annotations


class Conflict(Exception):
    """The change was not made; the text says why and what to do. The page shows it."""
