"""Users, tenants, who belongs to them, and the ledger of what they may use."""

from accounts.models.mail import Mail
from accounts.models.quota import DefaultLimit, QuotaEntry, QuotaExceeded, Resource
from accounts.models.tenant import Membership, Right, Role, Tenant
from accounts.models.user import User

__all__ = [
    "DefaultLimit",
    "Mail",
    "Membership",
    "QuotaEntry",
    "QuotaExceeded",
    "Resource",
    "Right",
    "Role",
    "Tenant",
    "User",
]
