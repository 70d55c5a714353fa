"""Everything that the next start of a domU needs, made beside what is in use and switched to in one step.

The files of one menu have names of their own in the domU's folder; the configuration file names them. It is
renamed into place last, so that a preparation that breaks off leaves the last good one whole. Nothing of a
running domain changes: it holds its boot disk open, and its kernel was read when it was built.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from vps.agent import bootdisk, tries
from vps.agent.blobs import BlobError
from vps.agent.context import Context, Job, VerbFailed
from vps.agent.disks import DiskRefused
from vps.agent.files import clear_half_made, copy_durably, remove, remove_tree, stamp, write_durably
from vps.agent.journal import DomuRow
from vps.xen import menu
from vps.xen.description import BlobRef, Boot, BootMethod, Description, DescriptionRefused
from vps.xen.messages import Verb, canonical
from vps.xen.refused import RenderRefused
from vps.xen.trying import Try
from vps.xen.xlcfg import DomainFiles, HostQuirks, render

logger = logging.getLogger(__name__)

_BESIDE = "try-"  # the folders of tries


@dataclass(frozen=True)
class Prepared:
    """What lies ready, and of which description. `files` are paths with their sizes and times of change.

    `previous` are the files of the preparation before, which are kept until the next one. `config` is ""
    while there is nothing to boot.
    """

    fingerprint: str
    boot_key: str
    menu_serial: int
    config_path: str
    config: str
    boot_disk: str
    boot_disk_sha256: str
    menu_lst: str
    grub_cfg: str
    files: Mapping[str, list[int] | None]
    previous: tuple[str, ...] = ()

    @classmethod
    def of(cls, value: Mapping[str, Any] | None) -> Prepared | None:
        return cls(**{**value, "previous": tuple(value["previous"])}) if value else None

    def result(self) -> dict[str, Any]:
        """What the web is told."""
        return {
            "menu_serial": self.menu_serial,
            "boot_disk_sha256": self.boot_disk_sha256,
            "menu_lst": self.menu_lst,
            "grub_cfg": self.grub_cfg,
            "config": self.config,
        }


def prepare(job: Job) -> Prepared:
    """Make what is missing for the domU's current description. Raises VerbFailed, Aborted, OSError."""
    context = job.context
    row = context.row(job.domu)
    before = Prepared.of(row.prepared)
    if before and _stands(before, row.description):
        return before
    with _as_failures():
        return _prepare(job, row, before)


def prepare_beside(job: Job, description: Description) -> Prepared:
    """Make what a try needs, in a folder of its own: what was ready stays so. Raises VerbFailed, Aborted, OSError."""
    context = job.context
    folder = context.folder(job.domu) / f"{_BESIDE}{secrets.token_hex(4)}"
    folder.mkdir(mode=0o750)
    with _as_failures():
        return _make(job, description, folder, folder / description.name, None)


def fetch(job: Job, boot: Boot) -> None:
    """Have the files of a boot, without making anything of them. Raises VerbFailed, Aborted, OSError."""
    with _as_failures():
        for blob in boot.blobs():
            job.context.blobs.ensure(blob, job.check)


def forget_beside(context: Context, domu: UUID, used: Prepared | None = None) -> None:
    """Remove what was made for tries, but for the one in use."""
    keep = Path(used.config_path).parent if used else None
    for folder in context.folder(domu).glob(f"{_BESIDE}*"):
        if folder != keep:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _as_failures() -> Iterator[None]:
    """What may go wrong while preparing, as VerbFailed."""
    try:
        yield
    except RenderRefused as error:
        raise VerbFailed("refused", str(error)) from error
    except BlobError as error:
        raise VerbFailed(error.code, error.text) from error
    except DiskRefused as error:
        raise VerbFailed("disk", str(error)) from error
    except bootdisk.BootDiskError as error:
        raise VerbFailed("boot_disk", error.text, error.output) from error


def prepare_or_last(job: Job) -> Prepared:
    """As `prepare`, but with the last good preparation when this one fails: a restart needs no web.

    Raises VerbFailed, Aborted, OSError.
    """
    context = job.context
    before = Prepared.of(context.row(job.domu).prepared)
    try:
        prepared = prepare(job)
        context.alarms.pop(f"old:{job.domu}", None)
        return prepared
    except (VerbFailed, OSError) as error:
        row = context.row(job.domu)
        if not row.description.boot.bootable:
            raise  # what was ready may not be built any more
        if before is None or not before.config or not _files_stand(before):
            raise
        name = row.description.name
        job.log.warning("starting from the last good preparation, for the new one failed: %s", error)
        context.alarms[f"old:{job.domu}"] = f"{name} runs from its last good preparation: {error}"
        write_durably(Path(before.config_path), before.config.encode())
        return before


