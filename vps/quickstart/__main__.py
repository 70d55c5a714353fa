"""`make run`: the whole product on one machine, under one supervisor, without root.

Everything lives in one folder (`--data-dir`, default var/berth): database, secrets, logs, the simulated dom0.
Redis comes first, then what must be done once (migrations, first-run data, enrolling the dom0), then web,
gateway, worker, collector and agent side by side. "Ready" is said when all of them answered over HTTP.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess  # noqa: TID251
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vps.quickstart import data_folder, leftovers, ports, redis_server
from vps.quickstart.children import (
    ROOT,
    SECRETS,
    Start,
    Wishes,
    checks,
    environment,
    product,
    web_environment,
)
from vps.quickstart.readiness import Waiting
from vps.quickstart.supervisor import Child, DoesNotStayUp, Supervisor, how_it_ended

OLDEST_PYTHON = (3, 11)
READY_LIMIT = 120.0  # seconds until a start that does not get ready is given up
HINT_EVERY = 15.0  # seconds between words to a person who waits
COMMAND_LIMIT = 300.0  # seconds for one management command
TRIES = 4  # ends in a row of one child before Ready, after which the start is given up
MIGRATIONS = ("vps/migrations/*.py", "accounts/migrations/*.py", "requirements/run.txt")


class CannotStart(Exception):
    """The quick start cannot go on. The text is for the person at the terminal, and says what to do."""


def main(argv: list[str] | None = None) -> int:
    """Run the product until it is asked to end. Returns the exit status."""
    if sys.version_info < OLDEST_PYTHON:
        print(f"berth: Python 3.11 or newer is needed; this is {sys.version.split()[0]}.", file=sys.stderr)
        return 2
    wishes = read_wishes(argv)
    try:
        with data_folder.lock(wishes.data, tidy_up=lambda pid: tidy_up(wishes.data, pid)):
            dismiss = undertaker(wishes.data)
            try:
                run(wishes)
            finally:
                dismiss()
    except (
        CannotStart,
        DoesNotStayUp,
        ports.PortBusy,
        redis_server.RedisMissing,
        data_folder.FolderUnusable,
    ) as error:
        print(f"berth: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def read_wishes(argv: list[str] | None) -> Wishes:
    """Read the command line; `--gateway-port` is the one after `--port` unless given."""
    default = os.environ.get("BERTH_DATA_DIR") or str(ROOT / "var" / "berth")
    parser = argparse.ArgumentParser(prog="make run", description="Run all of Berth on this machine.")
    parser.add_argument("--data-dir", type=Path, default=Path(default), help="default: %(default)s")
    parser.add_argument("--port", type=_port, default=8000, help="of the pages; default: %(default)s")
    parser.add_argument("--gateway-port", type=_port, help="of the consoles; default: the one after --port")
    parser.add_argument("--dom0s", type=int, default=1, choices=range(1, 10), metavar="N", help="simulated")
    parser.add_argument("--announce", type=Path, help="a file for addresses and new logins, as JSON")
    given = parser.parse_args(argv)
    gateway_port = given.gateway_port
    if gateway_port is None:
        gateway_port = given.port + 1 if 0 < given.port < 65535 else 0
    return Wishes(given.data_dir.resolve(), given.port, gateway_port, given.dom0s, given.announce)


def run(wishes: Wishes) -> None:
    """Start all, say Ready, look after it until a signal asks to end, end all."""
    data_folder.make_secrets(wishes.data, SECRETS)
    logs = wishes.data / "log"
    logs.mkdir(mode=0o700, exist_ok=True)
    cure = f"Take others: make run PORT={8010 if wishes.port != 8010 else 8020}"
    with ports.listen(wishes.port, cure) as web, ports.listen(wishes.gateway_port, cure) as gateway:
        supervisor = Supervisor(spawn, logs, say, give_up_after=TRIES)
        supervisor.listen_to_signals()
        start = Start(wishes, web, gateway, supervisor)
        supervisor.changed = lambda pids: write_running(start)
        try:
            start_redis(start)
            prepare(start)
            start_product(start)
            while not supervisor.asked_to_end:
                supervisor.tend(10.0)
            say("Ending ...")
        finally:
            keep_redis_users(start)
            supervisor.end(last=("redis",))
            leftovers.end(str(wishes.data), grace=2.0)  # the simulated domains
            (wishes.data / "running.json").unlink(missing_ok=True)
    say(f"Ended. The data stay in {wishes.data}.")


# -- Redis --------------------------------------------------------------------------------------------------


def start_redis(start: Start) -> None:
    """Start the embedded Redis on the port of the last run where that is free. Raises CannotStart."""
    program = redis_server.choose(redis_server.candidates(), ask_version)
    folder = start.data / "redis"
    folder.mkdir(mode=0o700, exist_ok=True)
    password = data_folder.read_secret(start.data, "redis")
    remembered = folder / "port"
    text = remembered.read_text().strip() if remembered.exists() else ""
    port = int(text) if text.isdigit() and ports.is_free(int(text)) else ports.free_port()
    config = folder / "redis.conf"
    data_folder.write(config, redis_server.configuration(port=port, folder=folder))
    made_by = folder / "version"  # another Redis may not read what this one saved
    if not made_by.exists() or made_by.read_text() != str(program.version):
        data_folder.write(folder / redis_server.ACL_FILE, redis_server.users(password))
        data_folder.write(made_by, str(program.version))
    data_folder.write(remembered, f"{port}\n")
    data_folder.write(start.data / "secrets" / "redis-url", redis_server.url(port, password))
    start.redis_port = port
    start.supervisor.start(Child("redis", (str(program.path), str(config)), environment(start)))
    give_up = time.monotonic() + 10
    while not redis_server.answers(port, password):
        if time.monotonic() > give_up:
            tail = start.supervisor.tail("redis")
            raise CannotStart(f"{program} does not answer on port {port}. Its last words:\n{tail}")
        start.supervisor.tend(0.01)
    say(f"{program}, on loopback with a password, port {port}")


def keep_redis_users(start: Start) -> None:
    """Let Redis write down the dom0s' users, so that agents are known from the first moment of the next run."""
    redis_server.command(start.redis_port, data_folder.read_secret(start.data, "redis"), "ACL", "SAVE")


