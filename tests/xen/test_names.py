from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vps.xen.names import (
    MAX_ARGUMENTS,
    MAX_NAME,
    MAX_TITLE,
    RESERVED_NAMES,
    NameRefused,
    check_arguments,
    check_domu_name,
    check_title,
)


@pytest.mark.parametrize("name", ["a", "web1", "my-server", "x" * MAX_NAME, "a--b", "xvdz", "root"])
def test_name_is_taken(name: str) -> None:
    assert check_domu_name(name) == name


BAD_NAMES = {
    "empty": "",
    "dot": ".",
    "two dots": "..",
    "path": "a/b",
    "absolute path": "/etc/passwd",
    "path up": "../../etc/passwd",
    "path of Windows": "a\\b",
    "option": "-rf",
    "long option": "--help",
    "hyphen": "-",
    "ends with a hyphen": "web-",
    "capital": "Web1",
    "begins with a digit": "1web",
    "a domain id": "17",
    "negative domain id": "-1",
    "space": "web 1",
    "leading space": " web",
    "newline behind": "web1\n",
    "newline inside": "web\n1",
    "return": "web\r",
    "tab": "web\t1",
    "NUL": "web\x00",
    "dot inside": "web.example.org",
    "underscore": "web_1",
    "quote": "web'1",
    "double quote": 'web"1',
    "semicolon": "web;reboot",
    "dollar": "$HOME",
    "backtick": "`id`",
    "comma": "a,b",
    "equals": "a=b",
    "star": "*",
    "percent": "%n",
    "hash": "#x",
    "umlaut": "wéb",
    "cyrillic a": "w\u0430b",
    "digit of another script": "web\u0661",
    "full width": "\uff57eb",
    "right to left": "web\u202e1",
    "zero width": "web\u200b1",
    "ligature": "\ufb01le",
    "emoji": "\U0001f4a9",
    "half a character": "web\ud800",
    "long s": "\u017ferver",
    "kelvin sign": "\u212aelvin",
    "too long": "x" * (MAX_NAME + 1),
    "far too long": "x" * 100_000,
}


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_name_is_refused_with_a_short_sentence(name: str) -> None:
    with pytest.raises(NameRefused) as caught:
        check_domu_name(name)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert sentence.isascii()
    assert sentence.isprintable()
    assert len(sentence) < 400


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_reserved_name_is_refused(name: str) -> None:
    with pytest.raises(NameRefused, match=r"reserved|cannot be"):
        check_domu_name(name)


def test_too_long_name_tells_both_numbers() -> None:
    with pytest.raises(NameRefused, match=r"has 64 characters; the limit is 63"):
        check_domu_name("x" * 64)


@given(st.text(max_size=80))
def test_a_name_that_is_taken_is_a_host_name(name: str) -> None:
    try:
        check_domu_name(name)
    except NameRefused:
        return
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= MAX_NAME


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "root=xbd0a",
        "root=/dev/xvda1 ro console=hvc0",
        "root=UUID=0192f0c0-0000-7000-8000-000000000001 init=/bin/sh",
        "bootdev=xbd0 -s -v",
        "ip=10.0.0.2:10.0.0.1 nfsroot=a@b:/c,d",
        "x" * MAX_ARGUMENTS,
    ],
    ids=lambda text: text[:20],
)
def test_arguments_are_taken(arguments: str) -> None:
    assert check_arguments(arguments) == arguments


def test_spaces_around_arguments_go() -> None:
    assert check_arguments("  root=xbd0a ") == "root=xbd0a"


BAD_CHARACTERS = {
    "quote": "'",
    "double quote": '"',
    "newline": "\n",
    "return": "\r",
    "tab": "\t",
    "NUL": "\0",
    "escape": "\x1b",
    "delete": "\x7f",
    "semicolon": ";",
    "round bracket": "(",
    "round bracket closed": ")",
    "brace": "{",
    "brace closed": "}",
    "square bracket": "[",
    "dollar": "$",
    "backtick": "`",
    "backslash": "\\",
    "ampersand": "&",
    "bar": "|",
    "less": "<",
    "greater": ">",
    "hash": "#",
    "star": "*",
    "question mark": "?",
    "exclamation mark": "!",
    "tilde": "~",
    "circumflex": "^",
    "no-break space": "\xa0",
    "line separator": "\u2028",
    "next line": "\x85",
    "umlaut": "ä",
    "full width equals": "\uff1d",
    "half a character": "\udc00",
}


@pytest.mark.parametrize("character", BAD_CHARACTERS.values(), ids=BAD_CHARACTERS)
@pytest.mark.parametrize("form", ["{}", "root=xbd0a{}", "{}root=xbd0a", "a {} b"])
def test_character_in_arguments_is_refused_by_name(character: str, form: str) -> None:
    with pytest.raises(NameRefused) as caught:
        check_arguments(form.format(character))
    assert ascii(character) in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "arguments",
    [
        "root=xbd0a\ntitle evil",
        "root=xbd0a; reboot",
        'x" memory = "99999',
        "root=(hd0,a)",
        "$(reboot)",
        "x" * (MAX_ARGUMENTS + 1),
    ],
    ids=["second line", "second command", "second setting", "device", "substitution", "too long"],
)
def test_arguments_that_would_say_more_are_refused(arguments: str) -> None:
    with pytest.raises(NameRefused):
        check_arguments(arguments)


@given(st.text(max_size=60))
def test_what_is_taken_needs_no_quoting(text: str) -> None:
    try:
        taken = check_arguments(text)
    except NameRefused:
        return
    assert taken == text.strip()
    assert re.fullmatch(r"[A-Za-z0-9 ._/=:,+@%-]*", taken)
    assert "\n" not in taken


@pytest.mark.parametrize("title", ["NetBSD 10", "Debian 12 (old)".replace("(old)", "old"), "x" * MAX_TITLE])
def test_title_is_taken(title: str) -> None:
    assert check_title(title) == title


@pytest.mark.parametrize("character", [*BAD_CHARACTERS.values(), "=", "%"], ids=[*BAD_CHARACTERS, "=", "%"])
def test_character_in_a_title_is_refused_by_name(character: str) -> None:
    with pytest.raises(NameRefused) as caught:
        check_title(f"a{character}b")
    assert ascii(character) in str(caught.value)


@pytest.mark.parametrize("title", ["", "   ", "x" * (MAX_TITLE + 1)], ids=["empty", "spaces", "too long"])
def test_title_that_nobody_can_read_is_refused(title: str) -> None:
    with pytest.raises(NameRefused):
        check_title(title)
