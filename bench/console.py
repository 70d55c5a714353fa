"""The console's whole way, measured: client - gateway (gunicorn) - Redis - agent - pty, and back.

    python bench/console.py [--quick] [--keys 2000] [--mb 20] [--watchers 2] [--json FILE]

Everything is the product's own: tickets, rights asked of the database each second, signed notes, the agent's Redis
user with its ACL, the record; only the guest is a stand-in, which echoes what is typed and writes as fast as it can.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

ROOT = Path(__file__).resolve().parents[1]
FLOOD = b"\x06"  # followed by the number of bytes and a full stop
AIM_MEDIAN, AIM_99, AIM_OUTPUT = 3.0, 10.0, 20.0  # ms, ms, MB/s; issue 4, point 8


class Socket:
    """A WebSocket client of RFC 6455 with nothing to slow it down."""

    def __init__(self, address: str, origin: str) -> None:
        place = urlsplit(address)
        self._socket = socket.create_connection((place.hostname, place.port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._socket.sendall(
            f"GET {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nOrigin: {origin}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise SystemExit(f"The gateway refused the console: {head.decode()}")
        self._buffer = bytearray(rest)

    def send(self, data: bytes | str) -> None:
        kind, body = (0x82, data) if isinstance(data, bytes) else (0x81, data.encode())
        size = bytes([0x80 | len(body)]) if len(body) < 126 else b"\xfe" + struct.pack(">H", len(body))
        self._socket.sendall(bytes([kind]) + size + b"\0\0\0\0" + body)  # a mask of zeros

    def receive(self) -> bytes | str:
        while True:
            kind, body = self._frame()
            if kind == 2:
                return body
            if kind == 1:
                return body.decode()
            if kind == 8:
                raise SystemExit(f"The gateway closed the console: {body!r}")
            if kind == 9:
                self._socket.sendall(bytes([0x8A, 0x80 | len(body)]) + b"\0\0\0\0" + body)

    def _frame(self) -> tuple[int, bytes]:
        self._need(2)
        size, start = self._buffer[1] & 127, 2
        if size == 126:
            self._need(4)
            size, start = struct.unpack_from(">H", self._buffer, 2)[0], 4
        elif size == 127:
            self._need(10)
            size, start = struct.unpack_from(">Q", self._buffer, 2)[0], 10
        self._need(start + size)
        kind, body = self._buffer[0] & 15, bytes(self._buffer[start : start + size])
        del self._buffer[: start + size]
        return kind, body

    def _need(self, count: int) -> None:
        while len(self._buffer) < count:
            self._more()

    def _more(self) -> None:
        data = self._socket.recv(262144)
        if not data:
            raise SystemExit("The gateway went away.")
        self._buffer += data


class Seat:
    """Somebody at the console, who draws all they get at once."""

    def __init__(self, address: str, origin: str, ticket: str) -> None:
        self._socket = Socket(address, origin)
        self._socket.send(json.dumps({"ticket": ticket}))
        self.got = self._told = self.skipped = 0

    def wait(self, kind: str) -> None:
        while True:
            message = self.next()
            if isinstance(message, dict) and message["type"] == kind:
                return

    def next(self) -> bytes | dict[str, object]:
        message = self._socket.receive()
        if isinstance(message, bytes):
            self.got += len(message)
            if self.got - self._told >= 131072:
                self._told = self.got
                self._socket.send(json.dumps({"type": "took", "bytes": self.got}))
            return message
        word = json.loads(message)
        if word["type"] == "skipped":
            self.skipped += word["bytes"]
        return word  # type: ignore[no-any-return]

    def type(self, data: bytes) -> None:
        self._socket.send(data)

    def say(self, **word: object) -> None:
        self._socket.send(json.dumps(word))


def guest() -> None:
    """The stand-in for `xl console`: echoes; FLOOD has it write that many bytes."""
    import tty

    tty.setraw(0)
    block = b"".join(
        b"%06d the quick brown fox jumps over the lazy dog 0123456789\r\n" % n for n in range(1024)
    )
    while data := os.read(0, 4096):
        if not data.startswith(FLOOD):
            os.write(1, data)
            continue
        while not data.endswith(b"."):
            data += os.read(0, 64)
        left = int(data[1:-1])
        while left:
            left -= os.write(
                1, block[: min(left, 512)] if "--slow" in sys.argv else block[: min(left, len(block))]
            )


def agent(config_file: str, domu: str) -> None:
    """The console's part of an agent."""
    from vps.agent.clock import Clock
    from vps.agent.config import load
    from vps.agent.console import Consoles
    from vps.agent.line import Line
    from vps.agent.stream import ConsoleStream
    from vps.xen.messages import NoteKind, TrustedKeys

    config = load(Path(config_file))
    for folder in config.folders():
        folder.mkdir(parents=True, exist_ok=True)
    consoles = Consoles(config.console_dir, config.xl, ConsoleStream(config).send, lambda domu, run: None)
    hear = dict.fromkeys((NoteKind.WATCH, NoteKind.UNWATCH, NoteKind.KEYS), consoles.note)
    keys = TrustedKeys(config.trusted_keys)
    Line(config, Clock(), keys, hear, timed=lambda: None, restored=lambda: None).start()
    consoles.attach(UUID(domu), "bench", uuid4(), 1)
    print("ready", flush=True)
    threading.Event().wait()


