"""Kernels, ramdisks and loaders by their content: fetched once from the web, checked, kept while they are needed."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from vps.agent.config import Config
from vps.agent.files import free_bytes, remove, sha256_of, sync_file, sync_folder
from vps.xen.description import BlobRef

_PATIENCE = 20.0  # seconds without a byte
_ATTEMPTS = 5
_PAUSES = (0.5, 1.0, 3.0, 6.0)  # seconds between the attempts
_SPARE = 32 * 1024 * 1024  # bytes that stay free

Check = Callable[[], None]


class BlobError(Exception):
    """A file cannot be had. `code` for programs; the text is a sentence with the cure."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class Blobs:
    """The store. `keep_only` and `ensure` exclude each other, so that nothing is removed while it is taken."""

    def __init__(self, config: Config) -> None:
        self._folder = config.blob_dir
        self._web = config.web
        self._web_ca = config.web_ca
        self._credential = f"Bearer {config.dom0}:{config.secret}"
        self._lock = threading.Lock()
        self._fetching: dict[str, threading.Lock] = {}

    def path(self, blob: BlobRef) -> Path:
        return self._folder / blob.sha256

    def has(self, blob: BlobRef) -> bool:
        try:
            return self.path(blob).stat().st_size == blob.size
        except OSError:
            return False

    def ensure(self, blob: BlobRef, check: Check) -> Path:
        """Have the file, whole, and give its path. Raises BlobError, OSError, and what `check` raises.

        One that was damaged where it lies is fetched again: nothing is made of what nobody uploaded.
        """
        with self._lock:
            mine = self._fetching.setdefault(blob.sha256, threading.Lock())
        with mine:
            if not self.verify(blob):
                self._fetch(blob, check)
        return self.path(blob)

    def verify(self, blob: BlobRef) -> bool:
        """Whether the file's content still is what its name says; one that is not is removed. Raises OSError."""
        if not self.has(blob):
            return False
        if sha256_of(self.path(blob)) == blob.sha256:
            return True
        remove(self.path(blob))
        return False

    def keep_only(self, wanted: Callable[[], Iterable[str]]) -> int:
        """Remove what is not among the sums that `wanted` gives; says how many. Raises OSError."""
        with self._lock:
            keep = set(wanted())
            removed = 0
            for path in self._folder.iterdir():
                sha256 = path.name.removesuffix(".part")
                if sha256 in keep or self._fetching.get(sha256, _FREE).locked():
                    continue
                remove(path)
                removed += 1
            return removed

    def _fetch(self, blob: BlobRef, check: Check) -> None:
        part = self._folder / f"{blob.sha256}.part"
        for attempt in range(_ATTEMPTS):
            try:
                self._attempt(blob, part, check)
                break
            except _Retry as error:
                if attempt == _ATTEMPTS - 1:
                    raise BlobError(
                        "web_unreachable", f"The web at {self._web} does not give a file: {error}"
                    ) from error
                _wait(_PAUSES[attempt], check)
        sync_file(part)
        part.rename(self.path(blob))
        sync_folder(self._folder)

    def _attempt(self, blob: BlobRef, part: Path, check: Check) -> None:
        # Imported when it is needed first: most starts of the agent fetch nothing, and it is 10 MB.
        import httpx

        digest = hashlib.sha256()
        have = 0
        with contextlib.suppress(FileNotFoundError), part.open("rb") as file:
            while piece := file.read(1024 * 1024):
                digest.update(piece)
                have += len(piece)
        if have > blob.size:
            remove(part)
            raise _Retry("what was fetched before is too long")
        if free_bytes(self._folder) < blob.size - have + _SPARE:
            raise BlobError(
                "no_space",
                f"The dom0 lacks space for a file of {blob.size // 1024} KiB in {self._folder}; free space there.",
            )
        if have < blob.size:
            headers = {"Authorization": self._credential}
            if have:
                headers["Range"] = f"bytes={have}-"
            try:
                with httpx.stream(
                    "GET",
                    f"{self._web}/agent/blobs/{blob.sha256}",
                    headers=headers,
                    timeout=httpx.Timeout(_PATIENCE, connect=10.0),
                    verify=tls(self._web_ca),
                    trust_env=False,
                ) as response:
                    self._answer(response.status_code, blob)
                    if have and response.status_code == 200:  # Range was not honoured
                        remove(part)
                        digest, have = hashlib.sha256(), 0
                    with part.open("ab") as file:
                        for piece in response.iter_raw():
                            check()
                            have += len(piece)
                            if have > blob.size:
                                break
                            digest.update(piece)
                            file.write(piece)
            except httpx.HTTPError as error:
                raise _Retry(f"{type(error).__name__}: {error}") from error
        if have < blob.size:
            raise _Retry(f"it broke off after {have} of {blob.size} bytes")
        if have > blob.size or digest.hexdigest() != blob.sha256:
            remove(part)
            raise _Retry("what it gave has another sum or size")

    def _answer(self, status: int, blob: BlobRef) -> None:
        if status in (200, 206):
            return
        if status in (401, 403):
            raise BlobError(
                "web_refused",
                f"The web at {self._web} refuses this dom0's secret (HTTP {status}); enrol the dom0 again.",
            )
        if status == 404:
            raise BlobError(
                "blob_unknown",
                f"The web at {self._web} has no file {blob.sha256[:12]} for this dom0; choose another kernel.",
            )
        raise _Retry(f"HTTP {status}")


def tls(authorities: Path | None) -> ssl.SSLContext | bool:
    """How the web's certificate is checked: by the authorities of a file, or by those that httpx knows."""
    return ssl.create_default_context(cafile=str(authorities)) if authorities else True


class _Retry(Exception):
    """The attempt failed in a way that may pass."""


_FREE = threading.Lock()


def _wait(seconds: float, check: Check) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        check()
        time.sleep(0.1)
