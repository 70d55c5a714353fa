"""A production installation on loopback, of the parts and files that are shipped, without root's rights:

nginx (docker/nginx.conf) - two web nodes and two gateways that share no folder - PostgreSQL - Redis by TLS
(docker/redis.conf) - an S3 storage (moto) - worker - collector - the agent of a simulated dom0, whose links are TLS.
The programs' command lines are those of docker/Dockerfile, their secrets those of docker/make-secrets.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import httpx
import pytest
from botocore.exceptions import BotoCoreError

from tests import postgres
from tests.production.certificates import make_certificates
from tests.production.docker_files import DOCKER, ROOT, nginx_conf, redis_conf, targets
from tests.story.browser import Browser
from vps.quickstart import leftovers, ports
from vps.quickstart.readiness import Check

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
READY = 240.0  # seconds, for eight programs that start on a busy machine
BUCKET = "berth"


def programs() -> tuple[str, str]:
    """nginx and redis-server. Skips with the reason where the layout is not asked for, or cannot be.

    Asked for it fails when a program is missing, as `make production-test` does.
    """
    if os.environ.get("BERTH_PRODUCTION") != "1":
        pytest.skip("the production layout takes minutes, and is started by `make production-test`")
    missing = []
    nginx = shutil.which("nginx", path=PATH)
    redis = shutil.which("redis-server", path=PATH)
    if not nginx:
        missing.append("nginx (Debian: apt-get install nginx-light)")
    if not redis:
        missing.append("redis-server")
    try:
        postgres.programs()
    except FileNotFoundError:
        missing.append("postgresql")
    if missing or not nginx or not redis:
        pytest.fail(f"The production layout cannot be started; there is no {', no '.join(missing)} here.")
    return nginx, redis


@dataclass
class Layout:
    """A running installation. `folder` has everything; a program's words are in `folder`/log/NAME.

    A small one is one node of each, with SQLite and files in one folder.
    """

    folder: Path
    url: str  # https://localhost:PORT, nginx
    tls: ssl.SSLContext
    ports: dict[str, int] = field(default_factory=dict)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    logins: dict[str, tuple[str, str]] = field(default_factory=dict)
    small: bool = False
    app_secret: str = ""  # of the operator's authenticator app

    @property
    def webs(self) -> list[str]:
        return ["web1"] if self.small else ["web1", "web2"]

    @property
    def gateways(self) -> list[str]:
        return ["gateway1"] if self.small else ["gateway1", "gateway2"]

    @property
    def nodes(self) -> list[str]:
        """The programs of the web side."""
        return [*self.webs, *self.gateways, "worker", "collector"]

    @property
    def secrets(self) -> Path:
        return self.folder / "docker" / "secrets"

    def data(self, node: str) -> Path:
        """The folder that is a node's alone; of a small one that of all."""
        return self.folder / ("data" if self.small else node)

    def environment(self, node: str) -> dict[str, str]:
        """What a program of the web side gets: the names are those of docker/compose.yaml, and the S3 ones."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BERTH_")}
        common = {
            "PATH": PATH,
            "PYTHON": sys.executable,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "DJANGO_SETTINGS_MODULE": "vps.settings",
            "BERTH_DATA_DIR": str(self.data(node)),
            "BERTH_BASE_URL": self.url,
            "BERTH_REDIS_URL_FILE": str(self.secrets / "redis-url"),
            "BERTH_REDIS_CA_FILE": str(self.secrets / "ca.crt"),
            "BERTH_SECRET_KEY_FILE": str(self.secrets / "secret-key"),
            "BERTH_SIGNING_KEY_FILE": str(self.folder / "keys" / "signing-key"),
            "BERTH_EMAIL_URL_FILE": str(self.secrets / "email-url"),
            "BERTH_AGENT_WEB_URL": self.url,
            "BERTH_AGENT_REDIS_URL": f"rediss://localhost:{self.ports['redis']}/0",
        }
        if self.small:
            return kept | common
        return (
            kept
            | common
            | {
                "BERTH_DATABASE_URL_FILE": str(self.secrets / "database-url"),
                "BERTH_S3_BUCKET": BUCKET,
                "BERTH_S3_ENDPOINT": f"http://127.0.0.1:{self.ports['s3']}",
                "BERTH_S3_ACCESS_KEY_FILE": str(self.secrets / "s3-access-key"),
                "BERTH_S3_SECRET_KEY_FILE": str(self.secrets / "s3-secret-key"),
            }
        )

    def manage(self, *arguments: str, **extra: str) -> str:
        """A management command, as on the first web node; gives what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment("web1") | extra,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, (
            f"manage.py {' '.join(arguments)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
        return done.stdout

    def start(
        self, name: str, argv: list[str], env: dict[str, str] | None = None, user: int | None = None
    ) -> None:
        """Start a program at the head of a session of its own."""
        with self.log(name).open("ab") as log:
            self.running[name] = subprocess.Popen(
                argv,
                cwd=ROOT,
                env=env or {"PATH": PATH},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
            )

    def start_web_side(self, name: str) -> None:
        """Start web1, gateway2, worker, collector: the command of the image of that name."""
        kind = name.rstrip("12")
        argv = list(targets()[kind].cmd)
        argv = [word.replace("0.0.0.0:8000", "{}").replace("0.0.0.0:8001", "{}") for word in argv]
        argv = [word.format(f"127.0.0.1:{self.ports[name]}") if word == "{}" else word for word in argv]
        # As `python -m`: an environment that was moved has scripts that name another place.
        argv = [sys.executable, *argv[1:]] if argv[0] == "python" else [sys.executable, "-m", *argv]
        self.start(name, argv, self.environment(name))

    def log(self, name: str) -> Path:
        return self.folder / "log" / name

    def kill(self, name: str) -> None:
        """-9 to a program and all that it started itself."""
        process = self.running.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def end(self) -> None:
        for process in reversed(self.running.values()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + 10
        for process in self.running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def browser(self) -> Browser:
        """A new person's browser, at nginx."""
        return Browser(self.url, tls=self.tls)

    def dom0s_heard(self) -> int:
        try:
            answer = httpx.get(f"{self.url}/readyz", verify=self.tls, timeout=10)
            return int(answer.json().get("dom0s_heard", 0))
        except (httpx.HTTPError, ValueError):
            return 0

    def until_up(self, *names: str) -> None:
        """Wait until web nodes and gateways answer. Raises AssertionError with the last words of one that does not."""
        deadline = time.monotonic() + READY
        for name in names:
            check = Check(name, self.ports[name], "/healthz", urlsplit(self.url).netloc)
            while not check.passes():
                gone = self.running[name].poll() is not None
                assert not gone and time.monotonic() < deadline, f"{name}: {self.words(name)}"
                time.sleep(0.2)

    def until_heard(self) -> None:
        """Wait until the dom0 was heard. Raises AssertionError with the last words of those who are in between."""
        deadline = time.monotonic() + READY
        while self.dom0s_heard() < 1:
            for name, process in self.running.items():
                assert process.poll() is None, f"{name} ended: {self.words(name)}"
            assert time.monotonic() < deadline, self.words("agent") + self.words("collector")
            time.sleep(0.3)

    def words(self, name: str) -> str:
        """The end of a program's log."""
        return self.log(name).read_text(errors="replace")[-6000:]


def redis_up(layout: Layout, program: str) -> None:
    """Start the Redis, empty, and wait for it."""
    folder = layout.folder / "redis"
    folder.mkdir(exist_ok=True)
    config = folder / "redis.conf"
    config.write_text(redis_conf(layout.secrets, folder, layout.ports["redis"]))
    layout.start("redis", [program, str(config)])
    deadline = time.monotonic() + 30
    import redis

    url = f"{(layout.secrets / 'redis-url').read_text().strip()}?ssl_ca_certs={layout.secrets / 'ca.crt'}"
    while True:
        with redis.Redis.from_url(url) as client, contextlib.suppress(redis.RedisError):
            client.ping()
            return
        assert time.monotonic() < deadline, layout.words("redis")
        time.sleep(0.1)


def make_secrets(layout: Layout) -> None:
    """docker/make-secrets in a copy of docker/, certificates, and the address of Redis on this machine."""
    shutil.copytree(DOCKER, layout.folder / "docker", ignore=shutil.ignore_patterns("secrets"))
    subprocess.run(
        ["sh", layout.folder / "docker" / "make-secrets"], check=True, capture_output=True, timeout=30
    )
    make_certificates(layout.secrets)
    address = layout.secrets / "redis-url"
    password = urlsplit(address.read_text().strip()).password
    address.chmod(0o600)
    address.write_text(f"rediss://:{password}@localhost:{layout.ports['redis']}/0\n")


@contextmanager
def layout(*, small: bool = False) -> Iterator[Layout]:
    """The whole of it, ready: two accounts, and a simulated dom0 that was heard."""
    nginx, redis_program = programs()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="berth-production-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)  # nginx runs as somebody else when the tests run as root
        (folder / "log").mkdir()
        taken = ("nginx", "redis", "s3", "web1", "web2", "gateway1", "gateway2")
        places = {name: ports.free_port() for name in taken}
        tls = ssl.create_default_context()
        made = Layout(folder, f"https://localhost:{places['nginx']}", tls, places, small=small)
        make_secrets(made)
        tls.load_verify_locations(made.secrets / "ca.crt")
        if not small:
            address = made.secrets / "database-url"
            address.chmod(0o600)
            address.write_text(stack.enter_context(postgres.server()))
        stack.callback(leftovers.end, str(folder), grace=2.0)  # the simulated domains
        stack.callback(made.end)
        redis_up(made, redis_program)
        if not small:
            argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(places["s3"])]
            made.start("s3", argv, {"PATH": PATH})
            make_bucket(made)
        for node in made.nodes:
            made.data(node).mkdir(exist_ok=True)
        prepare(made)
        for name in made.nodes:
            made.start_web_side(name)
        start_nginx(made, nginx)
        made.until_up(*made.webs, *made.gateways)
        enrol(made)
        made.until_heard()
        yield made


def make_bucket(made: Layout) -> None:
    deadline = time.monotonic() + 60
    with storage(made) as client:
        while True:
            try:
                client.create_bucket(Bucket=BUCKET)
                return
            except BotoCoreError:  # not there yet
                assert time.monotonic() < deadline, made.words("s3")
                time.sleep(0.3)


@contextmanager
def storage(made: Layout) -> Iterator[Any]:
    """A client of the S3 storage; boto3 makes its classes when it runs."""
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{made.ports['s3']}",
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    try:
        yield client
    finally:
        client.close()


def prepare(made: Layout) -> None:
    """What the service `setup` of compose.yaml does, on each node that has a folder of its own; and the people."""
    made.manage("migrate", "--no-input", "--verbosity", "0")
    made.manage("collectstatic", "--no-input", "--clear", "--verbosity", "0")
    if not made.small:
        shutil.copytree(made.data("web1") / "static", made.data("web2") / "static")
    email, password = "operator@localhost", "correct horse battery"
    made.manage(*("createsuperuser", "--no-input", "--email", email), DJANGO_SUPERUSER_PASSWORD=password)
    made.logins["operator"] = (email, password)
    for account in json.loads(made.manage("first_run"))["accounts"]:
        made.logins[account["role"]] = (account["email"], account["password"])


def start_nginx(made: Layout, program: str) -> None:
    folder = made.folder / "nginx"
    folder.mkdir()
    config = folder / "nginx.conf"
    webs, gateways = ([made.ports[name] for name in names] for names in (made.webs, made.gateways))
    config.write_text(nginx_conf(made.secrets, folder, made.ports["nginx"], webs, gateways))
    user = None
    if os.getuid() == 0:
        user = pwd.getpwnam("www-data").pw_uid
        for path in (folder, made.secrets / "tls.crt", made.secrets / "tls.key"):
            os.chown(path, user, -1)
    made.start("nginx", [program, "-c", str(config), "-e", "stderr", "-p", str(folder)], user=user)


def lose_the_dom0(made: Layout) -> None:
    """The simulated dom0's machine burns: agent, domains and disks are gone."""
    made.kill("agent")
    leftovers.end(str(made.folder), grace=0)
    shutil.rmtree(made.folder / "dom0")


def enrol(made: Layout) -> None:
    """A simulated dom0, or a new one in its place, and its agent."""
    state, config = made.folder / "dom0", made.folder / "dom0" / "agent.toml"
    made.manage("enrol_dom0", "sim", "--simulated", "--state-dir", str(state), "--out", str(config))
    ca = made.secrets / "ca.crt"
    with config.open("a") as file:
        file.write(f'redis_ca = "{ca}"\nweb_ca = "{ca}"\n')
    argv = [sys.executable, *targets()["agent"].cmd[1:-1], str(config)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BERTH_")}
    more = {"PATH": PATH, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", leftovers.MARK: str(made.folder)}
    made.start("agent", argv, kept | more)
