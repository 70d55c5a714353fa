"""A task that goes on until it is let go, for a worker of vps.celery: `celery worker -I tests.web.held_tasks`."""

from __future__ import annotations

import time
from pathlib import Path

from vps.celery import app


@app.task(name="hold")
def hold(folder: str, name: str) -> None:
    place = Path(folder)
    (place / f"{name}-begun").touch()
    while not (place / "go").exists():
        time.sleep(0.05)
    (place / f"{name}-done").touch()
