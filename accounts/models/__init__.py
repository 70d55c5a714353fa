"""Users, tenants, who belongs to them, and the ledger of what they may use."""

from accounts.models.installation import Installation
from accounts.models.invitation import Invitation
from accounts.models.mail import Mail
from accounts.models.quota import DefaultLimit, QuotaEntry, QuotaExceeded, Resource
from accounts.models.ssh_key import SshKey
from accounts.models.tenant import Membership, Right, Role, Tenant
from accounts.models.user import User

__all__ = [
    "DefaultLimit",
    "Installation",
    "Invitation",
    "Mail",
    "Membership",
    "QuotaEntry",
    "QuotaExceeded",
    "Resource",
    "Right",
    "Role",
    "SshKey",
    "Tenant",
    "User",
]
