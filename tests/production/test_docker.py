"""docker/: its files hold together, as far as that is seen without a Docker.

The layout (tests/production/layout.py) runs their commands and configurations.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands

from tests.production.docker_files import DOCKER, ROOT, compose, targets

BUILT = ("web", "gateway", "worker", "collector", "agent")  # the images


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def test_compose_file_is_of_the_specification() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"],
        cwd=DOCKER,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_finds_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text((DOCKER / "compose.yaml").read_text().replace("read_only: true", "read_only: [true]"))
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1 and "read_only" in done.stdout


@pytest.mark.parametrize("name", services())
def test_a_service_is_guarded(name: str) -> None:
    """Read-only root, no rights of root's, nobody's user but root's."""
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    user = service.get("user") or targets()[service["image"].removeprefix("berth-")].user
    assert user not in ("", "root", "0")


@pytest.mark.parametrize("name", services())
def test_what_a_service_names_is_there(name: str) -> None:
    service, whole = services()[name], compose()
    if build := service.get("build"):
        assert (DOCKER / build["context"] / build["dockerfile"]).is_file()
        assert build["target"] in targets()
        assert service["image"] == f"berth-{build['target']}"
    elif service["image"].startswith("berth-"):
        builders = [one for one in services().values() if "build" in one]
        assert service["image"] in [one["image"] for one in builders]
    assert set(service.get("secrets", ())) <= set(whole["secrets"])
    assert set(service["networks"]) <= set(whole["networks"])
    for volume in service.get("volumes", ()):
        source = volume.split(":")[0]
        assert (DOCKER / source).is_file() if source.startswith("./") else source in whole["volumes"], volume
    for key, value in service.get("environment", {}).items():
        if str(value).startswith("/run/secrets/"):
            assert Path(value).name in service["secrets"], key


@pytest.mark.parametrize("name", services())
def test_who_is_waited_for_has_a_sign_of_health(name: str) -> None:
    for other, how in services()[name].get("depends_on", {}).items():
        there = services()[other]
        if how["condition"] == "service_healthy":
            own = there.get("healthcheck", {}).get("test")
            assert own or targets()[there["image"].removeprefix("berth-")].health, other


def test_settings_know_every_variable() -> None:
    known = set(re.findall(r'"(BERTH_[A-Z0-9_]+)"', (ROOT / "vps" / "settings.py").read_text()))
    for service in services().values():
        for name in service.get("environment", {}):
            if name.startswith("BERTH_"):
                assert name in known or name.removesuffix("_FILE") in known, name


def test_make_secrets_makes_every_secret(tmp_path: Path) -> None:
    script = tmp_path / "make-secrets"
    script.write_bytes((DOCKER / "make-secrets").read_bytes())
    done = subprocess.run(["sh", script], capture_output=True, text=True, timeout=30, check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    wanted = {Path(one["file"]).name for one in compose()["secrets"].values()}
    assert wanted - set(made) == {"tls.crt", "tls.key", "agent.toml"}
    for name in ("tls.crt", "tls.key"):
        assert f"still missing: docker/secrets/{name}" in done.stdout
    password = made["redis-url"].split(":")[2].partition("@")[0]
    assert made["redis-users"] == f"user default on >{password} ~* &* +@all\n"
    assert f":{made['postgres-password']}@" in made["database-url"]
    subprocess.run(["sh", script], capture_output=True, timeout=30, check=True)
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == made, "once"


@pytest.mark.parametrize("name", BUILT)
def test_an_image_finds_what_it_runs(name: str) -> None:
    target = targets()[name]
    assert target.user == "berth" and target.cmd
    for command in filter(None, (target.cmd, target.health)):
        program, *words = command
        if program == "python" and words[0] == "manage.py":
            assert words[1] in get_commands()
        elif program == "python":
            assert words[0] == "-m" and importlib.util.find_spec(words[1])
        else:
            assert importlib.util.find_spec(f"{program}.__main__"), program
    for word in target.cmd:
        module = word.partition(":")[0]
        if module.startswith("vps."):
            module = module.rpartition(".")[0] if module.endswith("Worker") else module
            assert importlib.util.find_spec(module), word


def test_what_is_copied_is_there_and_not_ignored() -> None:
    ignore = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    for target in targets().values():
        for source in target.copies:
            assert (ROOT / source).exists(), source
            assert source.split("/")[0] in let_in, source