def watch(address: str, origin: str, ticket: str) -> None:
    """A watcher: draws, and types nothing."""
    seat = Seat(address, origin, ticket)
    seat.say(type="mode", mode="watching")
    seat.wait("replayed")
    print("ready", flush=True)
    while True:
        seat.next()


@contextlib.contextmanager
def product(folder: Path, watchers: int) -> Iterator[tuple[str, str, list[str], dict[str, int]]]:
    """Redis, database, gateway, agent; gives address, origin, tickets and process ids."""
    from bench.processes import child, redis
    from vps.quickstart import ports

    with redis(folder) as server:
        os.environ.update(
            DJANGO_SETTINGS_MODULE="vps.settings",
            BERTH_DATA_DIR=str(folder / "data"),
            BERTH_SECRET_KEY=secrets.token_urlsafe(32),
            BERTH_REDIS_URL=server.url,
            BERTH_AGENT_REDIS_URL=f"redis://127.0.0.1:{server.port}/0",
            BERTH_LOG_LEVEL="WARNING",
        )
        (folder / "data").mkdir()
        dom0_file, domu, tickets, origin = rows(folder, watchers + 1)
        listener = ports.listen(0)
        listener.set_inheritable(True)
        address = f"ws://127.0.0.1:{listener.getsockname()[1]}/ws/console"
        with contextlib.ExitStack() as stack:
            process = subprocess.Popen(
                [
                    sys.executable, "-m", "gunicorn", "--no-control-socket",
                    "--worker-class", "vps.gateway_worker.GatewayWorker", "--workers", "1",
                    "--bind", f"fd://{listener.fileno()}", "vps.asgi:application",
                ],
                cwd=ROOT, pass_fds=(listener.fileno(),), start_new_session=True,
                stderr=stack.enter_context((folder / "gateway.log").open("wb")),
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
            own = [sys.executable, __file__]
            agent_process = stack.enter_context(
                child(*own, "agent", str(dom0_file), str(domu), wait=True, log=folder / "agent.log")
            )
            pids = {"redis": server.pid, "gateway": process.pid, "agent": agent_process.pid}
            yield address, origin, tickets, pids


def rows(folder: Path, people: int) -> tuple[Path, UUID, list[str], str]:
    """The database's part: a dom0, a server, people who may type, a ticket for each."""
    import django

    django.setup()
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore
    from django.core.management import call_command

    from accounts.models import Membership, Role, Tenant, User
    from vps import tickets
    from vps.enrolment import enrol, simulated_toml
    from vps.models import Domu

    call_command("migrate", verbosity=0)
    dom0, secret = enrol("bench", simulated=True)
    text = simulated_toml(dom0, secret, folder / "dom0", redis=os.environ["BERTH_AGENT_REDIS_URL"])
    command = f'xl = [{json.dumps(sys.executable)}, {json.dumps(__file__)}, "guest"]'
    lines = [command if line.startswith("xl =") else line for line in text.splitlines()]
    path = folder / "agent.toml"
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n")
    tenant = Tenant.objects.create(name="bench")
    domu = Domu.objects.create(
        tenant=tenant, dom0=dom0, name="bench", guest_os="linux", memory_mib=256, vcpus=1, made=True
    )
    found = []
    for n in range(people):
        user = User.objects.create_user(
            f"bench{n}@example.org", secrets.token_urlsafe(12), name=f"Person {n}"
        )
        Membership.objects.create(user=user, tenant=tenant, role=Role.OWNER)
        session = SessionStore()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.save()
        found.append(tickets.issue(user.pk, session.session_key or "", domu.pk))
    return path, domu.pk, found, settings.CSRF_TRUSTED_ORIGINS[0]


def echoes(seat: Seat, keys: int) -> list[float]:
    """Milliseconds from a key to its echo, one after the other."""
    times = []
    for n in range(keys):
        key = b"abcdefghijklmnopqrstuvwxyz"[n % 26 : n % 26 + 1]
        began = time.perf_counter()
        seat.type(key)
        while seat.next() != key:
            pass
        times.append((time.perf_counter() - began) * 1000)
        time.sleep(0.002)  # as fast as nobody types, and not in step with anything
    return times


def flood(seat: Seat, count: int) -> tuple[float, int]:
    """MB/s of `count` bytes of output, and how many of them were skipped."""
    start, skipped = seat.got, seat.skipped
    began = time.perf_counter()
    seat.type(FLOOD + b"%d." % count)
    while (seat.got - start) + (seat.skipped - skipped) < count:
        seat.next()
    return count / (time.perf_counter() - began) / 1e6, seat.skipped - skipped


def main() -> int:
    from bench.measures import Figure, arguments, cpu, load, median, memory, percentile, tell
    from bench.processes import child

    parser = arguments(__doc__)
    parser.add_argument("--keys", type=int, default=2000)
    parser.add_argument("--mb", type=int, default=20)
    parser.add_argument("--watchers", type=int, default=2)
    options = parser.parse_args()
    if options.quick:
        options.keys, options.mb, options.watchers = 30, 2, 1
    load_before = load()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="berth-bench-")))
        address, origin, tickets, pids = stack.enter_context(product(folder, options.watchers))
        seat = Seat(address, origin, tickets[0])
        seat.wait("replayed")
        for ticket in tickets[1:]:
            watcher = [sys.executable, __file__, "watch", address, origin, ticket]
            stack.enter_context(child(*watcher, wait=True, log=folder / "watch.log"))
        echoes(seat, 10 if options.quick else 100)
        before = {name: cpu(pid) for name, pid in pids.items()}
        times = echoes(seat, options.keys)
        used = {name: (cpu(pid) - before[name]) / options.keys for name, pid in pids.items()}
        rates = [flood(seat, options.mb * 1_000_000) for _ in range(3)]
        again = echoes(seat, options.keys // 10)
        pss = {name: memory(pid) for name, pid in pids.items()}
    figures = [
        Figure("a key's echo, median", round(median(times), 2), "ms", AIM_MEDIAN),
        Figure("a key's echo, 99th percentile", round(percentile(times, 99), 2), "ms", AIM_99),
        Figure("  the longest", round(max(times), 2), "ms"),
        Figure("  the median after the output", round(median(again), 2), "ms"),
        Figure(
            "console output", round(median([rate for rate, _ in rates]), 1), "MB/s", AIM_OUTPUT, at_least=True
        ),
        Figure("  of it skipped at most", round(max(gone for _, gone in rates) / 1e6, 2), "MB"),
        *(Figure(f"  memory of the {name} (PSS)", value, "MiB") for name, value in pss.items()),
        *(Figure(f"  cpu of the {name} for a key", round(value, 2), "ms") for name, value in used.items()),
    ]
    more = {"keys": options.keys, "output_mb": options.mb, "watchers": options.watchers}
    return tell(options, load_before, figures, **more)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    roles = {"guest": lambda *_: guest(), "agent": agent, "watch": watch}
    if len(sys.argv) > 1 and sys.argv[1] in roles:
        roles[sys.argv[1]](*sys.argv[2:])
    else:
        sys.exit(main())
