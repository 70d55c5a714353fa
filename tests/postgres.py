"""`python -m tests.postgres COMMAND...`: run a command with a PostgreSQL of its own, on loopback, thrown away after.

Debian: apt-get install postgresql. As root the server runs as the user `postgres`, for PostgreSQL refuses root.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vps.quickstart import ports


def programs() -> Path:
    """The folder of initdb and postgres. Raises FileNotFoundError, which says what to install."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    if path := shutil.which("initdb"):
        return Path(path).resolve().parent
    raise FileNotFoundError("There is no PostgreSQL server here (Debian: apt-get install postgresql).")


@contextmanager
def server() -> Iterator[str]:
    """A server; gives the BERTH_DATABASE_URL of an empty database on it."""
    bin_folder, folder = programs(), Path(tempfile.mkdtemp(prefix="berth-postgres-"))
    user = pwd.getpwnam("postgres").pw_uid if os.getuid() == 0 else os.getuid()
    os.chown(folder, user, -1)
    secret, port = secrets.token_hex(16), ports.free_port()
    word = folder / "password"
    word.write_text(secret)
    os.chown(word, user, -1)
    data = folder / "data"
    made = [
        "-D",
        data,
        "-U",
        "berth",
        "-A",
        "scram-sha-256",
        f"--pwfile={word}",
        "-E",
        "UTF8",
        "--locale=C.UTF-8",
    ]
    quiet = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL}
    subprocess.run([bin_folder / "initdb", "--no-sync", *made], check=True, **quiet)
    # Nothing of it is to last, so nothing is synced to disk.
    options = ["fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=300"]
    process = subprocess.Popen(
        [
            bin_folder / "postgres",
            *("-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder),
            *(f"--{option}" for option in options),
        ],
        stderr=subprocess.DEVNULL,
        **quiet,
    )
    try:
        _await(bin_folder / "pg_isready", port, process)
        yield f"postgres://berth:{secret}@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _await(pg_isready: Path, port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while subprocess.run([pg_isready, "-q", "-h", "127.0.0.1", "-p", str(port)], check=False).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("PostgreSQL did not start.")
        time.sleep(0.1)


def main(command: list[str]) -> int:
    """Run the command; gives its exit status."""
    try:
        with server() as url:
            return subprocess.run(
                command, env={**os.environ, "BERTH_DATABASE_URL": url}, check=False
            ).returncode
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
