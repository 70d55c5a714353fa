"""A trial boot as an order carries it: the description of a throw-away domain, and how long it may live.

The domain's uuid is the operation's id. It boots one entry through a loader; it has no network and no disk but the
boot disk, so that a hostile kernel reaches nothing of anybody's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from vps.xen.description import (
    BlobRef,
    Boot,
    BootEntry,
    BootMethod,
    Description,
    DescriptionRefused,
    DomainType,
    GuestOS,
)

NAME = "berth-trial-"
MAX_MEMORY_MIB = 2048
LEAST_SECONDS, MOST_SECONDS = 5, 900
TRANSCRIPT = 64 * 1024  # characters that are kept: the first and the last half of them


@dataclass(frozen=True)
class Trial:
    """`seconds` from the first instruction on."""

    description: Description
    seconds: int

    def as_body(self) -> dict[str, Any]:
        return {"trial": self.description.as_dict(), "seconds": self.seconds}


def make(
    operation: UUID,
    *,
    kind: DomainType,
    guest_os: GuestOS,
    loader: BlobRef,
    entry: BootEntry,
    memory_mib: int,
    seconds: int,
) -> Trial:
    boot = Boot(BootMethod.PVGRUB, 1, (entry,), 0, 0, loader)
    description = Description(
        id=operation,
        name=NAME + operation.hex[-12:],
        type=kind,
        guest_os=guest_os,
        memory_mib=memory_mib,
        vcpus=1,
        disks=(),
        nics=(),
        boot=boot,
        autostart=False,
        crash_limit=0,
    )
    return Trial(description, seconds)


def is_trial(uuid: str, name: str) -> bool:
    """Whether a domain is a trial's, by what a dom0 tells of it."""
    return name == NAME + uuid.replace("-", "")[-12:]


def read(operation: UUID, body: Mapping[str, Any]) -> Trial:
    """Read an order's body. Raises DescriptionRefused: also where it would be more than a trial may be."""
    description, seconds = Description.of(body.get("trial")), body.get("seconds")
    if description.id != operation or description.name != NAME + operation.hex[-12:]:
        raise DescriptionRefused("The trial's domain is not the operation's own.")
    if description.disks or description.nics:
        raise DescriptionRefused("A trial has neither disks nor network.")
    if description.boot.method is not BootMethod.PVGRUB or len(description.boot.entries) != 1:
        raise DescriptionRefused("A trial boots one entry, through the loader.")
    if not description.boot.bootable:
        raise DescriptionRefused("The trial names no loader.")
    if description.memory_mib > MAX_MEMORY_MIB:
        raise DescriptionRefused(
            f"The trial wants {description.memory_mib} MiB of memory; the limit is {MAX_MEMORY_MIB}."
        )
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, int)
        or not LEAST_SECONDS <= seconds <= MOST_SECONDS
    ):
        raise DescriptionRefused(
            f"A trial lasts {LEAST_SECONDS} to {MOST_SECONDS} s, not {str(seconds)[:40]}."
        )
    return Trial(description, seconds)


def shorten(transcript: str) -> str:
    """The first and the last half of what may be kept, with a line between that says how much is missing."""
    if len(transcript) <= TRANSCRIPT:
        return transcript
    half = TRANSCRIPT // 2
    gone = len(transcript) - 2 * half
    return f"{transcript[:half]}\n[... {gone} characters left out ...]\n{transcript[-half:]}"
