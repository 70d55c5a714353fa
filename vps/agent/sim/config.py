"""Reads xl.cfg as libxlutil does, and complains in its words (xen: tools/libs/util/libxlu_cfg_l.l, _y.y)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

Value = str | list["Value"]

_TOKENS = re.compile(
    r"""
    (?P<space>[ \t]+) | (?P<comment>\#[^\n]*(?=\n)) | (?P<newline>\n)
    | (?P<ident>[a-z][_0-9a-z.]*) | (?P<number>[0-9][0-9a-fx]*)
    | (?P<string>'(?:\\[^\n]|[^'\\\n])*'|"(?:\\[^\n]|[^"\\\n])*")
    | (?P<op>\+=|=) | (?P<mark>[\[\],;])
    """,
    re.VERBOSE,
)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_PYTHON = re.compile(r"[-(:+*/]")


class ConfigError(Exception):
    """A configuration that xl refuses; the text is what xl prints."""


@dataclass(frozen=True)
class _Token:
    kind: str  # ident, number, string, newline, end, or the mark itself
    text: str
    line: int

    @property
    def word(self) -> str:
        """What bison calls it."""
        if self.kind in ("ident", "number", "string", "newline"):
            return self.kind.upper()
        return {"end": "$end", "+=": "+="}.get(self.kind, f"'{self.kind}'")


@dataclass
class Config:
    """The settings of one file; `warnings` collects what xl would print while they are read."""

    source: str
    settings: dict[str, Value] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def string(self, name: str) -> str | None:
        value = self.settings.get(name)
        if isinstance(value, list):
            self.warnings.append(
                f"{self.source}:{self.lines[name]}: warning: parameter `{name}' is a list"
                " but should be a single value"
            )
            return None
        return value

    def number(self, name: str) -> int | None:
        """Numbers as strtol(…, 0) reads them; what is no number counts as not given, with a warning."""
        text = self.string(name)
        if text is None:
            return None
        match = re.fullmatch(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|[0-9]+)", text)
        if match and not (match[2][0] == "0" and match[2].isdigit() and re.search("[89]", match[2])):
            digits = match[2]
            octal = digits.isdigit() and digits[0] == "0" and len(digits) > 1
            value = int(digits, 8) if octal else int(digits, 0)
            return -value if match[1] == "-" else value
        self.warnings.append(
            f"{self.source}:{self.lines[name]}: warning: parameter `{name}' is not a valid number"
        )
        return None

    def strings(self, name: str) -> list[str]:
        """The items of a list that are strings; a single value counts as not given, with a warning."""
        value = self.settings.get(name, [])
        if isinstance(value, list):
            return [item for item in value if isinstance(item, str)]
        self.warnings.append(
            f"{self.source}:{self.lines[name]}: warning: parameter `{name}' is a single value"
            " but should be a list"
        )
        return []


def parse(text: str, source: str) -> Config:
    """Parse a configuration. Raises ConfigError with the lines that xl prints."""
    return _Parser(text, source).config()


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self.text, self.source = text, source
        self.position, self.line = 0, 1
        self.last = ""
        self.result = Config(source)

    def config(self) -> Config:
        while True:
            token = self._next()
            if token.kind == "end":
                return self.result
            if token.kind in ("newline", ";"):
                continue
            if token.kind != "ident":
                raise self._unexpected(token, "$end or IDENT or NEWLINE or ';'")
            self._assignment(token)
            token = self._next()
            if token.kind not in ("newline", ";", "end"):
                raise self._unexpected(token, "$end")
            if token.kind == "end":
                return self.result

    def _assignment(self, name: _Token) -> None:
        operator = self._next()
        if operator.kind not in ("=", "+="):
            raise self._unexpected(operator, "+= or '='")
        value = self._value(self._next(), "STRING or NUMBER or '['")
        old = self.result.settings.get(name.text)
        if operator.kind == "+=" and old is not None:
            if not (isinstance(old, list) and isinstance(value, list)) and not (
                isinstance(old, str) and isinstance(value, str)
            ):
                raise self._error(self.last, 'can\'t add [list] to "string" or vice versa')
            value = old + value  # type: ignore[operator]
        self.result.settings[name.text] = value
        self.result.lines[name.text] = name.line

    def _value(self, token: _Token, expected: str) -> Value:
        if token.kind == "number":
            return token.text
        if token.kind == "string":
            return self._dequote(token)
        if token.kind != "[":
            raise self._unexpected(token, expected)
        items: list[Value] = []
        token = self._skip()
        while token.kind != "]":
            items.append(self._value(token, "']'"))
            token = self._skip()
            if token.kind == ",":
                token = self._skip()
            elif token.kind != "]":
                raise self._unexpected(token, "']'")
        return items

    def _skip(self) -> _Token:
        """The next token inside brackets, where lines do not count."""
        while (token := self._next()).kind == "newline":
            pass
        return token

    def _next(self) -> _Token:
        while True:
            if self.position >= len(self.text):
                return _Token("end", "", self.line)
            match = _TOKENS.match(self.text, self.position)
            if match is None:
                rest = self.text[self.position :].split("\n", 1)[0]
                # A comment without a line end is one: the scanner gives up at its first character.
                raise self._error("#" if rest[0] == "#" else rest, "lexical error")
            self.position, self.last = match.end(), match[0]
            kind, line = str(match.lastgroup), self.line
            if kind in ("space", "comment"):
                continue
            if kind == "newline":
                self.line += 1
            return _Token(match[0] if kind in ("op", "mark") else kind, match[0], line)

    def _dequote(self, token: _Token) -> str:
        def one(match: re.Match[str]) -> str:
            escape = match[1]
            if escape[0] in "\"'\\":
                return escape[0]
            if escape[0] in _ESCAPES:
                return _ESCAPES[escape[0]]
            if escape[0] == "x" or escape[0].isdigit():
                # xl 4.17 reads no numeric escape to its end: hex ones are refused, octal ones lose the text.
                name = "hex" if escape[0] == "x" else "octal"
                raise self._error(
                    token.text,
                    f"invalid digit after backslash {name}numerical character escape in quoted string",
                )
            raise self._error(token.text, "invalid character after backlash in quoted string")

        return re.sub(r"\\(.)", one, token.text[1:-1])

    def _unexpected(self, token: _Token, expected: str) -> ConfigError:
        why = f"syntax error, unexpected {token.word}, expecting {expected}"
        return self._error(token.text, why, token.line)

    def _error(self, near: str, why: str, line: int | None = None) -> ConfigError:
        near = near.replace("\n", "\\n")
        lines = [f"{self.source}:{line or self.line}: config parsing error near `{near}': {why}"]
        rest = self.text[self.position :].split("\n", 1)[0]
        if _PYTHON.search(rest):
            lines += [
                "warning: Config file looks like it contains Python code.",
                "warning:  Arbitrary Python is no longer supported.",
                "warning:  See https://wiki.xen.org/wiki/PythonInXlConfig",
            ]
        return ConfigError("\n".join([*lines, "Failed to parse config: Invalid argument"]))
