"""The boot menu as it is being edited: rows that can be moved, and what is wrong with each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from django.http import QueryDict
from django.utils.translation import gettext as _

from vps.models import BootMenu, Domu, KernelVersion
from vps.models.boot import OWN_MENU_TITLE, Draft, EntryDraft, OwnMenuDraft, own_kind_of
from vps.models.kernel import Kernel, Purpose
from vps.xen.description import MAX_ENTRIES, BootMethod, GuestOS
from vps.xen.devices import default_arguments
from vps.xen.loaders import LoaderKind
from vps.xen.names import NameRefused, check_arguments, check_title

MAX_TIMEOUT = 600
MAX_ROWS = 100  # that are looked at at all
OWN_MENU = "own_menu"  # stands for a kernel version: hand over to the menu on the server's own disk


@dataclass
class Row:
    """One line being edited. `key` names it in the form while it is moved; "" as version: not chosen yet."""

    key: str
    version: str = ""
    title: str = ""
    arguments: str = ""
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not self.version and not self.title.strip()

    @property
    def hands_over(self) -> bool:
        return self.version == OWN_MENU


@dataclass(frozen=True)
class Choice:
    """A kernel version that can be put into the menu."""

    version: KernelVersion
    own: bool


class MenuForm:
    """What the page of the boot menu sends: rows in their order, a default, a timeout, a method.

    Not a Django form: rows come, go and move, and every look at them must keep what was typed.
    """

    def __init__(self, domu: Domu, rows: list[Row], **values: Any) -> None:
        self.domu = domu
        self.rows = rows
        self.default: str = values.get("default") or (rows[0].key if rows else "")
        self.timeout: str = str(values.get("timeout", 5))
        self.method: str = values.get("method") or BootMethod.PVGRUB.value
        self.own_kind: str = values.get("own_kind") or LoaderKind.PV64.value
        self.seen_serial: int = values.get("seen_serial", domu.menu_serial)
        self.errors: dict[str, str] = {}
        self._choices: dict[str, Choice] | None = None

    # Where it comes from.

    @classmethod
    def of_menu(cls, domu: Domu, menu: BootMenu | None) -> MenuForm:
        """The form of a saved menu; of none, one empty row with the arguments that such guests begin with."""
        if menu is None:
            return cls(domu, [cls.fresh(domu, "n0")], method=domu.boot_method)
        rows = [
            Row(f"e{entry.position}", str(entry.version_id), entry.title, entry.arguments)
            for entry in menu.entries.all()
        ]
        default = f"e{menu.boot.get('default', 0)}"
        own_disk = menu.boot.get("method") == BootMethod.OWN_DISK
        if own := menu.saved.own_menu:
            rows.insert(own.place, Row("own", OWN_MENU, own.title))
            default = "own" if own.default else default
        return cls(
            domu,
            rows,
            default=default,
            timeout=menu.boot.get("timeout", 5),
            method=menu.boot.get("method"),
            own_kind=own_kind_of(menu.saved).value if own_disk else "",
        )

    @classmethod
    def of_post(cls, domu: Domu, data: QueryDict) -> MenuForm:
        """What was typed, as it was typed."""
        columns = zip(
            data.getlist("key"),
            data.getlist("version"),
            data.getlist("title"),
            data.getlist("arguments"),
            strict=False,
        )
        rows = [
            Row(key[:20], version[:40], title[:300], given[:4000]) for key, version, title, given in columns
        ]
        for row in rows:
            if row.hands_over and row.arguments == default_arguments(GuestOS(domu.guest_os)):
                row.arguments = ""  # it was a fresh row for a kernel; nobody typed them
        seen = data.get("seen_serial", "")
        return cls(
            domu,
            rows[:MAX_ROWS],
            default=data.get("default"),
            timeout=data.get("timeout", "")[:20],
            method=data.get("method"),
            own_kind=data.get("own_kind"),
            seen_serial=int(seen) if seen.isascii() and seen.isdigit() and len(seen) < 16 else -1,
        )

    @staticmethod
    def fresh(domu: Domu, key: str) -> Row:
        return Row(key, arguments=default_arguments(GuestOS(domu.guest_os)))

    # What can be done with it besides saving.

    def put_in(self, version: str) -> None:
        """Put a kernel version into the first empty row, or a new one, with its usual arguments."""
        choice = self.choices.get(version) if version else None
        if choice is None:
            return
        if not any(row.empty for row in self.rows):
            self.change("add")
        for row in [row for row in self.rows if row.empty][:1]:
            row.version = version
            row.arguments = choice.version.kernel.default_arguments or row.arguments

    def change(self, command: str) -> None:
        """`add`, `own_menu`, `up:KEY`, `down:KEY`, `remove:KEY`, `duplicate:KEY`; anything else changes nothing."""
        verb, _stop, key = command.partition(":")
        place = next((i for i, row in enumerate(self.rows) if row.key == key), None)
        if verb == "add" and len(self.rows) < MAX_ENTRIES:
            self.rows.append(self.fresh(self.domu, self._new_key()))
        elif command == OWN_MENU and len(self.rows) < MAX_ENTRIES and not self.hands_over:
            self.rows.append(Row(self._new_key(), OWN_MENU, OWN_MENU_TITLE))
        elif place is None:
            return
        elif verb == "duplicate" and len(self.rows) < MAX_ENTRIES:
            self.rows.insert(place + 1, replace(self.rows[place], key=self._new_key(), errors={}))
        elif verb == "remove":
            del self.rows[place]
        elif verb == "up" and place > 0:
            self.rows.insert(place - 1, self.rows.pop(place))
        elif verb == "down" and place < len(self.rows) - 1:
            self.rows.insert(place + 1, self.rows.pop(place))
        if self.default not in {row.key for row in self.rows}:
            self.default = self.rows[0].key if self.rows else ""

    def _new_key(self) -> str:
        taken = {row.key for row in self.rows}
        return next(f"n{i}" for i in range(MAX_ROWS + 1) if f"n{i}" not in taken)

    # What it means.

    @property
    def choices(self) -> dict[str, Choice]:
        """The kernel versions that this server may boot, by id: the tenant's newest first, then the catalogue."""
        if self._choices is None:
            kernels = Kernel.objects.usable_by(self.domu.tenant)
            versions = (
                KernelVersion.objects.filter(
                    kernel__in=kernels, deleted_at=None, state=KernelVersion.State.OK
                )
                .select_related("kernel", "original", "plain", "ramdisk")
                .order_by("kernel__tenant_id", "kernel__name", "-number")
            )
            fit = [v for v in versions if v.report.get("role") != "loader"]
            own = [Choice(v, True) for v in fit if v.kernel.tenant_id]
            catalogue = [Choice(v, False) for v in fit if not v.kernel.tenant_id]
            self._choices = {str(choice.version.pk): choice for choice in (*own, *catalogue)}
        return self._choices

    @property
    def groups(self) -> list[tuple[str, list[Choice]]]:
        """What can be chosen, by what it is for."""
        named = (
            (_("Yours"), [choice for choice in self.choices.values() if choice.own]),
            (_("Catalogue"), self._offered("")),
            (_("To install a system"), self._offered(Purpose.INSTALL)),
            (_("To rescue a system"), self._offered(Purpose.RESCUE)),
        )
        return [(name, choices) for name, choices in named if choices]

    def _offered(self, purpose: str) -> list[Choice]:
        return [
            choice for choice in self.choices.values() if not choice.own and choice.version.purpose == purpose
        ]

    @property
    def boot_method(self) -> BootMethod | None:
        return BootMethod(self.method) if self.method in set(BootMethod) else None

    def is_valid(self) -> bool:
        """Check all; `errors` and each row's `errors` have the sentences."""
        self.errors, own_disk = {}, self.method == BootMethod.OWN_DISK
        if self.boot_method is None:
            self.errors["method"] = _("Choose who looks after the kernel.")
        if self.own_kind not in set(LoaderKind):
            self.errors["own_kind"] = _("Choose how the kernel on the disk starts.")
        if not (self.timeout.isascii() and self.timeout.isdigit() and int(self.timeout) <= MAX_TIMEOUT):
            self.errors["timeout"] = _("Give whole seconds from 0 to %(most)d.") % {"most": MAX_TIMEOUT}
        if not own_disk:
            for row in self.filled:
                row.errors = self._wrong(row)
            if not self.filled:
                self.errors["rows"] = _("The menu is empty; choose a kernel.")
            if len(self.filled) > MAX_ENTRIES:
                self.errors["rows"] = _("The menu has %(n)d entries; the limit is %(most)d.") % {
                    "n": len(self.filled),
                    "most": MAX_ENTRIES,
                }
        return not self.errors and (own_disk or not any(row.errors for row in self.rows))

    @property
    def hands_over(self) -> bool:
        """Whether a line hands over to the server's own disk already."""
        return any(row.hands_over for row in self.rows)

    @property
    def filled(self) -> list[Row]:
        """The rows that say something; an empty one is no entry."""
        return [row for row in self.rows if not row.empty]

    def _wrong(self, row: Row) -> dict[str, str]:
        wrong = {}
        if not row.version:
            wrong["version"] = _("Choose a kernel.")
        elif row.hands_over:
            if row.arguments.strip():
                wrong["arguments"] = _("The menu on the disk has its own arguments; leave this empty.")
        elif not self._version(row):
            wrong["version"] = _("That kernel is not among yours, or cannot boot; choose another one.")
        for name, check in (("title", check_title), ("arguments", check_arguments)):
            text = getattr(row, name)
            if name == "title" and not text.strip():
                continue  # the kernel's name will do
            try:
                check(text)
            except NameRefused as error:
                wrong[name] = str(error)
        return wrong

    def _version(self, row: Row) -> KernelVersion | None:
        if row.hands_over:
            return None
        choice = self.choices.get(row.version)
        if choice is not None:
            return choice.version
        # One that stands in the saved menu and is not offered any more: the model says why not.
        try:
            pk = UUID(row.version)
        except ValueError:
            return None
        rows = KernelVersion.objects.filter(pk=pk, boot_entries__menu__domu=self.domu).select_related(
            "kernel"
        )
        return rows.first()

    def drafts(self) -> list[Draft]:
        """The rows as the model takes them, after `is_valid`."""
        drafts: list[Draft] = []
        for row in self.filled:
            if row.hands_over:
                drafts.append(OwnMenuDraft(row.title.strip()))
                continue
            version = self._version(row)
            if version is not None:
                drafts.append(EntryDraft(version, row.title.strip(), row.arguments))
        return drafts

    @property
    def default_position(self) -> int:
        return next((i for i, row in enumerate(self.filled) if row.key == self.default), 0)

    def options(self) -> dict[str, Any]:
        """Method, default and timeout as the model takes them, after `is_valid`."""
        return {
            "method": self.boot_method,
            "default": 0 if self.method == BootMethod.OWN_DISK else self.default_position,
            "timeout": int(self.timeout),
            "own_kind": LoaderKind(self.own_kind),
        }

    @property
    def own_kinds(self) -> list[tuple[str, str]]:
        """How a kernel on the server's own disk may start."""
        return [
            (LoaderKind.PV64.value, _("as PV, 64 bit: NetBSD/amd64 XEN3_DOMU, Linux amd64")),
            (LoaderKind.PV32.value, _("as PV, 32 bit: NetBSD/i386 XEN3PAE_DOMU, older Linux i386")),
            (LoaderKind.PVH.value, _("as PVH: a Linux bzImage, of 64 or 32 bit")),
        ]