def remove_all(context: Context, row: DomuRow) -> None:
    """Remove configuration, copies and boot disks of a domU. Raises OSError."""
    put_away(context, row)
    remove_tree(context.config.domu_dir / str(row.id))


def clear(context: Context) -> None:
    """Remove what an agent that was killed had been making, before anything is made anew."""
    config = context.config
    for folder in (config.config_dir, *config.domu_dir.glob("*/"), *config.domu_dir.glob(f"*/{_BESIDE}*/")):
        try:
            clear_half_made(folder)
        except OSError as error:
            logger.warning("what was half made could not be removed: %s", error)


def put_away(context: Context, row: DomuRow) -> None:
    """Remove the configuration of a domU, so that its name is free on the dom0. Raises OSError."""
    prepared = Prepared.of(row.prepared)
    paths = {context.config.config_dir / row.description.name}
    if prepared:
        paths.add(Path(prepared.config_path))
    for path in paths:
        if _ours(path, row.description):
            remove(path)


def _stands(prepared: Prepared, description: Description) -> bool:
    if prepared.fingerprint != _fingerprint(description) or not _files_stand(prepared):
        return False
    if not prepared.config:
        return not description.boot.bootable
    try:
        return Path(prepared.config_path).read_bytes() == prepared.config.encode()
    except OSError:
        return False


def _files_stand(prepared: Prepared) -> bool:
    return all(stamp(Path(path)) == kept for path, kept in prepared.files.items())


def _prepare(job: Job, row: DomuRow, before: Prepared | None) -> Prepared:
    context, description = job.context, row.description
    _make_disks(job, row)
    folder = context.folder(row.id)
    prepared = _make(job, description, folder, context.config.config_dir / description.name, before)
    context.journal.set_domu(row.id, prepared=asdict(prepared))
    _tidy(folder, prepared, before, description)
    return prepared


def _make(
    job: Job, description: Description, folder: Path, config_path: Path, before: Prepared | None
) -> Prepared:
    """Lay the files of a description into `folder`, and its configuration at `config_path`."""
    context, boot = job.context, description.boot
    files: dict[str, list[int] | None] = {}
    kernel, ramdisk, boot_disk, sha256, menu_lst, grub_cfg, config = "", None, "", "", "", "", ""
    boot_key = hashlib.sha256(canonical(boot.as_dict()).encode()).hexdigest()
    if boot.bootable:
        if not all(context.blobs.has(blob) for blob in boot.blobs()):
            job.step("Fetching kernels")
        for blob in boot.blobs():
            context.blobs.ensure(blob, job.check)
        job.check()
        if boot.method is BootMethod.DIRECT:
            entry = boot.entries[boot.default]
            kernel = _copy(context, folder, description.name, "kernel", entry.kernel, before)
            if entry.ramdisk:
                ramdisk = _copy(context, folder, description.name, "ramdisk", entry.ramdisk, before)
        else:
            assert boot.loader is not None
            kernel = _copy(context, folder, description.name, "loader", boot.loader, before)
            menu_lst, grub_cfg = menu.menu_lst(boot), menu.grub_cfg(boot)
            place = folder / f"{description.name}-boot-{boot.serial}-{boot_key[:8]}.img"
            boot_disk = str(place)
            if before and before.boot_disk == boot_disk and _same(before, boot_disk):
                sha256 = before.boot_disk_sha256
            else:
                job.step("Building the boot disk")
                sha256 = bootdisk.build(place, description.id, boot, context.blobs.path)
        files = {path: stamp(Path(path)) for path in (kernel, ramdisk, boot_disk) if path}
        disks = tuple((disk, str(context.disks.path(disk.id))) for disk in description.disks)
        config = render(
            description,
            DomainFiles(kernel, ramdisk, disks, boot_disk or None),
            quirks=HostQuirks(tsc_native=context.config.tsc_native),
        )
        job.check()
        job.step("Writing the configuration")
        if config_path.exists() and not _ours(config_path, description):
            raise VerbFailed(
                "config_taken",
                f"{config_path} exists on the dom0 and is not of this server; move it away or rename the server.",
            )
        write_durably(config_path, config.encode())
    return Prepared(
        fingerprint=_fingerprint(description),
        boot_key=boot_key,
        menu_serial=boot.serial,
        config_path=str(config_path),
        config=config,
        boot_disk=boot_disk,
        boot_disk_sha256=sha256,
        menu_lst=menu_lst,
        grub_cfg=grub_cfg,
        files=files,
        previous=_previous(before, files),
    )


