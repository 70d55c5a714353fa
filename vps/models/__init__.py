"""The rows of Berth, by noun."""

from vps.models.alarm import Alarm
from vps.models.boot import BootEntryRow, BootMenu
from vps.models.boot_record import BootRecord
from vps.models.boot_try import BootTry
from vps.models.conflict import Conflict
from vps.models.direct_approval import DirectApproval
from vps.models.disk import Disk
from vps.models.dom0 import CapacityEntry, Dom0, NoRoom
from vps.models.domu import Domu
from vps.models.event import Chain, Event
from vps.models.foreign import ForeignDomain
from vps.models.kernel import (
    Blob,
    Kernel,
    KernelConfiguration,
    KernelVersion,
    Loader,
    Upload,
    UploadPiece,
)
from vps.models.network import MacAddress, Nic
from vps.models.operation import Operation
from vps.models.request import Request
from vps.models.sample import Sample
from vps.models.size import Size
from vps.models.trial import TrialBoot
from vps.models.upload_token import UploadToken

__all__ = [
    "Alarm",
    "Blob",
    "BootEntryRow",
    "BootMenu",
    "BootRecord",
    "BootTry",
    "CapacityEntry",
    "Chain",
    "Conflict",
    "DirectApproval",
    "Disk",
    "Dom0",
    "Domu",
    "Event",
    "ForeignDomain",
    "Kernel",
    "KernelConfiguration",
    "KernelVersion",
    "Loader",
    "MacAddress",
    "Nic",
    "NoRoom",
    "Operation",
    "Request",
    "Sample",
    "Size",
    "TrialBoot",
    "Upload",
    "UploadPiece",
    "UploadToken",
]
