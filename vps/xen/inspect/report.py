"""The report of an inspection, as it goes to the web side and into its database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

OK = "ok"


class Plain(NamedTuple):
    """The plain ELF, gzipped, that was made of a bzImage's payload."""

    sha256: str
    size: int
    compression: str = "gzip"


class Report(NamedTuple):
    """Everything that was found out about a file.

    verdict      "ok" when some path can boot it, else "refused" with `reason` (a sentence) and `code`
    paths        pvgrub, direct_pv, direct_pvh: "ok" or the reason, with the plain ELF where one was made
    path_files   for each path that is ok: "original" or "plain", the file to give it
    original_paths, path_codes: the file as it came, on its own, and the codes of the refusals (None: ok)
    pv, pvh      what the kernel is built for, whatever the verdict; guest_type is Xen's word for it
    pae          of i386 PV kernels alone; None where it does not apply
    sizes        in bytes; unpacked_size is the kernel's own
    warnings     sentences about a kernel that is taken
    options      the lines of the embedded configuration (NetBSD: config(5); Linux: without CONFIG_), where there is one
    """

    verdict: str
    reason: str | None
    code: str | None
    paths: dict[str, str]
    path_files: dict[str, str]
    original_paths: dict[str, str]
    path_codes: dict[str, str | None]
    format: str
    compression: str
    file_compression: str
    architecture: str | None
    pae: bool | None
    pv: bool
    pvh: bool
    guest_type: str | None
    guest_os: str | None
    release: str | None
    configuration: str | None
    role: str
    features: dict[str, bool | None]
    sha256: str | None
    size: int
    unpacked_size: int | None
    summary: str
    warnings: Sequence[str] = ()
    options: Sequence[str] = ()
    plain: Plain | None = None

    @property
    def ok(self) -> bool:
        return self.verdict == OK

    def as_dict(self) -> dict[str, object]:
        """Plain dictionaries and lists, for JSON."""
        plain = self.plain._asdict() if self.plain else None
        return {
            **self._asdict(),
            "warnings": list(self.warnings),
            "options": list(self.options),
            "plain": plain,
        }
