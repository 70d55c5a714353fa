from __future__ import annotations

import pytest

from vps.agent.sim.config import ConfigError, parse
from vps.agent.sim.disks import Disk, disk_number, parse_disk, parse_nic

# What libxlutil 4.17 itself said of these (its xlu_cfg_readdata and xlu_disk_parse, called directly).


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        pytest.param('name="a"\nmemory = 128\n', {"name": "a", "memory": "128"}, id="plain"),
        pytest.param("x=1;y=2", {"x": "1", "y": "2"}, id="semicolon"),
        pytest.param("x=[1,\n2,\n]\n", {"x": ["1", "2"]}, id="lines in brackets"),
        pytest.param("x=['a',\n # c\n\"b\"]", {"x": ["a", "b"]}, id="comment in brackets"),
        pytest.param('name="a"\nname="b"', {"name": "b"}, id="the later one counts"),
        pytest.param(r'x = "a\"b\\c\n"', {"x": 'a"b\\c\n'}, id="escapes"),
        pytest.param("name='a\\'b'", {"name": "a'b"}, id="single quotes"),
        pytest.param("x=0x10", {"x": "0x10"}, id="hexadecimal"),
        pytest.param("x=[]", {"x": []}, id="empty list"),
        pytest.param('x=["b"]\nx+=["c"]', {"x": ["b", "c"]}, id="added to"),
        pytest.param("# only a comment\n", {}, id="comment"),
        pytest.param("", {}, id="nothing"),
        pytest.param('x="é"', {"x": "é"}, id="utf-8"),
        pytest.param("x='[1,2'", {"x": "[1,2"}, id="bracket in a string"),
    ],
)
def test_reads_what_xl_reads(text: str, settings: dict[str, object]) -> None:
    assert parse(text, "CFG").settings == settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param('name="a', "CFG:1: config parsing error near `\"a': lexical error", id="open quote"),
        pytest.param(
            'name="a\nb"', "CFG:1: config parsing error near `\"a': lexical error", id="newline in quotes"
        ),
        pytest.param(
            "name = a",
            "CFG:1: config parsing error near `a': syntax error, unexpected IDENT, expecting STRING or NUMBER or '['",
            id="no quotes",
        ),
        pytest.param(
            "name=",
            "CFG:1: config parsing error near `': syntax error, unexpected $end, expecting STRING or NUMBER or '['",
            id="no value",
        ),
        pytest.param(
            "x=[1,2",
            "CFG:1: config parsing error near `': syntax error, unexpected $end, expecting ']'",
            id="open bracket",
        ),
        pytest.param(
            "\n\n\nx=[1,2\n\ny=2",
            "CFG:6: config parsing error near `y': syntax error, unexpected IDENT, expecting ']'",
            id="the line is named",
        ),
        pytest.param(
            'x=["a" "b"]',
            "CFG:1: config parsing error near `\"b\"': syntax error, unexpected STRING, expecting ']'",
            id="no comma",
        ),
        pytest.param(
            "x=[,]",
            "CFG:1: config parsing error near `,': syntax error, unexpected ',', expecting ']'",
            id="comma alone",
        ),
        pytest.param(
            "memory = 128,",
            "CFG:1: config parsing error near `,': syntax error, unexpected ',', expecting $end",
            id="comma behind",
        ),
        pytest.param(
            "x=1 y=2",
            "CFG:1: config parsing error near `y': syntax error, unexpected IDENT, expecting $end",
            id="two in a line",
        ),
        pytest.param(
            "=3",
            "CFG:1: config parsing error near `=': syntax error, unexpected '=',"
            " expecting $end or IDENT or NEWLINE or ';'",
            id="no name",
        ),
        pytest.param(
            "x y",
            "CFG:1: config parsing error near `y': syntax error, unexpected IDENT, expecting += or '='",
            id="no sign",
        ),
        pytest.param("x=True", "CFG:1: config parsing error near `True': lexical error", id="capital"),
        pytest.param(
            'x="a" # c', "CFG:1: config parsing error near `#': lexical error", id="comment at the very end"
        ),
        pytest.param(
            r'x="\z"',
            r"""CFG:1: config parsing error near `"\z"': invalid character after backlash in quoted string""",
            id="unknown escape",
        ),
        pytest.param(
            r'x="\x41"',
            r"""CFG:1: config parsing error near `"\x41"': invalid digit after backslash hexnumerical"""
            " character escape in quoted string",
            id="numeric escape",
        ),
        pytest.param(
            'x="a"\nx+=["b"]',
            """CFG:2: config parsing error near `]': can't add [list] to "string" or vice versa""",
            id="list to string",
        ),
        pytest.param("x=-1", "CFG:1: config parsing error near `-1': lexical error", id="negative"),
    ],
)
def test_refuses_in_xls_words(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(text, "CFG")
    lines = str(refused.value).split("\n")
    assert lines[0] == words
    assert lines[-1] == "Failed to parse config: Invalid argument"


def test_says_when_a_configuration_looks_like_python() -> None:
    with pytest.raises(ConfigError, match="Arbitrary Python is no longer supported"):
        parse("x=(1)", "CFG")


@pytest.mark.parametrize(
    ("text", "number", "warning"),
    [
        pytest.param("memory=128", 128, "", id="number"),
        pytest.param('memory="0x80"', 128, "", id="text"),
        pytest.param('memory="12x"', None, "is not a valid number", id="rubbish"),
        pytest.param("memory=08", None, "is not a valid number", id="bad octal"),
        pytest.param("memory=[1]", None, "is a list but should be a single value", id="list"),
        pytest.param("", None, "", id="absent"),
    ],
)
def test_numbers(text: str, number: int | None, warning: str) -> None:
    config = parse(text, "CFG")
    assert config.number("memory") == number
    assert [line.endswith(warning) for line in config.warnings] == ([True] if warning else [])


@pytest.mark.parametrize(
    ("spec", "disk"),
    [
        pytest.param("file:/n0/foo,0x0,w", Disk("/n0/foo", "0x0", True), id="file, as the HOWTO has it"),
        pytest.param("phy:/dev/wd0e,0x1,r", Disk("/dev/wd0e", "0x1", False), id="phy"),
        pytest.param("format=raw,vdev=xvda,access=rw,target=/x", Disk("/x", "xvda", True), id="keys"),
        pytest.param(
            "format=raw, vdev=xvda, target=/a,b", Disk("/a,b", "xvda", True), id="target takes the rest"
        ),
        pytest.param("/x,raw,xvda,rw", Disk("/x", "xvda", True), id="positions"),
        pytest.param("tap:aio:/x,xvda,w", Disk("/x", "xvda", True), id="two prefixes"),
        pytest.param("file:/x,0x2:cdrom,r", Disk("/x", "0x2", False, cdrom=True), id="cdrom"),
    ],
)
def test_disks(spec: str, disk: Disk) -> None:
    assert parse_disk(spec, "CFG") == disk


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param(
            "vdev=xvda", "no target specified (and device not removable) in `vdev=xvda'", id="no target"
        ),
        pytest.param("foo=1,/x", "unknown parameter: near `foo=1,' in `foo=1,/x'", id="unknown key"),
        pytest.param(
            "/x,raw,xvda,zz", "unknown value for access: near `zz' in `/x,raw,xvda,zz'", id="access"
        ),
        pytest.param(
            "bad:/x,xvda,w", "unknown deprecated disk prefix: near `bad:' in `bad:/x,xvda,w'", id="prefix"
        ),
        pytest.param(
            "/x,raw,xvda,w,q", "too many positional parameters: near `q' in `/x,raw,xvda,w,q'", id="too many"
        ),
        pytest.param("", "no vdev specified in `'", id="empty"),
        pytest.param(
            "format=foo,vdev=xvda,target=/x",
            "unknown value for format: near `foo' in `format=foo,vdev=xvda,target=/x'",
            id="format",
        ),
    ],
)
def test_bad_disks(spec: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_disk(spec, "CFG")
    assert str(refused.value) == f"CFG: config parsing error in disk specification: {words}"


@pytest.mark.parametrize(
    ("device", "number"),
    [
        ("xvda", 0),
        ("xvdz", 25),
        ("sda1", 0),
        ("hdb", 1),
        ("0x0", 0),
        ("0x1", 1),
        ("0xca10", 1),
        ("d3", 3),
        ("268441856", 25),
        ("0x301", 0),
        ("wd0", None),
        ("", None),
    ],
)
def test_disk_numbers(device: str, number: int | None) -> None:
    assert disk_number(device) == number


def test_nics() -> None:
    assert parse_nic("mac=AA:00:00:d1:00:09,bridge=bridge0").mac == "aa:00:00:d1:00:09"
    assert parse_nic("").bridge == ""
    assert (
        parse_nic("mac=00:16:3e:00:00,bridge=xenbr0").bridge == "xenbr0"
    )  # five bytes: xl takes it (recorded)
    with pytest.raises(ConfigError, match="Unrecognized"):
        parse_nic("frob")
