"""What templates of Berth say: a state with its shape and word, times, sizes, meters, links that keep a view."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

from django import template
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language, gettext_lazy, ngettext
from django.utils.translation import gettext as _

from accounts.models.quota import Resource, named, shown, size_text
from vps.models import DirectApproval, Dom0, Domu, Event, KernelVersion, Operation, Request
from vps.xen.messages import Verb
from vps.xen.reconcile import Status

register = template.Library()


@dataclass(frozen=True, eq=False)
class Look:
    """How a state looks: a shape of templates/parts/shape.html, a tone of berth.css, a word. There are few of them."""

    shape: str
    tone: str
    word: Any
    moving: bool = False
    runs: bool = False  # of a server


# What is drawn for each shape, on a square of 16, with the pen of `shape`.
SHAPES = {
    "disc": '<circle cx="8" cy="8" r="6" fill="currentColor" stroke="none"/>',
    "half": '<circle cx="8" cy="8" r="5.25"/><path d="M8 2.75a5.25 5.25 0 0 1 0 10.5z" fill="currentColor"/>',
    "ring": '<circle cx="8" cy="8" r="5.25"/>',
    "bars": '<path d="M3.5 2.5h3v11h-3zM9.5 2.5h3v11h-3z" fill="currentColor" stroke="none"/>',
    "triangle": '<path d="M8 1.5 15 14.25H1z" fill="currentColor" stroke="none"/>',
    "dashed": '<circle cx="8" cy="8" r="5.25" stroke-linecap="butt" stroke-dasharray="2.6 2.15"/>',
    "clock": '<circle cx="8" cy="8" r="5.75"/><path d="M8 4.5V8l2.5 2"/>',
    "tick": '<path d="m2.5 8.5 3.5 3.75 7.5-8.5" stroke-width="2"/>',
    "cross": '<path d="m3.25 3.25 9.5 9.5m0-9.5-9.5 9.5" stroke-width="2"/>',
    "slash": '<circle cx="8" cy="8" r="5.25"/><path d="m4.5 11.5 7-7"/>',
}
DOMU: dict[str, Look] = {
    Status.RUNNING: Look("disc", "good", gettext_lazy("running"), runs=True),
    Status.STARTING: Look("half", "busy", gettext_lazy("starting"), True),
    Status.STOPPING: Look("half", "busy", gettext_lazy("stopping"), True),
    Status.REBOOTING: Look("half", "busy", gettext_lazy("rebooting"), True),
    Status.TRYING: Look("half", "wait", gettext_lazy("being tried"), True),
    Status.DELETING: Look("half", "busy", gettext_lazy("being deleted"), True),
    Status.PROVISIONING: Look("half", "busy", gettext_lazy("being made"), True),
    Status.UNFINISHED: Look("triangle", "bad", gettext_lazy("could not be made")),
    Status.STOPPED: Look("ring", "still", gettext_lazy("stopped")),
    Status.PAUSED: Look("bars", "wait", gettext_lazy("paused")),
    Status.CRASHED: Look("triangle", "bad", gettext_lazy("crashed")),
    Status.GONE_WRONG: Look("triangle", "bad", gettext_lazy("not running, but should")),
    Status.NOT_HEARD: Look("dashed", "still", gettext_lazy("not heard")),
    Status.UNKNOWN: Look("dashed", "still", gettext_lazy("unknown")),
    Status.WAITING: Look("clock", "wait", gettext_lazy("waiting for approval")),
    "kept": Look("slash", "wait", gettext_lazy("deleted but kept")),
    "deleted": Look("slash", "still", gettext_lazy("deleted")),
}
OPERATION: dict[str, Look] = {
    Operation.State.QUEUED: Look("clock", "busy", Operation.State.QUEUED.label),
    Operation.State.SENT: Look("half", "busy", Operation.State.SENT.label, True),
    Operation.State.ACCEPTED: Look("half", "busy", Operation.State.ACCEPTED.label, True),
    Operation.State.RUNNING: Look("half", "busy", gettext_lazy("under way"), True),
    Operation.State.DONE: Look("tick", "good", Operation.State.DONE.label),
    Operation.State.FAILED: Look("cross", "bad", Operation.State.FAILED.label),
    Operation.State.REFUSED: Look("cross", "bad", Operation.State.REFUSED.label),
    Operation.State.SUPERSEDED: Look("slash", "still", Operation.State.SUPERSEDED.label),
    Operation.State.CANCELLED: Look("slash", "still", Operation.State.CANCELLED.label),
    Operation.State.LOST: Look("dashed", "bad", Operation.State.LOST.label),
}
REQUEST: dict[str, Look] = {
    Request.State.WAITING: Look("clock", "wait", Request.State.WAITING.label),
    Request.State.APPROVED: Look("tick", "good", Request.State.APPROVED.label),
    Request.State.REFUSED: Look("cross", "bad", Request.State.REFUSED.label),
    Request.State.WITHDRAWN: Look("slash", "still", Request.State.WITHDRAWN.label),
    Request.State.EXPIRED: Look("slash", "still", Request.State.EXPIRED.label),
}
KERNEL: dict[str, Look] = {
    KernelVersion.State.INSPECTING: Look("half", "busy", KernelVersion.State.INSPECTING.label, True),
    KernelVersion.State.OK: Look("tick", "good", KernelVersion.State.OK.label),
    KernelVersion.State.REFUSED: Look("cross", "bad", KernelVersion.State.REFUSED.label),
}
DIRECT: dict[str, Look] = {
    DirectApproval.State.WAITING: Look("clock", "wait", DirectApproval.State.WAITING.label),
    DirectApproval.State.APPROVED: Look("tick", "good", DirectApproval.State.APPROVED.label),
    DirectApproval.State.REFUSED: Look("cross", "bad", DirectApproval.State.REFUSED.label),
    DirectApproval.State.REVOKED: Look("slash", "still", DirectApproval.State.REVOKED.label),
}
DOM0: dict[str, Look] = {
    "heard": Look("disc", "good", gettext_lazy("heard")),
    "silent": Look("dashed", "bad", gettext_lazy("not heard")),
    "never": Look("dashed", "still", gettext_lazy("never heard")),
    "no xen": Look("triangle", "bad", gettext_lazy("runs without Xen")),
}


@register.simple_tag
def state(thing: object) -> SafeString:
    """The state of a row (Domu, Operation, Request, KernelVersion, Dom0), or of a Status: shape, tone, word."""
    return state_of(*look_of(thing))


def state_of(look: Look, since: datetime | None) -> SafeString:
    """A state that was looked up already."""
    if since:
        return _state(look, format_html(_("{word} since {when}"), word=look.word, when=ago(since)))
    return _plain_state(look, get_language())


@lru_cache(maxsize=1000)
def _plain_state(look: Look, language: str | None) -> SafeString:
    return _state(look, look.word)


def _state(look: Look, word: Any) -> SafeString:
    return format_html(
        '<span class="state tone-{}{}">{}<span class="word">{}</span></span>',
        look.tone,
        " moving" if look.moving else "",
        shape(look.shape),
        word,
    )


@register.simple_tag
@cache
def shape(name: str) -> SafeString:
    """One of SHAPES, for the eye only: a word stands beside it."""
    return mark_safe(  # noqa: S308  # nosec B703  # nothing in it comes from people
        f'<svg class="shape shape-{name}" viewBox="0 0 16 16" width="14" height="14" aria-hidden="true"'
        ' focusable="false" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round"'
        f' stroke-linejoin="round">{SHAPES[name]}</svg>'
    )


@register.simple_tag
def size(thing: Any) -> SafeString:
    """Memory, cpus and disk of a server, an offered size or a dictionary of them; what a request asks for."""
    if isinstance(thing, Request) and thing.kind != Request.Kind.SERVER:
        return wanted(thing.amounts, thing.kind)
    values = thing if isinstance(thing, dict) else vars(thing)
    return _size(values["memory_mib"], values["vcpus"], values["disk_mib"], get_language())


@lru_cache(maxsize=1000)
def _size(memory_mib: int | None, vcpus: int, disk_mib: int | None, language: str | None) -> SafeString:
    cpus = ngettext("%(n)d cpu", "%(n)d cpus", vcpus) % {"n": vcpus}
    dot = mark_safe(' <span class="dot">·</span> ')
    return format_html(
        '<span class="size">{}{}{}{}{}</span>',
        mib(memory_mib),
        dot,
        cpus,
        dot,
        mib(disk_mib),
    )


@register.simple_tag
def wanted(amounts: dict[str, int], kind: str) -> SafeString:
    """Amounts of a request of this kind, each with its name: `1 GiB of memory`, for quota `+ 2 servers`."""
    plus = "+ " if kind == Request.Kind.QUOTA else ""
    order = [resource for resource in Resource if amounts.get(resource)]  # PostgreSQL keeps no order of keys
    parts = [(f"{plus}{named(name, amounts[name])}",) for name in order]
    dot = mark_safe(' <span class="dot">·</span> ')
    return format_html('<span class="size">{}</span>', format_html_join(dot, "{}", parts))


def look_of(thing: object) -> tuple[Look, datetime | None]:
    """How the state of a row looks, and since when where that is a part of it. Raises TypeError."""
    if isinstance(thing, Domu):
        status = "deleted" if thing.purged_at else "kept" if thing.deleted_at else thing.status
        if status == "kept" and thing.status == Status.DELETING:
            status = Status.DELETING
        return DOMU[status], thing.dom0.heard_at if status == Status.NOT_HEARD else None
    if isinstance(thing, Status):
        return DOMU[thing], None
    if isinstance(thing, Operation):
        return OPERATION[thing.state], None
    if isinstance(thing, Request):
        return REQUEST[thing.state], None
    if isinstance(thing, KernelVersion):
        return KERNEL[thing.state], None
    if isinstance(thing, DirectApproval):
        return DIRECT[thing.state], None
    if isinstance(thing, Dom0):
        if thing.heard_at is None:
            return DOM0["never"], None
        if not thing.heard_lately:
            return DOM0["silent"], thing.heard_at
        return DOM0["heard" if thing.xen else "no xen"], None
    raise TypeError(f"{thing!r} has no look.")


@register.filter
def moving(thing: object) -> bool:
    """Whether the state of a row is one that passes by itself."""
    return look_of(thing)[0].moving


@register.filter
def ago(moment: datetime | None) -> SafeString | str:
    """`3 min ago`, with the exact time on hover."""
    if moment is None:
        return _("never")
    seconds = int((timezone.now() - moment).total_seconds())
    unit = next(unit for unit, until in _UNITS if seconds < until)
    return _ago(moment, max(0, seconds) // unit, unit, timezone.get_current_timezone_name(), get_language())


# The unit, and the seconds up to which it is counted in.
_UNITS = ((5, 5), (1, 60), (60, 3600), (3600, 48 * 3600), (86400, 14 * 86400), (10**9, 10**12))


@lru_cache(maxsize=10_000)
def _ago(moment: datetime, n: int, unit: int, zone: str, language: str | None) -> SafeString:
    """It is the same for as long as a unit lasts, and lists ask for it for each line with each look."""
    exact = timezone.localtime(moment)
    if unit == 5:
        text = _("just now")
    elif unit == 1:
        text = _("%(n)d s ago") % {"n": n}
    elif unit == 60:
        text = _("%(n)d min ago") % {"n": n}
    elif unit == 3600:
        text = _("%(n)d h ago") % {"n": n}
    elif unit == 86400:
        text = ngettext("%(n)d day ago", "%(n)d days ago", n) % {"n": n}
    else:
        text = date_format(exact, "j M Y")
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        exact.isoformat(timespec="seconds"),
        f"{exact:%Y-%m-%d %H:%M:%S %Z}",
        text,
    )


@register.filter
def seconds(value: float | None) -> str:
    """A span as people read it: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `3 days 4 h`."""
    if value is None:
        return ""
    if value < 10:
        return _("%(n)s s") % {"n": f"{max(0.0, value):.1f}"}  # two clocks may disagree
    whole = int(value)
    if whole < 60:
        return _("%(n)s s") % {"n": whole}
    if whole < 3600:
        return _("%(m)s min %(s)s s") % {"m": whole // 60, "s": whole % 60}
    if whole < 86400:
        return _("%(h)s h %(m)s min") % {"h": whole // 3600, "m": whole % 3600 // 60}
    return _("%(d)s d %(h)s h") % {"d": whole // 86400, "h": whole % 86400 // 3600}


@register.filter
def since(moment: datetime | None) -> str:
    """How long ago, as a span."""
    return seconds((timezone.now() - moment).total_seconds()) if moment else ""


@register.filter
def mib(amount: int | None) -> str:
    """MiB as MiB or GiB."""
    return "" if amount is None else shown(Resource.MEMORY, int(amount))


@register.filter
def octets(amount: int | None) -> str:
    """Bytes as B, KiB, MiB, GiB."""
    return "" if amount is None else size_text(int(amount))


@register.filter
def amount(value: int, resource: str) -> str:
    """An amount of a resource of the quota."""
    return shown(resource, value)


@register.filter
def resource_name(resource: str) -> str:
    return str(Resource(resource).label)


@register.inclusion_tag("parts/meter.html")
def meter(label: str, used: int, total: int, resource: str, plus: int = 0, href: str = "") -> dict[str, Any]:
    """A thin meter: what is used of a total, and what would come on top of it (`plus`).

    The number leads to `href`, the lines behind it.
    """
    whole = max(total, used + plus, 1)
    return {
        "label": label,
        "href": href,
        "used": shown(resource, used),
        "plus": shown(resource, plus) if plus else "",
        "total": shown(resource, total),
        "left": shown(resource, max(0, total - used - plus)),
        "used_part": round(100 * max(0, used) / whole, 2),
        "plus_part": round(100 * max(0, plus) / whole, 2),
        "over": used + plus > total,
        "full": used + plus >= 0.9 * total and total > 0,
    }


@register.simple_tag(takes_context=True)
def link(context: template.Context, **changes: Any) -> str:
    """The address of this page with some of its query changed; None or "" takes a part away."""
    query = context["request"].GET.copy()
    for name, value in changes.items():
        if value in (None, ""):
            query.pop(name, None)
        else:
            query[name] = str(value)
    return "?" + query.urlencode()


@register.filter
def as_json(value: Any) -> str:
    """A value as JSON, for a data attribute."""
    return json.dumps(value, separators=(",", ":"))


@register.filter
def get(mapping: Any, key: str) -> Any:
    return mapping.get(key) if mapping else None


@register.simple_tag
def diff(lines: list[tuple[str, str]]) -> SafeString:
    """Lines of (mark, text) as a list of lines; mark is "+", "-" or " "."""
    tones = {"+": "added", "-": "taken", "@": "place"}
    return mark_safe(  # noqa: S308  # nosec B703  # each piece is escaped by format_html
        "".join(
            format_html(
                '<span class="line {}"><span class="mark">{}</span>{}</span>',
                tones.get(mark, ""),
                mark,
                text + "\n",
            )
            for mark, text in lines
        )
    )


@register.filter
def default_entry(boot: dict[str, Any] | None) -> dict[str, Any] | None:
    """The default entry of a saved menu (BootMenu.boot)."""
    entries = (boot or {}).get("entries") or []
    if ((boot or {}).get("own_menu") or {}).get("default"):
        return None
    return entries[boot["default"]] if boot and boot.get("default", 0) < len(entries) else None


_VERBS: dict[str, tuple[Any, Any]] = {
    Verb.PREPARE: (gettext_lazy("Prepare"), gettext_lazy("Prepare now")),
    Verb.START: (gettext_lazy("Start"), gettext_lazy("Start")),
    Verb.SHUTDOWN: (gettext_lazy("Shut down"), gettext_lazy("Shut down")),
    Verb.REBOOT: (gettext_lazy("Reboot"), gettext_lazy("Reboot")),
    Verb.DESTROY: (gettext_lazy("Destroy"), gettext_lazy("Destroy")),
    Verb.PAUSE: (gettext_lazy("Pause"), gettext_lazy("Pause")),
    Verb.UNPAUSE: (gettext_lazy("Go on"), gettext_lazy("Go on")),
    Verb.DELETE: (gettext_lazy("Delete"), gettext_lazy("Delete")),
    Verb.TRY: (gettext_lazy("Try once"), gettext_lazy("Try once")),
    Verb.CANCEL: (gettext_lazy("Cancel"), gettext_lazy("Cancel")),
    Verb.LOOK: (gettext_lazy("Read logs"), gettext_lazy("Read logs")),
    Verb.TRIAL: (gettext_lazy("Trial boot"), gettext_lazy("Try it")),
    Verb.ARM: (gettext_lazy("Arm one boot"), gettext_lazy("Arm one boot")),
}


@register.filter
def verb_name(verb: str) -> str:
    """What a verb is called in texts."""
    return str(_VERBS[Verb(verb)][0])


@register.filter
def verb_button(verb: str) -> str:
    """What stands on the button of a verb."""
    return str(_VERBS[Verb(verb)][1])


@register.filter
def changes(event: Event) -> list[tuple[str, Any, Any]]:
    """(name, before, after) of what an event changed; None where it was or is not."""
    names = dict.fromkeys([*event.before, *event.after])
    rows = [(name, event.before.get(name), event.after.get(name)) for name in names]
    return [(name, before, after) for name, before, after in rows if before != after]
