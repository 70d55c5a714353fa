"""How our forms differ from allauth's: labels instead of placeholders, our words, the same help everywhere."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _

PASSWORD_HELP = _("At least 10 characters; not a common one, and not like your name or address.")
LABELS = {
    "login": _("E-mail address"),
    "email": _("E-mail address"),
    "password": _("Password"),
    "password1": _("Password"),
    "password2": _("The same again"),
    "oldpassword": _("Password now"),
    "code": _("Code"),
    "name": _("Name"),
}


class Plain:
    """Put before a form of allauth's."""

    words: dict[str, Any] = {}
    helps: dict[str, Any] = {}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        fields: dict[str, Any] = self.fields  # type: ignore[attr-defined]
        for name, field in fields.items():
            field.widget.attrs.pop("placeholder", None)
            field.label = self.words.get(name, LABELS.get(name, field.label))
            field.help_text = self.helps.get(name, "")
