"""MAC addresses of network interfaces.

The dom0's side of an interface has the guest's address xor 00:00:00:01:00:00 (H13, NetBSD's xvif), so that
each address takes two. New ones are of Xen's own range 00:16:3e (xen:
docs/man/xl-network-configuration.5.pod, "mac").
"""

from __future__ import annotations

import re
from collections.abc import Iterable

PREFIX = 0x00163E000000
SPACE = 1 << 24  # addresses in the range; half of them can be given out, for each has its twin

_FORM = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
_TWIN = 0x000000010000


class MacRefused(ValueError):
    """A text that is no address of one network interface, or no address left to give."""


def check_mac(text: str) -> str:
    """Give `text` back when it is the address of one interface, lower case. Raises MacRefused."""
    if not _FORM.fullmatch(text):
        raise MacRefused(f"{text[:40]!a} is not a MAC address; write it as 00:16:3e:12:34:56.")
    value = _value(text)
    if value == 0 or value >> 40 & 1:
        raise MacRefused(f"{text} is not the address of one interface (it is empty or a group's).")
    return text


def twin(mac: str) -> str:
    """The address of the other side: the dom0's for the guest's, and back. Raises MacRefused."""
    return _text(_value(check_mac(mac)) ^ _TWIN)


def from_number(n: int, taken: Iterable[str] = ()) -> str:
    """A free address for the random number `n` (its last 24 bits count): the first from there on.

    Neither it nor its twin is in `taken` or the twin of one in `taken`. Raises MacRefused when none is left.
    """
    used = {_value(mac) & ~_TWIN for mac in taken}
    for step in range(SPACE):
        value = PREFIX | (n + step) % SPACE
        if value & ~_TWIN not in used:
            return _text(value)
    raise MacRefused("No MAC address is left in the range 00:16:3e.")


def _value(mac: str) -> int:
    return int(mac.replace(":", ""), 16)


def _text(value: int) -> str:
    return value.to_bytes(6, "big").hex(":")
