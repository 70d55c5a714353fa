"""How much inspection reads, unpacks and spends. DESIGN.md 4; docs/kernels.md says why these."""

from __future__ import annotations

MIB = 1 << 20

FILE_LIMIT = 256 * MIB
"""Largest file taken, bytes."""

UNPACKED_LIMIT = 256 * MIB
"""Largest kernel after unpacking, bytes. (libxenguest's own limit is 1 GiB: XC_DOM_DECOMPRESS_MAX.)"""

MODULES_UNPACKED_LIMIT = 1 << 30
"""Largest archive of modules after unpacking, bytes. It is read in a stream and never held."""

MODULES_CPU_SECONDS = 40
"""For such an archive: xz unpacks some 100 MiB in a second."""

XEN_UNPACKED_LIMIT = 1 << 30
"""libxenguest, xg_dom_core.c: a gzip file that claims more is not unpacked at all."""

CPU_SECONDS = 10
ADDRESS_SPACE = 512 * MIB

STRING_LIMIT = 4096
"""libelf.h, ELF_MAX_STRING_LENGTH: a longer string is no string."""

NOTE_LIMIT = 65536
"""libelf.h, ELF_MAX_TOTAL_NOTE_COUNT: notes behind these are not looked at."""

GUEST_STRING_LIMIT = 65536
"""How far `__xen_guest` is read without a NUL. libelf would go on to the end of the file."""
