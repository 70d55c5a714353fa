"""Everything that may go wrong here is a LabError: a sentence for people, with the cure if there is one."""

from __future__ import annotations


class LabError(Exception):
    """The text is shown as it is, without a traceback."""
