"""All texts for people go through gettext: none stands bare in a template, in what views say, or in a script."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.conf import settings
from django.template.base import Lexer, TokenType

ROOT = Path(settings.BASE_DIR)
TEMPLATES = sorted(path for path in (ROOT / "templates").rglob("*") if path.suffix in (".html", ".txt"))
# Names, and what stands on keys: the same in every language.
SAME = re.compile(r"\b(Berth|Xen|xl dmesg|agent\.toml|Esc|Tab|Ctrl)\b")
SAID = ("title", "placeholder", "aria-label", "alt", "label", "data-auto", "data-light", "data-dark")
WORD = re.compile(r"[^\W\d_]{2,}")


class Said(HTMLParser):
    """Collects what a person would read or hear."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.texts += [value for name, value in attrs if name in SAID and value]
        if tag in ("script", "style", "svg", "code", "kbd", "pre"):
            self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data: str) -> None:
        if not self.inside:
            self.texts.append(data)


def bare(source: str, html: bool = True) -> list[str]:
    """The texts of a template that no tag of gettext gives. `html`: tags of HTML are no texts."""
    kept, translated = [], False
    for token in Lexer(source).tokenize():
        if token.token_type is TokenType.BLOCK:
            command = token.split_contents()[0]
            attribute = token.contents.endswith("_class")  # a block that fills an attribute of base.html
            translated = (
                command in ("blocktrans", "blocktranslate", "comment")
                or attribute
                or (
                    translated
                    and command not in ("endblocktrans", "endblocktranslate", "endcomment", "endblock")
                )
            )
        elif token.token_type is TokenType.TEXT and not translated:
            kept.append(token.contents)
    if html:
        said = Said()
        said.feed("".join(kept))
        said.close()
        kept = said.texts
    found = (re.sub(r"\s+", " ", text).strip() for text in kept)
    return [text for text in found if WORD.search(SAME.sub("", text))]


def test_what_is_bare_is_found() -> None:
    assert bare('<p title="Look">{% trans "Fine" %} Not fine</p>') == ["Look", "Not fine"]
    assert bare("{% blocktrans %}Fine{% endblocktrans %}{{ name }}, <b>Berth</b>") == []
    assert bare("Hello {{ name }},", html=False) == ["Hello"]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT / "templates")))
def test_no_text_of_a_template_is_bare(path: Path) -> None:
    assert bare(path.read_text(), path.suffix == ".html") == []


# What is said to people, by the name of what says it: which argument is the text.
SAYS = {"Conflict": 0, "ValidationError": 0, "PermissionDenied": 0, "NoRoom": 0, "add_error": 1}
SAYS |= dict.fromkeys(("success", "error", "info", "warning"), 1)  # django.contrib.messages
WORDS_OF_FIELDS = ("label", "help_text", "empty_label", "verbose_name")
LOOKED_AT = ("vps/views", "vps/forms", "vps/models", "vps/templatetags", "accounts")


def bare_in_code(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of literal texts that are said as they stand."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if (
            name in ("success", "error", "info", "warning")
            and ast.unparse(call.func).split(".")[0] != "messages"
        ):
            continue
        said = [call.args[SAYS[name]]] if name in SAYS and len(call.args) > SAYS[name] else []
        said += [word.value for word in call.keywords if word.arg in WORDS_OF_FIELDS]
        for value in said:
            parts = value.values if isinstance(value, ast.JoinedStr) else [value]
            literal = (part.value for part in parts if isinstance(part, ast.Constant))
            if any(isinstance(text, str) and WORD.search(text) for text in literal):
                yield value.lineno, ast.unparse(value)


def test_no_text_of_a_view_a_form_or_a_model_is_bare() -> None:
    found = []
    for path in sorted(path for folder in LOOKED_AT for path in (ROOT / folder).rglob("*.py")):
        if "migrations" in path.parts or "management" in path.parts:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{line}: {text}"
            for line, text in bare_in_code(ast.parse(path.read_text()))
        ]
    assert found == []


def test_scripts_have_no_sentences_of_their_own() -> None:
    """What a script says comes with the page, where gettext had it."""
    sentence = re.compile(
        r"""["'`][^"'`\n]*\b[A-Z][a-z]+ [a-z]+ [^"'`\n]*["'`]|["'`][^"'`\n]*[a-z] [a-z]+\.["'`]"""
    )
    assert sentence.search('say("Stopped. Choose the same file again.");')
    found = []
    for path in sorted([*(ROOT / "static/js").glob("*.js"), *(ROOT / "static/console").glob("*.js")]):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if not line.strip().startswith(("//", "*")) and sentence.search(re.sub(r"//.*", "", line)):
                found.append(f"{path.name}:{number}: {line.strip()}")
    assert found == []
