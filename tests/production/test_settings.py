"""Settings of production that are wrong stop the start with a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.production.docker_files import ROOT


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param(
            {"BERTH_REDIS_CA_FILE": "/etc/passwd"},
            "BERTH_REDIS_CA_FILE is given, but BERTH_REDIS_URL is not rediss://.",
            id="an authority, and no TLS",
        ),
        pytest.param(
            {"BERTH_REDIS_CA_FILE": "/nowhere/ca.crt", "BERTH_REDIS_URL": "rediss://:x@localhost:1/0"},
            "BERTH_REDIS_CA_FILE names /nowhere/ca.crt, which is no file.",
            id="an authority that is not there",
        ),
        pytest.param(
            {"BERTH_S3_BUCKET": "berth"},
            "Set BERTH_S3_ACCESS_KEY_FILE to a file that holds the secret",
            id="a bucket without a key",
        ),
        pytest.param(
            {"BERTH_DATABASE_URL_FILE": "/nowhere/database-url"},
            "BERTH_DATABASE_URL_FILE names /nowhere/database-url, which cannot be read",
            id="a secret that is not there",
        ),
    ],
)
def test_a_wrong_setting_is_named(given: dict[str, str], words: str, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BERTH_")}
    more = {
        "DJANGO_SETTINGS_MODULE": "vps.settings",
        "BERTH_SECRET_KEY": "only for this test",
        "BERTH_DATA_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", "from django.conf import settings; settings.DEBUG"],
        cwd=ROOT,
        env=kept | more | given,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1 and words in done.stderr, done.stderr[-1000:]


def test_the_broker_checks_the_certificate_too() -> None:
    """kombu does not by itself: `rediss://` alone would take any certificate."""
    code = (
        "import ssl; from vps.celery import app; from vps.dispatch import _bell;"
        "assert all(one.connection_for_write().ssl['ssl_cert_reqs'] == ssl.CERT_REQUIRED for one in (app, _bell()))"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BERTH_")}
    more = {
        "DJANGO_SETTINGS_MODULE": "vps.settings",
        "BERTH_SECRET_KEY": "only for this test",
        "BERTH_REDIS_URL": "rediss://:x@localhost:1/0",
    }
    done = subprocess.run(
        [sys.executable, "-c", f"import django; django.setup(); {code}"],
        cwd=ROOT, env=kept | more, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1000:]
