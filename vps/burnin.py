"""The whole way with a throw-away server on one dom0, as `manage.py burnin` goes it.

It does what people's clicks do, by the same methods, and waits for what the dom0 reports. What it made is removed
at the end, whatever went wrong; what events and ledgers name stays as empty rows: a tenant without limits and an
account that nobody can log in to, which the next burn-in takes again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import redis
from django.conf import settings

from accounts.models import Tenant, User
from accounts.models.quota import set_limits, sums
from vps import dispatch, uploads
from vps.console_line import Entry
from vps.models import Dom0, Domu, KernelVersion, Operation, Request, Upload, kept
from vps.models.boot import EntryDraft, save_menu
from vps.xen.messages import Channels, NoteKind, Verb
from vps.xen.reconcile import Status

TENANT = "Burn-in"
PERSON = "burn-in@localhost"
WHY = "burn-in"
REPLAY = 256 * 1024  # bytes of a console's record that are asked for
RENEW = 4.0  # seconds
LOOK_EVERY = 0.3  # seconds


class Failed(Exception):
    """Something was not as it should be; the text says what."""


@dataclass(frozen=True)
class Wishes:
    """What is booted, and how its console is known to be well. `patience`: seconds for each step."""

    kernel: bytes
    filename: str
    ramdisk: bytes = b""
    arguments: str = ""
    expect: str = "Linux version"
    guest_os: str = "linux"
    memory_mib: int = 192
    disk_mib: int = 32
    hard: bool = False  # its system does not shut down when it is asked to
    patience: float = 180.0


class Burnin:
    """One run. `say` gets a line for each step, with its seconds."""

    def __init__(self, dom0: Dom0, operator: User, wishes: Wishes, say: Callable[[str], None]) -> None:
        self.dom0, self.operator, self.wishes, self.say = dom0, operator, wishes, say
        self.name = f"burnin-{secrets.token_hex(3)}"
        self.asked: Request | None = None
        self.domu: Domu | None = None
        self.version: KernelVersion | None = None
        self.runs: set[str] = set()

    def run(self) -> None:
        """All of it. Raises Failed, Conflict and what else the product raises; everything is removed then too."""
        began = time.monotonic()
        self.tenant, self.person = self._people()
        try:
            self._go()
        except BaseException as error:
            # Said before it is removed, for that takes its time, too.
            self.say(f"  NOT {type(error).__name__}: {error}")
            raise
        finally:
            self._remove()
        self.say(f"{time.monotonic() - began:6.1f} s in all; everything was as it should be.")

    def _people(self) -> tuple[Tenant, User]:
        person = User.objects.filter(email=PERSON).first()
        if person is None:
            person = User.objects.create_user(PERSON, None, name=TENANT, is_active=False)
        tenant = Tenant.objects.filter(name=TENANT, memberships__user=person).first()
        tenant = tenant or Tenant.found(TENANT, person)
        return tenant, person

    def _go(self) -> None:
        wishes = self.wishes
        with self._step("ask"):
            self._allow()
            self.asked = Request.ask(
                tenant=self.tenant,
                by=self.person,
                name=self.name,
                guest_os=wishes.guest_os,
                memory_mib=wishes.memory_mib,
                vcpus=1,
                disk_mib=wishes.disk_mib,
                why=WHY,
            )
        with self._step(f"approve: made on {self.dom0}"):
            self.domu = self.asked.approve(self.operator, self.dom0, words=WHY)
            self._done(self.domu.operations.latest("id"))
        with self._step("upload and inspect the kernel"):
            self.version = self._uploaded()
        with self._step("save the boot menu: prepared"):
            draft = EntryDraft(self.version, WHY, wishes.arguments)
            self._done(save_menu(self.domu, [draft], self.person))
        with self._step("boot"):
            self._order(Verb.START)
            self._is(Status.RUNNING)
        with self._step(f"console says {wishes.expect!r}"):
            self._console()
        if wishes.hard:
            with self._step("destroy, and boot again"):
                self._order(Verb.DESTROY)
                self._is(Status.STOPPED)
                self._order(Verb.START)
        else:
            with self._step("reboot"):
                self._order(Verb.REBOOT)
        with self._step("console says it again"):
            self._is(Status.RUNNING)
            self._console()
        with self._step("destroy" if wishes.hard else "shut down"):
            self._order(Verb.DESTROY if wishes.hard else Verb.SHUTDOWN)
            self._is(Status.STOPPED)

    def _allow(self) -> None:
        wishes = self.wishes
        room = {"servers": 1, "memory_mib": wishes.memory_mib, "vcpus": 1, "disk_mib": wishes.disk_mib}
        # Kept unpacked as well; an earlier burn-in that was cut off may hold some of each.
        room["kernel_bytes"] = 4 * (len(wishes.kernel) + len(wishes.ramdisk)) + 256 * 1024 * 1024
        used = {name: line["used"] for name, line in sums(self.tenant).items()}
        limits = {name: used[name] + amount for name, amount in room.items()}
        set_limits(self.tenant, limits, WHY, self.operator)

    def _uploaded(self) -> KernelVersion:
        upload = self._upload(self.wishes.kernel, self.wishes.filename)
        version = upload.version
        if version is None:
            raise Failed("The upload was complete, and no version came of it.")
        self.version = version
        self._until("the kernel was inspected", lambda: self._state(version) != version.State.INSPECTING)
        if version.state != version.State.OK:
            raise Failed(f"The kernel was refused: {version.reason}")
        if self.wishes.ramdisk:
            part = self._upload(self.wishes.ramdisk, "ramdisk", part=Upload.Part.RAMDISK, onto=version)
            ended = (Upload.State.DONE, Upload.State.FAILED)
            self._until("the ramdisk was inspected", lambda: self._state(part) in ended)
            if part.state != Upload.State.DONE:
                raise Failed(f"The ramdisk was refused: {part.error}")
            version = part.version or version
            self.version = version
        version.refresh_from_db()
        return version

    def _upload(self, content: bytes, filename: str, **more: Any) -> Upload:
        upload = uploads.begin(
            tenant=self.tenant,
            user=self.person,
            kernel_name=self.name,
            filename=filename,
            size=len(content),
            **more,
        )
        piece = 1024 * 1024
        return uploads.receive(upload, 0, (content[at : at + piece] for at in range(0, len(content), piece)))

    @staticmethod
    def _state(row: KernelVersion | Upload) -> str:
        row.refresh_from_db()
        return row.state

    def _order(self, verb: Verb) -> None:
        assert self.domu is not None
        self.domu.refresh_from_db()
        if verb is Verb.START:
            self._done(self.domu.start(self.person, WHY))
        else:
            self._done(self.domu.order(verb, self.person, WHY))

    def _done(self, operation: Operation) -> None:
        """Wait for its end, which must be a good one."""

        def ended() -> bool:
            operation.refresh_from_db()
            return not operation.is_open

        self._until(f"{operation.verb} ended", ended)
        if operation.state != "done":
            raise Failed(f"{operation.verb} is {operation.get_state_display()}: {operation.error_text}")

    def _is(self, status: Status) -> None:
        def seen() -> bool:
            assert self.domu is not None
            self.domu = Domu.objects.get(pk=self.domu.pk)
            return self.domu.status is status

        self._until(f"{self.name} is {status.value}", seen)

    def _until(self, what: str, holds: Callable[[], bool]) -> None:
        give_up = time.monotonic() + self.wishes.patience
        while not holds():
            if time.monotonic() > give_up:
                raise Failed(f"Not within {self.wishes.patience:g} s: {what}.")
            time.sleep(LOOK_EVERY)

    def _console(self) -> None:
        """Wait until a run that was not looked at before says the words on its console."""
        assert self.domu is not None
        words, said = self.wishes.expect.encode(), b""
        give_up = time.monotonic() + self.wishes.patience
        with closing(watch(self.domu, give_up)) as heard:
            for run, data in heard:
                if run in self.runs:
                    continue
                said += data
                if words in said:
                    self.runs.add(run)
                    return
        tail = said[-400:].decode(errors="replace").strip()
        raise Failed(f"The console did not say {self.wishes.expect!r}; it ended with: {tail or '(nothing)'}")

    @contextmanager
    def _step(self, text: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.say(f"{time.monotonic() - began:6.1f} s {text}")

    # Removing

    def _remove(self) -> None:
        """All that was made. Each thing is tried, also when another could not be removed."""
        began, left = time.monotonic(), []
        for what, remove in (
            ("the request", self._remove_request),
            (f"the server {self.name}; delete it on its page", self._remove_server),
            ("the kernel", self._remove_kernel),
            ("the limits", self._remove_limits),
        ):
            try:
                remove()
            except Exception as error:
                left.append(f"{what} ({error})")
        if left:
            raise Failed("Not everything was removed. What remains: " + "; ".join(left))
        self.say(f"{time.monotonic() - began:6.1f} s delete, purge: nothing is left")

    def _remove_request(self) -> None:
        if self.asked is not None and self.domu is None:
            self.asked.refresh_from_db()
            if self.asked.state == Request.State.WAITING:
                self.asked.withdraw(self.person)

    def _remove_server(self) -> None:
        if self.domu is None:
            return
        domu = Domu.objects.get(pk=self.domu.pk)
        if not domu.deleted_at:
            self._done(kept.delete(domu, self.person, WHY))  # whatever is under way is superseded
        self._done(kept.purge(Domu.objects.get(pk=domu.pk), self.person, WHY))
        domu.refresh_from_db()
        if not domu.purged_at:
            raise Failed("its disks were wiped, and it is not marked so")
        if self.dom0.promised_to(domu.subject):
            raise Failed(f"{self.dom0} still has room booked for it")

    def _remove_kernel(self) -> None:
        for upload in Upload.objects.filter(tenant=self.tenant, kernel_name=self.name):
            uploads.abandon(upload, WHY)
        for version in KernelVersion.objects.filter(kernel__tenant=self.tenant, kernel__name=self.name):
            version.delete_content(self.person)

    def _remove_limits(self) -> None:
        used = {name: line["used"] for name, line in sums(self.tenant).items()}
        set_limits(self.tenant, used, WHY, self.operator)
        if any(used.values()):
            raise Failed(f"the ledger still has {used}")


def watch(domu: Domu, until: float) -> Generator[tuple[str, bytes], None, None]:
    """What its console said and says: (run, bytes), until the monotonic time `until`."""
    stream, name = Channels(domu.dom0_id).console, secrets.token_hex(8)
    # By the protocol of which one answer has one form, as the gateway does.
    reader = redis.Redis.from_url(
        settings.BERTH_REDIS_URL, protocol=2, socket_connect_timeout=2, socket_timeout=10
    )
    last: Any
    try:
        last = reader.xinfo_stream(stream)["last-generated-id"]  # what comes after it is read
    except redis.ResponseError:  # no console of this dom0 has said anything yet
        last = "0-0"
    renewed, replay = 0.0, REPLAY
    try:
        while (now := time.monotonic()) < until:
            if now - renewed > RENEW:
                body = {"domu": str(domu.pk), "watch": name, "seconds": 15, "replay": replay}
                dispatch.note(domu.dom0_id, NoteKind.WATCH, body)
                renewed, replay = now, 0
            answer: Any = reader.xread({stream: last}, count=32, block=1000)
            for _key, entries in answer or []:
                for last_read, fields in entries:
                    last = last_read
                    entry = Entry.of(fields)
                    if entry is None or entry.domu != str(domu.pk):
                        continue
                    if entry.kind == "live" or (entry.kind == "replay" and entry.watch == name):
                        yield entry.run, entry.data
    finally:
        with suppress(redis.RedisError):
            dispatch.note(domu.dom0_id, NoteKind.UNWATCH, {"watch": name})
        reader.close()
