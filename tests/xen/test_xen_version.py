from __future__ import annotations

import pytest

from vps.xen.version import Dialect, VersionRefused, parse_version, toolstack_for, versions_fit


@pytest.mark.parametrize(
    ("version", "tool", "supported", "services", "never"),
    [
        ("3.1.4", "xm", False, ("xend=YES",), ("xencommons=YES",)),
        ("3.3.2", "xm", False, ("xend=YES", "xenbackendd=YES"), ("xencommons=YES",)),
        ("4.1.6", "xm", True, ("xencommons=YES", "xend=YES"), ()),
        ("4.2.5", "xl", True, ("xencommons=YES",), ("xend=YES", "xenbackendd=YES")),
        ("4.4.4", "xl", True, ("xencommons=YES",), ("xend=YES", "xenbackendd=YES")),
        ("4.5.0", "xl", True, ("xencommons=YES",), ("xend=YES", "xenbackendd=YES")),
        ("4.17.7", "xl", True, ("xencommons=YES",), ("xend=YES", "xenbackendd=YES")),
        ("4.20.0-rc1", "xl", True, ("xencommons=YES",), ("xend=YES", "xenbackendd=YES")),
        ("5.0", "xl", True, ("xencommons=YES",), ("xend=YES", "xenbackendd=YES")),
    ],
)
def test_toolstack(
    version: str, tool: str, supported: bool, services: tuple[str, ...], never: tuple[str, ...]
) -> None:
    rule = toolstack_for(version)
    assert (rule.tool, rule.supported, rule.services, rule.never) == (
        Dialect(tool),
        supported,
        services,
        never,
    )
    assert rule.why.endswith(".")


@pytest.mark.parametrize("minor", range(0, 30))
def test_xl_never_has_xend_beside_it(minor: int) -> None:
    for version in (f"3.{minor}", f"4.{minor}"):
        rule = toolstack_for(version)
        assert ("xend=YES" in rule.never) is (rule.tool is Dialect.XL)
        assert not set(rule.services) & set(rule.never)


def test_minor_numbers_are_numbers() -> None:
    assert parse_version("4.17.7") == (4, 17)
    assert parse_version("4.10") > parse_version("4.9")
    assert toolstack_for("4.10").tool is Dialect.XL


def test_hypervisor_and_tools_must_be_of_one_version() -> None:
    assert versions_fit("4.17.7", "4.17.5")
    assert not versions_fit("4.17.7", "4.18.0")
    assert not versions_fit("4.1", "4.17")


@pytest.mark.parametrize("version", ["", "x", "4", "4.", ".4", "v4.17", "4.x", "-4.17", "4.1717171", "٤.١"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(VersionRefused):
        toolstack_for(version)
