"""Names that people give and that become paths and configuration on a dom0.

The rule for a server's name is that of a host name's label (RFC 1123, lower case): the HOWTO's custom is one
name for the configuration file, the domain and the host (H9). It is checked at both ends, before a name is
written into a row and before it is written into a file.
"""

from __future__ import annotations

import re

MAX_NAME = 63
MAX_ARGUMENTS = 1024  # characters; COMMAND_LINE_SIZE of the guests begins at 1024 (NetBSD/xen: 1024)
MAX_TITLE = 60  # columns that GRUB's menu shows on an 80 column console

MAX_LOG_NAME = 200
_LOG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]*\.log(\.[0-9]{1,3})?", re.ASCII)
_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?", re.ASCII)

# Names that xl, the HOWTO's folders or a host's own tables use already.
RESERVED_NAMES = frozenset(
    {
        "auto",
        "dom0",
        "domain-0",
        "domain-u",
        "domu",
        "localhost",
        "null",
        "scripts",
        "xen",
        "xendomains",
        "xenstore",
    }
)


class NameRefused(ValueError):
    """A name or a text that may not become a path, a menu line or configuration; says why and what to do."""


def check_domu_name(name: str) -> str:
    """Give `name` back when it may name a server, raise NameRefused otherwise."""
    if not name:
        raise NameRefused("The name is empty; give the server a host name such as web1.")
    if len(name) > MAX_NAME:
        raise NameRefused(f"The name has {len(name)} characters; the limit is {MAX_NAME}.")
    if not _LABEL.fullmatch(name):
        raise NameRefused(
            f"{_shown(name)} cannot be a server's name; use small letters, digits and hyphens, "
            "beginning with a letter and not ending with a hyphen."
        )
    if name in RESERVED_NAMES:
        raise NameRefused(f"{_shown(name)} is a reserved name; choose another one.")
    return name


def check_log_name(name: object) -> str:
    """Give `name` back when it may be read as a log in the dom0's folder of Xen's logs, else raise NameRefused.

    xl writes xl-NAME.log, .1 to .10 when it begins a new one (libxl_create_logfile); xenstored and qemu alike.
    """
    if not isinstance(name, str) or not _LOG.fullmatch(name) or len(name) > MAX_LOG_NAME:
        raise NameRefused(
            f"{_shown(str(name))} is no log's name; one of the list such as xl-web1.log can be read."
        )
    return name


def check_arguments(arguments: str) -> str:
    """Give kernel arguments back when menu.lst, grub.cfg and xl.cfg can carry them, else raise NameRefused.

    GRUB's script language gives a meaning to quotes, backslash, dollar, semicolon, braces, ampersand, bar,
    angle brackets and hash (GRUB manual, "Quoting"); a line of menu.lst that it cannot parse takes its own
    entry and all later ones away, so such characters are refused and never repaired.
    """
    if len(arguments) > MAX_ARGUMENTS:
        raise NameRefused(f"The arguments have {len(arguments)} characters; the limit is {MAX_ARGUMENTS}.")
    for character in arguments:
        if character not in _ARGUMENT_CHARACTERS:
            raise NameRefused(
                f"The arguments hold {_character(character)}, which the boot menu cannot carry; "
                "use letters, digits, spaces and . _ - / = : , + @ % only."
            )
    return arguments.strip()


def check_title(title: str) -> str:
    """Give the title of a boot entry back when the menu can show it, else raise NameRefused."""
    if not title.strip():
        raise NameRefused("The title is empty; give the boot entry a name that you will know again.")
    if len(title) > MAX_TITLE:
        raise NameRefused(f"The title has {len(title)} characters; the limit is {MAX_TITLE}.")
    for character in title:
        if character not in _TITLE_CHARACTERS:
            raise NameRefused(
                f"The title holds {_character(character)}, which the boot menu cannot carry; "
                "use letters, digits, spaces and . _ - / + , : @ only."
            )
    return title.strip()


_ALNUM = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_ARGUMENT_CHARACTERS = frozenset(_ALNUM + " ._-/=:,+@%")
_TITLE_CHARACTERS = frozenset(_ALNUM + " ._-/+,:@")


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 40 else text[:40] + "...")


def _character(character: str) -> str:
    return f"the character {character!a}"
