"""What stands in static/vendor is what its manifest says, and nothing else stands there."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

VENDOR = Path(__file__).resolve().parents[2] / "static" / "vendor"
ENTRIES = json.loads((VENDOR / "manifest.json").read_text())
FILES = [(path, sum_) for entry in ENTRIES for path, sum_ in entry["files"].items()]


@pytest.mark.parametrize(("path", "expected"), FILES, ids=[path for path, _ in FILES])
def test_file_has_the_sum_of_the_manifest(path: str, expected: str) -> None:
    digest = hashlib.sha512((VENDOR / path).read_bytes()).digest()
    assert "sha512-" + base64.b64encode(digest).decode() == expected


def test_no_file_is_without_an_entry() -> None:
    found = {str(path.relative_to(VENDOR)) for path in VENDOR.rglob("*") if path.is_file()}
    assert found - {path for path, _ in FILES} == {"manifest.json"}


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry["name"] for entry in ENTRIES])
def test_entry_is_whole(entry: dict[str, str]) -> None:
    assert entry["licence"] in {"MIT", "0BSD"}
    assert entry["tarball"].startswith("sha512-")
    assert entry["version"].count(".") == 2


@pytest.mark.parametrize("path", [path for path, _ in FILES if path.endswith(".js")])
def test_no_file_names_a_source_map_that_is_not_there(path: str) -> None:
    assert b"sourceMappingURL=" not in (VENDOR / path).read_bytes()[-300:]
