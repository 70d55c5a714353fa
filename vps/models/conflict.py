"""The same for servers as for people."""

from accounts.conflict import Conflict

__all__ = ["Conflict"]
