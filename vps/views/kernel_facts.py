"""What is told of kernels besides the verdict: where they are used, how they did, and two of them side by side."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, Q, QuerySet
from django.db.models.functions import Least
from django.utils.translation import gettext as _

from accounts.models import User
from vps.models import BootEntryRow, BootRecord, KernelVersion
from vps.templatetags.kernels import beside, facts, paths

MAX_DIFFERENT = 500  # options that are listed


@dataclass(frozen=True)
class Line:
    """One fact of two versions."""

    name: str
    left: str
    right: str

    @property
    def differs(self) -> bool:
        return self.left != self.right


def entries_of(version: KernelVersion, user: User) -> QuerySet[BootEntryRow]:
    """The entries of present menus, on the dom0 or on their way, of servers that this person can see."""
    rows = BootEntryRow.objects.filter(
        version=version,
        menu__domu__deleted_at=None,
        menu__serial__gte=Least("menu__domu__menu_serial", "menu__domu__prepared_serial"),
    )
    if not user.is_operator:
        rows = rows.filter(menu__domu__tenant__memberships__user=user)
    return rows.select_related("menu__domu__dom0", "menu__domu__tenant").order_by(
        "menu__domu__name", "position"
    )


def boots_of(version: KernelVersion, user: User) -> QuerySet[BootRecord]:
    """Its boots, newest first, on servers that this person can see."""
    rows = BootRecord.objects.filter(version=version)
    if not user.is_operator:
        rows = rows.filter(domu__tenant__memberships__user=user)
    return rows.select_related("domu")


def with_counts(versions: QuerySet[KernelVersion]) -> QuerySet[KernelVersion]:
    """Each with `well_on` and `badly_on`: on how many servers it booted well, and how often it did not."""
    return versions.annotate(
        well_on=Count("boot_records__domu", filter=Q(boot_records__well=True), distinct=True),
        badly=Count("boot_records", filter=Q(boot_records__well=False), distinct=True),
    )


def side_by_side(left: KernelVersion, right: KernelVersion) -> list[Line]:
    """Every fact that one of two versions has."""
    columns = [_facts(version) for version in (left, right)]
    names = list(dict.fromkeys([*columns[0], *columns[1]]))
    return [Line(name, columns[0].get(name, ""), columns[1].get(name, "")) for name in names]


def _facts(version: KernelVersion) -> dict[str, str]:
    told = {_("Verdict"): str(version.summary), _("File"): version.filename, **dict(facts(version))}
    told |= {name: _("yes") if can else word for name, word, can in paths(version)}
    for _part, name, rows, _warnings in beside(version):
        told |= {f"{name}: {label}": value for label, value in rows}
    return told


def options_that_differ(left: KernelVersion, right: KernelVersion) -> list[Line] | None:
    """The options of the embedded configurations; None where one of them carries none."""
    columns = []
    for version in (left, right):
        configuration = getattr(version, "configuration", None)
        if configuration is None:
            return None
        columns.append(dict(_option(line) for line in configuration.lines.split("\n")))
    names = sorted({*columns[0], *columns[1]})
    lines = [Line(name, columns[0].get(name, ""), columns[1].get(name, "")) for name in names]
    return [line for line in lines if line.differs][:MAX_DIFFERENT]


def _option(line: str) -> tuple[str, str]:
    """`NAME=value` of Linux by its name; a line of config(5) by all of it, for `options` may be said twice."""
    name, equals, value = line.partition("=")
    if equals and " " not in name:
        return name, value
    return line, _("yes")
