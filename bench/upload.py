"""An upload through the web, against a loop that writes, hashes and fsyncs the same file.

    python bench/upload.py [--quick] [--mb 200] [--runs 3] [--json FILE]

The product as `make run` starts it. The upload is sent as the page's script sends it, in pieces of 8 to 32 MiB, each of
which is safe on the disk before it is answered. The loop takes the same pieces from the same file, on the same file
system. Loop and upload take turns; medians. Memory is that of the web's processes, looked at all the time.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from tests.story.browser import Browser

ROOT = Path(__file__).resolve().parents[1]
AIM_PART, AIM_GROWTH = 80.0, 32.0  # per cent of the loop; MiB that count as flat; issue 4, point 8
PIECE = 8 * 1024 * 1024


def loop(source: Path, target: Path, *, each: bool) -> float:
    """Seconds to write, hash and fsync a file; with `each` it is fsynced after each piece, as an upload is."""
    began, total = time.perf_counter(), hashlib.sha256()
    with source.open("rb", buffering=0) as file, target.open("wb", buffering=0) as out:
        while piece := file.read(PIECE):
            out.write(piece)
            total.update(piece)
            if each:
                os.fsync(out)
        os.fsync(out)
    seconds = time.perf_counter() - began
    target.unlink()
    return seconds


def upload(browser: Browser, source: Path, name: str) -> tuple[float, float]:
    """Seconds until all of it is safe at the web, and until its verdict is there."""
    size, form = source.stat().st_size, browser.get("/kernels/").form(having="kernel")
    headers = {
        "X-CSRFToken": form.fields["csrfmiddlewaretoken"],
        "Origin": browser.web,
        "Cookie": "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.http.cookies.jar),
    }
    place = urlsplit(browser.web)
    with source.open("rb") as file:
        began = time.perf_counter()
        what = {"tenant": form.fields["tenant"], "kernel": name, "filename": name, "size": str(size)}
        where = browser.http.post(form.action, data=what, headers={**headers, "Referer": browser.web}).json()
        with closing(http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)) as connection:
            most = where["piece"] // 4
            while where["offset"] < size:
                file.seek(where["offset"])
                piece, sent_at = file.read(most), time.perf_counter()
                told = {**headers, "Upload-Offset": str(where["offset"])}
                connection.request("PUT", where["url"], piece, told)
                answer = connection.getresponse()
                where = json.loads(answer.read())
                if answer.status != 200:
                    raise SystemExit(f"A piece was answered with {answer.status}: {where}")
                if time.perf_counter() - sent_at < 1:
                    most = min(2 * most, where["piece"])
        safe = time.perf_counter() - began
    while browser.get(where["version"]).state not in ("can boot", "cannot boot"):
        time.sleep(0.05)
    return safe, time.perf_counter() - began


@contextmanager
def watched(pid: int) -> Iterator[list[float]]:
    """MiB of a process and its children, before and then again and again."""
    from bench.measures import memory

    seen, over = [memory(pid)], threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            seen.append(memory(pid))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def main() -> int:
    from bench.measures import Figure, arguments, load, median, tell
    from tests.product import product
    from tests.story.browser import Browser

    parser = arguments(__doc__)
    parser.add_argument("--mb", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    if options.quick:
        options.mb, options.runs = 20, 1
    before = load()
    loops, each, safe, verdicts = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="berth-bench-") as name, product(Path(name) / "data") as running:
        source = Path(name) / "kernel"
        source.write_bytes(secrets.token_bytes(1_000_000) * options.mb)
        with closing(Browser(running.web, running.gateway)) as owner:
            login = running.login("owner")
            owner.log_in(login.email, login.password)
            small = Path(name) / "small"
            small.write_bytes(secrets.token_bytes(100_000))
            upload(owner, small, "warm")
            with watched(running.child("web")) as seen:
                for n in range(options.runs):
                    loops.append(loop(source, running.data / "loop", each=False))
                    each.append(loop(source, running.data / "loop", each=True))
                    seconds, verdict = upload(owner, source, f"bench{n}")
                    safe.append(seconds)
                    verdicts.append(verdict)
    size = options.mb
    part = 100 * median(loops) / median(safe)
    figures = [
        Figure("upload against write, hash, fsync in a loop", round(part, 1), "%", AIM_PART, at_least=True),
        Figure(
            "  against the loop with an fsync for each piece",
            round(100 * median(each) / median(safe), 1),
            "%",
        ),
        Figure("  upload, until all is safe", round(size / median(safe), 1), "MB/s"),
        Figure("  loop, one fsync", round(size / median(loops), 1), "MB/s"),
        Figure("  loop, an fsync for each piece", round(size / median(each), 1), "MB/s"),
        Figure("  from the last piece to the verdict", round(1000 * (median(verdicts) - median(safe))), "ms"),
        Figure(
            "memory of the web at an upload's peak, more than before",
            round(max(seen) - seen[0], 1),
            "MiB",
            AIM_GROWTH,
        ),
        Figure("  before it", seen[0], "MiB"),
    ]
    return tell(options, before, figures, mb=options.mb, runs=options.runs)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