def _make_disks(job: Job, row: DomuRow) -> None:
    """Make the disks that are new. One that was made and is gone is not made again: it held somebody's data."""
    context, disks = job.context, row.description.disks
    missing = context.disks.missing(disks)
    for disk in missing:
        if row.disks.get(str(disk.id)):
            raise VerbFailed(
                "disk_lost",
                f"Disk {disk.index} was made on the dom0 and {context.disks.path(disk.id)} is not there any more; "
                "see whether the pool is mounted, or restore the file.",
            )
    if missing:
        job.step("Making disks")
    # Known before they are made, so that what was made is found at delete whatever happens.
    known = {**{str(disk.id): False for disk in disks}, **row.disks}
    if known != row.disks:
        context.journal.set_domu(row.id, disks=known)
    for disk in disks:
        context.disks.make(disk, job.check)
    made = {**known, **{str(disk.id): True for disk in disks}}
    if made != known:
        context.journal.set_domu(row.id, disks=made)


def _copy(
    context: Context, folder: Path, name: str, what: str, blob: BlobRef, before: Prepared | None
) -> str:
    """The domU's own named copy of a file (HOWTO, H10): changing one domU never touches another."""
    path = folder / f"{name}-{what}-{blob.sha256[:12]}"
    if not (before and _same(before, str(path))):
        copy_durably(context.blobs.path(blob), path)
    return str(path)


def _same(before: Prepared, path: str) -> bool:
    return path in before.files and before.files[path] is not None and stamp(Path(path)) == before.files[path]


def _previous(before: Prepared | None, files: Mapping[str, object]) -> tuple[str, ...]:
    if before is None:
        return ()
    last = tuple(path for path in before.files if path not in files)
    return last or before.previous


def _tidy(folder: Path, prepared: Prepared, before: Prepared | None, description: Description) -> None:
    """Remove what neither this preparation nor the one before needs, and the configuration's old name."""
    keep = {*prepared.files, *prepared.previous}
    for path in folder.iterdir():
        if str(path) not in keep and path.is_file():
            remove(path)
    if before and before.config_path != prepared.config_path and _ours(Path(before.config_path), description):
        remove(Path(before.config_path))


def _ours(path: Path, description: Description) -> bool:
    """Whether a configuration file is of this domU: it names its uuid."""
    try:
        return f'"{description.id}"' in path.read_text(errors="replace")
    except OSError:
        return False


def _fingerprint(description: Description) -> str:
    return hashlib.sha256(canonical(description.as_dict()).encode()).hexdigest()


def forget_blobs(context: Context, but_for: UUID | None = None) -> None:
    """Remove the files of the store that no domU and no open order needs, but for the one that is about to end."""
    try:
        context.blobs.keep_only(lambda: _wanted_blobs(context, but_for))
    except OSError as error:
        logger.warning("files that nothing needs could not be removed: %s", error)


def _wanted_blobs(context: Context, but_for: UUID | None) -> set[str]:
    wanted = {blob.sha256 for row in context.journal.domus() for blob in row.description.boot.blobs()}
    for row in context.journal.domus():
        if tried := tries.of(context, row.id):  # it may become the default with the web away
            wanted |= {blob.sha256 for blob in tried.what.boot.blobs()}
    for order in context.journal.open_orders():
        if order.verb is Verb.TRIAL and order.operation != but_for:
            with suppress(DescriptionRefused):
                wanted |= {blob.sha256 for blob in Description.of(order.body.get("trial")).boot.blobs()}
        if order.verb in (Verb.TRY, Verb.ARM):
            with suppress(DescriptionRefused):
                wanted |= {blob.sha256 for blob in Try.of(order.body.get("try")).boot.blobs()}
        if order.verb not in (Verb.PREPARE, Verb.START, Verb.REBOOT, Verb.TRY):
            continue
        try:
            description = Description.of(order.body.get("domu"))
        except DescriptionRefused:
            continue
        wanted |= {blob.sha256 for blob in description.boot.blobs()}
    return wanted
