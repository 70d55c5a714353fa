"""A sign of life of programs that nobody can ask over HTTP: the time of a file, for the health checks of containers.

`python -m vps.pulse FOLDER SECONDS NAME...`: exit 0 when each of the files is younger than that, else 1 and a line.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

EVERY = 5.0  # seconds between two beats of the worker


def beat(name: str) -> None:
    """Say that `name` came round once more. Without BERTH_PULSE_DIR nobody asks, and nothing is written."""
    from django.conf import settings

    if settings.BERTH_PULSE_DIR:
        (Path(settings.BERTH_PULSE_DIR) / name).touch()


def main(arguments: list[str]) -> int:
    """Look at the files; the exit status is the answer."""
    try:
        folder, seconds, *names = arguments
        limit = float(seconds)
    except ValueError:
        names = []
    if not names:
        print("python -m vps.pulse FOLDER SECONDS NAME...", file=sys.stderr)
        return 2
    for name in names:
        try:
            age = time.time() - (Path(folder) / name).stat().st_mtime
        except OSError as error:
            print(f"{name} has not come round yet: {error}")
            return 1
        if age > limit:
            print(f"{name} came round {age:.0f} s ago, more than {limit:.0f} s.")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
