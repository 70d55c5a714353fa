"""The seams of docs/design.md: what may know what. They hold for every module there is, also new ones."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [
    path
    for folder in ("vps", "accounts")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "__pycache__" not in path.parts
]
STARTS_PROCESSES = {"vps/agent/run.py", "vps/agent/pty.py", "vps/inspection.py", "vps/quickstart.py"}
READS_FILES = {"vps/xen/inspect/__main__.py"}
# What has a clock, files, processes or a network in it.
IMPURE = {
    *("asyncio", "celery", "datetime", "django", "glob", "httpx", "kombu", "multiprocessing", "os"),
    *("pathlib", "random", "redis", "requests", "secrets", "shutil", "signal", "socket", "sqlite3"),
    *("subprocess", "tempfile", "threading", "time", "urllib", "uuid_utils"),
}
REFUSE_DJANGO = """
import importlib, pkgutil, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("django", "accounts"):
            raise ImportError(f"{name} may not be imported here")

sys.meta_path.insert(0, Refuse())
count = 0
for package in ("vps.xen", "vps.agent"):
    found = importlib.import_module(package)
    for module in pkgutil.walk_packages(found.__path__, package + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
            count += 1
outside = [
    name for name in sys.modules
    if name.startswith("vps.") and name.split(".")[1] not in ("xen", "agent")
]
print(count, *outside)
"""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[str]:
    """The full names of what a file imports, wherever in it."""
    package = list(path.relative_to(ROOT).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: -node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def test_the_agent_and_the_xen_side_are_imported_without_django() -> None:
    done = subprocess.run(
        [sys.executable, "-c", REFUSE_DJANGO], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    count, *outside = done.stdout.split()
    assert int(count) > 10
    assert outside == [], "the agent's side may import vps.xen and vps.agent only"


def test_the_package_itself_is_empty() -> None:
    assert (ROOT / "vps" / "__init__.py").read_bytes() == b""


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_processes_are_started_in_four_files_only(path: Path) -> None:
    found = {name for name in imported(path) if name in ("subprocess", "pty", "multiprocessing", "pexpect")}
    calls = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and (
            node.attr in ("system", "popen", "fork", "forkpty")
            or node.attr.startswith(("exec", "spawn", "posix_sp"))
        )
    }
    if name_of(path) not in STARTS_PROCESSES and not name_of(path).startswith("vps/agent/sim/"):
        assert found | calls == set()


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if name_of(path).startswith("vps/xen/")], ids=name_of
)
def test_the_xen_side_is_pure(path: Path) -> None:
    names = set(imported(path))
    assert {name for name in names if name.startswith("vps.")} == {
        name for name in names if name.startswith("vps.xen")
    }
    if name_of(path) not in READS_FILES:
        assert {name for name in names if name.partition(".")[0] in IMPURE} == set()
        assert "open" not in {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if name_of(path).startswith("accounts/")], ids=name_of
)
def test_accounts_know_nothing_of_xen(path: Path) -> None:
    assert {name for name in imported(path) if name.partition(".")[0] == "vps"} == set()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_names_and_sizes(path: Path) -> None:
    """No word that says nothing in a module's name; a file past 500 lines is split by noun."""
    for word in ("utils", "helpers", "manager", "handler", "service"):
        assert word not in path.name
    if "migrations" not in path.parts:
        assert len(path.read_text().splitlines()) <= 500
