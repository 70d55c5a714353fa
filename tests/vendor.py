"""Fetch what stands in static/vendor from npm, and write its manifest.

    python tests/vendor.py          # needs npm; tests/web/test_vendor.py checks the result without it

Files are taken from the tarballs byte for byte, less the line that names a source map: the maps are four
times the size of all the rest, and static storage with hashed names fails on a map that is not there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

VENDOR = Path(__file__).resolve().parents[1] / "static" / "vendor"

PACKAGES: dict[str, tuple[str, dict[str, str]]] = {
    "@xterm/xterm": (
        "6.0.0",
        {"lib/xterm.js": "xterm/xterm.js", "css/xterm.css": "xterm/xterm.css", "LICENSE": "xterm/LICENSE"},
    ),
    "@xterm/addon-fit": ("0.11.0", {"lib/addon-fit.js": "xterm/addon-fit.js"}),
    "@xterm/addon-search": ("0.16.0", {"lib/addon-search.js": "xterm/addon-search.js"}),
    "@xterm/addon-web-links": ("0.12.0", {"lib/addon-web-links.js": "xterm/addon-web-links.js"}),
    "@xterm/addon-unicode11": ("0.9.0", {"lib/addon-unicode11.js": "xterm/addon-unicode11.js"}),
    "@xterm/addon-serialize": ("0.14.0", {"lib/addon-serialize.js": "xterm/addon-serialize.js"}),
    "uplot": (
        "1.6.32",
        {
            "dist/uPlot.iife.min.js": "uplot/uplot.js",
            "dist/uPlot.min.css": "uplot/uplot.css",
            "LICENSE": "uplot/LICENSE",
        },
    ),
    "htmx.org": ("2.0.11", {"dist/htmx.min.js": "htmx/htmx.min.js", "LICENSE": "htmx/LICENSE"}),
}
SOURCE_MAP = re.compile(rb"\n?//# sourceMappingURL=\S+\s*\Z")


def integrity(data: bytes) -> str:
    """The sha512 of bytes in the form that npm prints."""
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


def fetch(name: str, version: str, files: dict[str, str], folder: Path) -> dict[str, object]:
    """Pack one package, unpack the wanted files, and describe them. Raises SystemExit for a wrong sum."""
    answer = subprocess.run(
        ["npm", "pack", "--json", f"{name}@{version}"], cwd=folder, check=True, capture_output=True, text=True
    )
    told = json.loads(answer.stdout)[0]
    tarball = folder / told["filename"]
    found = integrity(tarball.read_bytes())
    if found != told["integrity"]:
        raise SystemExit(f"{tarball.name} has the sum {found}, npm says {told['integrity']}.")
    written = {}
    with tarfile.open(tarball) as archive:
        package = json.load(archive.extractfile("package/package.json"))  # type: ignore[arg-type]
        for source, target in files.items():
            data = SOURCE_MAP.sub(b"\n", archive.extractfile(f"package/{source}").read())  # type: ignore[union-attr]
            place = VENDOR / target
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
            written[target] = integrity(data)
    return {
        "name": name,
        "version": version,
        "licence": package["license"],
        "tarball": told["integrity"],
        "files": written,
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        entries = [fetch(name, version, files, Path(folder)) for name, (version, files) in PACKAGES.items()]
    (VENDOR / "manifest.json").write_text(json.dumps(entries, indent=2) + "\n")


if __name__ == "__main__":
    main()
