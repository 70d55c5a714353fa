"""A real redis-server of the test's own, on a free port of 127.0.0.1, with a dom0's user and ACL."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import time
from pathlib import Path
from uuid import UUID

import redis

from vps.xen.messages import Channels, redis_user


class RedisServer:
    """`stop` and `start` keep the data (append-only file); `kill` is a kill -9."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None
        self._users: list[list[str]] = []
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        binary = shutil.which("redis-server")
        assert binary, "redis-server is needed for these tests"
        self._process = subprocess.Popen(
            [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder),
             "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--logfile", "redis.log"],
        )  # fmt: skip
        deadline = time.monotonic() + 10
        while True:
            try:
                self.client().ping()
                break
            except redis.RedisError:
                assert time.monotonic() < deadline, "redis-server does not answer"
                time.sleep(0.02)
        for user in self._users:
            self.client().execute_command("ACL", "SETUSER", *user)

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, protocol=2)

    def admit(self, dom0: UUID, secret: str) -> None:
        """Make the dom0's user, as the web does at enrolment."""
        user = Channels(dom0).acl(redis_user(dom0), hashlib.sha256(secret.encode()).hexdigest())
        self._users.append(user)
        self.client().execute_command("ACL", "SETUSER", *user)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    stop = kill
