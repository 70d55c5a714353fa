"""How views answer; accounts' pages answer alike."""

from accounts.pages import EVERY_MOVING, EVERY_STILL, PER_PAGE, paged, show, sought

__all__ = ["EVERY_MOVING", "EVERY_STILL", "PER_PAGE", "paged", "show", "sought"]