def ask_version(program: Path) -> str:
    """What `PROGRAM --version` prints; empty when it cannot be run."""
    try:
        done = subprocess.run([str(program), "--version"], capture_output=True, text=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


# -- what is done once --------------------------------------------------------------------------------------


def prepare(start: Start) -> None:
    """Bring database, static files, first-run data and agents' configurations up to date."""
    stamps = data_folder.Stamps(start.data)
    if "BERTH_DATABASE_URL" in os.environ or not (start.data / "berth.sqlite3").exists():
        stamps.forget("migrations", "first-run", *(f"dom0-{name}" for name, _ in start.dom0s))
    state = data_folder.state_of(ROOT, MIGRATIONS)
    if not stamps.fresh("migrations", state):
        say("Bringing the database up to date ...")
        manage(start, "migrate", "--no-input", "--verbosity", "0")
        stamps.set("migrations", state)
    state = data_folder.state_of(ROOT, ("static/**/*", "requirements/run.txt"))
    if not stamps.fresh("static", state):
        manage(start, "collectstatic", "--no-input", "--clear", "--verbosity", "0")
        stamps.set("static", state)
    if not stamps.fresh("first-run", "1"):
        start.logins = read_logins(manage(start, "first_run", "--data-dir", str(start.data)))
        show_logins(start.logins)  # now: they are known nowhere else
        stamps.set("first-run", "1")
    for name, folder in start.dom0s:
        enrol(start, stamps, name, folder)


def enrol(start: Start, stamps: data_folder.Stamps, name: str, folder: Path) -> None:
    """Make a simulated dom0 known to the web, and point its agent at the ports of this run."""
    config = folder / "agent.toml"
    if not config.exists() or not stamps.fresh(f"dom0-{name}", "1"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        manage(start, "enrol_dom0", name, "--simulated", "--state-dir", str(folder), "--out", str(config))
        stamps.set(f"dom0-{name}", "1")
    data_folder.point_agent_at(
        config,
        web=f"http://127.0.0.1:{start.web_port}",
        redis=f"redis://127.0.0.1:{start.redis_port}/0",
    )
    # Its domains ended with the last run: for the agent that was a power cut, and this is the dom0's boot.
    xl = tomllib.loads(config.read_text())["xl"]
    done = subprocess.run(  # noqa: S603
        (*xl, "sim-reset"), cwd=ROOT, env=environment(start), capture_output=True, text=True, timeout=60
    )
    if done.returncode != 0:
        raise CannotStart(f"The simulated dom0 {name} cannot be started: {done.stderr.strip()}")


def read_logins(text: str) -> list[dict[str, str]]:
    """The accounts that `first_run` made, from the JSON that it prints. Raises CannotStart."""
    try:
        accounts = json.loads(text)["accounts"]
        return [{key: str(account[key]) for key in ("role", "email", "password")} for account in accounts]
    except (ValueError, KeyError, TypeError) as error:
        raise CannotStart(f"first_run printed something else than accounts: {text[-500:]!r}") from error


def manage(start: Start, *arguments: str) -> str:
    """Run a management command and give what it printed. Raises CannotStart with its last words."""
    if start.supervisor.asked_to_end:
        raise CannotStart("Ended while starting; the same command goes on from there.")
    name = f"manage.py {arguments[0]}"
    with start.supervisor.log_of("prepare").open("ab") as log:
        try:
            # In a session of its own: Ctrl-C does not break a migration in the middle.
            done = subprocess.run(  # noqa: S603
                (sys.executable, str(ROOT / "manage.py"), *arguments),
                cwd=ROOT,
                env=web_environment(start),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                timeout=COMMAND_LIMIT,
            )
        except subprocess.TimeoutExpired as error:
            raise CannotStart(f"{name} did not end within {COMMAND_LIMIT:.0f} s.") from error
    printed = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        words = f"{start.supervisor.tail('prepare')}\n{printed[-2000:]}".strip()
        raise CannotStart(f"{name} failed ({how_it_ended(done.returncode)}):\n{words}")
    return printed


# -- the product --------------------------------------------------------------------------------------------


def start_product(start: Start) -> None:
    """Start all children and wait until they answer; returns early when asked to end. Raises CannotStart."""
    at_once, later = product(start)
    for child in at_once:
        start.supervisor.start(child)
    waiting = Waiting(checks(start))
    waiting.start()
    hint_at = start.began + HINT_EVERY
    while not start.supervisor.asked_to_end:
        start.supervisor.tend(0.02)
        now = time.monotonic()
        if waiting.over:
            break
        if now > hint_at:
            say(f"Still waiting for {waiting.waits_for}; logs are in {start.data / 'log'}")
            hint_at = now + HINT_EVERY
        if now > start.began + READY_LIMIT:
            raise CannotStart(f"Not ready after {READY_LIMIT:.0f} s: no answer from {waiting.waits_for}.")
    else:
        return
    for child in later:
        start.supervisor.start(child)
    start.ready = True
    keep_redis_users(start)
    start.supervisor.give_up_after = None
    write_running(start)
    if start.wishes.announce:
        data_folder.write_json(start.wishes.announce, running(start) | {"logins": start.logins})
    if not start.logins:
        say("Log-ins are as before; a new password: make password NAME=operator@localhost")
    say(f"Ready after {time.monotonic() - start.began:.1f} s: {start.base_url}   (Ctrl-C ends it)")


# -- processes ----------------------------------------------------------------------------------------------


def spawn(child: Child, log: int) -> subprocess.Popen[bytes]:
    """Start a child at the head of a session of its own, its output into `log` (a descriptor or PIPE)."""
    return subprocess.Popen(  # noqa: S603
        child.argv,
        cwd=ROOT,
        env=dict(child.env),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=child.descriptors,
        start_new_session=True,
    )


def undertaker(data: Path) -> Callable[[], None]:
    """Fork a process that ends all that this run started should this process die without doing so itself.

    It waits on a pipe, which closes with us whatever kills us. Returns what dismisses it. Call it before
    there are threads, and while the folder's lock is held: the fork holds it too, so that a new run waits.
    """
    read, write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            os.close(write)
            if os.read(read, 1) == b"":
                leftovers.end(str(data), grace=5.0)
        finally:
            os._exit(0)
    os.close(read)

    def dismiss() -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(write, b".")
        os.close(write)
        os.waitpid(pid, 0)

    return dismiss


def tidy_up(data: Path, pid: int) -> None:
    """End what the run of process `pid`, which was cut off, may have left."""
    left = leftovers.end(str(data), grace=2.0)
    (data / "running.json").unlink(missing_ok=True)
    say(f"The last run (process {pid}) was cut off; {left} processes of it were still there and are ended.")


# -- words --------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(text, flush=True)


def running(start: Start) -> dict[str, Any]:
    """Where this run can be reached, for other programs of this user."""
    return {
        "pid": os.getpid(),
        "ready": start.ready,
        "data_dir": str(start.data),
        "web": start.base_url,
        "gateway": f"ws://localhost:{start.gateway_port}",
        "redis_url": redis_server.url(start.redis_port, data_folder.read_secret(start.data, "redis")),
        "children": start.supervisor.pids(),
    }


def write_running(start: Start) -> None:
    """Keep DATA/running.json true; it is there while a run is."""
    data_folder.write_json(start.data / "running.json", running(start))


def show_logins(logins: list[dict[str, str]]) -> None:
    """Print new logins. They are stored only as hashes, so this is the one time."""
    if not logins:
        return
    say("\nWho can log in. These passwords are shown this once, write them down:")
    for login in logins:
        say(f"  {login['role']:10} {login['email']:24} {login['password']}")
    say("")


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; a port is a number from 1 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
