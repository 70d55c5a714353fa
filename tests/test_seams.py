"""The seams of docs/design.md: what may import what, and who may start processes."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Only these four start processes (and the tests, the lab and the benchmarks, which are no part of the product).
STARTERS = {"vps/agent/run.py", "vps/agent/pty.py", "vps/inspection.py", "vps/quickstart/__main__.py"}
# The simulated dom0 stands in for xl itself: like xl it leaves processes of its own behind.
SIMULATED = "vps/agent/sim/"
FORKS = {"os.fork", "os.execv"}
# What would start a process or touch the machine, whatever it is called under.
PROCESS_MODULES = {"subprocess", "multiprocessing", "pty", "popen2", "commands"}
PROCESS_CALLS = {
    "system",
    "popen",
    "fork",
    "forkpty",
    "posix_spawn",
    "posix_spawnp",
    "startfile",
    "create_subprocess_exec",
    "create_subprocess_shell",
    *(f"exec{end}" for end in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
    *(f"spawn{end}" for end in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
}
IMPURE = {
    *PROCESS_MODULES,
    "asyncio",
    "datetime",
    "glob",
    "os",
    "pathlib",
    "random",
    "secrets",
    "shutil",
    "signal",
    "socket",
    "sys",
    "tempfile",
    "threading",
    "time",
}
READER = "vps/xen/inspect/__main__.py"  # reads the one file it is given


def _files(*folders: str) -> list[str]:
    return sorted(
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def _tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(), file)


def _imports(tree: ast.AST) -> set[str]:
    """Every module that the code imports, at whatever depth; `from a import b` counts as a and a.b."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif (
            isinstance(node, ast.Call)
            and _name(node.func) in {"__import__", "import_module"}
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            found.add(str(node.args[0].value))
    return found


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _starts(tree: ast.AST) -> set[str]:
    """What in the code starts processes."""
    found = {name for name in _imports(tree) if name.split(".")[0] in PROCESS_MODULES}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = _name(node.func.value)
            if owner in {"os", "posix", "asyncio"} and node.func.attr in PROCESS_CALLS:
                found.add(f"{owner}.{node.func.attr}")
        if isinstance(node, ast.ImportFrom) and node.module in {"os", "posix", "asyncio"}:
            found |= {alias.name for alias in node.names} & PROCESS_CALLS
    return found


PRODUCT = _files("vps", "accounts")
XEN = _files("vps/xen")
AGENT = _files("vps/agent")


@pytest.mark.parametrize("file", PRODUCT)
def test_only_four_files_start_processes(file: str) -> None:
    if file not in STARTERS:
        assert _starts(_tree(file)) - (FORKS if file.startswith(SIMULATED) else set()) == set()


@pytest.mark.parametrize("file", [file for file in XEN if file != READER])
def test_xen_is_pure(file: str) -> None:
    tree = _tree(file)
    assert {name.split(".")[0] for name in _imports(tree)} & IMPURE == set()
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called & {"open", "input", "print", "eval", "exec", "breakpoint"} == set()


@pytest.mark.parametrize("file", XEN)
def test_xen_knows_nothing_of_the_rest(file: str) -> None:
    ours = {name for name in _imports(_tree(file)) if name.split(".")[0] in {"vps", "accounts"}}
    assert {name for name in ours if not (name + ".").startswith("vps.xen.")} == set()


@pytest.mark.parametrize("file", AGENT)
def test_agent_knows_only_itself_and_xen(file: str) -> None:
    ours = {name for name in _imports(_tree(file)) if name.split(".")[0] in {"vps", "accounts"}}
    foreign = {name for name in ours if not (name + ".").startswith(("vps.xen.", "vps.agent."))}
    assert foreign == set()


@pytest.mark.parametrize("file", _files("accounts"))
def test_accounts_know_nothing_of_xen(file: str) -> None:
    assert {name for name in _imports(_tree(file)) if (name + ".").startswith("vps.")} == set()


@pytest.mark.parametrize("file", PRODUCT)
def test_relative_imports_do_not_hide_where_they_go(file: str) -> None:
    assert [
        node.lineno for node in ast.walk(_tree(file)) if isinstance(node, ast.ImportFrom) and node.level
    ] == []


def test_project_package_is_empty() -> None:
    assert (ROOT / "vps" / "__init__.py").read_bytes() == b""


IMPORT_ALL = """
import importlib, pkgutil, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"django", "accounts"}:
            raise ImportError(f"{name} is refused here")
        return None

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, sys.argv[1])
imported = []
for top in ("vps.xen", "vps.agent"):
    package = importlib.import_module(top)
    def failed(name):
        raise
    for module in pkgutil.walk_packages(package.__path__, top + ".", onerror=failed):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
            imported.append(module.name)
assert not [name for name in sys.modules if name.split(".")[0] in {"django", "accounts"}]
web = {name for name in sys.modules if name.startswith("vps.") and name.split(".")[1] not in {"xen", "agent"}}
assert not web, web
print(*imported, sep="\\n")
"""


def _import_all(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-c", IMPORT_ALL, str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
    )


def test_agent_and_xen_are_imported_where_there_is_no_django() -> None:
    done = _import_all(ROOT)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    modules = {
        file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for file in XEN + AGENT
        if not file.endswith("/__main__.py")
    }
    assert modules - {"vps.xen", "vps.agent"} <= imported


@pytest.mark.parametrize("line", ["import django", "from accounts import models", "import vps.settings"])
def test_the_refusal_does_refuse(tmp_path: Path, line: str) -> None:
    for package in ("vps", "vps/xen", "vps/agent"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "vps" / "settings.py").touch()
    assert _import_all(tmp_path).returncode == 0
    (tmp_path / "vps" / "agent" / "bad.py").write_text(line + "\n")
    assert _import_all(tmp_path).returncode != 0


@pytest.mark.parametrize(
    "code",
    [
        "import subprocess",
        "from subprocess import run",
        "def f():\n    import subprocess as quiet",
        "import os\nos.system('x')",
        "from os import popen",
        "import os\nos.execv('x', [])",
        "import asyncio\nasyncio.create_subprocess_exec('x')",
        "__import__('subprocess')",
        "import importlib\nimportlib.import_module('subprocess')",
        "import multiprocessing",
    ],
)
def test_starting_a_process_is_seen(code: str) -> None:
    assert _starts(ast.parse(code))


def test_no_two_tests_have_one_module_name() -> None:
    """pytest imports them by it, and collects nothing when two are alike."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
